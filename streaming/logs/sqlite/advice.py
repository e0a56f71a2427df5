"""What is wrong with the file, and what to do about it, in words."""

from __future__ import annotations

import sqlite3

from .files import Files, FilesChanged
from .locks import WRITERS, told

_ADVICE = {
    sqlite3.SQLITE_BUSY: "is locked by {}",
    sqlite3.SQLITE_IOERR: "cannot be read or written. Look at the disk, its quota and its limits",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full. Free some space",
    sqlite3.SQLITE_NOTADB: "is no SQLite file. Move it away or choose another path",
    sqlite3.SQLITE_CORRUPT: "is damaged. Move it away; the log begins anew without it",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened. Check that its folder is there and writable",
    sqlite3.SQLITE_READONLY: "cannot be written. Check the permissions of file and folder",
}


def explain_error(path: str, error: Exception, files: Files | None) -> str:
    """Why SQLite refused; ``files`` are those that it has open."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    advice = _ADVICE.get(code, "cannot be used")
    if code == sqlite3.SQLITE_BUSY:
        advice = advice.format(told(files.holders(WRITERS) if files else []))
    return f"The log {path} {advice} ({error})."


def explain_change(path: str, change: FilesChanged) -> str:
    """What somebody else has done to the files."""
    stored = " What was to be written now may be stored or not." if change.is_late else ""
    return (
        f"The log {path}: its {change} while processes have it open.{stored}"
        " The log goes on with what is there; leave the file and its -wal and -shm alone."
    )
