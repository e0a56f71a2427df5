"""A server that is looked at through its proxy, and how."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import quote

from ....hub.hub import Hub
from ....message import Message
from .address import Address, Stream, Talk
from .finding import Finding

EVENT = "doctor"
"""What the events are called that are published to see whether they arrive."""

NGINX = "deployment.md#nginx"


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


def unseen(what: str) -> Finding:
    """Something could not be looked at."""
    return Finding(
        "url",
        what,
        "Some of it was not looked at.",
        "--url is where the app begins (https://example.org/app); --channel names what may be "
        "read, --header says who reads.",
        "command-line.md#doctor",
        is_seen=False,
    )


def readable(public: Collection[str]) -> str:
    """A channel that strangers may read, and nobody publishes to if that can be."""
    pattern = next((name for name in public if name.endswith("*")), None)
    if pattern is not None:
        return f"{pattern[:-1]}doctor"
    return next(iter(public), "doctor")
