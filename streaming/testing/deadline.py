"""How long a test waits, and how it fails then."""

from __future__ import annotations

import socket
import time

PATIENCE = 5.0
"""Seconds for which a test waits for what it has not said a time for."""


class TooLate(AssertionError):
    """What a test waits for has not come in time."""


class Deadline:
    """The time that a test gives to one thing."""

    def __init__(self, seconds: float | None, what: str) -> None:
        self._seconds = PATIENCE if seconds is None else seconds
        self._until = time.monotonic() + self._seconds
        self._what = what

    def arm(self, sock: socket.socket) -> None:
        """Let ``sock`` wait until then.

        Raises:
            TooLate: If it is over.
        """
        left = self.left()
        if left <= 0:
            raise self.missed()
        sock.settimeout(left)

    def left(self) -> float:
        """Seconds."""
        return self._until - time.monotonic()

    def missed(self) -> TooLate:
        """What to raise."""
        return TooLate(f"Not within {self._seconds:g} s: {self._what}")
