"""What holds for connections in tests."""

import pytest

from streaming.clients import client as clients


@pytest.fixture(autouse=True)
def long_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time enough for a goodbye, also where the machine does something else meanwhile.

    Whoever waits for the cut has it at once with ``time_is_up``.
    """
    monkeypatch.setattr(clients, "FAREWELL", 10.0)
