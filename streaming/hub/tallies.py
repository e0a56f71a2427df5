"""Plain counts of what the engine does, which whoever is curious adds up. From any thread."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable

BOUNDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Seconds up to which a ``Spread`` counts in each of its buckets; one more has what is longer."""


class Tally:
    """Counts."""

    __slots__ = ("_lock", "count")

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def add(self, more: int = 1) -> None:
        """So many more."""
        with self._lock:
            self.count += more


class Spread:
    """How long something took, each time: how often up to which of ``BOUNDS``, and all together."""

    __slots__ = ("_lock", "counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        """How often it took so long, by bucket; none counts what another one has."""
        self.seconds = 0.0
        """All of it together."""
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        """It took ``seconds``."""
        at = bisect_left(BOUNDS, seconds)
        with self._lock:
            self.counts[at] += 1
            self.seconds += seconds

    def add_all(self, since: float, ends: Iterable[tuple[float, int]], times: int) -> None:
        """It took from ``since`` to each of these ends; ``times`` as often as each says."""
        with self._lock:
            for until, count in ends:
                self.counts[bisect_left(BOUNDS, until - since)] += count * times
                self.seconds += (until - since) * count * times

    @property
    def count(self) -> int:
        """How often it happened."""
        return sum(self.counts)

    def read(self) -> tuple[tuple[int, ...], float]:
        """``counts`` and ``seconds`` of one moment."""
        with self._lock:
            return tuple(self.counts), self.seconds


class Tallies:
    """What the engine of one process counts."""

    __slots__ = ("append", "append_failed", "delivery", "gaps", "read", "read_failed")

    def __init__(self) -> None:
        self.append = Spread()
        """How long the log took for each message that it was given, successful ones only."""
        self.append_failed = Tally()
        """Messages that it could not be given."""
        self.read = Spread()
        """How long it took for each page that was read for subscribers."""
        self.read_failed = Tally()
        """Pages that could not be read."""
        self.delivery = Spread()
        """From when this process heard of a message to its bytes in the socket, for each message
        and each subscriber at the head."""
        self.gaps = Tally()
        """Gaps that subscribers were told of."""
