"""Whether the disk has room for what is written, and what is forgotten sooner where it has not."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress

from ...errors import LogUnavailable
from .forgetting import forget_oldest

PLENTY = 64 * 1024 * 1024
"""Bytes of free disk with which nobody counts."""

LOOK = 0.1
"""Seconds until the disk is looked at again where there is plenty."""

SLACK = 128 * 1024
"""Bytes that are left free: what is committed has to get from the write-ahead log into the file."""

OURS = 4
"""A disk is the log's where its files take this part (a quarter) of it or more."""


class Space:
    """Keeps a log within its disk.

    A disk that is smaller than what is to be kept holds as much as fits: the oldest messages go
    sooner. One that others have filled is none of our doing: writes are refused, and what is held
    stays.

    Args:
        path: The log's file.
        total: Bytes that it may use; None for any number.
    """

    def __init__(self, path: str, total: int | None = None) -> None:
        self.is_tight = False
        """Whether the disk is nearly full."""
        self._path = path
        self._look_at = 0.0
        self._total = total
        self._count_at = 0.0

    def make(self, db: sqlite3.Connection, size: int) -> None:
        """Return if ``size`` bytes can be written in this transaction, perhaps once others are
        forgotten.

        Raises:
            LogUnavailable: If the disk is full, or the file has come to its total.
        """
        now = time.monotonic()
        if self._total is not None and now >= self._count_at:
            self._keep_within(db, self._total, size)
        if now < self._look_at or not hasattr(os, "statvfs"):
            return
        disk = os.statvfs(self._path)
        free = disk.f_bavail * disk.f_frsize
        if free > PLENTY:
            self.is_tight, self._look_at = False, now + LOOK
            return
        page, pages = _ask(db, "page_size"), _ask(db, "page_count")
        held = os.stat(self._path).st_size
        growth = max(0, pages * page - held)  # committed, and not in the file yet
        wanted = 2 * size + SLACK
        self.is_tight = free < growth + 4 * wanted
        if free >= growth + wanted or _ask(db, "freelist_count") * page >= wanted:
            return
        with suppress(OSError):
            held += os.stat(f"{self._path}-wal").st_size
        if held * OURS >= disk.f_blocks * disk.f_frsize:
            forget_oldest(db, wanted)
            if _ask(db, "freelist_count") * page >= size:
                return
        raise LogUnavailable(
            f"The log {self._path} cannot grow: the disk is full ({free} bytes are free). Free some"
            " space, or have less kept (STREAMING_RETENTION_SIZE, STREAMING_RETENTION_CHANNELS)."
        )

    def _keep_within(self, db: sqlite3.Connection, total: int, size: int) -> None:
        used, wanted = _used(db), 2 * size + SLACK
        if used + wanted <= total:
            if total - used > PLENTY:
                self._count_at = time.monotonic() + LOOK
            return
        if size <= total:
            forget_oldest(db, wanted)
        if (used := _used(db)) + size > total:
            raise LogUnavailable(
                f"The log {self._path} is full: it uses {used} bytes of at most {total} "
                "(STREAMING_RETENTION_TOTAL). Have less kept, or raise it."
            )


def _used(db: sqlite3.Connection) -> int:
    return (_ask(db, "page_count") - _ask(db, "freelist_count")) * _ask(db, "page_size")


def _ask(db: sqlite3.Connection, pragma: str) -> int:
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])
