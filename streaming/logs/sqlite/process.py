"""One process's part in the log: its connections, its followers, its watch over the file."""

from __future__ import annotations

import logging
import os
import random
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from ...errors import NO_THREAD, LogUnavailable, TooManyClients
from ...message import Position
from ...own import era, is_over
from ..contract import Heard
from ..doubt import Doubt
from . import rooms
from .connection import Connection
from .follows import Follows
from .forgetting import bury
from .history import Appended
from .marks import Life, changed_since, life
from .space import Space
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

_log = logging.getLogger(__name__)


class Process:
    """Everything of a log that must not be shared with a forked child. Opens nothing by itself.

    Owns one daemon thread, the watch, from the first follower to a moment after the last.
    """

    def __init__(
        self,
        path: str,
        synchronous: str,
        clock: Callable[[], float],
        lease: float,
        total: int | None,
    ) -> None:
        self.id = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.reader = Connection(path, synchronous, clock)
        self.writer = Connection(path, synchronous, clock)
        self._space = Space(path, total)
        self.turns = Turns(self.writer, self._open_turn, self._settle)
        self.looks = 0
        """How often the watch has looked into the file and said what there was to say."""
        self._lease = lease
        self.doubt = Doubt(lease)
        """What this process could not write others could not, either."""
        self._era = era()
        self._folder = f"{path}-wake"
        self._follows = Follows(self.id)
        self._wakeups = Wakeups(self._folder)
        self._lock = threading.Lock()
        self._watch: threading.Thread | None = None
        self._ear: Ear | None = None
        self._seen: Position | None = None
        self._life = ""  # of the file that was last written to, or first looked into
        self._beat_at = 0.0
        self._closed = threading.Event()

    def follow(self, channel: str, heard: Heard) -> None:
        """Tell ``heard`` of what is appended to ``channel`` from here on.

        Raises:
            TooManyClients: If no thread can be started to watch the file; nothing is followed.
        """
        # In this order: what is committed after this has returned has a number above all that any
        # look has seen, so the next look finds it, and it finds ``heard`` here. The first look of a
        # watch begins at a number that was read before this returns.
        self._follows.add(channel, heard)
        with self._lock:
            if self._watch is not None or self._closed.is_set():
                return
        try:
            seen = self.reader.read(lambda db: life(db).mark, patience=HURRY)
        except LogUnavailable:
            seen = None  # the watch will tell everybody once it can read
        with self._lock:
            if self._watch is not None or self._closed.is_set():
                return
            self._seen = seen
            self._life = self._life or self.reader.life
            ear = Ear(self._folder)
            watch = threading.Thread(
                target=self._run, args=(ear,), name="sqlite log watch", daemon=True
            )
            try:
                watch.start()
            except RuntimeError as error:
                self._follows.remove(channel, heard)
                raise TooManyClients(NO_THREAD) from error
            self._watch, self._ear = watch, ear  # once it is there: others rely on it

    def unfollow(self, channel: str, heard: Heard) -> None:
        """Take one ``follow`` back. Idempotent beyond that."""
        self._follows.remove(channel, heard)

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
                self.turns.write(self._depart, patience=HURRY)
        self.writer.close()
        self.reader.close()
        self._wakeups.close()
        self._follows.tell_all()

    def since(self, now: float) -> float:
        """Since when all processes were seen that count as living; for the midst of a turn or of a
        read, at ``now``."""
        return rooms.EVER if self.doubt.lasts() else now - self._lease

    def live(self, db: sqlite3.Connection, now: float) -> None:
        """Note in the file that this process lives."""
        if not rooms.live(db, self.id, now, now - self._lease):
            self._follows.tell_again()  # with the next turn

    def born(self, db: sqlite3.Connection, channel: str) -> None:
        """A channel came to be in this turn. What is followed is not to be forgotten."""
        if self._follows.note_new(db, channel):
            self.live(db, self.writer.now())

    def _open_turn(self, db: sqlite3.Connection, requests: int, size: int) -> None:
        """What goes with every transaction: it costs little there, and a lot alone."""
        self._space.make(db, size)
        self.writer.is_tight = self._space.is_tight
        if self._follows.note(db):
            self.live(db, self.writer.now())
        bury(db, requests)

    def _settle(self, results: Sequence[object]) -> None:
        """After a commit: tell whoever follows what was appended, here and elsewhere."""
        self._follows.settle()
        before, self._life = self._life, self.writer.life
        if before not in ("", self._life):  # a message may be the first here, and not the first
            self._follows.tell_all()
        appended = [r.message for r in results if isinstance(r, Appended) and r.is_new]
        for message in appended:
            self._follows.tell_own(message)
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
                    self.looks += 1
                except LogUnavailable as error:
                    _log.warning("The watch over the log waits: %s", error)
                    self._closed.wait(RETRY * random.uniform(0.5, 1.0))
                except Exception:
                    _log.exception("The watch over the log failed; it goes on")
                    self._closed.wait(RETRY * random.uniform(0.5, 1.0))
                ear.wait(POLL if ear.is_deaf else BACKSTOP)
        finally:
            ear.close(is_ours=not is_over(self._era))

    def _goes_on(self) -> bool:
        with self._lock:
            if is_over(self._era):
                return False
            if (len(self._follows) or self._follows.is_untold) and not self._closed.is_set():
                return True
            self._watch = self._ear = None
            return False

    def _look(self) -> None:
        """Tell whoever follows a channel with something new."""
        while True:
            seen = self._seen
            now, changes = self.reader.read(partial(_changes, seen=seen))
            if seen is None or now.epoch != seen.epoch or now.forgotten > seen.offset:
                # No number was known, or it is that of another file; or what was appended since is
                # forgotten in part. The file may know nothing of what is followed, either.
                self._follows.tell_again()
                self._follows.tell_all()
                self._seen = now.mark
                return
            for channel, seq, epoch, newest in changes:
                self._follows.tell(channel, Position(epoch, newest))
                self._seen = Position(now.epoch, seq)
            if len(changes) < CHANGES:
                return

    def _beat(self) -> None:
        """Say what this process follows, and that it lives, if that is to be known."""
        while self._follows.is_untold:
            self.turns.write(lambda db: None, patience=HURRY)  # what is untold goes with it
        now = time.monotonic()
        if self._follows.is_noted and now >= self._beat_at:
            self.turns.write(self._tidy, patience=HURRY)
            self._beat_at = now + self._lease / 3

    def _tidy(self, db: sqlite3.Connection) -> None:
        now = self.writer.now()
        self.live(db, now)
        rooms.bury_workers(db, now - self._lease)

    def _depart(self, db: sqlite3.Connection) -> None:
        rooms.depart(db, self.id, self.writer.now() - self._lease)


def _changes(
    db: sqlite3.Connection, *, seen: Position | None
) -> tuple[Life, list[tuple[str, int, str, int]]]:
    now = life(db)
    if seen is None or now.newest <= seen.offset:
        return now, []
    return now, changed_since(db, seen.offset, CHANGES)
