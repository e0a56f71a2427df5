"""Whether a WebSocket's handshake is answered with 101: by its first use, or never.

| phase   | open                        | refuse  |
|---------|-----------------------------|---------|
| WAITING | OPEN, or REFUSED if it fails | REFUSED |
| OPEN    | OPEN                        | OPEN    |
| REFUSED | REFUSED                     | REFUSED |
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum


class Reply(Enum):
    """What the client was told."""

    WAITING = "waiting"
    """Nothing: the socket is the server's."""
    OPEN = "open"
    """101: the socket is the connection's."""
    REFUSED = "refused"
    """Nothing, and never 101: the server answers as to any other request."""


class Opening:
    """The one answer to a handshake. From any thread.

    Args:
        answer: Sends the 101. What it raises, it raises before anything was sent.
    """

    __slots__ = ("_answer", "_lock", "phase")

    def __init__(self, answer: Callable[[], None]) -> None:
        self.phase = Reply.WAITING
        self._answer = answer
        self._lock = threading.Lock()

    def open(self) -> bool:
        """Answer, if nobody has yet; whether it is OPEN. Who comes meanwhile waits for the head.

        Raises what the answer raises, once.
        """
        with self._lock:
            if self.phase is Reply.WAITING:
                answer = self._end(Reply.REFUSED)
                answer()
                self.phase = Reply.OPEN
        return self.phase is Reply.OPEN

    def refuse(self) -> bool:
        """Never answer, if nobody has yet; whether it is REFUSED."""
        with self._lock:
            if self.phase is Reply.WAITING:
                self._end(Reply.REFUSED)
        return self.phase is Reply.REFUSED

    def _end(self, phase: Reply) -> Callable[[], None]:
        """No longer WAITING. What would answer refers to the connection, and is given away."""
        self.phase, answer, self._answer = phase, self._answer, _nothing
        return answer


def _nothing() -> None:
    """The answer behind the answer."""
