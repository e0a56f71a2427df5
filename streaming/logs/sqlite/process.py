"""One process's part in the log: its connections, its followers, its watch over the file."""

from __future__ import annotations

import logging
import os
import random
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from ...errors import LogUnavailable
from ..contract import Follower
from . import rooms
from .connection import Connection
from .followers import Followers
from .forgetting import bury
from .history import Appended, changed_since, newest_seq
from .turns import Turns
from .wakeups import Ear, Wakeups

BACKSTOP = 0.5
"""Seconds after which the file is looked at though nobody said so."""

POLL = 0.02
"""The same where there are no wake-ups."""

RETRY = 1.0
"""Seconds until a file that could not be read is looked at again, at most."""

CHANGES = 1000
"""Channels that one look takes in; the next goes on."""

HURRY = 0.25
"""Seconds for which a busy file is tried by those who must not be kept: a follow, the watch."""

TOLD = 100
"""Channels that one transaction notes as followed, or no longer."""

_log = logging.getLogger(__name__)


class Process:
    """Everything of a log that must not be shared with a forked child. Opens nothing by itself.

    Owns one daemon thread, the watch, from the first follower to a moment after the last.
    """

    def __init__(
        self, path: str, synchronous: str, clock: Callable[[], float], lease: float
    ) -> None:
        self.id = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.reader = Connection(path, synchronous)
        self.writer = Connection(path, synchronous)
        self.turns = Turns(self.writer, self._open_turn, self._settle)
        self.looks = 0
        """How often the watch has looked into the file."""
        self._clock = clock
        self._lease = lease
        self._folder = f"{path}-wake"
        self._followers = Followers()
        self._telling: Mapping[str, bool] = {}
        self._wakeups = Wakeups(self._folder)
        self._lock = threading.Lock()
        self._watch: threading.Thread | None = None
        self._ear: Ear | None = None
        self._seen: int | None = None
        self._beat_at = 0.0
        self._closed = threading.Event()

    def follow(self, channel: str) -> Follower:
        """A new follower of ``channel``."""
        try:
            heard, newest = self.reader.read(lambda db: _seqs(db, channel), patience=HURRY)
        except LogUnavailable:
            heard, newest = 0, None  # the watch will wake everybody once it can read
        follower = self._followers.add(channel, heard)
        with self._lock:
            if self._watch is not None or self._closed.is_set():
                return follower
            self._seen = newest
            self._ear = Ear(self._folder)
            self._watch = watch = threading.Thread(
                target=self._run, args=(self._ear,), name="sqlite log watch", daemon=True
            )
        watch.start()
        return follower

    def close(self) -> None:
        """Leave the log. Idempotent."""
        self._closed.set()
        with self._lock:
            watch, ear = self._watch, self._ear
        if watch is not None and ear is not None:
            ear.wake()
            self._wakeups.send_to(ear.name)
            watch.join(BACKSTOP * 4)
        if self.writer.commits:
            with suppress(LogUnavailable):
                self.turns.write(lambda db: rooms.depart(db, self.id), patience=HURRY)
        self.writer.close()
        self.reader.close()
        self._wakeups.close()
        self._followers.ring_all(0)

    def live(self, db: sqlite3.Connection, now: float) -> None:
        """Note in the file that this process lives."""
        if not rooms.live(db, self.id, now):  # new there, or taken for dead
            self._followers.tell_again()  # with the next turn

    def _open_turn(self, db: sqlite3.Connection, requests: int) -> None:
        """What goes with every transaction: it costs little there, and a lot alone."""
        self._telling = self._followers.untold(TOLD)
        if self._telling:
            self.live(db, self._clock())
            rooms.follow(db, self.id, self._telling)
        bury(db, requests)

    def _settle(self, results: Sequence[object]) -> None:
        """After a commit: wake whoever follows what was appended, here and elsewhere."""
        if self._telling:
            self._followers.told(self._telling)
        appended = [r for r in results if isinstance(r, Appended) and r.seq is not None]
        for result in appended:
            self._followers.ring(result.message.channel, result.seq or 0)
        if appended:
            ear = self._ear
            self._wakeups.send(None if ear is None else ear.name)

    def _run(self, ear: Ear) -> None:
        try:
            while self._goes_on():
                try:
                    ear.open()
                    self._look()
                    self._beat()
                except LogUnavailable as error:
                    _log.warning("The watch over the log waits: %s", error)
                    self._closed.wait(RETRY * random.uniform(0.5, 1.0))
                except Exception:
                    _log.exception("The watch over the log failed; it goes on")
                    self._closed.wait(RETRY * random.uniform(0.5, 1.0))
                ear.wait(POLL if ear.is_deaf else BACKSTOP)
        finally:
            ear.close()

    def _goes_on(self) -> bool:
        with self._lock:
            if len(self._followers) and not self._closed.is_set():
                return True
            self._watch = self._ear = None
            return False

    def _look(self) -> None:
        """Wake whoever follows a channel with something new."""
        self.looks += 1
        while True:
            seen = self._seen
            changes, newest = self.reader.read(partial(_changes, seen=seen))
            if seen is None or newest < seen:  # an older file lies there, or none was known
                self._seen = newest
                self._followers.ring_all(newest)
                return
            for channel, seq in changes:
                self._followers.ring(channel, seq)
            if changes:
                self._seen = changes[-1][1]
            if len(changes) < CHANGES:
                return

    def _beat(self) -> None:
        """Say what this process follows, and that it lives."""
        now = time.monotonic()
        if now >= self._beat_at:
            self.turns.write(self._tidy, patience=HURRY)
            self._beat_at = now + self._lease / 3
        while self._followers.untold(1):
            self.turns.write(lambda db: None, patience=HURRY)  # what is untold goes with it

    def _tidy(self, db: sqlite3.Connection) -> None:
        now = self._clock()
        self.live(db, now)
        rooms.bury_workers(db, now - self._lease)


def _seqs(db: sqlite3.Connection, channel: str) -> tuple[int, int]:
    found = db.execute("SELECT seq FROM channels WHERE name = ?", (channel,)).fetchone()
    return (0 if found is None else found[0]), newest_seq(db)


def _changes(db: sqlite3.Connection, *, seen: int | None) -> tuple[list[tuple[str, int]], int]:
    newest = newest_seq(db)
    if seen is None or newest <= seen:
        return [], newest
    return changed_since(db, seen, CHANGES), newest
