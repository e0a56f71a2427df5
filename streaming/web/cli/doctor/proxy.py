"""What is looked at through the proxy, as clients of the server see it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

from ....errors import StreamingError
from .finding import Finding
from .streams import look_at_streams
from .upgrades import look_at_sockets
from .visit import NGINX, Visit, unseen

NAMES = (
    "url",
    "compression",
    "buffering",
    "resume",
    "upgrade",
    "own-origin",
    "foreign-origin",
    "idle",
)
"""What is looked at, in this order."""


def visit(how: Visit) -> Iterator[Finding]:
    """All that is found through the proxy."""
    try:
        yield from look_at_streams(how)
        yield from look_at_sockets(how)
        if how.idle:
            yield from _look_at_silence(how)
    except (OSError, HTTPException, StreamingError) as error:
        why = str(error) or type(error).__name__
        yield unseen(f"{how.address.origin} cannot be looked at: {why}")


def _look_at_silence(how: Visit) -> Iterator[Finding]:
    """Stay connected while nothing is published."""
    with ThreadPoolExecutor(1) as pool, how.talk() as talk:
        talked = pool.submit(talk.lives, how.idle) if talk.is_open else None
        cut = ["An event stream"] if _is_cut(how) else []
        if talked is not None and not talked.result():
            cut.append("A WebSocket")
    if cut:
        yield Finding(
            "idle",
            f"{' and '.join(cut)} is cut while nothing is sent, within {how.idle:g} s.",
            f"Clients come back again and again. STREAMING_HEARTBEAT is {how.heartbeat} s.",
            "Raise the proxy's time-out above it (nginx: proxy_read_timeout), or lower "
            "STREAMING_HEARTBEAT.",
            NGINX,
        )


def _is_cut(how: Visit) -> bool:
    try:
        with how.stream() as stream:
            return stream.status == 200 and not stream.lives(how.idle)
    except TimeoutError:
        return False  # it is held back, as was found
