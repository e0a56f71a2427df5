"""The tables of the log, and the check that a file is ours."""

from __future__ import annotations

import sqlite3

from ...errors import LogUnavailable

VERSION = 1
"""Stored in the file as ``PRAGMA user_version``; raised when the tables change."""

OFFSETS = 1 << 40
"""Rows of one channel lie together: their id is the channel's, times this, plus the offset."""

CHANNELS = 1 << 23
"""So many channels can have ids of their own at a time (63 bits are there for both)."""

_TABLES = (
    # seq: the number of the channel's last append, or of its creation, among all of the log's.
    # since: when the oldest message held was appended; keys: how many keys are remembered.
    """CREATE TABLE channels (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, epoch TEXT NOT NULL,
        oldest INTEGER NOT NULL, newest INTEGER NOT NULL, size INTEGER NOT NULL,
        since REAL NOT NULL, used REAL NOT NULL, keys INTEGER NOT NULL, seq INTEGER NOT NULL)""",
    "CREATE UNIQUE INDEX channels_by_seq ON channels (seq)",
    """CREATE TABLE messages (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, size INTEGER NOT NULL, event TEXT NOT NULL,
        sender TEXT, key TEXT, data TEXT NOT NULL)""",
    """CREATE TABLE keys (
        id INTEGER PRIMARY KEY, channel INTEGER NOT NULL, key TEXT NOT NULL, at REAL NOT NULL,
        UNIQUE (channel, key))""",
    # Ids of forgotten channels whose rows are not all deleted yet.
    "CREATE TABLE forgotten (channel INTEGER PRIMARY KEY)",
    "CREATE TABLE workers (id TEXT PRIMARY KEY, seen REAL NOT NULL) WITHOUT ROWID",
    """CREATE TABLE follows (
        channel TEXT NOT NULL, worker TEXT NOT NULL, PRIMARY KEY (channel, worker)
        ) WITHOUT ROWID""",
    "CREATE INDEX follows_by_worker ON follows (worker)",
    """CREATE TABLE members (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, room TEXT NOT NULL, id TEXT NOT NULL,
        worker TEXT NOT NULL, info TEXT NOT NULL, UNIQUE (room, id))""",
    "CREATE INDEX members_by_worker ON members (worker)",
)


def prepare(db: sqlite3.Connection, path: str) -> None:
    """Make a new file a log in WAL mode; return if it is one already.

    Raises:
        LogUnavailable: If the file belongs to something else, or cannot be shared.
        sqlite3.Error: If SQLite cannot; ``BEGIN`` again later where it is busy.
    """
    if _is_ours(db, path):
        return
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise LogUnavailable(
            f"{path} lies on a file system where processes cannot share a SQLite file (no WAL). "
            "Put it on a local disk."
        )
    db.execute("BEGIN IMMEDIATE")
    if not _is_ours(db, path):  # another process may have been faster
        for statement in _TABLES:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def _is_ours(db: sqlite3.Connection, path: str) -> bool:
    # In this order: tables and version come in one commit, which may be between the two looks.
    has_tables = db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        return True
    if version:
        raise LogUnavailable(
            f"{path} was written by another version of this package (its tables are of version "
            f"{version}, this one knows {VERSION}). Install that version or use another file."
        )
    if has_tables:
        raise LogUnavailable(
            f"{path} is a database of something else. Give the log a file of its own."
        )
    return False
