"""What the product does after a second at most, on a machine that may stand still for two."""

import pytest

from streaming.clients import client, farewell, life
from streaming.testing import deadline
from streaming.web import openai, responses, runs, ui_messages
from tests.greenlets import is_green
from tests.polling import PATIENCE


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler has time to refuse its handshake, a producer to fail before its first piece, and a
    thread to say the last words of a stream: tests of what is done to those who are late set that
    themselves."""
    monkeypatch.setattr(life, "PATIENCE", PATIENCE)
    monkeypatch.setattr(deadline, "PATIENCE", PATIENCE)
    monkeypatch.setattr(farewell, "SETTLE", PATIENCE)
    for room in (responses, runs, openai, ui_messages):
        monkeypatch.setattr(room, "FIRST", PATIENCE)
    if not is_green():  # there last words are said at once
        monkeypatch.setattr(client, "FAREWELL", PATIENCE)
