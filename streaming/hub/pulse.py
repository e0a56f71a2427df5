"""Whether this process has stood still, and with it maybe the whole machine."""

from __future__ import annotations

import time
from functools import partial

from ..logs.contract import LEASE

STILL = LEASE / 2
"""Seconds without a look behind which it has: a machine was paused, or had no time for anybody. Who
has not beaten since may not have been able to."""

clock = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)
"""Seconds that pass while the machine sleeps, too, where the system counts them (Linux)."""


class Pulse:
    """Of a thread that looks again and again while it is there. From any thread."""

    __slots__ = ("_looked",)

    def __init__(self) -> None:
        self._looked: float | None = None  # when (``clock``), while somebody looks

    def begin(self) -> None:
        """Somebody looks from now on, more often than every ``STILL`` seconds."""
        self._looked = clock()

    def end(self) -> None:
        """Nobody does any more: that time passes says nothing."""
        self._looked = None

    def has_stopped(self) -> bool:
        """Look; whether the last one was too long ago. Says so once."""
        looked = self._looked
        if looked is None:
            return False
        self._looked = now = clock()
        return now - looked > STILL
