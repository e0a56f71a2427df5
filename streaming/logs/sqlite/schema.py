"""The tables of the log, and the check that a file is ours."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from ...errors import LogUnavailable
from ...message import MARK, Position

VERSION = 7
"""Stored in the file as ``PRAGMA user_version``; raised when the tables change."""

BEFORE = 6
"""The version that is brought to this one when a file is opened."""

OFFSETS = 1 << 40
"""Rows of one channel lie together: their id is the channel's, times this, plus the offset."""

CHANNELS = 1 << 23
"""So many channels can have ids of their own at a time (63 bits are there for both)."""

_TABLES = (
    # seq: the number, among all of the log's, of the channel's last append, or of when the last
    # process that followed it let go. born: the number of its first append; clean: what was
    # appended to any channel that was forgotten before that came up to this number.
    # since: when the oldest message held was appended; keys: how many keys are remembered;
    # past: earlier epochs and the newest offset of each, as far as it survived, the latest first.
    # ended: when, if it has; look: up to this time it holds something, or need not be looked at.
    # It stays as it is while the channel is used, so an append costs no more.
    """CREATE TABLE channels (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, epoch TEXT NOT NULL,
        oldest INTEGER NOT NULL, newest INTEGER NOT NULL, size INTEGER NOT NULL,
        since REAL NOT NULL, used REAL NOT NULL, keys INTEGER NOT NULL, seq INTEGER NOT NULL,
        born INTEGER NOT NULL, clean INTEGER NOT NULL, past TEXT NOT NULL DEFAULT '',
        ended REAL, look REAL NOT NULL)""",
    "CREATE UNIQUE INDEX channels_by_seq ON channels (seq)",
    "CREATE INDEX channels_by_look ON channels (look)",
    # trace: the traceparent, of those that have one.
    """CREATE TABLE messages (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, size INTEGER NOT NULL, event TEXT NOT NULL,
        sender TEXT, key TEXT, data TEXT NOT NULL, trace TEXT)""",
    """CREATE TABLE keys (
        id INTEGER PRIMARY KEY, channel INTEGER NOT NULL, key TEXT NOT NULL, at REAL NOT NULL,
        UNIQUE (channel, key))""",
    # Ids of forgotten channels whose rows are not all deleted yet.
    "CREATE TABLE forgotten (channel INTEGER PRIMARY KEY)",
    "CREATE TABLE workers (id TEXT PRIMARY KEY, seen REAL NOT NULL) WITHOUT ROWID",
    """CREATE TABLE follows (
        channel INTEGER NOT NULL, worker TEXT NOT NULL, PRIMARY KEY (channel, worker)
        ) WITHOUT ROWID""",
    "CREATE INDEX follows_by_worker ON follows (worker)",
    # What each process has in each room. place: of the member among those that came; it, info and
    # name are the same in all rows of a member.
    """CREATE TABLE seats (
        room TEXT NOT NULL, id TEXT NOT NULL, worker TEXT NOT NULL, place INTEGER NOT NULL,
        info TEXT NOT NULL, name TEXT NOT NULL, connections INTEGER NOT NULL,
        PRIMARY KEY (room, id, worker)) WITHOUT ROWID""",
    "CREATE INDEX seats_by_place ON seats (room, place)",
    "CREATE INDEX seats_by_worker ON seats (worker)",
    # One row. id: what the file was last opened with, see _life, and one number for each life.
    # shift: the file's time is the machine's steady clock and this; it never goes back.
    # epoch: that of marks; past: its earlier ones and the append number each came to;
    # forgotten: what was appended to channels that are forgotten came up to this number.
    # unfollowed: how many channels nobody follows; passed: up to this number all are followed.
    """CREATE TABLE life (
        id TEXT NOT NULL, shift REAL NOT NULL, epoch TEXT NOT NULL,
        past TEXT NOT NULL DEFAULT '',
        forgotten INTEGER NOT NULL DEFAULT 0, unfollowed INTEGER NOT NULL DEFAULT 0,
        passed INTEGER NOT NULL DEFAULT 0)""",
)

PAST = 8
"""Earlier epochs that are remembered, of a channel and of marks."""

_BOOT = "/proc/sys/kernel/random/boot_id"


class Lost(NamedTuple):
    """A life whose end somebody has seen."""

    lives: frozenset[str] | None
    """Its id, perhaps with earlier ones; None for that of the file as it is found."""

    mark: Position | None
    """How far it came, where nothing of it is gone. What is opened in its place and has not come so
    far does not continue it, nor does anything if this is None: then everybody is told of a gap who
    had come to any place in it."""


def prepare(
    db: sqlite3.Connection, path: str, clock: Callable[[], float], lost: Lost | None = None
) -> tuple[str, float]:
    """Make a new file a log in WAL mode, or go on in one; the id of its life, and its shift.

    Raises:
        LogUnavailable: If the file belongs to something else, or cannot be shared.
        sqlite3.Error: If SQLite cannot; ``BEGIN`` again later where it is busy.
    """
    place = _life(path)
    if not _is_ours(db, path):
        _make(db, path, place, clock)
    _renew(db)
    life = _read_life(db)
    if _is_over(life.id, place, lost):
        _begin_life(db, place, clock, lost)
        life = _read_life(db)
    return life.id, life.shift


def reached(past: str, epoch: str) -> int | None:
    """How far an earlier epoch came; None if it is not remembered."""
    for earlier in past.split():
        name, _, newest = earlier.partition(":")
        if name == epoch:
            return int(newest)
    return None


def _begin_life(
    db: sqlite3.Connection, place: str, clock: Callable[[], float], lost: Lost | None
) -> None:
    """Give marks and every channel a new epoch that continues the old one up to here, if it can.

    A power cut takes what was not yet on the disk, and a copy that is put back takes more. Then
    offsets are given out again, and a cursor of before must not pass for one of the new.
    """
    db.execute("BEGIN IMMEDIATE")
    known, shift, epoch, past = _read_life(db)
    if _is_over(known, place, lost):  # another process may have been faster
        newest, used = db.execute(
            "SELECT ifnull(max(seq), 0), ifnull(max(used), 0) FROM channels"
        ).fetchone()
        continued = _continued if lost is None or _has(lost, epoch, newest, past) else _forgotten
        if known.rpartition(" ")[0] != place or clock() + shift < used:
            shift = _shift(clock, used)
        db.execute(
            "UPDATE life SET id = ?, shift = ?, epoch = ?, past = ?",
            (_named(place), shift, _mark_epoch(), continued(epoch, newest, past)),
        )
        for channel, epoch, newest, past in db.execute(
            "SELECT id, epoch, newest, past FROM channels"
        ).fetchall():
            db.execute(
                "UPDATE channels SET epoch = ?, past = ? WHERE id = ?",
                (secrets.token_hex(4), continued(epoch, newest, past), channel),
            )
    db.execute("COMMIT")


class _Life(NamedTuple):
    id: str
    shift: float
    epoch: str
    past: str


def _read_life(db: sqlite3.Connection) -> _Life:
    """The one row of ``life``: it is there in every file of ours.

    Raises:
        sqlite3.DatabaseError: If it is not, or is not as it was written: the file is damaged.
    """
    try:
        row = db.execute("SELECT id, shift, epoch, past FROM life").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        row = None  # no such table, or no such column
    if row is None or [*map(type, row)] != [str, float, str, str]:
        raise damage("the table 'life' is not as it was written")
    return _Life(*row)


def damage(what: str) -> sqlite3.DatabaseError:
    """The error that SQLite would raise, for what only we can see to be wrong."""
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _is_over(known: str, place: str, lost: Lost | None) -> bool:
    is_lost = lost is not None and (lost.lives is None or known in lost.lives)
    return is_lost or known.rpartition(" ")[0] != place


def _has(lost: Lost, epoch: str, newest: int, past: str) -> bool:
    """Whether a file that is so has all that was in a life: somebody may have put a copy there."""
    if lost.mark is None:
        return False
    came = newest if epoch == lost.mark.epoch else reached(past, lost.mark.epoch)
    return came is not None and came >= lost.mark.offset


def _named(place: str) -> str:
    return f"{place} {secrets.token_hex(4)}"


def _shift(clock: Callable[[], float], used: float) -> float:
    """What makes the steady clock go on from the newest time in the file, or the time of day."""
    return max(time.time(), used) - clock()


def _mark_epoch() -> str:
    return MARK + secrets.token_hex(4)


def _continued(epoch: str, newest: int, past: str) -> str:
    """The past of what follows ``epoch``."""
    return " ".join([f"{epoch}:{newest}", *past.split()][:PAST])


def _forgotten(epoch: str, newest: int, past: str) -> str:
    """The past of what follows ``epoch`` and does not continue it."""
    return ""


def _life(path: str) -> str:
    """This file, since the machine was started: nothing was lost between two openings with it."""
    boot = ""
    with suppress(OSError), open(_BOOT, encoding="ascii") as file:  # Linux
        boot = file.read().strip()
    found = os.stat(path)
    return f"{boot} {found.st_dev} {found.st_ino}"


def _make(db: sqlite3.Connection, path: str, place: str, clock: Callable[[], float]) -> None:
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
        db.execute(
            "INSERT INTO life (id, shift, epoch) VALUES (?, ?, ?)",
            (_named(place), _shift(clock, 0.0), _mark_epoch()),
        )
        db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def _renew(db: sqlite3.Connection) -> None:
    """Bring a file of the version before to this one.

    Its processes may be at work still, to the end of their requests: they name the columns that
    they know. No row is written for it.
    """
    if _version(db) == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    if _version(db) == BEFORE:  # another process may have been faster
        db.execute("ALTER TABLE messages ADD COLUMN trace TEXT")
        db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def _version(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def _is_ours(db: sqlite3.Connection, path: str) -> bool:
    # In this order: tables and version come in one commit, which may be between the two looks.
    has_tables = db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None
    version = _version(db)
    if version in (VERSION, BEFORE):
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
