"""Whether what a response's body gives reaches the client's socket as it is, and when.

Between a body and the socket there may be middleware that collects it, compresses it or changes it.
Who writes to the socket beside the server must know that there is none, or that it passes things
on: a heartbeat in front of the answer's head, or among compressed bytes, breaks the stream.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

from ..clients import sockets
from .said import say_once

GIVEN = "streaming.given"
"""Where in the WSGI environment it stands that the connection is the server's no more. Whoever does
not ask for it finds the socket's peer gone."""

_log = logging.getLogger(__name__)


class Passage:
    """The way from one body to one socket.

    A piece is sent, and looked for. gunicorn counts what it is given, which is believed if nobody
    stands before its ``start_response``, and costs nothing. Else the bytes are counted in the
    kernel (TCP on Linux): they must be what the server alone makes of it. So over TLS, where who
    frames what cannot be seen.

    Args:
        sock: The server's socket, if it is known.
        is_chunked: Whether the server sends each piece as a chunk (RFC 9112 section 7.1).
    """

    __slots__ = ("_is_chunked", "_sock", "_start", "is_clear", "is_open")

    def __init__(self, sock: socket.socket | None, *, is_chunked: bool) -> None:
        self._sock = sock
        self._is_chunked = is_chunked
        self._start: object = None
        self.is_clear = False
        """Whether it is known that pieces reach the socket at once, framed as we know it."""
        self.is_open = False
        """Whether at least nobody holds back what is given to the server, or changes it."""

    def look(self, start_response: Callable[..., object]) -> None:
        """Who is called with the head of the answer, whose body is said to be ours alone."""
        self._start = start_response
        self.is_open = is_servers_own(start_response)

    def prove(self, piece: bytes, probe: bytes) -> Iterator[bytes]:
        """Give ``piece`` to the server, and ``probe`` behind it if that proves nothing yet."""
        count, size = self._sent, self._plain
        if count() is None:
            count, size = self._written, self._framed
            yield b""  # the head leaves alone, or it would be counted
        is_held = True
        for data in (piece, probe):
            before = count()
            yield data
            after = count()
            if before is None or after is None:
                return
            is_held = is_held and after == before
            self.is_clear = after - before == size(data)
            self.is_open = self.is_clear or (self.is_open and after - before >= len(data))
            if self.is_clear:
                return
        if is_held:
            say_once(
                "Something between the application and the server holds back streams: clients see "
                "nothing, or all of it late. Keep what compresses, collects or measures bodies "
                "away from text/event-stream and application/x-ndjson. Flask-Compress: "
                "COMPRESS_MIMETYPES; ProfilerMiddleware: not around an application that streams."
            )
        elif not self.is_open:  # else it is TLS, or Flask's server with its own idea of chunks
            _log.info(
                "Something between the application and the server changes streams: they are sent "
                "through it, which costs a thread each."
            )

    def frame(self, data: bytes) -> bytes:
        """What the server makes of a piece."""
        return b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data

    def _plain(self, data: bytes) -> int:
        return len(data)

    def _framed(self, data: bytes) -> int:
        return len(self.frame(data))

    def _written(self) -> int | None:
        return None if self._sock is None else sockets.written(self._sock)

    def _sent(self) -> int | None:
        """How many bytes of the body gunicorn says it has sent, framed as we think; or None."""
        owner = getattr(self._start, "__self__", None)
        if isinstance(self._sock, ssl.SSLSocket) or not _comes_from(owner, "gunicorn."):
            return None
        sent = getattr(owner, "sent", None)
        return sent if getattr(owner, "chunked", None) is self._is_chunked else None


def is_servers_own(start_response: Any) -> bool:
    """Whether it is a server's own function, not one that middleware has put before it."""
    owner = getattr(start_response, "__self__", None)
    if owner is not None:
        return _comes_from(owner, "gunicorn.", "werkzeug.serving")
    return str(start_response.__module__).startswith(("gunicorn.", "werkzeug.serving"))


def _comes_from(owner: object, *modules: str) -> bool:
    """Whether its class or one it is made from stands there: workers have answers of their own."""
    return any(kind.__module__.startswith(modules) for kind in type(owner).__mro__)
