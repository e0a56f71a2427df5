"""All connections of this process, closed at once for a moment: before a fork, and where the files
at their path are not those any more that they have open."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakSet

from .files import Change, FilesChanged

GRACE = 0.05
"""Seconds for others to finish what they have begun in files that were done away with."""

_log = logging.getLogger(__name__)


class Pausable(Protocol):
    """A connection, as it is seen here."""

    path: str

    def pause(self) -> None:
        """Let nobody use it until ``resume``; waits for whoever does."""

    def salvage(self, change: Change, /) -> None:
        """Bring what is in the write-ahead log where it belongs."""

    def drop(self) -> None:
        """Close it until the next use."""

    def resume(self) -> None:
        """Take a ``pause`` back."""


_all: WeakSet[Pausable] = WeakSet()
_forking: list[Pausable] = []


def join(connection: Pausable) -> None:
    """From now on it is closed with all others."""
    _all.add(connection)


@contextmanager
def paused(path: str, change: FilesChanged | None = None) -> Iterator[None]:
    """All connections of this process to a path, closed and kept from opening again."""
    taken: list[Pausable] = []
    try:
        for connection in sorted(_all, key=id):
            if connection.path == path:
                connection.pause()
                taken.append(connection)
        if change is not None:
            for connection in taken:
                connection.salvage(change.change)
            change.files.remove()
        for connection in taken:
            connection.drop()
        yield
    finally:
        for connection in taken:
            connection.resume()


def start_over(change: FilesChanged) -> None:
    """Let go of files that have changed, with all connections of this process. The next use opens
    what is there, and a new life begins in it."""
    files = change.files
    with files.lock():
        if files.is_over:
            return  # another thread was faster
        # In other processes transactions may still be under way that began before.
        time.sleep(GRACE)
        with paused(files.path, change):
            files.is_over = True
    _log.error(
        "The log %s: its %s while processes have it open; it goes on with what is there",
        files.path,
        change,
    )


def _pause_all() -> None:
    """Before a fork: SQLite keeps in its memory which locks a process holds. A child would inherit
    those of its parent, and there nobody would ever let go of them."""
    for connection in sorted(_all, key=id):  # two threads that fork take them in one order
        connection.pause()
        connection.drop()
        _forking.append(connection)


def _resume_all() -> None:
    paused = list(_forking)
    _forking.clear()  # the next fork may begin with the first that is let go
    for connection in paused:
        connection.resume()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_pause_all, after_in_parent=_resume_all, after_in_child=_resume_all)
