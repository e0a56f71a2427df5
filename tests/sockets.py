"""Both ends of a connection in one process, and a socket that behaves as under gevent."""

import gc
import os
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from streaming.clients import sockets
from tests.greenlets import is_green
from tests.polling import PATIENCE, wait_until


class Cooperative(socket.socket):
    """Non-blocking underneath, while ``send`` waits: as sockets are under gevent."""

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        while True:
            select.select([], [self], [], 10)
            with suppress(BlockingIOError):
                return super().send(data, flags)


@contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection, the server's first."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as peer,
        listener.accept()[0] as accepted,
    ):
        peer.settimeout(PATIENCE)
        yield accepted, peer


def cooperative(sock: socket.socket) -> socket.socket:
    """``sock`` taken over as a cooperative one, which it is already where threads are greenlets."""
    if is_green():
        return sock
    direct = Cooperative(fileno=sock.detach())
    direct.setblocking(False)
    return direct


def fill(direct: socket.socket) -> int:
    """Send until the kernel takes not one byte more; how many it took.

    That is for now: when the peer's kernel says what it has, and later, ours may take more.
    """
    filled = 0
    for size in (65536, 1):
        with suppress(BlockingIOError):
            while True:
                filled += os.write(direct.fileno(), b"." * size)
    return filled


def read_exactly(peer: socket.socket, count: int) -> bytes:
    """The next ``count`` bytes."""
    received = bytearray()
    while len(received) < count:
        piece = peer.recv(min(1 << 20, count - len(received)))
        assert piece, f"the connection ended after {len(received)} of {count} bytes"
        received += piece
    return bytes(received)


def read_known(sock: socket.socket, peer: socket.socket, count: int) -> None:
    """Read the next ``count`` bytes, until ``sock`` knows that its peer takes some.

    The peer's kernel says so when it likes, some 40 ms later.
    """
    before = sockets.taken(sock)
    read_exactly(peer, count)
    wait_until(
        lambda: sockets.taken(sock) != before or not sockets.pending(sock),
        "it is known that the peer takes some",
    )


def first_received(peer: socket.socket, write: Callable[[], object], count: int) -> bytes:
    """What ``peer`` is given first of the ``count`` bytes that ``write`` corks and uncorks.

    A cork lasts 0.2 s at most. Where the machine did something else for as long, it is done again.
    """
    while True:
        began = time.monotonic()
        write()
        is_in_time = time.monotonic() - began < 0.15
        received = peer.recv(count)
        if is_in_time:
            return received
        read_exactly(peer, count - len(received))


def open_descriptors() -> int:
    """How many file descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


def settled_descriptors() -> int:
    """The same, with those that only wait for the garbage collector already closed."""
    gc.collect()
    return open_descriptors()


def named_descriptors() -> dict[str, str]:
    """The file descriptors of this process, and what each is."""
    named = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists them
            named[number] = os.readlink(f"/proc/self/fd/{number}")
    return named


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Whoever asks the kernel for another file descriptor gets EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # 0, 1 and 2 are taken
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
