"""The three files of one log: whether they are still those that this process has opened."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from enum import Enum

from ...own import Own
from .arrival import Found, busy, look
from .index import Index, is_cut, read_index
from .locks import holders

FRESH = 100_000_000
"""Nanoseconds for which a folder's time of change does not tell whether it changed once more."""


class Change(Enum):
    """What somebody else has done to the files; the values end the sentence 'its files were …'."""

    MOVED = "deleted, moved away or replaced"
    PARTED = "deleted or replaced in part"
    CUT = "cut short"
    OVERWRITTEN = "written over"


class FilesChanged(Exception):
    """The files are not those any more that were opened. Let go of them and open them anew."""

    def __init__(self, files: Files, change: Change, *, is_late: bool = False) -> None:
        super().__init__(f"files were {change.value}")
        self.files = files
        self.change = change
        self.is_late = is_late


class Files:
    """The files at a path as this process has them open; one for all its connections to them.

    Where the system cannot tell more (Windows), only the file itself is watched.

    SQLite's locks belong to the process, and end when *any* descriptor of ``-shm`` or the file is
    closed. So ours stay open until the last connection is closed.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = Own(lambda: threading.Lock())
        """Held by who lets go of all connections."""
        self.is_over = False
        """Whether these files were given up."""
        self.is_watched = False
        """Whether more than the file itself is watched."""
        self.users = 0
        self.last: Index | None = None
        """The index as the last thorough check found it."""
        self._folder = os.path.dirname(path)
        self._looked = -1
        self._main = self._wal = self._shm = -1
        self._ids: tuple[tuple[int, int] | None, ...] = ()
        # (salt, begun) of a moment when nobody moved frames, and the file's time and size then
        self._settled: tuple[bytes, int, int, int] | None = None

    def open(self) -> None:
        """Open the file before SQLite does; it tells which one lay there then."""
        if not self._ids and self._main < 0 and hasattr(os, "pread"):
            with suppress(OSError):  # there is none yet, or SQLite says why
                self._main = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def look(self) -> Found:
        """What is there before SQLite opens it; for one that is ``alone``.

        Raises:
            FilesChanged: If this process knew others. SQLite would make new ones beside these.
        """
        if self._ids:
            self.check()
        if self._ids or not hasattr(os, "pread"):
            return Found.FIT
        return look(self.path, self._main)

    def notice(self) -> None:
        """Note what SQLite has just opened; ``check`` tells whether it still lies there.

        Raises:
            sqlite3.OperationalError: If some of it does not any more; try again.
        """
        if self._ids:
            return
        if hasattr(os, "pread"):
            with suppress(PermissionError):
                try:
                    self._shm = os.open(f"{self.path}-shm", os.O_RDONLY | os.O_CLOEXEC)
                    self._wal = _open_to_cut(f"{self.path}-wal")
                except FileNotFoundError:
                    raise busy("its files were deleted while they were opened") from None
                self.is_watched = True
        found = self._found()
        if self._main >= 0:  # SQLite came to the path behind us
            found = (_number(os.fstat(self._main)), *found[1:])
        self._ids = found

    def check(self, *, is_thorough: bool = True, is_late: bool = False) -> None:
        """Return if the files are those that were opened, and (``is_thorough``) whole.

        Raises:
            FilesChanged: If they are not.
        """
        change = self._change(is_thorough=is_thorough)
        if change is not None:
            raise FilesChanged(self, change, is_late=is_late)

    def index(self) -> Index | None:
        """What is in the write-ahead log; None if that cannot be told now."""
        return read_index(self._shm) if self.is_watched else None

    def holders(self, slots: range) -> list[int]:
        """The other processes that hold locks of these bytes of ``-shm``, where that is known."""
        return holders(self._shm, slots) if self.is_watched else []

    def settle(self) -> None:
        """Note how the file is, as the one who has just moved something into it."""
        now = self.last = self.index()
        if now is not None and now.saved == now.begun:
            with suppress(OSError):
                self._settle(now)

    @property
    def is_taken_over(self) -> bool:
        """Whether another process has already made new files beside the file."""
        found = self._found()
        return any(
            new is not None and new != old
            for new, old in zip(found[1:], self._ids[1:], strict=False)
        )

    @property
    def is_whole(self) -> bool:
        """Whether all that is to be in the write-ahead log is there."""
        index = self.index()
        return index is not None and not (index.frames and is_cut(self._wal, index))

    @property
    def is_saved(self) -> bool:
        """Whether all that was in the write-ahead log is in the file."""
        index = self.index()
        return index is not None and index.saved == index.frames

    def cut(self) -> None:
        """Empty the write-ahead log that was opened: nothing of it gets into any file any more. Not
        if others go on with it."""
        if self._wal >= 0 and not (self.is_taken_over and self._found()[1] == self._ids[1]):
            with suppress(OSError):
                os.ftruncate(self._wal, 0)

    def remove(self) -> None:
        """Remove what is left of ``-wal`` and ``-shm``, unless others go on with one of them."""
        if self.is_taken_over:
            return
        found = self._found()
        for suffix, new, old in zip(("-wal", "-shm"), found[1:], self._ids[1:], strict=False):
            if new is not None and new == old:
                with suppress(OSError):
                    os.unlink(self.path + suffix)

    def close(self) -> None:
        """Let go; once SQLite has."""
        for fd in (self._main, self._shm, self._wal):
            if fd >= 0:
                os.close(fd)
        self._main = self._shm = self._wal = -1
        self.is_watched = False

    def _found(self) -> tuple[tuple[int, int] | None, ...]:
        suffixes = ("", "-wal", "-shm") if self.is_watched else ("",)
        return tuple(_identity(self.path + suffix) for suffix in suffixes)

    def _moved(self, main: tuple[int, int]) -> Change | None:
        """Whether other files lie at the paths. Unless the folder has changed, they do not."""
        folder = os.stat(self._folder).st_mtime_ns
        if folder == self._looked and main == self._ids[0]:
            return None
        is_settled = time.time_ns() - folder > FRESH
        found = self._found()
        if found[0] != self._ids[0]:
            return Change.MOVED
        if found != self._ids:
            return Change.PARTED
        # Two changes within one tick of the file system's clock have one time.
        self._looked = folder if is_settled else -1
        return None

    def _change(self, *, is_thorough: bool) -> Change | None:
        settled = self._settled  # before the look at the file, or another thread's were newer
        try:
            main = os.stat(self.path)
            moved = self._moved(_number(main))
        except FileNotFoundError:
            return Change.MOVED
        if moved is Change.MOVED or not self.is_watched:
            return moved
        is_still = settled is not None and (main.st_mtime_ns, main.st_size) == settled[2:]
        if is_still and not is_thorough:
            return moved
        for _ in range(8):
            now = self.last = self.index()
            if now is None:
                return moved
            # Whoever moves frames into the file first says so in ``begun``. So a file that was
            # written though nobody had begun to was written by somebody else.
            is_same = settled is not None and (now.salt, now.begun) == settled[:2]
            if is_same and not is_still:
                return Change.OVERWRITTEN
            if not now.frames or not is_cut(self._wal, now):
                if moved is None and not is_same and now.saved == now.begun:
                    self._settle(now)
                return moved
            if self.index() == now:  # nobody has just begun it anew
                return Change.CUT
        return moved

    def _settle(self, now: Index) -> None:
        found = os.stat(self.path)
        if self.index() == now:
            self._settled = now.salt, now.begun, found.st_mtime_ns, found.st_size


_held: dict[str, Files] = {}
_lock = threading.Lock()


def hold(path: str) -> Files:
    """This process's ``Files`` at a path; to be called before SQLite opens them."""
    with _lock:
        files = _held.get(path)
        if files is None:
            files = _held[path] = Files(path)
        files.users += 1
        return files


def release(files: Files) -> None:
    """Take one ``hold`` back; to be called after SQLite has closed them."""
    with _lock:
        files.users -= 1
        if not files.users:
            files.close()
            if _held.get(files.path) is files:
                del _held[files.path]


def _open_to_cut(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return _number(found)


def _number(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def allow(path: str) -> None:
    """Let whoever may write the file write those beside it. SQLite gave them the permissions that
    the file had when it made them."""
    if not os.access(path, os.W_OK):
        return
    for side in (f"{path}-wal", f"{path}-shm"):
        if os.path.exists(side) and not os.access(side, os.W_OK):
            with suppress(OSError):
                os.chmod(side, os.stat(path).st_mode & 0o777)
