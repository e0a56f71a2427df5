"""The logs wait as long as a test does: a busy machine stops servers and threads for seconds.

A test that wants them to give up sets a shorter time.
"""

import sys

import pytest

from streaming.logs.sqlite.connection import Connection
from streaming.logs.sqlite.turns import Turns
from tests.polling import PATIENCE

REDIS = ["commands.TIMEOUT", "places.TIMEOUT", "announcements.SETTLE", "listening.SILENCE"]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a locked file; for an answer of Redis, a channel to be heard, a word on a connection."""
    for wait in (Connection.read, Turns.write):
        assert wait.__kwdefaults__ is not None
        monkeypatch.setitem(wait.__kwdefaults__, "patience", PATIENCE)
    for name in REDIS:
        if "redis" in sys.modules:
            monkeypatch.setattr(f"streaming.logs.redis.{name}", PATIENCE)
