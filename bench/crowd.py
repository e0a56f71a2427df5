"""The generator's connections: subscribers, publishers, and probes; all non-blocking, one epoll."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable

from . import wire

PIECE = 65536
AT_ONCE = 64  # handshakes under way, and events taken per call of epoll


class Failed(Exception):
    """The server did not do what the work needs; the message says what."""


def dial(port: int, request: bytes, *, receive_buffer: int = 0) -> socket.socket:
    """Connect and send; on the loopback interface neither waits. Non-blocking from then on."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(5)
    try:
        sock.connect(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(request)
    except OSError as error:
        sock.close()
        raise Failed(f"cannot connect: {error}") from error
    sock.setblocking(False)
    return sock


def subscribe(
    port: int, path: str, kind: str, count: int, *, receive_buffer: int = 0
) -> list[socket.socket]:
    """Open ``count`` subscriptions; return when the server has accepted each of them.

    ``{n}`` in ``path`` becomes the number of the connection.

    Raises:
        Failed: One was refused, or it took more than a minute.
    """
    expected = b" 200 " if kind == "sse" else b" 101 "
    poll, ready = select.epoll(), list[socket.socket]()
    waiting: dict[int, tuple[socket.socket, bytes]] = {}
    deadline = time.monotonic() + 60
    while len(ready) < count:
        while len(waiting) < AT_ONCE and len(waiting) + len(ready) < count:
            own = path.replace("{n}", str(len(waiting) + len(ready)))
            sock = dial(port, wire.get(own, kind), receive_buffer=receive_buffer)
            waiting[sock.fileno()] = sock, b""
            poll.register(sock, select.EPOLLIN)
        for fd, _ in poll.poll(1, AT_ONCE):
            sock, head = waiting[fd]
            data = read(fd, 1024 if receive_buffer else PIECE)
            head += data or b""
            if data == b"" or (b"\r\n" in head and expected not in head[:16]):
                raise Failed(f"a subscription was refused: {head[:60]!r}")
            waiting[fd] = sock, head
            if b"\r\n\r\n" in head:
                poll.unregister(fd)
                ready.append(waiting.pop(fd)[0])
        if time.monotonic() > deadline:
            raise Failed(f"only {len(ready)} of {count} subscriptions within a minute")
    poll.close()
    return ready


def read(fd: int, size: int = PIECE) -> bytes | None:
    """What is there: nothing yet is None, the end is empty."""
    try:
        return os.read(fd, size)
    except BlockingIOError:
        return None
    except ConnectionError:
        return b""


FRESH = 0.5  # seconds for which an idle connection is used again; servers keep it for 1 s or more


class Posts:
    """Publishes over HTTP on up to ``limit`` kept connections; what cannot leave yet waits."""

    def __init__(self, poll: select.epoll, port: int, path: str, limit: int) -> None:
        self.poll, self.port, self.path, self.limit = poll, port, path, limit
        self.queue: deque[bytes] = deque()
        self.sockets: dict[int, socket.socket] = {}
        self.idle: dict[int, float] = {}  # since when (``time.monotonic``), the latest last
        self.answers: dict[int, bytes] = {}

    def send(self, text: bytes) -> None:
        self.queue.append(wire.post(self.path, text))
        self.flush()

    def flush(self) -> None:
        while self.queue and (self.idle or len(self.sockets) < self.limit):
            if self.idle and time.monotonic() - max(self.idle.values()) > FRESH:
                self.let_go()
            request = self.queue.popleft()
            if self.idle:
                fd, _ = self.idle.popitem()
                sent = self.sockets[fd].send(request)
                if sent != len(request):
                    raise Failed("the server does not take a whole POST")
            else:
                sock = dial(self.port, request)
                fd = sock.fileno()
                self.sockets[fd] = sock
                self.poll.register(fd, select.EPOLLIN)
            self.answers[fd] = b""

    def take(self, fd: int) -> None:
        """An answer, or the end of a connection that was idle for too long."""
        data = read(fd)
        if data is None:
            return
        if not data:
            self.sockets.pop(fd).close()
            if fd not in self.idle:
                raise Failed("a POST got no answer")
            del self.idle[fd]
            return
        self.answers[fd] += data
        if wire.answer_end(self.answers[fd]):
            if self.answers[fd][9:10] != b"2":
                raise Failed(f"a POST was refused: {self.answers[fd][:60]!r}")
            self.idle[fd] = time.monotonic()
            self.flush()

    def let_go(self) -> None:
        """Close the idle ones: the server may be about to, and a POST would cross its end."""
        for fd in self.idle:
            self.sockets.pop(fd).close()
        self.idle.clear()

    def close(self) -> None:
        for sock in self.sockets.values():
            sock.close()
        self.sockets.clear()
        self.idle.clear()
        self.queue.clear()


class Sender:
    """Publishes over one WebSocket of the crowd; what cannot leave yet waits in ``out``."""

    def __init__(self, poll: select.epoll, sock: socket.socket) -> None:
        self.poll, self.sock, self.out = poll, sock, bytearray()

    def send(self, text: bytes) -> None:
        waits = bool(self.out)
        self.out += wire.frame(text)
        if not waits:
            self.flush()

    def flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            del self.out[: self.sock.send(self.out)]
        writing = select.EPOLLOUT if self.out else 0
        self.poll.modify(self.sock, select.EPOLLIN | writing)

    def close(self) -> None:
        self.out.clear()


class Probes:
    """A new connection and a tiny GET every ``interval`` seconds, timed from when it was due.

    They have an epoll of their own, to be seen between the pieces of a fan-out.
    """

    def __init__(self, port: int, interval: float, clock: Callable[[], float]) -> None:
        self.port, self.interval, self.clock = port, interval, clock
        self.poll = select.epoll()
        self.request = wire.get("/probe")
        self.due = clock()
        self.open: dict[int, tuple[socket.socket, float]] = {}
        self.waits: list[float] = []

    def turn(self) -> None:
        for fd, _ in self.poll.poll(0):
            sock, due = self.open.pop(fd)
            if not read(fd):
                raise Failed("a GET under fan-out got no answer")
            self.waits.append(self.clock() - due)
            sock.close()
        if self.clock() >= self.due:
            sock = dial(self.port, self.request)
            self.open[sock.fileno()] = sock, self.due
            self.poll.register(sock, select.EPOLLIN)
            self.due += self.interval

    def close(self) -> None:
        now = self.clock()
        for sock, due in self.open.values():  # not answered: at least that long
            self.waits.append(now - due)
            sock.close()
        self.open.clear()
        self.poll.close()
