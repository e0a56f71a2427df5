"""The bytes of a request while they come. Whoever has us wait for too long is cut off."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from . import sockets
from .deadlines import Deadlines

GRACE = 20.0
"""Seconds that a client may have us wait for a body, in all."""

RATE = 1000
"""Bytes that it sends for each second more."""

HURRY = 1.0
"""Seconds for anything while others wait to be served."""

HASTE = 10
"""How many times ``RATE`` it has to send then."""

LOOK = 1.0
"""Seconds between two looks at it."""


class Intake:
    """What somebody waits for: one request's head or body, or a TLS handshake.

    Only the waiting counts, and only while nothing lies unread: that a server is slow to read is
    its own fault. From any thread; one waits at a time.

    Args:
        deadlines: Who looks at it while somebody waits.
        sock: The client's socket.
        grace: Seconds for all of it; None for a body, where it grows with what has come.
        is_idle: Whether the client need not begin: then the time runs from its first byte on.
        size: Bytes that the client has announced, for sockets of which nobody can tell how many
            have come (Unix sockets).
        is_crowded: Whether others wait to be served, and could be in its place.
    """

    __slots__ = (
        "_deadlines",
        "_grace",
        "_is_crowded",
        "_is_idle",
        "_lock",
        "_size",
        "_sock",
        "_start",
        "_waited",
        "is_late",
        "since",
        "tick",
    )

    def __init__(
        self,
        deadlines: Deadlines,
        sock: socket.socket,
        *,
        grace: float | None = None,
        is_idle: bool = False,
        size: int = 0,
        is_crowded: Callable[[], bool] | None = None,
    ) -> None:
        self.tick = 0
        self.is_late = False
        """Whether it was cut off: what was read is not all."""
        self.since = 0.0
        """Since when somebody waits (``time.monotonic``); 0 if nobody does."""
        self._deadlines = deadlines
        self._sock = sock
        self._grace = grace
        self._is_idle = is_idle
        self._size = size
        self._is_crowded = is_crowded
        self._start = _read(sock)
        self._waited = 0.0
        self._lock = threading.Lock()  # held for a look, and where a wait begins or ends

    def begin(self) -> None:
        """Somebody waits for bytes."""
        with self._lock:
            self.since = time.monotonic()
        if not self.tick:
            with suppress(RuntimeError):  # no thread to be had: nobody looks
                self._deadlines.set(self, self.since + LOOK)

    def end(self) -> None:
        """Nobody does now. ``is_late`` says whether what was read may be used; it stays so."""
        with self._lock:
            self._waited += time.monotonic() - self.since
            self.since = 0.0

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Somebody waits inside."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def drop(self) -> None:
        """Nobody waits any more, for good. Idempotent."""
        self._deadlines.drop(self)

    def due(self, now: float) -> float | None:
        """See ``deadlines.Timed``: cut off who is late."""
        with self._lock:
            return self._look(now)

    def _look(self, now: float) -> float | None:
        if not self.since:
            return None
        if self._is_idle and sockets.received(self._sock) != self._start:
            self._is_idle, self.since = False, now
        if sockets.unread(self._sock):
            self.since = now
        left = self._allowed() - self._waited - (now - self.since)
        if left > 0:
            return now + min(left, LOOK)
        self.is_late = True
        sockets.shut(self._sock, socket.SHUT_RD)  # the answer may still say why
        return None

    def _allowed(self) -> float:
        """Seconds it may have us wait in all."""
        came = self._came()
        if self._is_idle:
            seconds = math.inf
        elif self._grace is None:
            seconds = GRACE + came / RATE
        else:
            seconds = self._grace
        if self._is_crowded is not None and self._is_crowded():
            return min(seconds, HURRY + came / (RATE * HASTE))
        return seconds

    def _came(self) -> int:
        """Bytes of a body that have come; what belongs to a head buys no time."""
        if self._grace is not None:
            return 0
        have = sockets.received(self._sock)
        return self._size if self._start is None or have is None else have - self._start


def _read(sock: socket.socket) -> int | None:
    """How many bytes have come and were read; None if nobody can tell."""
    received = sockets.received(sock)
    return None if received is None else received - sockets.unread(sock)
