"""What is looked at through the proxy, as clients of the server see it."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import quote

from ....errors import StreamingError
from ....hub.hub import Hub
from ....message import Message
from .address import Address, Stream, Talk
from .finding import Finding

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

FOREIGN = "https://foreign.invalid"
"""An origin that nobody has."""

EVENT = "doctor"
"""What the events are called that are published to see whether they arrive."""

NGINX = "deployment.md#nginx"
ORIGINS = "deployment.md#behind-a-proxy-proxyfix-and-streaming_origins"


@dataclass(frozen=True, slots=True)
class Visit:
    """A server, and how it is looked at."""

    address: Address
    events: str
    """The path of the streams."""
    socket: str
    """The path of the WebSocket."""
    channel: str
    hub: Hub | None
    """To publish with; None if the server's log is its own memory."""
    wait: float
    """Seconds that anything may take."""
    idle: float
    """Seconds of silence; 0 for none."""
    heartbeat: float | None

    def stream(self, **headers: str) -> Stream:
        """A stream of the channel."""
        path = f"{self.events}?channel={quote(self.channel)}"
        own = {name.replace("_", "-"): value for name, value in headers.items()}
        return Stream(self.address, path, own, self.wait)

    def talk(self, origin: str | None = None) -> Talk:
        """A WebSocket, as a page of ``origin`` opens one."""
        return Talk(self.address, self.socket, origin, self.wait)

    def publish(self) -> Message:
        """Something that nobody has seen before."""
        assert self.hub is not None
        return self.hub.publish(self.channel, secrets.token_hex(8), event=EVENT)


def visit(how: Visit) -> Iterator[Finding]:
    """All that is found through the proxy."""
    try:
        yield from _streams(how)
        yield from _sockets(how)
        if how.idle:
            yield from _silence(how)
    except (OSError, HTTPException, StreamingError) as error:
        yield _unseen(f"{how.address.origin} cannot be looked at: {error or type(error).__name__}")


def _streams(how: Visit) -> Iterator[Finding]:
    try:
        with how.stream() as stream:
            status, where = stream.status, stream.header("Location")
    except TimeoutError:
        yield _held("Not even the head of a stream arrives.")
        return
    if status != 200:
        yield _unseen(_refusal(how, status, where))
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
            yield _unseen(f"A stream does not begin with ready, but with {ready!r:.100}.")
            return
        if first is None or not ready.id.startswith(f"{first.id.epoch}-"):
            yield _unseen(
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


def _sockets(how: Visit) -> Iterator[Finding]:
    with how.talk() as talk:
        if not talk.is_open or not talk.is_welcomed(how.wait):
            yield Finding(
                "upgrade",
                f"A WebSocket is not opened: the answer is {talk.status}.",
                "There are no WebSockets: the proxy does not pass them on, or the server has none.",
                "nginx: proxy_http_version 1.1, and the headers Upgrade and Connection; other "
                "proxies have a switch for it.",
                NGINX,
            )
            return
    with how.talk(how.address.origin) as talk:
        is_own, own_status = talk.is_open, talk.status
    with how.talk(FOREIGN) as talk:
        is_foreign = talk.is_open
    if not is_own:
        yield Finding(
            "own-origin",
            f"A page of {how.address.origin} may open no WebSocket: {own_status}.",
            "The app does not know how browsers call it.",
            "Have the proxy pass Host and X-Forwarded-Proto on, and tell the app to trust it "
            f"(ProxyFix); or STREAMING_ORIGINS = [{how.address.origin!r}].",
            ORIGINS,
        )
    if is_foreign:
        yield Finding(
            "foreign-origin",
            "A page of any other site may open WebSockets.",
            "It does so with the cookies of your users, and reads what they may read.",
            "Take '*' out of STREAMING_ORIGINS, and do not have the proxy change Origin.",
            ORIGINS,
        )


def _silence(how: Visit) -> Iterator[Finding]:
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


def _held(what: str) -> Finding:
    return Finding(
        "buffering",
        what,
        "Browsers see nothing, or all of it at the end.",
        "Switch the proxy's buffering off for streams. nginx does it by itself, unless it is told "
        "to ignore X-Accel-Buffering (proxy_ignore_headers).",
        NGINX,
    )


def _unseen(what: str) -> Finding:
    return Finding(
        "url",
        what,
        "Some of it was not looked at.",
        "--url is where the app begins (https://example.org/app); --channel names what may be "
        "read, --header says who reads.",
        "command-line.md#doctor",
        is_seen=False,
    )


def _refusal(how: Visit, status: int, where: str | None) -> str:
    what = f"A stream of the channel {how.channel!r} is answered with {status}"
    return f"{what}, and leads to {where}." if where else f"{what}."


def readable(public: Collection[str]) -> str:
    """A channel that strangers may read, and nobody publishes to if that can be."""
    pattern = next((name for name in public if name.endswith("*")), None)
    if pattern is not None:
        return f"{pattern[:-1]}doctor"
    return next(iter(public), "doctor")
