"""Whether it says anything that a process has not beaten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import LogUnavailable


class Doubt:
    """Whether others may not be taken for dead though they have not beaten. From any thread.

    While the log is away nobody can beat. So when it is back everybody looks dead, until each has
    beaten once more.

    Args:
        lease: Seconds without a beat after which a process counts as dead.
    """

    def __init__(self, lease: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease = lease
        self._clock = clock
        self._is_away = False
        self._until = float("-inf")

    def note(self) -> None:
        """The log has failed."""
        self._is_away = True

    @contextmanager
    def noted(self) -> Iterator[None]:
        """``note`` if the log fails within."""
        try:
            yield
        except LogUnavailable:
            self.note()
            raise

    def lasts(self) -> bool:
        """Whether nobody is to be taken for dead yet; for whoever was answered by the log just now.

        It lasts for a lease behind the first answer.
        """
        if self._is_away:
            self._is_away, self._until = False, self._clock() + self._lease
        return self._clock() < self._until
