"""How the tables let go: of channels nobody uses, of keys, a few rows at a time."""

from __future__ import annotations

import secrets
import sqlite3

from ..contract import Retention
from .schema import CHANNELS, OFFSETS

MAX_KEYS = 10_000
"""Idempotency keys a channel remembers at most, however long the window."""

AT_ONCE = 8
"""Channels beyond their number that one new channel makes go, and rows one request deletes.

More than one, so that what goes catches up with what comes; few, so that nobody waits.
"""


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


def forget_others(
    db: sqlite3.Connection, new: int, seq: int, keep: Retention, now: float, lease: float
) -> None:
    """Forget channels nobody follows: the two longest unused if expired, more when too many.

    ``new`` is the channel that was just made, with ``seq``. Those that are followed are put behind
    it, so that they are not looked at again and again.
    """
    (count,) = db.execute("SELECT count(*) FROM channels").fetchone()
    excess = min(count - keep.channels, AT_ONCE)
    rows = db.execute(
        "SELECT id, used, EXISTS (SELECT 1 FROM follows JOIN workers ON workers.id = worker"
        "  WHERE channel = name AND seen >= ?)"
        " FROM channels WHERE id != ? ORDER BY seq LIMIT ?",
        (now - lease, new, max(excess, 0) + 2),
    ).fetchall()
    for channel, used, is_followed in rows:
        if is_followed:
            seq += 1
            db.execute("UPDATE channels SET seq = ? WHERE id = ?", (seq, channel))
        elif excess > 0 or (keep.age is not None and now - used > keep.age):
            db.execute("DELETE FROM channels WHERE id = ?", (channel,))
            db.execute("INSERT INTO forgotten (channel) VALUES (?)", (channel,))
            excess -= 1


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
