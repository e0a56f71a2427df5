"""Channels and their messages in the tables. Everything here runs inside a transaction."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from ...message import Gap, Message, Position
from ...wire import traceparent
from ..contract import Page, Retention
from .forgetting import forget, forget_key, forget_keys, forget_others, free_id, is_followed, look
from .marks import Life, life, next_seq
from .schema import OFFSETS, reached

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
    born: int
    clean: int
    past: str
    ended: float | None = None

    def row(self, offset: int) -> int:
        """The id of the row of a message of this channel."""
        return self.id * OFFSETS + offset

    def reached(self, epoch: str) -> int | None:
        """How far an epoch came; None if it is unknown here."""
        return self.newest if epoch == self.epoch else reached(self.past, epoch)

    def begins_behind(self, mark: Position, log: Life) -> bool:
        """Whether ``mark`` stands before the first message, and nothing was forgotten behind it."""
        same = log.renewed(mark)
        return same is not None and self.clean <= same.offset < self.born


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a draft: the message, and whether it is new; not for a repetition."""

    message: Message
    is_new: bool


Born = Callable[[sqlite3.Connection, str], None]
"""Called in the transaction in which a channel came to be."""


class History:
    """What appends and reads do to the tables, within ``retention``."""

    def __init__(self, retention: Retention, lease: float) -> None:
        self._retention = retention
        self._lease = lease

    def append(
        self, db: sqlite3.Connection, draft: Message, now: float, born: Born, *, last: bool
    ) -> Appended | None:
        """Append ``draft``, whose position does not count, or find that its key was used before;
        None if the channel has ended."""
        keep = self._retention.of(draft.channel)
        place = _find(db, draft.channel)
        if place is not None and _is_over(place, keep, now) and not is_followed(db, place.id):
            forget(db, place.id)
            place = None
        place = place or _new(db, now)
        if draft.key is not None:
            first = _first_offset(db, place, draft.key, now - keep.key_window)
            if first is not None:
                return Appended(_repeated(db, place, draft, first), False)
        if place.ended is not None:
            return None
        place.newest += 1
        place.size += draft.size
        if place.oldest == place.newest:
            place.since = now
        row = place.row(place.newest)
        db.execute(
            "INSERT INTO messages (id, at, size, event, sender, key, data, trace)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(row, now, draft.size, draft.event, draft.sender, draft.key),
                *(draft.data, draft.traceparent),
            ),
        )
        _trim(db, place, keep, now)
        if last:
            place.oldest = _oldest(db, place, keep, now)  # nothing grows old by itself from now on
        place.keys -= forget_keys(db, place.id, place.keys, now - keep.key_window)
        if draft.key is not None:
            db.execute(
                "INSERT INTO keys (id, channel, key, at) VALUES (?, ?, ?, ?)",
                (row, place.id, draft.key, now),
            )
            place.keys += 1
        if place.newest == 1:
            self._begin(db, draft.channel, place, now, born)
        else:
            db.execute(
                "UPDATE channels SET oldest = ?, newest = ?, size = ?, since = ?, used = ?,"
                " keys = ?, seq = ? WHERE id = ?",
                (
                    *(place.oldest, place.newest, place.size, place.since, now),
                    *(place.keys, next_seq(db), place.id),
                ),
            )
        if last:
            db.execute(
                "UPDATE channels SET ended = ?, look = ? WHERE id = ?",
                (now, look(keep.after_end, now), place.id),
            )
        return Appended(_placed(draft, Position(place.epoch, place.newest)), True)

    def read(
        self,
        db: sqlite3.Connection,
        channel: str,
        after: Position,
        *,
        limit: int,
        size: int,
        now: float,
    ) -> Page:
        """The page behind ``after``; see the contract."""
        place = _find(db, channel)
        if place is None:
            return _read_nothing(channel, after, life(db))
        if after.epoch == place.epoch and after.offset == place.newest:
            return Page((), after, more=False, ended=place.ended is not None)
        seen = after
        if after.is_mark and place.begins_behind(after, life(db)):
            seen = Position(place.epoch, 0)
        oldest = _oldest(db, place, self._retention.of(channel), now)
        gap, start = None, seen.offset + 1
        is_sure = True
        reach = place.reached(seen.epoch)
        if reach is None or seen.offset > reach or start < oldest:
            # What it saw beyond an interruption is lost; what it saw before is not told again.
            start = oldest
            if reach is not None and seen.epoch != place.epoch:
                start = max(oldest, min(reach, seen.offset) + 1)
            gap = _gap(channel, place, start, after)
            is_sure = life(db).renewed(after) is None
        rows = db.execute(
            "SELECT id, event, sender, key, size, data, trace FROM messages"
            " WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
            (place.row(start), place.row(place.newest), limit),
        )
        messages: list[Message] = []
        total = 0
        for row, event, sender, key, length, data, trace in rows:
            total += length
            if total > size and messages:
                break
            position = Position(place.epoch, row - place.row(0))
            messages.append(_held(channel, data, position, event, sender, key, length, trace))
        rows.close()  # an unfinished statement would keep the snapshot
        end = start - 1 + len(messages)
        more = end < place.newest
        is_ended = place.ended is not None and not more
        return Page(messages, Position(place.epoch, end), gap, more, is_ended, is_sure)

    def tail(self, db: sqlite3.Connection, channel: str, history: int, now: float) -> Position:
        """The position before the last ``history`` messages held, or a mark; see the contract."""
        place = _find(db, channel)
        if place is None:
            return life(db).mark
        if history <= 0:
            return Position(place.epoch, place.newest)
        oldest = _oldest(db, place, self._retention.of(channel), now)
        return Position(place.epoch, max(place.newest - history, oldest - 1))

    def channels(self, db: sqlite3.Connection, prefix: str, limit: int, now: float) -> list[str]:
        """Names that begin so of channels that hold anything, the last used first."""
        if not prefix.isascii():
            return []
        found: list[str] = []
        rows = db.execute(
            "SELECT name, used, ended FROM channels WHERE name >= ? AND name < ? ORDER BY seq DESC",
            (prefix, prefix + "\x7f"),
        )
        for name, used, ended in rows:
            if len(found) >= limit:
                break
            if not self._retention.of(name).is_over(now - used, ended is not None):
                found.append(name)
        rows.close()
        return found

    def prune(
        self, db: sqlite3.Connection, channel: str, head: Position, now: float
    ) -> tuple[int, bool]:
        """Let go of the oldest messages up to ``head``, ``TRIM`` at a time: how many went, and
        whether some are left."""
        place = _find(db, channel)
        if place is None or (reach := place.reached(head.epoch)) is None:
            return 0, False  # it was forgotten meanwhile, and is another one
        if place.oldest > (end := min(head.offset, reach)):
            return 0, False
        last = min(place.oldest + TRIM - 1, end)
        rows = place.row(place.oldest), place.row(last)
        (size,) = db.execute(
            "SELECT ifnull(sum(size), 0) FROM messages WHERE id BETWEEN ? AND ?", rows
        ).fetchone()
        count = db.execute("DELETE FROM messages WHERE id BETWEEN ? AND ?", rows).rowcount
        found = db.execute("SELECT at FROM messages WHERE id = ?", (rows[1] + 1,)).fetchone()
        db.execute(
            "UPDATE channels SET oldest = ?, size = ?, since = ? WHERE id = ?",
            (last + 1, place.size - size, found[0] if found else now, place.id),
        )
        return count, last < end

    def _begin(
        self, db: sqlite3.Connection, channel: str, place: Place, now: float, born: Born
    ) -> None:
        """Store the row of a channel that has got its first message; others may have to go."""
        db.execute(
            "INSERT INTO channels (id, name, epoch, oldest, newest, size, since, used, keys, seq,"
            " born, clean, look) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(place.id, channel, place.epoch, place.oldest, place.newest, place.size),
                *(place.since, now, place.keys, place.born, place.born, place.clean),
                look(self._retention.of(channel).age, now),
            ),
        )
        born(db, channel)
        forget_others(db, place.id, self._retention, now, self._lease)


def _is_over(place: Place, keep: Retention, now: float) -> bool:
    """Whether a channel has ended, and the time is over for which it is kept then."""
    return place.ended is not None and keep.is_over(now - place.ended, True)


def _oldest(db: sqlite3.Connection, place: Place, keep: Retention, now: float) -> int:
    """The oldest message held by now: a read may come long after the last append."""
    if _is_over(place, keep, now):
        return place.newest + 1
    oldest = max(place.oldest, place.newest - keep.messages + 1)
    if place.ended is not None:
        return oldest
    if keep.age is None or now - place.since <= keep.age:
        return oldest
    found = db.execute(
        "SELECT id FROM messages WHERE id BETWEEN ? AND ? AND at >= ? ORDER BY id LIMIT 1",
        (place.row(oldest), place.row(place.newest), now - keep.age),
    ).fetchone()
    return place.newest + 1 if found is None else int(found[0]) - place.row(0)


def _trim(db: sqlite3.Connection, place: Place, keep: Retention, now: float) -> None:
    """Take out what is too much or too old; ``place`` tells of it."""
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


def _first_offset(db: sqlite3.Connection, place: Place, key: str, since: float) -> int | None:
    """The offset of the message that had this key ``since`` then."""
    found = db.execute(
        "SELECT id, at FROM keys WHERE channel = ? AND key = ?", (place.id, key)
    ).fetchone()
    if found is None:
        return None
    row, at = found
    if at >= since:
        return int(row - place.row(0))
    forget_key(db, row)
    place.keys -= 1
    return None


def _repeated(db: sqlite3.Connection, place: Place, draft: Message, offset: int) -> Message:
    position = Position(place.epoch, offset)
    found = db.execute(
        "SELECT data, event, sender, size, trace FROM messages WHERE id = ?", (place.row(offset),)
    ).fetchone()
    if found is None:  # no longer held; the repetition says the same
        return _placed(draft, position)
    data, event, sender, size, trace = found
    return _held(draft.channel, data, position, event, sender, draft.key, size, trace)


_TEXT = (str, type(None))


def _held(
    channel: str,
    data: str,
    position: Position,
    event: str,
    sender: str | None,
    key: str | None,
    size: int,
    trace: object,
) -> Message:
    """A message that the tables hold.

    Raises:
        TypeError: If it is not of texts: the file is damaged.
    """
    if not (type(data) is type(event) is str and type(sender) in _TEXT and type(key) in _TEXT):
        raise TypeError(f"a message of {channel} is not of texts")
    trace = None if trace is None else traceparent.known(trace)
    return Message(channel, data, position, event, sender, key, size, trace)


def _find(db: sqlite3.Connection, channel: str) -> Place | None:
    row = db.execute(
        "SELECT id, epoch, oldest, newest, size, since, keys, born, clean, past, ended"
        " FROM channels WHERE name = ?",
        (channel,),
    ).fetchone()
    return row and Place(*row)


def _new(db: sqlite3.Connection, now: float) -> Place:
    """A channel that is about to get its first message."""
    log = life(db)
    epoch, born, clean = secrets.token_hex(4), log.newest + 1, log.forgotten
    return Place(free_id(db), epoch, 1, 0, 0, now, 0, born, clean, "")


def _read_nothing(channel: str, after: Position, log: Life) -> Page:
    """What a channel without messages has behind ``after``."""
    same = log.renewed(after)
    if same is not None and same.offset >= log.forgotten:
        return Page((), same, more=False)
    return Page((), log.mark, Gap(channel, after, None, None), is_sure=same is None)


def _placed(draft: Message, position: Position) -> Message:
    text, size, trace = draft.data, draft.size, draft.traceparent
    return Message(draft.channel, text, position, draft.event, draft.sender, draft.key, size, trace)


def _gap(channel: str, place: Place, oldest: int, requested: Position) -> Gap:
    if oldest > place.newest:
        return Gap(channel, requested, None, None)
    epoch, newest = place.epoch, place.newest
    return Gap(channel, requested, Position(epoch, oldest), Position(epoch, newest))
