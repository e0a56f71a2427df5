"""Whether what a response's body gives reaches the client's socket as it is, and when.

Between a body and the socket there may be middleware that collects it, compresses it or changes it.
Who writes to the socket beside the server must know that there is none, or that it passes things
on: a heartbeat in front of the answer's head, or among compressed bytes, breaks the stream.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

from ..clients import sockets

_SERVERS = ("gunicorn", "werkzeug", "streaming")

_log = logging.getLogger(__name__)


class Passage:
    """The way from one body to one socket.

    Where nobody has wrapped ``start_response``, nobody changes the answer: whoever compresses must
    also say so in its head. Elsewhere a piece is sent and its bytes counted in the kernel.
    """

    __slots__ = ("_before", "_sock", "is_clear")

    def __init__(self, sock: socket.socket | None) -> None:
        self._sock = sock
        self._before: int | None = None
        self.is_clear = False
        """Whether it is known that pieces reach the socket at once, framed by the server alone."""

    def look(self, start_response: Callable[..., object], *, is_whole: bool) -> None:
        """Judge by who is called with the answer's head; ``is_whole`` if the body is ours."""
        self.is_clear = is_whole and is_servers_own(start_response)

    def begin(self) -> None:
        """A piece is about to be given to the server; ``end`` follows when that is done."""
        self._before = None if self._sock is None else sockets.written(self._sock)

    def end(self, frame: bytes) -> None:
        """The piece should have become ``frame``: compare with what the kernel got."""
        after = None if self._sock is None else sockets.written(self._sock)
        if after is None or self._before is None:
            return
        self.is_clear = after - self._before == len(frame)
        if not self.is_clear:
            _log.info(
                "Something between the application and the server holds back or changes streams: "
                "they are sent through it, which costs a thread each."
            )


def is_servers_own(start_response: Any) -> bool:
    """Whether it is a server's own function, not one that middleware has put before it."""
    owner = getattr(start_response, "__self__", None)
    module = type(owner).__module__ if owner is not None else start_response.__module__
    return str(module).split(".")[0] in _SERVERS
