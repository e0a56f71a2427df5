"""The time of clients that never stop talking: a slice for one of them, then everybody else."""

from __future__ import annotations

import time

from ..bell import give_turn

SLICE = 0.002
"""Seconds of the processor's time for one client that leaves us none; then others get a turn."""

SHARE = 2 / 3
"""Their part of the time, all of them together, while there are several."""


class Turns:
    """What the incoming sides of all connections share.

    Each that has used up its slice waits in a row for the next one, so all of them together have
    their ``SHARE``, however many they are, and each the less. One alone does not wait.

    Needs no lock: the worst that threads can do to each other here is a slice too many.
    """

    __slots__ = ("_next", "_taker", "running")

    def __init__(self) -> None:
        self.running = 0
        """Who was served last; whoever finds somebody else here has given others a turn."""
        self._taker = 0  # whose the last slice is
        self._next = 0.0  # when the next one may begin

    def take(self, who: int, used: float) -> bool:
        """Give others a turn, and return when the next slice of ``who`` begins; the last one was
        of ``used`` seconds, and the next will be. False if it is alone."""
        now = time.monotonic()
        is_alone = who == self._taker
        begin = now if is_alone else max(now, self._next)
        self._taker, self._next = who, begin + used / SHARE
        if begin > now:
            time.sleep(begin - now)
        else:
            give_turn()
        self.running = who
        return not is_alone
