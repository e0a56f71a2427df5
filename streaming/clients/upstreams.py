"""Hanging up on what a producer reads from, from outside, so that a read under way ends."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import suppress

_log = logging.getLogger(__name__)

_INSIDE = ("response", "raw", "_connection", "connection", "sock", "_sock", "fp", "_fp", "_raw")
"""Attributes behind which clients keep their connection: ``openai``, ``requests``, ``urllib3``,
``http.client``."""

DEPTH = 6
"""Attributes that are followed one behind the other."""


def hang_up(upstream: object) -> None:
    """Close ``upstream``. A read of another thread that waits for it ends at once: closing a file
    descriptor does not wake who reads from it, so a socket is shut before."""
    sock = next(_sockets(upstream), None)
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    close = getattr(upstream, "close", None)
    if not callable(close):
        return
    try:
        close()
    except Exception as error:  # its reader may be in the midst of it
        _log.debug("An upstream was closed with an error: %r", error)


def _sockets(upstream: object) -> Iterator[socket.socket]:
    """The socket that an answer of an HTTP client comes from, as far as it can be found."""
    seen: set[int] = set()
    level = [upstream]
    for _ in range(DEPTH):
        following: list[object] = []
        for each in level:
            if isinstance(each, socket.socket):
                yield each
            elif id(each) not in seen:
                seen.add(id(each))
                following += _inside(each)
        level = following


def _inside(each: object) -> list[object]:
    extensions = getattr(each, "extensions", None)  # httpx, httpcore
    stream = extensions.get("network_stream") if isinstance(extensions, dict) else None
    if stream is not None:
        with suppress(Exception):
            return [stream.get_extra_info("socket")]
    found = []
    for name in _INSIDE:
        with suppress(Exception):  # a property of somebody's
            value = getattr(each, name, None)
            if value is not None:
                found.append(value)
    return found
