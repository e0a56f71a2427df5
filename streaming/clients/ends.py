"""One line of the server's log for each connection, at its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress

from ..errors import ClientGone, StreamingError
from .client import Client

_log = logging.getLogger("streaming.connections")


def note_end(client: Client, kind: str, reason: StreamingError | str) -> None:
    """Say who has left, what went over its connection and why it ended, ``kind`` in one word.

    At level INFO, and for nothing where nobody wants to read it. What is in the text stands in the
    record too, under names of its own. No channel, no ticket and nothing that the client has said
    is in it.
    """
    if not _log.isEnabledFor(logging.INFO):
        return
    traffic, seconds = client.traffic, round(max(0.0, time.time() - client.since), 3)
    identity = client.identity.id if client.identity is not None else None
    detail = _detail(reason)
    _say(
        "%s %s of %r from %s ended after %.3f s, %s: %s (sent %d messages, %d bytes; "
        "received %d messages, %d bytes)",
        *(client.transport, client.id, identity, client.peer or "-", seconds, kind, detail),
        *traffic,
        extra={
            "client": client.id,
            "identity": identity,
            "peer": client.peer,
            "transport": client.transport,
            "seconds": seconds,
            "sent_messages": traffic.sent,
            "sent_bytes": traffic.sent_bytes,
            "received_messages": traffic.received,
            "received_bytes": traffic.received_bytes,
            "reason": kind,
            "close_code": reason.close_code if isinstance(reason, StreamingError) else None,
            "detail": detail,
        },
    )


def _say(line: str, *said: object, extra: Mapping[str, object]) -> None:
    """At the end of a connection nothing may fail, but the application's logging can: a field may
    be one of all its records already, a filter may raise."""
    try:
        _log.info(line, *said, extra=extra)
    except Exception as error:
        with suppress(Exception):
            _log.info(f"{line} (without fields: %r)", *said, error)


def _detail(reason: StreamingError | str) -> str:
    """Why, in our own words: other reasons' may name a channel, or say what a client has said."""
    if isinstance(reason, StreamingError) and not isinstance(reason, ClientGone):
        return f"{reason.title} ({reason.close_code})"
    return str(reason) or "It was left."
