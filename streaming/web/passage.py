"""Whether what a response's body gives reaches the client's socket as it is, and when.

Between a body and the socket there may be middleware that collects it, compresses it or changes it.
Who writes to the socket beside the server must know that there is none, or that it passes things
on: a heartbeat in front of the answer's head, or among compressed bytes, breaks the stream.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

from ..clients import sockets
from .said import say_once

_log = logging.getLogger(__name__)


class Passage:
    """The way from one body to one socket.

    A piece is sent, and its bytes are counted in the kernel: they must be what the server alone
    makes of it. Where they cannot be counted (Unix sockets, other systems than Linux), gunicorn's
    own count is believed, if nobody has wrapped its ``start_response``.

    Args:
        sock: The server's socket, if it is known.
        is_chunked: Whether the server sends each piece as a chunk (RFC 9112 section 7.1).
    """

    __slots__ = ("_is_chunked", "_is_whole", "_sock", "_start", "is_clear", "is_open")

    def __init__(self, sock: socket.socket | None, *, is_chunked: bool) -> None:
        self._sock = sock
        self._is_chunked = is_chunked
        self._is_whole = False
        self._start: object = None
        self.is_clear = False
        """Whether it is known that pieces reach the socket at once, framed as we know it."""
        self.is_open = False
        """Whether at least nobody holds back what is given to the server, or changes it."""

    def look(self, start_response: Callable[..., object], *, is_whole: bool) -> None:
        """Who is called with the answer's head, and whether its body is said to be ours alone."""
        self._start, self._is_whole = start_response, is_whole
        self.is_open = is_whole and is_servers_own(start_response)

    def prove(self, piece: bytes, probe: bytes) -> Iterator[bytes]:
        """Give ``piece`` to the server, and ``probe`` behind it if that proves nothing yet."""
        yield b""  # the head leaves alone, or it would be counted
        is_held = True
        for data in (piece, probe):
            before, sent = self._written(), self._sent()
            yield data
            after = self._written()
            if before is None or after is None:
                self.is_clear = sent is not None and self._sent() == sent + len(data)
                self.is_open = self.is_clear or (self.is_open and sent is None)
                return
            is_held = is_held and after == before
            self.is_clear = after - before == len(self.frame(data))
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

    def _written(self) -> int | None:
        return None if self._sock is None else sockets.written(self._sock)

    def _sent(self) -> int | None:
        """How many bytes of the body gunicorn says it has sent, framed as we think; or None."""
        owner = getattr(self._start, "__self__", None)
        if not self._is_whole or not _comes_from(owner, "gunicorn."):
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
