"""Whether the log can be written to, as was found out a moment ago."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..errors import LogUnavailable
from ..logs import Log
from ..own import Own

FRESH = 1.0
"""Seconds for which an answer holds: whoever asks more often costs the log nothing."""


class Health:
    """What is known of ``log``. From any thread."""

    __slots__ = ("_at", "_clock", "_fault", "_lock", "_log")

    def __init__(self, log: Log, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._at = float("-inf")
        self._fault: str | None = None
        self._lock = Own(lambda: threading.Lock())

    def check(self) -> None:
        """Return if the log could be written to when it was last looked at.

        One caller looks, at most every ``FRESH`` seconds. Who comes meanwhile is answered from what
        is known, and waits only where nothing is.

        Raises:
            LogUnavailable: If it could not.
        """
        if self._clock() - self._at >= FRESH:
            self._look()
        fault = self._fault  # another thread may look just now
        if fault is not None:
            raise LogUnavailable(fault)

    def _look(self) -> None:
        lock = self._lock()
        if not lock.acquire(blocking=self._at == float("-inf")):
            return
        try:
            if self._clock() - self._at < FRESH:  # somebody has looked while we waited
                return
            self._log.check()
            self._fault = None
            self._at = self._clock()
        except LogUnavailable as error:
            self._fault = str(error)
            self._at = self._clock()
        finally:
            lock.release()
