"""Channels and their messages in the tables. Everything here runs inside a transaction."""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass

from ...message import Gap, Message, Position
from ..contract import Page, Retention
from .forgetting import forget_key, forget_keys, forget_others, free_id
from .schema import OFFSETS

TRIM = 1024
"""One append takes out at most so many old messages; the next goes on."""


@dataclass(slots=True)
class Place:
    """A channel's row. ``oldest`` to ``newest`` are held; the columns are told in ``schema``."""

    id: int
    epoch: str
    oldest: int
    newest: int
    size: int
    since: float
    keys: int
    seq: int
    past: str = ""

    def row(self, offset: int) -> int:
        """The id of the row of a message of this channel."""
        return self.id * OFFSETS + offset

    def survived(self, after: Position) -> int | None:
        """How far what ``after`` counts is still the same here; None if it is unknown here."""
        if after.epoch == self.epoch:
            return self.newest
        for earlier in self.past.split():
            epoch, _, newest = earlier.partition(":")
            if epoch == after.epoch:
                return int(newest)
        return None


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a draft: the message, and its number in the log; None for a repetition."""

    message: Message
    seq: int | None


class History:
    """What appends and reads do to the tables, within ``retention``."""

    def __init__(self, retention: Retention, lease: float) -> None:
        self._retention = retention
        self._lease = lease

    def find(self, db: sqlite3.Connection, channel: str) -> Place | None:
        """The channel's row, if there is one."""
        row = db.execute(
            "SELECT id, epoch, oldest, newest, size, since, keys, seq, past FROM channels"
            " WHERE name = ?",
            (channel,),
        ).fetchone()
        return row and Place(*row)

    def use(self, db: sqlite3.Connection, channel: str, now: float) -> Place:
        """The channel's row, made if there is none; some that are long unused are forgotten."""
        place = self.find(db, channel)
        if place is None:
            seq = next_seq(db, now)
            place = Place(free_id(db), secrets.token_hex(4), 1, 0, 0, now, 0, seq)
            db.execute(
                "INSERT INTO channels (id, name, epoch, oldest, newest, size, since, used, keys,"
                " seq) VALUES (?, ?, ?, 1, 0, 0, ?, ?, 0, ?)",
                (place.id, channel, place.epoch, now, now, seq),
            )
            forget_others(db, place.id, seq, self._retention, now, self._lease)
        return place

    def append(self, db: sqlite3.Connection, draft: Message, now: float) -> Appended:
        """Append ``draft``, whose position does not count, or find that its key was used before."""
        place = self.use(db, draft.channel, now)
        if draft.key is not None:
            first = self._first_offset(db, place, draft.key, now)
            if first is not None:
                return Appended(self._repeated(db, place, draft, first), None)
        place.newest += 1
        place.size += draft.size
        if place.oldest == place.newest:
            place.since = now
        row = place.row(place.newest)
        db.execute(
            "INSERT INTO messages (id, at, size, event, sender, key, data)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (row, now, draft.size, draft.event, draft.sender, draft.key, draft.data),
        )
        self._trim(db, place, now)
        place.keys -= forget_keys(db, place.id, place.keys, now - self._retention.key_window)
        if draft.key is not None:
            db.execute(
                "INSERT INTO keys (id, channel, key, at) VALUES (?, ?, ?, ?)",
                (row, place.id, draft.key, now),
            )
            place.keys += 1
        seq = next_seq(db, now)
        db.execute(
            "UPDATE channels SET oldest = ?, newest = ?, size = ?, since = ?, used = ?, keys = ?,"
            " seq = ? WHERE id = ?",
            (place.oldest, place.newest, place.size, place.since, now, place.keys, seq, place.id),
        )
        return Appended(_placed(draft, Position(place.epoch, place.newest)), seq)

    def read(
        self,
        db: sqlite3.Connection,
        channel: str,
        place: Place,
        after: Position,
        *,
        limit: int,
        size: int,
        now: float,
    ) -> Page:
        """The page behind ``after``; see the contract."""
        if after.epoch == place.epoch and after.offset == place.newest:
            return Page((), after)
        oldest, gap, start = self._oldest(db, place, now), None, after.offset + 1
        survived = place.survived(after)
        if survived is None or after.offset > survived or start < oldest:
            # What it saw beyond an interruption is lost; what it saw before is not told again.
            start = oldest
            if survived is not None and after.epoch != place.epoch:
                start = max(oldest, min(survived, after.offset) + 1)
            gap = _gap(channel, place, start, after)
        rows = db.execute(
            "SELECT id, event, sender, key, size, data FROM messages"
            " WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
            (place.row(start), place.row(place.newest), limit),
        )
        messages: list[Message] = []
        total = 0
        for row, event, sender, key, length, data in rows:
            total += length
            if total > size and messages:
                break
            position = Position(place.epoch, row - place.row(0))
            messages.append(Message(channel, data, position, event, sender, key, length))
        rows.close()  # an unfinished statement would keep the snapshot
        return Page(messages, Position(place.epoch, start - 1 + len(messages)), gap)

    def tail(self, db: sqlite3.Connection, place: Place, history: int, now: float) -> Position:
        """The position before the last ``history`` messages held."""
        if history <= 0:
            return Position(place.epoch, place.newest)
        oldest = self._oldest(db, place, now)
        return Position(place.epoch, max(place.newest - history, oldest - 1))

    def _oldest(self, db: sqlite3.Connection, place: Place, now: float) -> int:
        """The oldest message held by now: a read may come long after the last append."""
        oldest = max(place.oldest, place.newest - self._retention.messages + 1)
        age = self._retention.age
        if age is None or now - place.since <= age:
            return oldest
        found = db.execute(
            "SELECT id FROM messages WHERE id BETWEEN ? AND ? AND at >= ? ORDER BY id LIMIT 1",
            (place.row(oldest), place.row(place.newest), now - age),
        ).fetchone()
        return place.newest + 1 if found is None else found[0] - place.row(0)

    def _trim(self, db: sqlite3.Connection, place: Place, now: float) -> None:
        """Take out what is too much or too old; ``place`` tells of it."""
        keep = self._retention
        held = place.newest - place.oldest + 1
        is_kept = held <= keep.messages and (place.size <= keep.size or held == 1)
        if is_kept and (keep.age is None or now - place.since <= keep.age):
            return
        oldest = place.oldest
        rows = db.execute(
            "SELECT size, at FROM messages WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
            (place.row(oldest), place.row(place.newest), TRIM + 1),
        )
        for size, at in rows:
            held = place.newest - oldest + 1
            is_old = keep.age is not None and now - at > keep.age
            is_kept = held <= keep.messages and (place.size <= keep.size or held == 1)
            if (is_kept and not is_old) or oldest - place.oldest == TRIM:
                place.since = at
                break
            oldest += 1
            place.size -= size
        rows.close()
        db.execute(
            "DELETE FROM messages WHERE id BETWEEN ? AND ?",
            (place.row(place.oldest), place.row(oldest - 1)),
        )
        place.oldest = oldest

    def _first_offset(
        self, db: sqlite3.Connection, place: Place, key: str, now: float
    ) -> int | None:
        found = db.execute(
            "SELECT id, at FROM keys WHERE channel = ? AND key = ?", (place.id, key)
        ).fetchone()
        if found is None:
            return None
        row, at = found
        if now - at <= self._retention.key_window:
            return int(row - place.row(0))
        forget_key(db, row)
        place.keys -= 1
        return None

    @staticmethod
    def _repeated(db: sqlite3.Connection, place: Place, draft: Message, offset: int) -> Message:
        position = Position(place.epoch, offset)
        found = db.execute(
            "SELECT data, event, sender, size FROM messages WHERE id = ?", (place.row(offset),)
        ).fetchone()
        if found is None:  # no longer held; the repetition says the same
            return _placed(draft, position)
        data, event, sender, size = found
        return Message(draft.channel, data, position, event, sender, draft.key, size)


def next_seq(db: sqlite3.Connection, now: float) -> int:
    """The next number among all appends.

    A new file starts with the time in microseconds: whoever looked into the file that lay there
    before finds higher numbers than it has seen.
    """
    (seq,) = db.execute("SELECT max(seq) FROM channels").fetchone()
    return int(now * 1e6) if seq is None else int(seq) + 1


def changed_since(db: sqlite3.Connection, seq: int, limit: int) -> list[tuple[str, int]]:
    """Channels with something new behind ``seq``, with the number of it, in order."""
    return db.execute(
        "SELECT name, seq FROM channels WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit)
    ).fetchall()


def newest_seq(db: sqlite3.Connection) -> int:
    """The number of the last append; 0 if there is none."""
    return int(db.execute("SELECT max(seq) FROM channels").fetchone()[0] or 0)


def _placed(draft: Message, position: Position) -> Message:
    return Message(
        draft.channel, draft.data, position, draft.event, draft.sender, draft.key, draft.size
    )


def _gap(channel: str, place: Place, oldest: int, requested: Position) -> Gap:
    if oldest > place.newest:
        return Gap(channel, requested, None, None)
    epoch, newest = place.epoch, place.newest
    return Gap(channel, requested, Position(epoch, oldest), Position(epoch, newest))
