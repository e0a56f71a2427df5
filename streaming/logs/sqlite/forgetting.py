"""How the tables let go: of channels nobody uses, of keys, a few rows at a time."""

from __future__ import annotations

import secrets
import sqlite3

from ..contract import MAX_KEYS, Retention
from .rooms import bury_workers
from .schema import CHANNELS, OFFSETS

AT_ONCE = 8
"""Channels that one new channel looks at to forget those that are too old, and as many to forget
those that are too many; rows that one request deletes.

More than one, so that what goes catches up with what comes; few, so that nobody waits.
"""

LOOK = 3600.0
"""Seconds after which a channel is looked at at the latest, to see whether it has grown old: it may
be kept for another time since."""

SOONER = 64
"""Channels that are looked at, and messages of each, to make room where the disk has none."""


def free_id(db: sqlite3.Connection) -> int:
    """An id for a new channel that no row belongs to."""
    (used,) = db.execute(
        "SELECT max(ifnull((SELECT max(id) FROM channels), 0),"
        " ifnull((SELECT max(channel) FROM forgotten), 0))"
    ).fetchone()
    number = int(used) + 1
    while number >= CHANNELS or number <= 0:  # all numbers were used once; most are free again
        number = secrets.randbelow(CHANNELS - 1) + 1
        if db.execute(
            "SELECT 1 FROM channels WHERE id = ? UNION ALL SELECT 1 FROM forgotten"
            " WHERE channel = ?",
            (number, number),
        ).fetchone():
            number = 0
    return number


def look(life: float | None, now: float) -> float:
    """When a channel is to be looked at that is used now, and kept for ``life``."""
    return now + (LOOK if life is None else min(life, LOOK))


def is_followed(db: sqlite3.Connection, channel: int) -> bool:
    """Whether a process follows a channel, as far as is noted."""
    found = db.execute("SELECT 1 FROM follows WHERE channel = ?", (channel,))
    return found.fetchone() is not None


def forget_others(
    db: sqlite3.Connection, new: int, keep: Retention, now: float, lease: float
) -> None:
    """Count the channel ``new`` that was just made, and forget others that nobody follows: some
    that have grown old, and the longest unused when there are too many."""
    bury_workers(db, now - lease)
    unfollowed, passed, forgotten = db.execute(
        "SELECT unfollowed + 1, passed, forgotten FROM life"
    ).fetchone()
    gone = _forget_old(db, new, keep, now)
    excess = max(unfollowed - len(gone) - keep.channels, 0)
    passed, unused = _forget_unused(db, new, passed, excess)
    gone += unused
    db.execute(
        "UPDATE life SET unfollowed = ?, passed = ?, forgotten = ?",
        (unfollowed - len(gone), passed, max([forgotten, *gone])),
    )


def _forget_old(db: sqlite3.Connection, new: int, keep: Retention, now: float) -> list[int]:
    """Look at those whose time has come, in its order. Those that are used or followed get another,
    behind all whose time has come already: each has its turn.

    Gives the numbers (``seq``) of those that are forgotten.
    """
    gone: list[int] = []
    for channel, name, seq, used, ended, followed in db.execute(
        "SELECT id, name, seq, used, ended,"
        " EXISTS (SELECT 1 FROM follows WHERE channel = channels.id)"
        " FROM channels WHERE look < ? AND id != ? ORDER BY look LIMIT ?",
        (now, new, AT_ONCE),
    ).fetchall():
        life = keep.of(name).life(ended is not None)
        if not followed and life is not None and now - used > life:
            _drop(db, channel)
            gone.append(seq)
        else:
            later = look(life, now)
            if not followed and life is not None:
                later = min(now + LOOK, used + life)
            db.execute("UPDATE channels SET look = ? WHERE id = ?", (later, channel))
    return gone


def _forget_unused(
    db: sqlite3.Connection, new: int, passed: int, excess: int
) -> tuple[int, list[int]]:
    """Forget the longest unused, if there is an ``excess`` of them.

    Those that are followed are passed once and not looked at again, until something is appended or
    the last that follows them lets go: both put a channel behind the others.

    Gives up to which number all are followed, and the numbers of those that are forgotten.
    """
    gone: list[int] = []
    rows = db.execute(
        "SELECT id, seq, EXISTS (SELECT 1 FROM follows WHERE channel = channels.id)"
        " FROM channels WHERE seq > ? AND id != ? ORDER BY seq LIMIT ?",
        (passed, new, AT_ONCE if excess else 2),
    ).fetchall()
    for channel, seq, followed in rows:
        if not followed:
            if len(gone) == excess:
                break
            _drop(db, channel)
            gone.append(seq)
        passed = seq
    return passed, gone


def forget(db: sqlite3.Connection, channel: int) -> None:
    """Forget a channel that nobody follows."""
    (seq,) = db.execute("SELECT seq FROM channels WHERE id = ?", (channel,)).fetchone()
    _drop(db, channel)
    db.execute("UPDATE life SET forgotten = max(forgotten, ?), unfollowed = unfollowed - 1", (seq,))


def _drop(db: sqlite3.Connection, channel: int) -> None:
    """Its name goes at once, its rows later. Nothing of it was appended behind its ``seq``."""
    db.execute("DELETE FROM channels WHERE id = ?", (channel,))
    db.execute("INSERT INTO forgotten (channel) VALUES (?)", (channel,))


def bury(db: sqlite3.Connection, requests: int) -> None:
    """Delete some rows of forgotten channels, in proportion to what is written anew."""
    left = AT_ONCE * max(requests, 1)
    while left > 0:
        found = db.execute("SELECT channel FROM forgotten LIMIT 1").fetchone()
        if found is None:
            return
        first, last = found[0] * OFFSETS, (found[0] + 1) * OFFSETS - 1
        for table in ("messages", "keys"):
            left -= db.execute(
                f"DELETE FROM {table} WHERE id IN"
                f" (SELECT id FROM {table} WHERE id BETWEEN ? AND ? LIMIT ?)",
                (first, last, left),
            ).rowcount
        if left > 0:
            db.execute("DELETE FROM forgotten WHERE channel = ?", (found[0],))
            left -= 1


def forget_keys(db: sqlite3.Connection, channel: int, count: int, since: float) -> int:
    """Forget the oldest of a channel's ``count`` keys: two if older, one if too many."""
    if not count:
        return 0
    rows = db.execute(
        "SELECT id, at FROM keys WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 2",
        (channel * OFFSETS, (channel + 1) * OFFSETS - 1),
    ).fetchall()
    gone = 0
    for row, at in rows:
        if at < since or count - gone >= MAX_KEYS:
            forget_key(db, row)
            gone += 1
    return gone


def forget_key(db: sqlite3.Connection, row: int) -> None:
    """Forget one key."""
    db.execute("DELETE FROM keys WHERE id = ?", (row,))


def forget_oldest(db: sqlite3.Connection, size: int) -> None:
    """Forget the oldest messages, whatever is to be kept, until about ``size`` bytes of text went;
    some at most. A channel's newest stays."""
    left = size
    for _ in range(SOONER):
        found = db.execute(
            "SELECT id, oldest, newest, size FROM channels WHERE oldest < newest"
            " ORDER BY since LIMIT 1"
        ).fetchone()
        if found is None or left <= 0:
            return
        channel, oldest, newest, held = found
        first = channel * OFFSETS
        for row, length in db.execute(
            "SELECT id, size FROM messages WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
            (first + oldest, first + newest - 1, SOONER),
        ).fetchall():
            db.execute("DELETE FROM messages WHERE id = ?", (row,))
            oldest, held, left = row - first + 1, held - length, left - length
            if left <= 0:
                break
        (since,) = db.execute("SELECT at FROM messages WHERE id = ?", (first + oldest,)).fetchone()
        db.execute(
            "UPDATE channels SET oldest = ?, size = ?, since = ? WHERE id = ?",
            (oldest, held, since, channel),
        )
