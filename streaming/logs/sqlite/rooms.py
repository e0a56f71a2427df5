"""Which processes live, what they follow, and who is in which room, in the tables."""

from __future__ import annotations

import sqlite3

from ..contract import Member
from .marks import next_seq

AT_ONCE = 100
"""Channels whose followers one transaction notes, or clears away when a process has died."""


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


def enter(db: sqlite3.Connection, room: str, member: Member, worker: str, since: float) -> bool:
    """Put a member into a room; False if a process seen ``since`` then had put it there."""
    found = db.execute(
        "SELECT EXISTS (SELECT 1 FROM workers WHERE id = worker AND seen >= ?) FROM members"
        " WHERE room = ? AND id = ?",
        (since, room, member.id),
    ).fetchone()
    if found is not None and found[0]:
        db.execute(
            "UPDATE members SET info = ?, worker = ? WHERE room = ? AND id = ?",
            (member.info, worker, room, member.id),
        )
        return False
    leave(db, room, member.id)
    db.execute(
        "INSERT INTO members (room, id, worker, info) VALUES (?, ?, ?, ?)",
        (room, member.id, worker, member.info),
    )
    return True


def is_in(db: sqlite3.Connection, room: str, member: str) -> bool:
    """Whether a room has this member."""
    found = db.execute("SELECT 1 FROM members WHERE room = ? AND id = ?", (room, member))
    return found.fetchone() is not None


def leave(db: sqlite3.Connection, room: str, member: str) -> bool:
    """Take a member out of a room; False if it is not there."""
    gone = db.execute("DELETE FROM members WHERE room = ? AND id = ?", (room, member))
    return gone.rowcount > 0


def members(db: sqlite3.Connection, room: str, since: float) -> list[Member]:
    """Members of processes seen ``since`` then, in the order they came."""
    return [
        Member(*row)
        for row in db.execute(
            "SELECT members.id, info FROM members JOIN workers ON workers.id = worker"
            " WHERE room = ? AND seen >= ? ORDER BY seq",
            (room, since),
        )
    ]


def reap(db: sqlite3.Connection, since: float) -> list[tuple[str, str]]:
    """Take out the members of all processes not seen ``since`` then, and these processes."""
    gone = db.execute(
        "SELECT room, id, seq FROM members"
        " WHERE worker NOT IN (SELECT id FROM workers WHERE seen >= ?) ORDER BY seq",
        (since,),
    ).fetchall()
    db.executemany("DELETE FROM members WHERE seq = ?", [(seq,) for _, _, seq in gone])
    bury_workers(db, since)
    return [(room, member) for room, member, _ in gone]


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
        " AND NOT EXISTS (SELECT 1 FROM members WHERE worker = workers.id)",
        (since,),
    )


def depart(db: sqlite3.Connection, worker: str, since: float) -> None:
    """Let this process count as dead. Members it still has are not listed any more, and left to the
    next beat of another: it tells their rooms."""
    db.execute("UPDATE workers SET seen = 0 WHERE id = ?", (worker,))
    bury_workers(db, since)
