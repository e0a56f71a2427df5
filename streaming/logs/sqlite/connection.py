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
from weakref import WeakSet

from ...errors import LogUnavailable
from .schema import prepare

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
"""Runs inside a transaction, perhaps several times; it must not wait for anything."""

PATIENCE = 3.0
"""Seconds for which a locked file is asked again."""

CHECKPOINT = 256
"""Pages in the write-ahead log after which a commit moves them into the file. Few, because the
process stands still meanwhile: some 3 ms for these, 15 ms for SQLite's own 1000."""

LEFT_OVER = 8 * 1024 * 1024
"""Bytes the write-ahead log keeps on disk after a burst."""

_AGAIN = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}

_ADVICE = {
    sqlite3.SQLITE_BUSY: "is locked by another process. Find out who holds it so long",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full. Free some space",
    sqlite3.SQLITE_NOTADB: "is no SQLite file. Move it away or choose another path",
    sqlite3.SQLITE_CORRUPT: "is damaged. Move it away; the log begins anew without it",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened. Check that its folder is there and writable",
    sqlite3.SQLITE_READONLY: "cannot be written. Check the permissions of file and folder",
}


class Connection:
    """A connection for one caller at a time, opened by its first use.

    It is opened anew after an error, and when another file lies at the path. SQLite calls hold up
    the whole OS thread, so SQLite itself never waits for a lock (``timeout=0``): we do, where other
    greenlets can run.
    """

    def __init__(self, path: str, synchronous: str) -> None:
        self.commits = 0
        """Transactions completed."""
        self._path = path
        self._synchronous = synchronous
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._is_closed = False
        self._file: tuple[int, int] | None = None
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
            LogUnavailable: If the file cannot be written.
        """
        return self._run("BEGIN IMMEDIATE", work, deadline)

    def close(self) -> None:
        """Close it for good; what comes later is refused. Idempotent."""
        with self._lock:
            self._is_closed = True
            self._drop()

    def pause(self) -> None:
        """Close it until the next use, which waits for ``resume``. For a fork."""
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
            except (sqlite3.DatabaseError, OSError) as error:
                if isinstance(error, _CALLERS):
                    raise
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code not in _AGAIN or time.monotonic() >= deadline:
                    raise LogUnavailable(self._explain(code, error)) from error
            # Most writers are done in a fraction of a millisecond; whoever is not, is asked rarely.
            time.sleep(random.uniform(0.5, 1.0) * min(0.02, 0.0002 * 1.5**tries))
            tries += 1

    def _transaction(self, begin: str, work: Work[T]) -> T:
        try:
            db = self._opened()
            db.execute(begin)
            result = work(db)
            db.execute("COMMIT")
        except BaseException as error:
            self._undo(error)
            raise
        self.commits += 1
        return result

    def _undo(self, error: BaseException) -> None:
        if self._db is not None and self._db.in_transaction:
            with suppress(sqlite3.Error):  # SQLite may have done so itself
                self._db.execute("ROLLBACK")
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if isinstance(error, sqlite3.DatabaseError) and code not in _AGAIN:
            self._drop()

    def _opened(self) -> sqlite3.Connection:
        if self._is_closed:
            raise LogUnavailable(f"The log {self._path} is closed: this process is about to end.")
        if self._db is not None:
            if _identity(self._path) == self._file:
                return self._db
            self._drop()  # deleted or replaced: what we would write there nobody would ever read
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        db = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            prepare(db, self._path)
            db.execute(f"PRAGMA synchronous = {self._synchronous}")
            db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
            db.execute(f"PRAGMA journal_size_limit = {LEFT_OVER}")
        except BaseException:
            db.close()
            raise
        self._db, self._file = db, _identity(self._path)
        return db

    def _drop(self) -> None:
        if self._db is not None:
            db, self._db = self._db, None
            with suppress(sqlite3.Error):
                db.close()

    def _explain(self, code: int, error: Exception) -> str:
        advice = _ADVICE.get(code, "cannot be used")
        return f"The log {self._path} {advice} ({error})."


_CALLERS = (sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.IntegrityError)
"""Errors of what was to be written, not of the file."""


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


_ALL: WeakSet[Connection] = WeakSet()
_paused: list[Connection] = []


def _pause_all() -> None:
    """Before a fork: SQLite keeps in its memory which locks a process holds. A child would inherit
    those of its parent, and there nobody would ever let go of them."""
    for connection in sorted(_ALL, key=id):  # two threads that fork take them in one order
        connection.pause()
        _paused.append(connection)


def _resume_all() -> None:
    paused = list(_paused)
    _paused.clear()  # the next fork may begin with the first that is let go
    for connection in paused:
        connection.resume()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_pause_all, after_in_parent=_resume_all, after_in_child=_resume_all)
