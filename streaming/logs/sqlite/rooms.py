"""Which processes live, what they follow, and who is in which room, in the tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from ..contract import Member


def live(db: sqlite3.Connection, worker: str, now: float) -> bool:
    """Note that this process lives; False if it had been forgotten, with all it followed."""
    # Where the clock was put back, who died before would live until it has caught up.
    db.execute("UPDATE workers SET seen = ? WHERE seen > ?", (now, now))
    known = db.execute("UPDATE workers SET seen = ? WHERE id = ?", (now, worker)).rowcount
    if not known:
        db.execute("INSERT INTO workers (id, seen) VALUES (?, ?)", (worker, now))
    return bool(known)


def follow(db: sqlite3.Connection, worker: str, changes: Mapping[str, bool]) -> None:
    """Note what this process follows from now on, and what no longer."""
    for channel, is_followed in changes.items():
        if is_followed:
            db.execute("INSERT OR IGNORE INTO follows VALUES (?, ?)", (channel, worker))
        else:
            db.execute("DELETE FROM follows WHERE channel = ? AND worker = ?", (channel, worker))


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
    """Forget processes not seen ``since`` then, unless members of theirs are to be reaped."""
    dead = db.execute(
        "SELECT id FROM workers WHERE seen < ? AND id NOT IN (SELECT worker FROM members)",
        (since,),
    ).fetchall()
    for (worker,) in dead:
        db.execute("DELETE FROM follows WHERE worker = ?", (worker,))
        db.execute("DELETE FROM workers WHERE id = ?", (worker,))


def depart(db: sqlite3.Connection, worker: str) -> None:
    """Forget this process and what it follows. Members it still has are not listed any more, and
    left to the next beat of another: it tells their rooms."""
    db.execute("DELETE FROM follows WHERE worker = ?", (worker,))
    db.execute("DELETE FROM workers WHERE id = ?", (worker,))
