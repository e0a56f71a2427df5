"""One SQLite connection: short transactions, polite retries, errors that say what to do."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from ...errors import LogUnavailable
from ...message import Position
from .advice import explain_change, explain_error
from .arrival import Arrival, alone
from .checkpoints import CHECKPOINT, LEFT_OVER, TRIES, Checkpoints, TooMuch
from .files import Change, Files, FilesChanged, allow, hold, release
from .marks import life
from .pauses import forget_lost, join, lost_at, paused, start_over
from .schema import Lost, damage, prepare

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
"""Runs inside a transaction, perhaps several times; it must not wait for anything."""

PATIENCE = 3.0
"""Seconds for which a locked file is asked again."""

_LET_GO = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
}
"""Errors after which the file is opened anew: it may have become another, or be allowed again."""

_AGAIN = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}

_CALLERS = (sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.IntegrityError)
"""Errors of what was to be written, not of the file."""

_FOREIGN = (TypeError, ValueError, OverflowError)
"""Errors where text, numbers and their tables are not what was written there."""


class Connection:
    """A connection for one caller at a time, opened by its first use.

    It is opened anew after an error, and when the files at the path are not those any more. SQLite
    calls hold up the whole OS thread, so SQLite itself never waits for a lock (``timeout=0``): we
    do, where other greenlets can run.
    """

    def __init__(
        self, path: str, synchronous: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.commits = 0
        """Transactions completed."""
        self.path = path
        self._synchronous = synchronous
        self._clock = clock
        self._shift = 0.0
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._files: Files | None = None
        self._is_closed = False
        self.life = ""
        """The id of the file's life when it was last opened."""
        self._arrival = Arrival(path)
        self._checkpoints = Checkpoints()
        self.is_tight = False
        """Whether the disk is nearly full, so that the write-ahead log is not to grow."""
        join(self)

    def read(self, work: Work[T], *, patience: float = PATIENCE) -> T:
        """What ``work`` finds in one snapshot of the file. Writers do not hold it up.

        Raises:
            LogUnavailable: If the file cannot be read.
        """
        return self._run("BEGIN", work, time.monotonic() + patience)

    def write(self, work: Work[T], deadline: float) -> T:
        """What ``work`` returns, once everything it did is in the file; if it raises, nothing is.

        A locked file is tried until ``deadline`` (``time.monotonic``), at least once.

        Raises:
            LogUnavailable: If the file cannot be written. Where somebody did away with the files
                meanwhile, it says that what was written may be stored.
        """
        result = self._run("BEGIN IMMEDIATE", work, deadline)
        self._checkpoint()
        return result

    def now(self) -> float:
        """The time of the file, inside a transaction: the same for all processes, and it goes on
        evenly whatever is done to the clock of the machine."""
        return self._clock() + self._shift

    def close(self) -> None:
        """Close it for good; what comes later is refused. Idempotent."""
        try:
            with self._lock:
                if self._files is not None:
                    self._files.check()
        except FilesChanged as change:
            start_over(change, self)  # SQLite, as the last, would move what it finds there
        with self._lock:
            self._is_closed = True
            if self._db is not None:
                with suppress(sqlite3.OperationalError), alone(self.path):
                    self.drop()  # the last: who comes just now would find half of the files
                self.drop()  # somebody was at it for long

    # ---- see ``pauses``

    def pause(self) -> None:
        """Let nobody use it until ``resume``; waits for whoever does."""
        self._lock.acquire()

    def resume(self) -> None:
        """Take a ``pause`` back."""
        self._lock.release()

    def drop(self) -> None:
        """Close it until the next use, for whoever has paused it. Idempotent."""
        if self._db is not None and self._files is not None:
            db, self._db = self._db, None
            files, self._files = self._files, None
            with suppress(sqlite3.Error):
                db.close()
            release(files)

    def mark(self) -> Position | None:
        """How far the log has come, for whoever has paused it; None if it is not open, or cannot be
        read."""
        if self._db is None or self._files is None or self._files.index() is None:
            return None
        with suppress(sqlite3.Error, *_FOREIGN):
            return life(self._db).mark
        return None

    def salvage(self, change: Change) -> bool | None:
        """Before a ``drop`` of files that have changed: what is in the write-ahead log goes into
        the file, if it belongs there, and nowhere if not. Whether all of it is in the file; None if
        it is not open."""
        files, db = self._files, self._db
        if files is None or db is None:
            return None
        belongs = change in (Change.MOVED, Change.PARTED) and files.is_whole
        belongs = belongs and not files.is_taken_over
        if belongs:
            _move(db, files)
        if not belongs or change is Change.MOVED:
            files.cut()
        return change in (Change.PARTED, Change.CUT) and files.is_saved

    def begin(self, lost: Lost | None = None) -> None:
        """Open what is there, as the one who is ``alone``; a new life begins in it if one is lost.

        Raises:
            LogUnavailable, sqlite3.Error, OSError, FilesChanged: If it cannot be opened.
        """
        self._refuse_if_closed()
        allow(self.path)
        files = hold(self.path)
        try:
            files.open()
            if lost is None:
                lost = self._arrival.lost(files.look())
            db = self._open_at(files, lost)
        except BaseException:
            release(files)
            raise
        self._db, self._files = db, files
        files.check()

    def _run(self, begin: str, work: Work[T], deadline: float) -> T:
        tries = 0
        while True:
            try:
                with self._lock:
                    return self._transaction(begin, work)
            except FilesChanged as change:
                has_let_go = start_over(change, self)
                if change.is_late or not has_let_go or time.monotonic() >= deadline:
                    raise LogUnavailable(explain_change(self.path, change)) from change
            except TooMuch as error:
                if time.monotonic() >= deadline:
                    raise LogUnavailable(f"{self.path}{error}") from error
                self._checkpoint()
            except (sqlite3.DatabaseError, OSError) as error:
                if isinstance(error, _CALLERS):
                    raise
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code in _LET_GO:
                    # All of them: SQLite keeps what it closes open while others have locks on it.
                    with paused(self.path) as connections:
                        for connection in connections:
                            connection.drop()
                is_gone = isinstance(error, FileNotFoundError) and tries < 10  # it was moved away
                if not (is_gone or self._may_pass(code, tries)) or time.monotonic() >= deadline:
                    raise LogUnavailable(explain_error(self.path, error, self._files)) from error
            # Most writers are done in a fraction of a millisecond; whoever is not, is asked rarely.
            time.sleep(random.uniform(0.5, 1.0) * min(0.02, 0.0002 * 1.5**tries))
            tries += 1

    def _transaction(self, begin: str, work: Work[T]) -> T:
        is_write = begin != "BEGIN"
        try:
            db, files = self._opened()
            if is_write:
                self._checkpoints.check(files)
            db.execute(begin)
            result = work(db)
            db.execute("COMMIT")
        except BaseException as error:
            self._undo(error)
            if isinstance(error, _FOREIGN) and not isinstance(error, UnicodeEncodeError):
                raise damage(f"what is in its tables nobody wrote: {error!r:.100}") from error
            raise
        self.commits += 1
        if is_write:  # what readers cannot find is not acknowledged
            files.check(is_late=True)
        return result

    def _undo(self, error: BaseException) -> None:
        if self._db is not None and self._db.in_transaction:
            with suppress(sqlite3.Error):  # SQLite may have done so itself
                self._db.execute("ROLLBACK")
        if self._files is not None and isinstance(error, sqlite3.DatabaseError):
            self._files.check()  # perhaps that is why

    def _opened(self) -> tuple[sqlite3.Connection, Files]:
        if self._db is None or self._files is None:
            self._open()
            assert self._db is not None
            assert self._files is not None
        else:
            self._files.check(is_thorough=False)  # what we would write there nobody would ever read
        return self._db, self._files

    def _open(self) -> None:
        self._refuse_if_closed()
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with alone(self.path):
            self.begin(lost_at(self.path))
            forget_lost(self.path)

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise LogUnavailable(f"The log {self.path} is closed: this process is about to end.")

    def _open_at(self, files: Files, lost: Lost | None) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            life, shift = prepare(db, self.path, self._clock, lost)
            files.notice()
            db.execute(f"PRAGMA synchronous = {self._synchronous}")
            of_its_own = 0 if files.is_watched else CHECKPOINT
            db.execute(f"PRAGMA wal_autocheckpoint = {of_its_own}")
            db.execute(f"PRAGMA journal_size_limit = {LEFT_OVER}")
        except BaseException:
            db.close()
            raise
        self.life, self._shift = life, shift
        return db

    def _checkpoint(self) -> None:
        """Move what is in the write-ahead log into the file, if it is much; never fails."""
        while True:
            with self._lock:
                if self._db is None or self._files is None:
                    return
                try:
                    if not self._checkpoints.take(self._db, self._files, is_tight=self.is_tight):
                        return
                except FilesChanged:
                    return  # the next use says so
            time.sleep(0.001)  # somebody reads; it is tried again a few times

    def _may_pass(self, code: int, tries: int) -> bool:
        """Whether it is worth while to try again soon."""
        if code == sqlite3.SQLITE_READONLY:
            return tries == 0  # the file may be allowed again, and have been opened before that
        is_new = self._db is None and code == sqlite3.SQLITE_IOERR and tries < 10
        return code in _AGAIN or is_new  # others are just making new files


def _move(db: sqlite3.Connection, files: Files) -> None:
    """Move all of the write-ahead log into the file; others may read an old state for a moment."""
    for _ in range(TRIES):
        with suppress(sqlite3.Error):
            db.execute("PRAGMA wal_checkpoint").fetchall()
        if files.is_saved:
            return
        time.sleep(0.001)
