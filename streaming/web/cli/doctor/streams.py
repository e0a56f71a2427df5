"""Event streams through a proxy: at once, one by one, as they are, and on where they stopped."""

from __future__ import annotations

from collections.abc import Iterator

from ....message import Message
from .address import Stream
from .finding import Finding
from .visit import EVENT, NGINX, Visit, unseen


def look_at_streams(how: Visit) -> Iterator[Finding]:
    """What becomes of event streams."""
    try:
        with how.stream() as stream:
            status, where = stream.status, stream.header("Location")
    except TimeoutError:
        yield _held("Not even the head of a stream arrives.")
        return
    if status != 200:
        yield unseen(_refusal(how, status, where))
        return
    if _is_packed(how):
        yield Finding(
            "compression",
            "The proxy compresses event streams.",
            "Some proxies collect what they compress: browsers see events late, or none.",
            "Leave text/event-stream and application/x-ndjson out of gzip_types, or what it is "
            "called in yours.",
            NGINX,
        )
    yield from _events(how)


def _is_packed(how: Visit) -> bool:
    try:
        with how.stream(Accept_Encoding="gzip, br") as stream:
            return stream.header("Content-Encoding") is not None
    except TimeoutError:
        return True  # without it the head has come


def _events(how: Visit) -> Iterator[Finding]:
    first = how.publish() if how.hub is not None else None
    with how.stream() as stream:
        try:
            ready = stream.next_event(how.wait)
        except TimeoutError:
            yield _held("A stream begins, and its first event does not arrive.")
            return
        if ready is None or ready.event != "ready":
            yield unseen(f"A stream does not begin with ready, but with {ready!r:.100}.")
            return
        if first is None or not ready.id.startswith(f"{first.id.epoch}-"):
            yield unseen(
                "The server's log is another than that of this command, so nothing could be "
                "published to see whether it arrives."
            )
            return
        last = _follow(how, stream)
    yield from [_held("Events do not arrive one by one.")] if last is None else _resume(how, last)


def _follow(how: Visit, stream: Stream) -> str | None:
    """The id of the last of two events that arrive one by one; None if they do not."""
    last = None
    for _ in range(2):
        message = how.publish()
        last = _find(how, stream, message)
        if last is None:
            return None
    return last


def _find(how: Visit, stream: Stream, message: Message) -> str | None:
    """The id with which ``message`` arrives, if it does."""
    try:
        while event := stream.next_event(how.wait):
            if event.event == "gap":
                return None
            if (event.event, event.data) == (EVENT, message.data):
                return event.id
    except TimeoutError:
        pass
    return None


def _resume(how: Visit, last: str) -> Iterator[Finding]:
    message = how.publish()
    with how.stream(Last_Event_ID=last) as stream:
        if _find(how, stream, message) is None:
            yield Finding(
                "resume",
                "A stream that comes back with Last-Event-ID misses what came meanwhile.",
                "Each reconnection loses messages.",
                "Have the proxy pass the header Last-Event-ID on, and cache nothing.",
                "protocols.md#cursors",
            )


def _held(what: str) -> Finding:
    return Finding(
        "buffering",
        what,
        "Browsers see nothing, or all of it at the end.",
        "Switch the proxy's buffering off for streams. nginx does it by itself, unless it is told "
        "to ignore X-Accel-Buffering (proxy_ignore_headers).",
        NGINX,
    )


def _refusal(how: Visit, status: int, where: str | None) -> str:
    what = f"A stream of the channel {how.channel!r} is answered with {status}"
    return f"{what}, and leads to {where}." if where else f"{what}."
