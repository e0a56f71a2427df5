"""All connections of this process, closed at once for a moment: before a fork, and where the files
at their path are not those any more that they have open."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

from ...errors import LogUnavailable
from ...message import Position
from ...own import Alive
from .arrival import alone
from .files import Change, FilesChanged
from .schema import Lost

GRACE = 0.05
"""Seconds for others to finish what they have begun in files that were done away with."""

_log = logging.getLogger(__name__)


class Pausable(Protocol):
    """A connection, as it is seen here."""

    path: str

    def pause(self) -> None:
        """Let nobody use it until ``resume``; waits for whoever does."""

    def mark(self) -> Position | None:
        """How far the log has come; None if it is not open, or cannot be read."""

    def salvage(self, change: Change, /) -> bool | None:
        """Bring what is in the write-ahead log where it belongs; whether all of it is there."""

    def begin(self, lost: Lost, /) -> None:
        """Open what is there; a new life begins in it."""

    @property
    def life(self) -> str:
        """The id of the file's life when it was last opened."""

    def drop(self) -> None:
        """Close it until the next use."""

    def resume(self) -> None:
        """Take a ``pause`` back."""


_lost: dict[str, Lost] = {}
_all: Alive[Pausable] = Alive()
_forking: list[Pausable] = []


def join(connection: Pausable) -> None:
    """From now on it is closed with all others."""
    _all.add(connection)


@contextmanager
def paused(path: str) -> Iterator[Sequence[Pausable]]:
    """All connections of this process to a path, kept from being used."""
    taken: list[Pausable] = []
    try:
        for connection in sorted(_all, key=id):
            if connection.path == path:
                connection.pause()
                taken.append(connection)
        yield taken
    finally:
        for connection in taken:
            connection.resume()


def start_over(change: FilesChanged, opener: Pausable) -> bool:
    """Let go of files that have changed, with all connections of this process, and begin a new life
    in what is there. False if others are at it just now, and these files are still held.

    Nobody can open it in between, or it would go on with the numbers of what was lost.
    """
    files = change.files
    with files.lock():
        if files.is_over:
            return True  # another thread was faster
        # In other processes transactions may still be under way that began before.
        time.sleep(GRACE)
        try:
            with paused(files.path) as connections, alone(files.path):
                now = _hand_over(change, connections, opener)
                files.is_over = True
        except sqlite3.OperationalError:
            return False
    _log.error(
        "The log %s: its files were %s while processes have it open; it goes on with what is there",
        files.path,
        now.value,
    )
    return True


def _hand_over(noticed: FilesChanged, connections: Sequence[Pausable], opener: Pausable) -> Change:
    files, change = noticed.files, noticed.change
    try:
        files.check()
    except FilesChanged as now:  # who puts a copy there takes several steps
        change = now.change
    # Whoever was faster than we has begun the new life already, if it is one of us.
    lives = frozenset(each.life for each in connections) if files.is_taken_over else None
    marks = [mark for connection in connections if (mark := connection.mark()) is not None]
    found = {connection.salvage(change) for connection in connections} - {None}
    files.remove()
    for connection in connections:
        connection.drop()
    if not os.path.exists(files.path):
        return change  # the next use makes a new one
    _lost[files.path] = Lost(lives, marks[0] if marks and found == {True} else None)
    with suppress(LogUnavailable, FilesChanged, sqlite3.Error, OSError):  # the next use says so
        opener.begin(_lost[files.path])
        del _lost[files.path]
    return change


def lost_at(path: str) -> Lost | None:
    """The life that is over at a path, though this process could not begin another yet."""
    return _lost.get(path)


def forget_lost(path: str) -> None:
    """Another life has begun."""
    _lost.pop(path, None)


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
