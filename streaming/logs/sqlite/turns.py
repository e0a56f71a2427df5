"""Writes of many callers, grouped: who has the turn commits for all who wait."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar, cast

from ...errors import LogUnavailable
from .connection import PATIENCE, Connection, Work

T = TypeVar("T")

GROUP = 64
GROUP_SIZE = 256 * 1024
"""One transaction takes at most so many requests, and about so many bytes of text."""

STRETCH = 0.003
"""Seconds that commits may take of any ``WINDOW`` before a pause: a greenlet that appends without
end would keep timers and sockets of the others waiting."""

WINDOW = 0.02
PAUSE = 0.0001

WAITING = 4096
"""Requests that wait at most; more are refused."""


class _Request(Generic[T]):
    """One caller's work, and what became of it."""

    __slots__ = ("error", "is_done", "result", "size", "work")

    def __init__(self, work: Work[T], size: int) -> None:
        self.work = work
        self.size = size
        self.is_done = False
        self.result: T | None = None
        self.error: Exception | None = None

    def settle(self, result: T) -> None:
        self.result, self.is_done = result, True

    def fail(self, error: Exception) -> None:
        self.error, self.is_done = error, True


class Turns:
    """The one way to write to the file from this process.

    Args:
        connection: The process's connection for writing.
        opening: Called first in every transaction, with the number of requests in it and about how
            many bytes they write.
        settled: Called after every commit with the results, before their callers go on.
    """

    def __init__(
        self,
        connection: Connection,
        opening: Callable[[sqlite3.Connection, int, int], None],
        settled: Callable[[Sequence[object]], None],
    ) -> None:
        self._connection = connection
        self._opening = opening
        self._settled = settled
        self._turn = threading.Lock()
        self._pending: deque[_Request[object]] = deque()
        self._crowd = 0
        self._busy = 0.0
        self._window = 0.0

    def write(self, work: Work[T], *, size: int = 0, patience: float = PATIENCE) -> T:
        """What ``work`` returns, once all it did is committed; if it raises, nothing is.

        Blocks, but never the other greenlets for longer than one transaction. ``work`` may be
        called several times. ``size`` is about how many bytes it writes.

        Raises:
            LogUnavailable: If the file cannot be written; nothing was.
        """
        if len(self._pending) >= WAITING:
            raise LogUnavailable(f"{WAITING} writes wait for the log already. Try again.")
        request: _Request[T] = _Request(work, size)
        deadline = time.monotonic() + patience
        self._pending.append(cast("_Request[object]", request))
        try:
            if self._crowd > 1:  # greenlets do not interrupt each other: let the others join
                time.sleep(0)
            with self._turn:
                while not request.is_done:
                    self._breathe()
                    began = time.monotonic()
                    self._commit(deadline)
                    self._busy += time.monotonic() - began
        finally:
            if not request.is_done:
                with suppress(ValueError):
                    self._pending.remove(cast("_Request[object]", request))
        if request.error is not None:
            raise request.error
        return cast("T", request.result)

    def _breathe(self) -> None:
        """Pause if commits have taken much of the last moments; whoever waits for a turn waits."""
        now = time.monotonic()
        is_long = self._busy > STRETCH
        if is_long or now - self._window > WINDOW:
            self._window, self._busy = now, 0.0
        if is_long:
            time.sleep(PAUSE)

    def _commit(self, deadline: float, given: Sequence[_Request[object]] = ()) -> None:
        group = list(given)

        def work(db: sqlite3.Connection) -> list[object]:
            if not group:  # only now: whoever came while the file was locked is in it
                group.extend(self._take())
            self._opening(db, len(group), sum(request.size for request in group))
            return [request.work(db) for request in group]

        try:
            results = self._connection.write(work, deadline)
        except LogUnavailable as error:
            if not group:
                raise  # it never began: the others wait until their own deadlines
            for request in group:  # an exception of their own: each is raised in another thread
                own = LogUnavailable(str(error))
                own.__cause__ = error.__cause__
                request.fail(own)
        except Exception as error:
            if not group:
                raise
            if len(group) == 1:
                group[0].fail(error)
            else:  # one of them cannot be written, the others can
                for request in group:
                    self._commit(deadline, [request])
        except BaseException:
            for request in group:
                request.fail(LogUnavailable("The write was interrupted. Try again."))
            raise
        else:
            self._crowd = len(group)
            for request, result in zip(group, results, strict=True):
                request.settle(result)
            self._settled(results)

    def _take(self) -> list[_Request[object]]:
        group: list[_Request[object]] = []
        size = 0
        while self._pending and len(group) < GROUP and size <= GROUP_SIZE:
            request = self._pending.popleft()
            group.append(request)
            size += request.size
        return group
