"""What ``-shm`` says of the write-ahead log (https://www.sqlite.org/walformat.html)."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

_HOLE = getattr(os, "SEEK_HOLE", None)
_INDEX = struct.Struct("=14xHI12x8s56xI28xI")


class Index(NamedTuple):
    """What ``-shm`` says of the write-ahead log: ``saved`` frames are in the file, up to ``begun``
    perhaps."""

    page: int
    frames: int
    salt: bytes
    saved: int
    begun: int

    @property
    def size(self) -> int:
        """Bytes of the write-ahead log that count."""
        page = self.page if self.page > 1 else 65536
        return 32 + self.frames * (page + 24) if self.frames else 0


def read_index(shm: int) -> Index | None:
    """What the ``-shm`` of this descriptor says; None while somebody writes it."""
    for _ in range(4):
        read = os.pread(shm, _INDEX.size, 0)
        if len(read) == _INDEX.size and read[:48] == read[48:96]:  # two copies, or half of one
            return Index._make(_INDEX.unpack(read))
    return None


def is_cut(wal: int, index: Index) -> bool:
    """Whether the write-ahead log of this descriptor (-1: there is none) lacks some of what the
    index says."""
    if wal < 0 or os.fstat(wal).st_size < index.size or os.pread(wal, 8, 16) != index.salt:
        return True
    # Who was writing when it was cut has gone on behind the end, and left a hole before that.
    return _HOLE is not None and os.lseek(wal, 0, _HOLE) < index.size
