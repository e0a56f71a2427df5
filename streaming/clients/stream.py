"""HTTP streams of events whose request is over: the stream is not.

Where direct writes are possible a response's generator gives the connection away right behind its
first bytes, and ends. The dispatcher writes, the poller notices when the client leaves, and an idle
client costs a few small objects.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence

from ..bell import Bell
from ..errors import ClientGone, StreamingError
from ..hub.subscription import Subscription
from ..settings import Settings
from . import formats, sockets
from .client import TALK, TALKS, Client, Traffic, allowance, spread_retry
from .formats import EventFormat
from .line import Line
from .outlet import Writing
from .registry import Registry

_LAST_CHUNK = b"0\r\n\r\n"


class EventStream(Client):
    """A client that follows channels over HTTP, on a socket of our own.

    Args:
        registry: Where it is listed from before the first byte.
        sock: The server's socket, until ``start``.
        form: What it is sent.
        body: Bytes of the request that the server has not read.
    """

    __slots__ = ("_allowed", "_form", "_registry", "line", "subscription")

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        sock: socket.socket,
        form: EventFormat,
        *,
        peer: str = "",
        body: int = 0,
    ) -> None:
        super().__init__(registry.deadlines, settings, peer)
        self.subscription: Subscription | None = None
        self.line = Line(sock, self.id, ping=form.frame(form.heartbeat), may=True, end=self.end)
        self._registry = registry
        self._form = form
        self._allowed = allowance(body)

    @property
    def transport(self) -> str:  # type: ignore[override]
        """The name of the stream's format."""
        return self._form.name

    @property
    def bell(self) -> Bell:
        """What its subscription rings."""
        return self.line.bell

    def hand(self, data: bytes) -> bytes:
        """The first bytes, about to be given to the server: call right before ``yield``."""
        self.spoke = self.line.progress = time.monotonic()
        return data

    def start(self, subscription: Subscription) -> bool:
        """Take the connection over from the server, whose socket is of no use from now on.

        False if there is no file descriptor left for that; then nothing has changed.
        """
        line = self.line
        try:
            line.sock = sockets.exchange(line.sock)
        except OSError:
            return False
        line.progress = 0.0
        line.start()
        line.follow(subscription, self._form)
        self._listen()
        return True

    @property
    def channels(self) -> Sequence[str]:
        """What it follows."""
        return self.subscription.channels if self.subscription is not None else ()

    @property
    def traffic(self) -> Traffic:
        return Traffic(*self.line.sent)

    @property
    def lags(self) -> bool:
        return self.line.lags

    def describe(self) -> Mapping[str, object]:
        """For the registry's snapshot."""
        followed = self.subscription.describe() if self.subscription is not None else {}
        return {**super().describe(), **followed}

    def hand_ticket(self, ticket: Mapping[str, object]) -> None:
        if said := formats.ticket_event(self._form, ticket):
            self.line.say_soon(self._form.frame(said))

    def _say_goodbye(self, reason: StreamingError) -> None:
        last = formats.farewell(self._form, reason, spread_retry())
        self.line.say_goodbye(self._form.frame(last) + _LAST_CHUNK)
        if self._is_finished():
            self._cut()

    def _cut(self) -> None:
        self.line.cut()

    def _is_finished(self) -> bool:
        return self.line.phase is Writing.OVER

    def _beat(self) -> None:
        self.line.ping()

    def _quiet_since(self) -> float:
        offered = self.subscription.offered if self.subscription is not None else 0.0
        return max(self.spoke, offered)

    def _stuck_since(self) -> float:
        return self.line.progress

    def _socket(self) -> socket.socket | None:
        return self.line.sock

    def _listen(self) -> None:
        try:
            self._registry.poller.watch(self.line.sock, self._hear)
        except (OSError, RuntimeError) as error:
            self._over(ClientGone(f"Nobody can listen to the client: {error}"))

    def _hear(self) -> None:
        """The client said something, which means nothing here, or left: the poller calls."""
        try:
            said = len(os.read(self.line.sock.fileno(), TALK))
        except BlockingIOError:
            said = -1
        except OSError:
            said = 0
        self._allowed -= max(said, 0)
        if said and self._allowed >= 0:
            self._listen()
        elif said:
            self._over(ClientGone(TALKS))
        else:
            self._over(ClientGone("The client left."))

    def _over(self, reason: ClientGone) -> None:
        self.end(reason)
        self.line.stop()
        self.line.sock.close()
        self._registry.remove(self, self.reason or reason)
