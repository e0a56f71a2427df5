"""Datagrams between the processes that share a file: something was appended, go and look.

Each process that follows anything has a socket in a folder beside the file. A datagram carries
nothing; one that is lost delays until the next look and loses nothing.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from contextlib import suppress

from ...bell import Bell

PATH_LIMIT = 100
"""Bytes that the path of a Unix socket may have everywhere."""

FRESH = 0.1
"""Seconds for which a folder's time of change does not tell whether it changed once more."""

_log = logging.getLogger(__name__)


class SocketFolder:
    """The folder of the sockets, and how to address one in it, however long the path is."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    def make(self) -> None:
        """Make the folder, for this user only. Raises OSError."""
        with suppress(FileExistsError):
            os.mkdir(self.path, 0o700)

    def address(self, name: str) -> str:
        """What to bind or send to. Raises OSError where the path is too long for that."""
        plain = os.path.join(self.path, name)
        if len(os.fsencode(plain)) <= PATH_LIMIT:
            return plain
        if not os.path.isdir("/proc/self/fd"):
            raise OSError(f"{plain} is too long for a Unix socket")
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{name}"

    def close(self) -> None:
        """Let go of the folder; the next use opens it again."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class Ear:
    """Where this process hears that another has appended. Used by one thread.

    Where there are no Unix sockets it is deaf, and ``wait`` only waits.
    """

    def __init__(self, folder: str) -> None:
        self.name = secrets.token_hex(8)
        self.is_deaf = True
        self._folder = SocketFolder(folder)
        self._socket: socket.socket | None = None
        self._bell = Bell()

    def open(self) -> None:
        """Have a socket that others find, if that is possible here. Idempotent."""
        if self._socket is not None:
            if os.path.exists(os.path.join(self._folder.path, self.name)):
                return
            self._shut()  # somebody has tidied up
        try:
            self._folder.make()
            self._bind()
        except (OSError, AttributeError) as error:  # no AF_UNIX on Windows
            self._shut()
            if not self.is_deaf:
                _log.warning("No wake-ups through %s: %s", self._folder.path, error)
        self.is_deaf = self._socket is None

    def wait(self, timeout: float) -> bool:
        """Block until woken; False after ``timeout`` seconds."""
        if self._socket is None:
            return self._bell.wait(timeout)
        self._socket.settimeout(timeout)
        try:
            self._socket.recv(1)
        except TimeoutError:
            return False
        except OSError:
            self._shut()
            return False
        # One look serves all that came. Not recv: greenlets would wait in it, and the file
        # descriptor is non-blocking in any case.
        with suppress(BlockingIOError):
            for _ in range(64):
                os.read(self._socket.fileno(), 1)
        return True

    def wake(self) -> None:
        """Let the present wait return, where it is deaf. From any thread."""
        self._bell.ring()

    def close(self, *, is_ours: bool = True) -> None:
        """Let go of the socket; if it is the one of the process that we were forked from, it stays
        where others find it."""
        with suppress(OSError):
            if is_ours:
                os.unlink(os.path.join(self._folder.path, self.name))
        self._shut()

    def _bind(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._folder.address(self.name))

    def _shut(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._folder.close()


class Wakeups:
    """Wakes the other processes. Used by one thread at a time, never blocks, never fails."""

    def __init__(self, folder: str) -> None:
        self._folder = SocketFolder(folder)
        self._socket: socket.socket | None = None
        self._names: list[str] = []
        self._changed = -1
        self._is_closed = False

    def send(self, own: str | None) -> None:
        """Let every process look, but that with the ear ``own``."""
        if self._is_closed or not hasattr(socket, "AF_UNIX"):
            return
        for name in self._listed():
            if name != own:
                self.send_to(name)

    def send_to(self, name: str) -> None:
        """Let one process look."""
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            self._socket.sendto(b"!", self._folder.address(name))
        except BlockingIOError:
            pass  # its buffer is full of wake-ups already
        except ConnectionRefusedError:  # its process was killed
            with suppress(OSError):
                os.unlink(os.path.join(self._folder.path, name))
        except (OSError, AttributeError):
            self._folder.close()
            self._changed = -1

    def close(self) -> None:
        """Let go of the socket; nobody is woken any more."""
        self._is_closed = True
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._folder.close()

    def _listed(self) -> list[str]:
        try:
            changed = os.stat(self._folder.path).st_mtime_ns
            if changed != self._changed:
                self._names = os.listdir(self._folder.path)
                # Two changes within one tick of the file system's clock have one time.
                is_settled = time.time() - changed / 1e9 > FRESH
                self._changed = changed if is_settled else -1
        except OSError:
            self._names, self._changed = [], -1
        return self._names
