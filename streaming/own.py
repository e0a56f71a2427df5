"""What belongs to one process alone: made by its first use, and anew behind a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")

_forks = 0


def era() -> tuple[int, object]:
    """What is the same for as long as threads and locks are those that were begun with.

    It changes in a forked child, which has none of its parent's threads; and when threads become
    greenlets, because a native lock that is waited for would then hold up all of them. gunicorn
    does both to an application that it has preloaded.
    """
    return _forks, threading.Lock


def is_over(born: object) -> bool:
    """Whether the thread that asks, started in the era ``born``, has to end.

    Greenlets live on in a forked child. What they serve belongs to its parent.
    """
    if era() == born:
        return False
    threading.current_thread()  # forgotten by the fork; that it ends would be an error
    return True


class Own(Generic[T]):
    """A ``T`` for each era, made by its first use: locks, bells, threads, connections.

    From any thread. Those of an era that is over stay untouched, for they may be somebody's yet.

    Args:
        make: Makes one. May be called twice where two threads come first; one is used.
    """

    __slots__ = ("_last", "_made", "_make")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[object, T] = {}
        self._last: tuple[int, object, T | None] = -1, None, None

    def __call__(self) -> T:
        forks, lock, found = self._last
        if lock is threading.Lock and forks == _forks and found is not None:
            return found
        now = era()
        found = self._made.get(now)
        if found is None:
            found = self._made.setdefault(now, self._make())
        self._last = *now, found
        return found


class Alive(Generic[T]):
    """What was added, for as long as somebody has it. From any thread: to go through a WeakSet
    fails if another thread adds something meanwhile."""

    def __init__(self) -> None:
        self._all: WeakSet[T] = WeakSet()
        self._lock = Own(lambda: threading.Lock())

    def add(self, one: T) -> None:
        """Be there until nobody has it any more."""
        with self._lock():
            self._all.add(one)

    def __iter__(self) -> Iterator[T]:
        """All that are there now."""
        with self._lock():
            return iter(list(self._all))


def _note_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_note_fork)
