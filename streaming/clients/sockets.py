"""What can be asked of a client's socket, and done with it, whichever server it belongs to."""

from __future__ import annotations

import _socket
import errno
import os
import selectors
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

_GONE = frozenset({7, 8, 9, 11})
"""States of a TCP connection in which the peer has finished or is lost (Linux, tcp_states.h:
CLOSE, CLOSE_WAIT, LAST_ACK, CLOSING)."""

_BYTES = struct.Struct("=120xQQ")
"""The bytes that the peer has acknowledged, and those it has sent, in ``struct tcp_info`` (Linux,
tcp.h: after eight bytes, 24 numbers of four and two of eight)."""

_SIOCOUTQ = 0x5411
_FIONREAD = 0x541B
"""Bytes not yet acknowledged, and not yet read (Linux, tcp(7))."""

_Selector = getattr(selectors, "PollSelector", selectors.DefaultSelector)
"""Asks once; needs no file descriptor of its own where there is ``poll``."""

_dead: dict[int, int] = {}  # by process: the descriptor of a socket whose peer is gone


def client_socket(environ: Mapping[str, Any], buffer: int | None) -> socket.socket | None:
    """The client's socket, where the WSGI server tells it: gunicorn, Flask's own, gevent's.

    The kernel keeps about ``buffer`` bytes of what the client has not taken yet (Linux doubles
    the number for its own bookkeeping); None leaves it to the kernel, which may keep megabytes.
    """
    sock = environ.get("gunicorn.socket") or environ.get("werkzeug.socket") or _of_body(environ)
    if not isinstance(sock, socket.socket):
        return None
    if buffer is not None:
        with suppress(OSError):  # the client has left already; whoever writes finds out
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    return sock


def _of_body(environ: Mapping[str, Any]) -> object:
    """gevent's own server has the socket behind the request's body only."""
    if not str(environ.get("SERVER_SOFTWARE", "")).startswith("gevent/"):
        return None
    body = environ.get("wsgi.input")
    file = getattr(body, "rfile", body)  # of a handshake it is the file itself
    return getattr(getattr(file, "raw", None), "_sock", None)


def is_direct(sock: socket.socket) -> bool:
    """Whether a write to the socket's file descriptor returns at once, and nothing else happens
    meanwhile: so it is with the sockets of greenlet servers, TLS aside."""
    return (
        not isinstance(sock, ssl.SSLSocket)
        and sock.fileno() >= 0
        and not os.get_blocking(sock.fileno())
        and type(sock).send is not _socket.socket.send  # a time-out under threads, no greenlets
    )


def exchange(sock: socket.socket) -> socket.socket:
    """The same connection as an object of our own; the server's gets a peer that is gone.

    Whatever the server still writes meets EPIPE there, outside the application, where every server
    takes it for a client that left. The file descriptor is moved, not duplicated: the event loop
    would go on watching the server's. Not for TLS.

    Raises:
        OSError: If there is no file descriptor left, or the server has closed the socket; then
            nothing has changed.
    """
    if sock.fileno() < 0:
        raise OSError(errno.EBADF, "The socket is closed.")
    spare = _gone_peer()
    family, kind, proto, timeout = sock.family, sock.type, sock.proto, sock.gettimeout()
    # Below the class of the standard library, which would take the object for closed from now on.
    owner: Any = _socket.socket if isinstance(sock, _socket.socket) else type(sock)
    ours = socket.socket(family, kind, proto, fileno=owner.detach(sock))
    owner.__init__(sock, family, kind, proto, spare)
    ours.settimeout(timeout)  # a new object takes the descriptor for a blocking one
    return ours


def renew(sock: socket.socket) -> socket.socket:
    """The same connection as a new object. A greenlet that waits for the old one gets an error now:
    it is how greenlet servers' sockets treat those who wait when their descriptor is taken away."""
    family, kind, proto = sock.family, sock.type, sock.proto
    return socket.socket(family, kind, proto, fileno=sock.detach())


def _gone_peer() -> int:
    """A file descriptor of a connection whose peer is gone."""
    mine = _dead.get(os.getpid())
    if mine is None:
        one, peer = socket.socketpair()
        peer.close()
        own = one.detach()
        mine = _dead.setdefault(os.getpid(), own)
        if mine != own:  # another thread was first
            os.close(own)
    return os.dup(mine)


def is_gone(sock: socket.socket) -> bool:
    """Whether the peer has closed its side or the connection is lost. Never blocks.

    Asks the kernel for the state of the TCP connection where that can be asked (Linux), else
    peeks for the end of file.
    """
    if sock.fileno() < 0:
        return True  # closed on our side, and asked about from an older look at the clients
    try:
        if is_tcp(sock) and hasattr(socket, "TCP_INFO"):
            return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _GONE
        return _peek(sock)
    except OSError:
        return True


def is_tcp(sock: socket.socket) -> bool:
    """Whether it is a TCP connection, not a Unix socket."""
    return sock.family != getattr(socket, "AF_UNIX", None)


def taken(sock: socket.socket) -> int | None:
    """How many bytes the peer has acknowledged since it connected; None if nobody can tell."""
    return _bytes(sock)[0]


def received(sock: socket.socket) -> int | None:
    """How many bytes have come from the peer since it connected, read or not; None if nobody can
    tell."""
    return _bytes(sock)[1]


def _bytes(sock: socket.socket) -> tuple[int, int] | tuple[None, None]:
    if not is_tcp(sock) or not hasattr(socket, "TCP_INFO"):
        return None, None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES.size)
        taken, received = _BYTES.unpack(info)
    except (OSError, struct.error):
        return None, None
    return taken, received


def written(sock: socket.socket) -> int | None:
    """How many bytes were given to the kernel since the connection was made; None: cannot tell."""
    before, pending = taken(sock), _count(sock, _SIOCOUTQ)
    while before is not None and pending is not None and (after := taken(sock)) != before:
        before, pending = after, _count(sock, _SIOCOUTQ)  # some of it was acknowledged meanwhile
    return None if before is None or pending is None else before + pending


def pending(sock: socket.socket) -> int:
    """How many bytes the peer has not acknowledged yet; 0 where nobody can tell."""
    return _count(sock, _SIOCOUTQ) or 0


def unread(sock: socket.socket) -> int:
    """How many bytes of the peer's lie in the kernel; 0 where nobody can tell."""
    return _count(sock, _FIONREAD) or 0


def _count(sock: socket.socket, request: int) -> int | None:
    try:
        import fcntl  # not on Windows

        return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), request, b"\0" * 4))[0])
    except (ImportError, OSError, ValueError):
        return None


def _peek(sock: socket.socket) -> bool:
    if not hasattr(socket, "MSG_DONTWAIT"):
        return False  # Windows: heartbeats find out
    with _bare(sock) as plain:
        try:
            return plain.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False


@contextmanager
def _bare(sock: socket.socket) -> Iterator[_socket.socket]:
    """The class below all sockets on the same descriptor. Those of greenlet servers would wait in
    ``recv``, and take a ``shutdown`` for a close: their writer's error would be a surprise.

    Raises:
        OSError: If the socket is closed.
    """
    number = sock.fileno()  # once: another thread may close it now
    if number < 0:
        raise OSError(errno.EBADF, "The socket is closed.")
    plain = _socket.socket(sock.family, sock.type, sock.proto, number)
    try:
        yield plain
    finally:
        plain.detach()


def shut(sock: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    """Shut the connection down: whoever reads or writes it gets an end or an error at once."""
    base: Any = _socket.socket
    with suppress(OSError):  # it may be broken already
        if isinstance(sock, base):  # the object: another thread may close it, and its number be
            base.shutdown(sock, how)  # another connection's
            return
        with _bare(sock) as plain:
            plain.shutdown(how)


def discard(sock: socket.socket) -> None:
    """Let the kernel forget what it keeps of the peer's, some hundred KiB at most. Never blocks.

    For a connection that was shut: what still comes is then refused with a reset.
    """
    if not hasattr(socket, "MSG_DONTWAIT"):
        return  # Windows
    base: Any = _socket.socket
    own = nullcontext(sock) if isinstance(sock, base) else _bare(sock)  # see ``shut``
    with suppress(OSError), own as plain:
        for _ in range(8):
            if not base.recv(plain, 64 * 1024, socket.MSG_DONTWAIT):
                return


def cork(sock: socket.socket, is_on: bool) -> None:
    """Collect what is written, at most 200 ms, into one packet (tcp(7)); or let it go.

    The head of an answer and its first piece are two writes; each would wake the client.
    """
    if hasattr(socket, "TCP_CORK"):
        with suppress(OSError):  # a Unix socket, or a client that left
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, int(is_on))


def is_writable(sock: socket.socket) -> bool:
    """Whether a good part of what the kernel keeps for the client is free."""
    with _Selector() as selector:
        try:
            selector.register(sock, selectors.EVENT_WRITE)
        except (ValueError, OSError):  # closed
            return False
        return bool(selector.select(0))
