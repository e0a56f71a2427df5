"""So much in a time: a bucket is one number, when it will be full again.

It is the *generic cell rate algorithm* of ATM: what is taken moves that moment on, and it may not
lie farther ahead than a full bucket lasts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from itertools import islice
from typing import NamedTuple

MOST = 10_000
"""Buckets that are known at a time. Those that are full need not be."""

LEAST = 1e-6
"""Seconds that are worth a wait: so many times do not add up exactly."""


class Rate(NamedTuple):
    """So much a second; and at once as much as comes in ``ahead`` seconds."""

    a_second: float
    ahead: float


def take(full_at: float, now: float, rate: Rate, amount: float = 1.0) -> tuple[float, float]:
    """Take ``amount`` out of a bucket: when it is full again, and 0; or, if there is not enough in
    it, what ``full_at`` was, and the seconds until there will be. A full one gives what is asked,
    and owes the rest."""
    cost = amount / rate.a_second
    later = max(full_at, now) + cost
    wait = later - now - max(rate.ahead, cost)
    return (full_at, wait) if wait > LEAST else (later, 0.0)


class Buckets:
    """A bucket for each of many. From any thread.

    Args:
        rate: What each of them has.
        most: How many are known: beyond it those that were used longest ago are full again.
    """

    def __init__(
        self, rate: Rate, *, most: int = MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._full_at: dict[Hashable, float] = {}  # in the order of their use
        self._tidy_at = min(most, 100)

    def __len__(self) -> int:
        """How many are known."""
        return len(self._full_at)

    def take(self, whose: Hashable, amount: float = 1.0) -> float:
        """Take ``amount`` out of one; 0, or the seconds until that can be done."""
        with self._lock:
            now = self._clock()
            full_at, wait = take(self._full_at.pop(whose, 0.0), now, self._rate, amount)
            self._full_at[whose] = full_at
            if len(self._full_at) > self._tidy_at:
                self._tidy(now)
        return wait

    def charge(self, whose: Hashable, amount: float) -> None:
        """Take ``amount`` out of one, whatever is in it."""
        with self._lock:
            now = self._clock()
            full_at = max(self._full_at.pop(whose, 0.0), now) + amount / self._rate.a_second
            self._full_at[whose] = full_at
            if len(self._full_at) > self._tidy_at:
                self._tidy(now)

    def wait(self, whose: Hashable) -> float:
        """The seconds until there is something in one; 0 if there is."""
        full_at = self._full_at.get(whose, 0.0)
        return max(0.0, full_at - self._clock() - self._rate.ahead)

    def _tidy(self, now: float) -> None:
        """Forget those that are full. What is left is looked at when it has doubled."""
        left = {whose: full_at for whose, full_at in self._full_at.items() if full_at > now}
        for whose in tuple(islice(left, max(0, len(left) - self._most * 3 // 4))):
            del left[whose]
        self._full_at = left
        self._tidy_at = min(self._most, max(100, 2 * len(left)))
