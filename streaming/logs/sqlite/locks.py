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

IN_SHM = range(128, 129)
"""The byte of ``-shm`` that everybody holds who has it open."""

IN_FILE = range(0x40000002, 0x40000002 + 510)
"""Bytes of the file of which everybody holds some who has it open."""

_FLOCK = struct.Struct("@hhqqi4x")


def holders(shm: int, slots: range) -> list[int]:
    """The other processes that hold locks of these bytes of ``-shm``, where that is known."""
    found: dict[int, None] = {}
    for slot in slots:
        pid = _holder(shm, slot, 1)
        if pid is not None and pid > 0:
            found[pid] = None
    return list(found)


def is_held(fd: int, bytes_: range) -> bool:
    """Whether another process holds a lock of some of these bytes, where that is known."""
    return _holder(fd, bytes_.start, len(bytes_)) is not None


def _holder(fd: int, start: int, length: int) -> int | None:
    """A process that holds one, 0 if it is in another container; None if there is none."""
    if sys.platform == "linux":
        with suppress(OSError, struct.error):
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
            kind, *_, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
            if kind != fcntl.F_UNLCK:
                return int(pid)
    return None


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
