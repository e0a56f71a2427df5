"""One SQLite connection: short transactions, polite retries, errors that say what to do."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar
from weakref import WeakSet

from ...errors import LogUnavailable
from .checkpoints import CHECKPOINT, LEFT_OVER, Checkpoints, TooMuch
from .files import WRITERS, Change, Files, FilesChanged, allow, hold, release, told
from .schema import prepare

_log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
"""Runs inside a transaction, perhaps several times; it must not wait for anything."""

PATIENCE = 3.0
"""Seconds for which a locked file is asked again."""

GRACE = 0.05
"""Seconds for others to finish what they have begun in files that were done away with."""

_LET_GO = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
}
"""Errors after which the file is opened anew: it may have become another, or be allowed again."""

_AGAIN = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}

_ADVICE = {
    sqlite3.SQLITE_BUSY: "is locked by {}",
    sqlite3.SQLITE_IOERR: "cannot be read or written. Look at the disk, its quota and its limits",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full. Free some space",
    sqlite3.SQLITE_NOTADB: "is no SQLite file. Move it away or choose another path",
    sqlite3.SQLITE_CORRUPT: "is damaged. Move it away; the log begins anew without it",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened. Check that its folder is there and writable",
    sqlite3.SQLITE_READONLY: "cannot be written. Check the permissions of file and folder",
}


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
        self._life = ""
        self._lost = ""
        self._checkpoints = Checkpoints()
        self.is_tight = False
        """Whether the disk is nearly full, so that the write-ahead log is not to grow."""
        _ALL.add(self)

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
        with self._lock:
            self._is_closed = True
            if self._files is not None:
                try:
                    self._files.check()
                except FilesChanged as change:
                    self._salvage(change.change)  # SQLite, as the last, moves what it finds there
            self._drop()

    def pause(self) -> None:
        """Close it until the next use, which waits for ``resume``."""
        self._lock.acquire()
        self._drop()

    def resume(self) -> None:
        """Take a ``pause`` back."""
        self._lock.release()

    def _run(self, begin: str, work: Work[T], deadline: float) -> T:
        tries = 0
        while True:
            try:
                with self._lock:
                    return self._transaction(begin, work)
            except FilesChanged as change:
                _start_over(change)
                if change.is_late or time.monotonic() >= deadline:
                    raise LogUnavailable(self._explain_change(change)) from change
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
                    with _paused(self.path):
                        pass
                if not self._may_pass(code, tries) or time.monotonic() >= deadline:
                    raise LogUnavailable(self._refused(code, error)) from error
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
        if self._is_closed:
            raise LogUnavailable(f"The log {self.path} is closed: this process is about to end.")
        if self._db is None or self._files is None:
            self._open()
            assert self._db is not None
            assert self._files is not None
        else:
            self._files.check(is_thorough=False)  # what we would write there nobody would ever read
        return self._db, self._files

    def _open(self) -> None:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        allow(self.path)
        files = hold(self.path)
        try:
            db = sqlite3.connect(
                self.path, timeout=0, isolation_level=None, check_same_thread=False
            )
            try:
                life, shift = prepare(db, self.path, self._clock, self._lost)
                files.notice()
                db.execute(f"PRAGMA synchronous = {self._synchronous}")
                of_its_own = 0 if files.is_watched else CHECKPOINT
                db.execute(f"PRAGMA wal_autocheckpoint = {of_its_own}")
                db.execute(f"PRAGMA journal_size_limit = {LEFT_OVER}")
            except BaseException:
                db.close()
                raise
        except BaseException:
            release(files)
            raise
        self._db, self._files = db, files
        self._life, self._shift = life, shift

    def _drop(self) -> None:
        if self._db is not None and self._files is not None:
            db, self._db = self._db, None
            files, self._files = self._files, None
            with suppress(sqlite3.Error):
                db.close()
            release(files)

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

    def _salvage(self, change: Change) -> None:
        """Before the files are let go of: what is in the write-ahead log goes into the file, if it
        belongs there, and nowhere if not."""
        files, db = self._files, self._db
        if files is None or db is None:
            return
        self._lost = self._life
        belongs = change in (Change.MOVED, Change.PARTED) and files.is_whole
        belongs = belongs and not files.is_taken_over
        if belongs:
            with suppress(sqlite3.Error):
                db.execute("PRAGMA wal_checkpoint").fetchall()
        if not belongs or change is Change.MOVED:
            files.cut()

    def _may_pass(self, code: int, tries: int) -> bool:
        """Whether it is worth while to try again soon."""
        if code == sqlite3.SQLITE_READONLY:
            return tries == 0  # the file may be allowed again, and have been opened before that
        is_new = self._db is None and code == sqlite3.SQLITE_IOERR and tries < 10
        return code in _AGAIN or is_new  # others are just making new files

    def _refused(self, code: int, error: Exception) -> str:
        advice = _ADVICE.get(code, "cannot be used")
        if code == sqlite3.SQLITE_BUSY:
            files = self._files
            advice = advice.format(told(files.holders(WRITERS) if files else []))
        return f"The log {self.path} {advice} ({error})."

    def _explain_change(self, change: FilesChanged) -> str:
        stored = " What was to be written now may be stored or not." if change.is_late else ""
        return (
            f"The log {self.path}: its {change} while processes have it open.{stored}"
            " The log goes on with what is there; leave the file and its -wal and -shm alone."
        )


_CALLERS = (sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.IntegrityError)
"""Errors of what was to be written, not of the file."""


_ALL: WeakSet[Connection] = WeakSet()
_forking: list[Connection] = []


@contextmanager
def _paused(path: str, change: FilesChanged | None = None) -> Iterator[None]:
    """All connections of this process to a path, closed and kept from opening again."""
    taken: list[Connection] = []
    try:
        for connection in sorted(_ALL, key=id):
            if connection.path == path:
                connection._lock.acquire()
                taken.append(connection)
        if change is not None:
            for connection in taken:
                connection._salvage(change.change)
            change.files.remove()
        for connection in taken:
            connection._drop()
        yield
    finally:
        for connection in taken:
            connection.resume()


def _start_over(change: FilesChanged) -> None:
    """Let go of files that have changed, with all connections of this process. The next use opens
    what is there, and a new life begins in it."""
    files = change.files
    with files.lock:
        if files.is_over:
            return  # another thread was faster
        # In other processes transactions may still be under way that began before.
        time.sleep(GRACE)
        with _paused(files.path, change):
            files.is_over = True
    _log.error(
        "The log %s: its %s while processes have it open; it goes on with what is there",
        files.path,
        change,
    )


def _pause_all() -> None:
    """Before a fork: SQLite keeps in its memory which locks a process holds. A child would inherit
    those of its parent, and there nobody would ever let go of them."""
    for connection in sorted(_ALL, key=id):  # two threads that fork take them in one order
        connection.pause()
        _forking.append(connection)


def _resume_all() -> None:
    paused = list(_forking)
    _forking.clear()  # the next fork may begin with the first that is let go
    for connection in paused:
        connection.resume()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_pause_all, after_in_parent=_resume_all, after_in_child=_resume_all)
