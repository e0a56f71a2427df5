"""Who opens the files: one process at a time, and what it finds that others do not know yet."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum

from .index import is_cut, read_index
from .locks import IN_FILE, IN_SHM, is_held
from .schema import Lost

if sys.platform != "win32":
    import fcntl

PATIENCE = 0.25
"""Seconds that somebody waits at a time for others who open the files or let go of them."""

WAIT = 0.7
"""Seconds that whoever comes gives to those who have not noticed yet that their files were deleted:
who has clients looks twice a second, and brings into the file what is missing there."""

_log = logging.getLogger(__name__)


class Found(Enum):
    """What a process finds that has not had the files open; it has touched nothing yet."""

    FIT = "the files that others have open, or nobody has any"
    APART = "others have the file open, and not the -shm beside it: that was deleted or replaced"
    TORN = "others have the file open, and what is not in it yet is not in the -wal, either"


@contextmanager
def alone(path: str) -> Iterator[None]:
    """No other process opens a log in this folder meanwhile, or lets go of one that has changed.

    The folder is locked, which leaves nothing behind. Where that is not possible, nothing is.

    Raises:
        sqlite3.OperationalError: If somebody else is at it; try again.
    """
    try:
        folder = os.open(os.path.dirname(path), os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:  # no such folder, or folders cannot be opened here
        yield
        return
    try:
        _lock(folder)
        yield
    finally:
        os.close(folder)


class Arrival:
    """How one connection comes to a path where its process has no files open."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._since: float | None = None

    def lost(self, found: Found) -> Lost | None:
        """What is over though those who have the file open have not noticed yet; for one that is
        ``alone``.

        Raises:
            sqlite3.OperationalError: If they will notice soon; try again.
        """
        if found is Found.FIT:
            self._since = None
            return None
        if found is Found.APART:
            now = time.monotonic()
            self._since = self._since or now
            if now < self._since + WAIT:
                raise busy("its -shm was deleted, and those who have it open will notice soon")
        else:  # those who have them open see that they are gone, and let go of them
            for suffix in ("-wal", "-shm"):
                with suppress(OSError):
                    os.unlink(self._path + suffix)
        _log.error("The log %s: %s; it goes on with what is there", self._path, found.value)
        return Lost(None, mark=None)


def look(path: str, main: int) -> Found:
    """What is found at a path by a process that has no file there open but ``main``, the file."""
    if main < 0 or not is_held(main, IN_FILE):
        return Found.FIT
    with _opened(f"{path}-shm") as shm:
        if shm < 0 or not is_held(shm, IN_SHM):
            return Found.APART
        with _opened(f"{path}-wal") as wal:
            for _ in range(8):
                index = read_index(shm)
                if index is None or not index.frames or index.saved == index.frames:
                    return Found.FIT  # or somebody begins it anew, or closes it as the last
                if not is_cut(wal, index):
                    return Found.FIT
                if read_index(shm) == index:  # nobody has just begun it anew
                    return Found.TORN
    return Found.FIT


def busy(why: str) -> sqlite3.OperationalError:
    """What SQLite would raise if it knew."""
    error = sqlite3.OperationalError(why)
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


@contextmanager
def _opened(path: str) -> Iterator[int]:
    """A descriptor; -1 if there is no such file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield -1
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _lock(folder: int) -> None:
    if sys.platform == "win32":
        return
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise busy("others are just opening it, or let go of it") from None
            time.sleep(0.001)
        except OSError:
            return  # no locks here
        else:
            return
