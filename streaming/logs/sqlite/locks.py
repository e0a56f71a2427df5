"""Who holds SQLite's locks of a file, and what to do about it."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress

if sys.platform != "win32":
    import fcntl

WRITERS = range(120, 121)
READERS = range(123, 128)
"""Bytes of ``-shm`` that SQLite locks (https://www.sqlite.org/walformat.html)."""

_FLOCK = struct.Struct("@hhqqi4x")


def holders(shm: int, slots: range) -> list[int]:
    """The other processes that hold locks of these bytes of ``-shm``, where that is known."""
    if sys.platform != "linux":
        return []
    found: dict[int, None] = {}
    for slot in slots:
        with suppress(OSError, struct.error):
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, slot, 1, 0)
            kind, *_, pid = _FLOCK.unpack(fcntl.fcntl(shm, fcntl.F_GETLK, asked))
            if kind != fcntl.F_UNLCK and pid > 0:
                found[pid] = None
    return list(found)


def told(pids: Sequence[int]) -> str:
    """Who holds a lock, and what to do about it."""
    if not pids:
        return "another process. Find out who holds it so long"
    names = " and ".join(f"process {pid}" for pid in pids)
    if any(_is_stopped(pid) for pid in pids):
        return f"{names}, which is stopped. Let it go on (kill -CONT) or end it (kill -KILL)"
    return f"{names}. Find out what it does there so long"


def _is_stopped(pid: int) -> bool:
    with suppress(OSError), open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[0] in "Tt"
    return False
