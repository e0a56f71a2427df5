"""``sqlite:``, the log in a file that the processes of one machine share."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from urllib.parse import parse_qsl

from ...errors import ChannelEnded, ConfigurationError, LogUnavailable
from ...message import Message, Position, text_size
from ...own import Own
from ...threads import from_any_thread
from ..contract import LEASE, Heard, Member, Page, Retention
from . import rooms
from .history import Appended, History
from .process import Process

SYNCHRONOUS = ("off", "normal", "full", "extra")


class SqliteLog:
    """Channels in one SQLite file, bounded by ``retention``.

    Opens nothing until it is used, and belongs to whichever process uses it: a child that was
    forked starts with connections of its own.

    Args:
        path: The file; it and its folder are made. Beside it lie ``-wal``, ``-shm`` and ``-wake``.
        retention: How much of the past each channel keeps.
        synchronous: SQLite's setting, what a commit waits for: see ``docs/configuration.md``.
        clock: Seconds that only go forward, the same for all processes of this machine; for age,
            key window and lease.
        lease: Seconds without a beat after which a process counts as dead.

    Raises:
        ConfigurationError: If there is no such ``synchronous``.
    """

    reads = 1

    def __init__(
        self,
        path: str | os.PathLike[str],
        retention: Retention | None = None,
        *,
        synchronous: str = "normal",
        clock: Callable[[], float] = time.monotonic,
        lease: float = LEASE,
    ) -> None:
        if synchronous not in SYNCHRONOUS:
            raise ConfigurationError(
                f"synchronous={synchronous!r} is unknown to SQLite; use {', '.join(SYNCHRONOUS)}."
            )
        self.retention = retention or Retention()
        self.path = os.path.abspath(path)
        self.synchronous = synchronous
        self._history = History(self.retention, lease)
        total = self.retention.total
        self._own = Own(lambda: Process(self.path, synchronous, clock, lease, total))

    @classmethod
    def from_url(cls, url: str, retention: Retention, folder: str | None = None) -> SqliteLog:
        """The log at ``sqlite:///path?synchronous=…``; relative to ``folder``, or to where we are.

        Raises:
            ConfigurationError: If the URL names no file, or an option there is not.
        """
        path, _, query = url.removeprefix("sqlite:///").partition("?")
        if not url.startswith("sqlite:///") or not path or path == ":memory:":
            raise ConfigurationError(
                f"{url!r} names no file. Use 'sqlite:///streaming.db' (relative) or "
                "'sqlite:////var/lib/app/streaming.db' (absolute); 'memory:' needs no file."
            )
        options = dict(parse_qsl(query, keep_blank_values=True))
        synchronous = options.pop("synchronous", "normal").lower()
        if options:
            raise ConfigurationError(
                f"{url!r}: there is no option {', '.join(options)}. Known: synchronous."
            )
        return cls(os.path.join(folder or "", path), retention, synchronous=synchronous)

    @property
    def process(self) -> Process:
        """This process's part in the log."""
        return self._own()

    @from_any_thread
    def append(
        self,
        channel: str,
        data: str,
        *,
        event: str = "message",
        key: str | None = None,
        sender: str | None = None,
        last: bool = False,
        traceparent: str | None = None,
    ) -> Message:
        size = text_size(data)
        draft = Message(channel, data, Position("", 0), event, sender, key, size, traceparent)
        process = self.process

        def work(db: sqlite3.Connection) -> Appended | None:
            now = process.writer.now()
            return self._history.append(db, draft, now, process.born, last=last)

        try:
            appended = process.turns.write(work, size=size)
        except sqlite3.IntegrityError as error:  # the tables contradict each other
            raise LogUnavailable(
                f"The log {self.path} is damaged. Move it away; the log begins anew without it"
                f" ({error})."
            ) from error
        if appended is None:  # only now: an error would have the others of the turn wait
            raise ChannelEnded.of(channel)
        return appended.message

    @from_any_thread
    def read(self, channel: str, after: Position, *, limit: int, size: int) -> Page:
        reader = self.process.reader

        def work(db: sqlite3.Connection) -> Page:
            return self._history.read(db, channel, after, limit=limit, size=size, now=reader.now())

        return reader.read(work)

    @from_any_thread
    def tail(self, channel: str, history: int = 0) -> Position:
        reader = self.process.reader
        return reader.read(lambda db: self._history.tail(db, channel, history, reader.now()))

    @from_any_thread
    def channels(self, prefix: str = "", limit: int = 1000) -> list[str]:
        reader = self.process.reader
        return reader.read(lambda db: self._history.channels(db, prefix, limit, reader.now()))

    @from_any_thread
    def prune(self, channel: str) -> int:
        process, gone = self.process, 0
        head = self.tail(channel)
        if head.is_mark:
            return 0  # nothing is locked for what is not there

        def work(db: sqlite3.Connection) -> tuple[int, bool]:
            return self._history.prune(db, channel, head, process.writer.now())

        while True:
            count, is_more = process.turns.write(work)
            gone += count
            if not is_more:
                return gone

    @from_any_thread
    def follow(self, channel: str, heard: Heard) -> None:
        self.process.follow(channel, heard)

    @from_any_thread
    def unfollow(self, channel: str, heard: Heard) -> None:
        self.process.unfollow(channel, heard)

    @from_any_thread
    def enter(self, room: str, member: Member, *, says: bool = True) -> Member | None:
        process = self.process

        def work(db: sqlite3.Connection) -> Member | None:
            now = process.writer.now()
            process.live(db, now)
            return rooms.enter(db, room, member, process.id, process.since(now), says=says)

        with process.doubt.noted():
            return process.turns.write(work)

    @from_any_thread
    def leave(self, room: str, member: str) -> bool:
        process = self.process
        if self.find(room, member, own=True) is None:
            return False  # nothing is locked for strangers
        return process.turns.write(lambda db: rooms.leave(db, room, member, process.id))

    @from_any_thread
    def members(self, room: str) -> list[Member]:
        process = self.process
        reader = process.reader
        return reader.read(lambda db: rooms.members(db, room, process.since(reader.now())))

    @from_any_thread
    def find(self, room: str, member: str, *, own: bool = False) -> Member | None:
        process = self.process
        reader = process.reader
        if own:
            return reader.read(lambda db: rooms.has(db, room, member, process.id))
        return reader.read(lambda db: rooms.find(db, room, member, process.since(reader.now())))

    @from_any_thread
    def beat(self) -> list[tuple[str, str]]:
        process = self.process

        def work(db: sqlite3.Connection) -> list[tuple[str, str]]:
            now = process.writer.now()
            process.live(db, now)
            return rooms.reap(db, process.since(now))

        with process.doubt.noted():
            return process.turns.write(work)

    def note_standstill(self) -> None:
        self.process.doubt.note()

    def take_place(self, holder: str, most: int) -> bool:
        return True  # each process counts for itself

    def give_place(self, holder: str) -> None:
        pass

    @from_any_thread
    def check(self) -> None:
        process = self.process
        process.turns.write(lambda db: process.live(db, process.writer.now()))

    @from_any_thread
    def close(self) -> None:
        self.process.close()
