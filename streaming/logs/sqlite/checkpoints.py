"""When the write-ahead log is moved into the file, and how long it may become."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

from .files import Files
from .locks import READERS, told

CHECKPOINT = 256
"""Pages in the write-ahead log after which a commit moves them into the file. Few, because the
process stands still meanwhile: some 3 ms for these, 15 ms for SQLite's own 1000."""

LEFT_OVER = 8 * 1024 * 1024
"""Bytes the write-ahead log keeps on disk after a burst. Beyond that it is to begin anew."""

MOST = 256 * 1024 * 1024
"""Bytes it may come to while somebody holds an old snapshot. Beyond that writes are refused."""

TRIES = 10
"""How often it is tried, a millisecond apart, to begin a long log anew."""


class TooMuch(Exception):
    """The write-ahead log is as long as it may be. Says by whose doing, behind the file's path."""


class Checkpoints:
    """The checkpoints of one connection. SQLite's own let the log grow for as long as at every
    commit somebody reads."""

    def __init__(self) -> None:
        self._tries = 0
        self._next = 0

    def take(self, db: sqlite3.Connection, files: Files, *, is_tight: bool) -> bool:
        """Move what is to be moved; whether it is worth while to call this once more, soon.

        Raises:
            FilesChanged: If what is in the log does not belong into the file.
        """
        index = files.last if not self._tries else files.index()
        if index is None:
            return False
        if index.size < LEFT_OVER:
            self._next = 0
        is_long = index.size > (max(self._next, LEFT_OVER) if not is_tight else 0)
        if not is_long and index.frames - index.saved < CHECKPOINT:
            return False
        files.check()  # or zeros where the log was cut would get into the file
        mode = "RESTART" if is_long else "PASSIVE"
        is_busy = True
        with suppress(sqlite3.Error):  # a full disk; the log is whole without it
            is_busy = bool(db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()[0])
        files.settle()
        if not is_long or not is_busy:
            self._tries = self._next = 0
            return False
        self._tries += 1
        if self._tries < TRIES:
            return True
        self._tries, self._next = 0, index.size + LEFT_OVER
        return False

    def check(self, files: Files) -> None:
        """Return if the log may become longer; raises ``TooMuch``."""
        index = files.last
        if index is None or index.size < MOST or index.saved == index.frames:
            return
        self._next = 0
        raise TooMuch(
            f"-wal has {index.size} bytes and cannot be moved into the file, because a process"
            f" reads an old state of it: {told(files.holders(READERS))}."
        )
