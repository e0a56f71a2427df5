"""Messages that have begun to arrive on WebSockets, and how much all of them may hold."""

from __future__ import annotations

import threading
from typing import Protocol

from ..own import Own

MOST = 32 * 1024 * 1024
"""Bytes that are held of all of them together."""


class Holding(Protocol):
    """Who holds a part of a message."""

    def give_up(self) -> None:
        """Hold it no longer. From any thread; never blocks."""


class Unfinished:
    """Who holds how much. Where it is too much, those give up who have waited longest for the rest:
    an honest message is whole in a moment. From any thread.
    """

    def __init__(self, most: int = MOST) -> None:
        self.size = 0
        """Bytes that are held."""
        self._most = most
        self._lock = threading.Lock()
        self._held: dict[Holding, int] = {}  # in the order in which the messages began

    def __len__(self) -> int:
        """How many hold something."""
        return len(self._held)

    def note(self, who: Holding, size: int) -> None:
        """``who`` holds ``size`` bytes now; 0 if nothing."""
        late = []
        with self._lock:
            self.size += size - self._held.get(who, 0)
            if size:
                self._held[who] = size
            else:
                self._held.pop(who, None)
            while self.size > self._most:
                oldest = next(iter(self._held))
                self.size -= self._held.pop(oldest)
                late.append(oldest)
        for each in late:
            each.give_up()


unfinished = Own(Unfinished)
"""Those of this process."""
