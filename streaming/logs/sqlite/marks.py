"""The log's own counting in the tables: a number for each append, and the marks made of them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from ...message import Position
from .schema import reached


@dataclass(frozen=True, slots=True)
class Life:
    """What a file knows of itself, and the number of its newest append."""

    epoch: str
    past: str
    forgotten: int
    newest: int

    @property
    def mark(self) -> Position:
        """A mark of now."""
        return Position(self.epoch, self.newest)

    def renewed(self, mark: Position) -> Position | None:
        """The same mark in the present epoch; None if it is none, or of a past that is lost."""
        if mark.epoch == self.epoch:
            return mark if mark.offset <= self.newest else None
        reach = reached(self.past, mark.epoch)
        return None if reach is None or mark.offset > reach else Position(self.epoch, mark.offset)


def life(db: sqlite3.Connection) -> Life:
    """What is known now."""
    return Life(
        *db.execute(
            "SELECT epoch, past, forgotten, (SELECT ifnull(max(seq), 0) FROM channels) FROM life"
        ).fetchone()
    )


def next_seq(db: sqlite3.Connection) -> int:
    """The next number among all appends: the newest channel is never forgotten."""
    return int(db.execute("SELECT ifnull(max(seq), 0) + 1 FROM channels").fetchone()[0])


def changed_since(db: sqlite3.Connection, seq: int, limit: int) -> list[tuple[str, int, str, int]]:
    """Channels with something new behind the number ``seq``, in order: name, the number of it,
    epoch and offset of the newest message."""
    return db.execute(
        "SELECT name, seq, epoch, newest FROM channels WHERE seq > ? ORDER BY seq LIMIT ?",
        (seq, limit),
    ).fetchall()
