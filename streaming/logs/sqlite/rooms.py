"""Which processes live, what they follow, and who is in which room, in the tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from ..contract import Member
from .marks import next_seq

AT_ONCE = 100
"""Channels whose followers one transaction notes, or clears away when a process has died."""

EVER = 1e-9
"""Since then all processes were seen but those that have left: they were seen at 0."""


def live(db: sqlite3.Connection, worker: str, now: float, since: float) -> bool:
    """Note that this process lives; False if what it follows may have been cleared away, because
    nobody had heard of it ``since`` then."""
    # Where the clock was put back, who died before would live until it has caught up.
    db.execute("UPDATE workers SET seen = ? WHERE seen > ?", (now, now))
    known = db.execute(
        "UPDATE workers SET seen = ? WHERE id = ? AND seen >= ?", (now, worker, since)
    ).rowcount
    if not known:
        db.execute("INSERT OR REPLACE INTO workers (id, seen) VALUES (?, ?)", (worker, now))
    return bool(known)


def follow(db: sqlite3.Connection, worker: str, channel: str) -> bool:
    """Note that this process follows a channel; False if there is no such channel."""
    found = db.execute(
        "SELECT id, EXISTS (SELECT 1 FROM follows WHERE channel = channels.id) FROM channels"
        " WHERE name = ?",
        (channel,),
    ).fetchone()
    if found is None:
        return False
    db.execute("INSERT OR IGNORE INTO follows VALUES (?, ?)", (found[0], worker))
    if not found[1]:
        db.execute("UPDATE life SET unfollowed = unfollowed - 1")
    return True


def unfollow(db: sqlite3.Connection, worker: str, channel: str) -> None:
    """Note that this process follows a channel no longer."""
    found = db.execute("SELECT id FROM channels WHERE name = ?", (channel,)).fetchone()
    if found is not None:
        _let_go(db, worker, found[0])


def _let_go(db: sqlite3.Connection, worker: str, channel: int) -> None:
    gone = db.execute(
        "DELETE FROM follows WHERE channel = ? AND worker = ?", (channel, worker)
    ).rowcount
    others = db.execute("SELECT 1 FROM follows WHERE channel = ?", (channel,)).fetchone()
    if gone and others is None:
        # It was in use up to now. And all that the forgetting has passed must be followed.
        db.execute("UPDATE channels SET seq = ? WHERE id = ?", (next_seq(db), channel))
        db.execute("UPDATE life SET unfollowed = unfollowed + 1")


def enter(
    db: sqlite3.Connection, room: str, member: Member, worker: str, since: float, *, says: bool
) -> Member | None:
    """Note that this process has a member in a room; the member as processes seen ``since`` then
    had it, None if they had not. What it says of itself is kept unless it ``says`` it now."""
    before = find(db, room, member.id, since)
    seat = (room, member.id)
    if before is None:
        db.execute("DELETE FROM seats WHERE room = ? AND id = ?", seat)
        (place,) = db.execute(
            "SELECT ifnull(max(place), 0) + 1 FROM seats WHERE room = ?", (room,)
        ).fetchone()
    else:
        (place,) = db.execute("SELECT place FROM seats WHERE room = ? AND id = ?", seat).fetchone()
        if not says:
            member = replace(before, connections=member.connections)
        elif (member.info, member.name) != (before.info, before.name):
            db.execute(
                "UPDATE seats SET info = ?, name = ? WHERE room = ? AND id = ?",
                (member.info, member.name, *seat),
            )
    db.execute(
        "INSERT OR REPLACE INTO seats (room, id, worker, place, info, name, connections)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*seat, worker, place, member.info, member.name, member.connections),
    )
    return before


def has(db: sqlite3.Connection, room: str, member: str, worker: str) -> Member | None:
    """A member as this process has it in a room."""
    found = db.execute(
        "SELECT id, info, name, connections FROM seats WHERE room = ? AND id = ? AND worker = ?",
        (room, member, worker),
    ).fetchone()
    return None if found is None else _member(found)


def _member(row: Sequence[object]) -> Member:
    """A member that the tables hold.

    Raises:
        TypeError: If it is not of texts: the file is damaged.
    """
    id, info, name, connections = row
    if not (type(id) is type(info) is type(name) is str and isinstance(connections, int)):
        raise TypeError("a member is not of texts")
    return Member(id, info, name, connections)


def leave(db: sqlite3.Connection, room: str, member: str, worker: str) -> bool:
    """Note that this process has a member no longer; True if nobody has it with that."""
    gone = db.execute(
        "DELETE FROM seats WHERE room = ? AND id = ? AND worker = ?", (room, member, worker)
    ).rowcount
    return gone > 0 and not _is_held(db, room, member)


def _is_held(db: sqlite3.Connection, room: str, member: str) -> bool:
    found = db.execute("SELECT 1 FROM seats WHERE room = ? AND id = ? LIMIT 1", (room, member))
    return found.fetchone() is not None


_LISTED = (
    "SELECT id, info, name, sum(connections) FROM seats"
    " WHERE room = ? AND worker IN (SELECT id FROM workers WHERE seen >= ?)"
)


def find(db: sqlite3.Connection, room: str, member: str, since: float) -> Member | None:
    """A member as processes seen ``since`` then have it."""
    found = db.execute(f"{_LISTED} AND id = ? GROUP BY id", (room, since, member)).fetchone()
    return None if found is None else _member(found)


def members(db: sqlite3.Connection, room: str, since: float) -> list[Member]:
    """Members of processes seen ``since`` then, in the order they came."""
    found = db.execute(f"{_LISTED} GROUP BY id ORDER BY place", (room, since))
    return [_member(row) for row in found]


def reap(db: sqlite3.Connection, since: float) -> list[tuple[str, str]]:
    """Take out what all processes have in rooms that were not seen ``since`` then, and these
    processes; the members that nobody has with that."""
    dead = " FROM seats WHERE worker NOT IN (SELECT id FROM workers WHERE seen >= ?)"
    left = db.execute(
        f"SELECT room, id{dead} GROUP BY room, id ORDER BY min(place)", (since,)
    ).fetchall()
    if left:
        db.execute(f"DELETE{dead}", (since,))
    bury_workers(db, since)
    return [seat for seat in left if not _is_held(db, *seat)]


def bury_workers(db: sqlite3.Connection, since: float) -> None:
    """Clear away some of what processes not seen ``since`` then followed, and those of them that
    have nothing left there and no members that are to be reaped."""
    if db.execute("SELECT 1 FROM workers WHERE seen < ?", (since,)).fetchone() is None:
        return
    for channel, worker in db.execute(
        "SELECT channel, worker FROM follows"
        " WHERE worker IN (SELECT id FROM workers WHERE seen < ?) LIMIT ?",
        (since, AT_ONCE),
    ).fetchall():
        _let_go(db, worker, channel)
    db.execute(
        "DELETE FROM workers WHERE seen < ?"
        " AND NOT EXISTS (SELECT 1 FROM follows WHERE worker = workers.id)"
        " AND NOT EXISTS (SELECT 1 FROM seats WHERE worker = workers.id)",
        (since,),
    )


def depart(db: sqlite3.Connection, worker: str, since: float) -> None:
    """Let this process count as dead. Members it still has are not listed any more, and left to the
    next beat of another: it tells their rooms."""
    db.execute("UPDATE workers SET seen = 0 WHERE id = ?", (worker,))
    bury_workers(db, since)
