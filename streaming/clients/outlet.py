"""Direct writes to a client's socket, and what happens when it would block.

The server's WSGI layer owns the socket; while a response's generator or a WebSocket's reader is
parked, nothing else writes to it, and the pump and the sweep may.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

_GONE = frozenset({7, 8, 9, 11})
"""States of a TCP connection in which the peer has finished or is lost (Linux, tcp_states.h:
CLOSE, CLOSE_WAIT, LAST_ACK, CLOSING)."""

_LOGGED = (
    "REMOTE_ADDR",
    "REQUEST_METHOD",
    "RAW_URI",
    "PATH_INFO",
    "QUERY_STRING",
    "SERVER_PROTOCOL",
    "HTTP_REFERER",
    "HTTP_USER_AGENT",
    "wsgi.file_wrapper",
)

FAREWELL = 0.5
"""Seconds a client has to take the end of its stream, or to answer our close frame."""

PIECE = 256 * 1024
"""Bytes given to the kernel in one blocking send, so that progress can be seen."""


def client_socket(environ: Mapping[str, Any], buffer: int | None) -> socket.socket | None:
    """The client's socket, where the WSGI server tells it (gunicorn and Flask's own do).

    The kernel keeps about ``buffer`` bytes of what the client has not taken yet (Linux doubles
    the number for its own bookkeeping); None leaves it to the kernel, which may keep megabytes.
    """
    sock = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if not isinstance(sock, socket.socket):
        return None
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    return sock


def release(environ: dict[str, Any]) -> None:
    """Let go of what a request keeps alive, once its stream has begun: the parsed request and most
    of ``environ`` are several KiB for each idle client. What access logs print stays."""
    kept = {key: environ[key] for key in _LOGGED if key in environ}
    environ.clear()
    environ.update(kept)


def is_gone(sock: socket.socket) -> bool:
    """Whether the peer has closed its side or the connection is lost. Never blocks.

    Asks the kernel for the state of the TCP connection where that can be asked (Linux), else
    peeks for the end of file.
    """
    if sock.fileno() < 0:
        return True  # closed on our side, and asked about from an older look at the clients
    try:
        if sock.family != getattr(socket, "AF_UNIX", None) and hasattr(socket, "TCP_INFO"):
            return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _GONE
        return _peek(sock)
    except OSError:
        return True


def _peek(sock: socket.socket) -> bool:
    if not hasattr(socket, "MSG_DONTWAIT"):
        return False  # Windows: heartbeats find out
    with _bare(sock) as bare:
        try:
            return bare.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False


@contextmanager
def _bare(sock: socket.socket) -> Iterator[_socket.socket]:
    """The class below all sockets on the same descriptor. Those of greenlet servers would wait in
    ``recv``, and take a ``shutdown`` for a close: their writer's error would be a surprise."""
    if sock.fileno() < 0:
        raise OSError(errno.EBADF, "The socket is closed.")
    bare = _socket.socket(sock.family, sock.type, sock.proto, sock.fileno())
    try:
        yield bare
    finally:
        bare.detach()


def take(sock: socket.socket) -> socket.socket:
    """The same connection as an object of our own: the server's forgets its file descriptor.

    Not a duplicate: the event loop would go on watching the server's.
    """
    return socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())


def is_direct(sock: socket.socket) -> bool:
    """Whether a write to the socket's file descriptor returns at once, and nothing else happens
    meanwhile: so it is with the sockets of greenlet servers, TLS aside."""
    return (
        not isinstance(sock, ssl.SSLSocket)
        and not os.get_blocking(sock.fileno())
        and type(sock).send is not _socket.socket.send  # a time-out under threads, no greenlets
    )


class Outlet:
    """A client's socket as the pump and the sweep see it (a ``Sink``).

    ``open`` lends it to them while its owner waits, ``finish`` takes it back. Where the socket
    cannot be written to directly (TLS, a blocking socket under threads, none at hand) ``fd`` is
    always -1 and everything goes through the WSGI server.
    """

    __slots__ = ("_corked", "_direct", "client", "fd", "moved", "progress", "rest", "sock")

    def __init__(self, sock: socket.socket | None, client: str, *, may: bool = True) -> None:
        self.sock = sock
        self.client = client
        self.fd = -1
        self.rest: bytes | memoryview = b""
        """What was begun and not yet taken by the kernel."""
        self.progress = 0.0
        """While something is stuck: when the kernel last took some of it (``time.monotonic``)."""
        self.moved = 0.0
        """When ``send`` last brought something to its end (``time.monotonic``)."""
        self._direct = may and sock is not None and is_direct(sock)
        self._corked = False

    @property
    def is_direct(self) -> bool:
        """Whether direct writes are possible at all."""
        return self._direct

    def open(self) -> None:
        """Lend the socket: until ``finish`` its owner will not write to it."""
        if self._direct and not self.rest and self.sock is not None:
            self.fd = self.sock.fileno()

    def write(self, data: bytes) -> bool:
        """Write whole frames to a lent socket, now. False if the kernel did not take it all: then
        the outlet is shut and ``finish`` sends the rest.

        Raises:
            OSError: If the connection is lost.
        """
        try:
            sent = os.write(self.fd, data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return True
        self.fd = -1
        self.rest = memoryview(data)[sent:]
        self.progress = time.monotonic()
        return False

    def hold(self, rest: bytes | memoryview) -> None:
        """Take the socket back from the pump, with ``rest`` of its frame still to be sent."""
        self.fd = -1
        if rest:
            self.rest = rest
            self.progress = time.monotonic()

    def finish(self) -> None:
        """Take the socket back and send what is left of a frame. Blocks.

        Raises:
            OSError: If the connection is lost, or was cut because it made no progress.
        """
        self.fd = -1
        if self.rest and self.sock is not None:
            self.send(self.rest)
            self.rest = b""

    def send(self, data: bytes | memoryview) -> None:
        """Send all of ``data``; blocks, a bounded piece at a time.

        Raises:
            OSError: If the connection is lost, or was cut because it made no progress.
        """
        assert self.sock is not None
        view = memoryview(data)
        self.progress = time.monotonic()
        while view:
            with suppress(TimeoutError):  # the deadline is the sweep's: see is_stuck
                view = view[self.sock.send(view[:PIECE]) :]
                self.progress = time.monotonic()
        self.moved = self.progress
        self.progress = 0.0

    def is_stuck(self, now: float, timeout: float | None) -> bool:
        """Whether something waits to be sent and nothing of it went for ``timeout`` seconds."""
        return bool(self.progress and timeout is not None and now - self.progress > timeout)

    def stop_reading(self) -> None:
        """Have the server find the end of the connection behind this response, not the next
        request: a client that keeps its connection would hold a stopping worker."""
        if self.sock is not None:
            with suppress(OSError), _bare(self.sock) as bare:
                bare.shutdown(socket.SHUT_RD)

    def cork(self) -> None:
        """Collect what is written until ``uncork``, at most 200 ms, into one packet (tcp(7)).

        The head of an answer and its first piece are two writes; each would wake the client.
        """
        if self._direct:
            self._set_cork(1)

    def uncork(self) -> None:
        """Let go what was collected. Idempotent."""
        if self._corked:
            self._set_cork(0)

    def _set_cork(self, value: int) -> None:
        if self.sock is not None and hasattr(socket, "TCP_CORK"):
            with suppress(OSError):  # a Unix socket, or a client that left
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, value)
            self._corked = bool(value)

    def cut(self) -> None:
        """Break the connection: whoever reads or writes it gets an error at once."""
        self.fd = -1
        if self.sock is not None:
            with suppress(OSError), _bare(self.sock) as bare:  # it may be broken already
                bare.shutdown(socket.SHUT_RDWR)
