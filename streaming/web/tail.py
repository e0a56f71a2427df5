"""HTTP streams at rest: the request is over, the stream is not.

A stream that has reached the head of its channel needs no generator: the pump writes, the poller
notices when the client leaves. So the generator hands the socket over and ends, the server's
greenlet with it, and an idle client costs a few small objects. Like a WebSocket, a stream that
lags gets a deliverer for as long as that lasts.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Mapping

from ..clients import formats
from ..clients.client import StreamClient, spread_retry
from ..clients.formats import EventFormat
from ..clients.line import Line
from ..clients.outlet import FAREWELL, take
from ..errors import ClientGone, StreamingError
from ..hub.subscription import Subscription
from ..settings import Settings
from .state import State

READ = 64 * 1024
"""Bytes a client may say on a stream, where it has nothing to say, before it is cut."""

_LAST_CHUNK = b"0\r\n\r\n"


class HandedOver(ConnectionResetError):
    """Raised out of the generator of a stream that goes on without it.

    The server takes it for a client that left, and writes nothing more; the connection is ours.
    """

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "The stream goes on without its request.")


class Tail:
    """A stream at rest. In the registry under the id it had as a ``StreamClient``."""

    __slots__ = (
        "_cut_at",
        "_form",
        "_heard",
        "_line",
        "_peer",
        "_settings",
        "_sock",
        "_spoke",
        "_state",
        "_subscription",
        "id",
        "reason",
        "since",
    )

    def __init__(
        self, client: StreamClient, sock: socket.socket, subscription: Subscription, state: State
    ) -> None:
        assert client.form is not None
        self.id = client.id
        self.since = client.since
        self.reason: StreamingError | None = None
        self._peer = client.peer
        self._form: EventFormat = client.form
        self._settings: Settings = state.settings
        self._state = state
        self._sock = sock
        self._subscription = subscription
        self._heard = 0
        self._spoke = time.monotonic()
        self._cut_at: float | None = None
        self._line = Line(
            sock,
            self.id,
            bell=client.bell,
            ping=self._form.frame(self._form.heartbeat),
            is_direct=True,
            end=self.end,
        )

    @property
    def transport(self) -> str:
        """The name of the stream's format."""
        return self._form.name

    def start(self) -> bool:
        """Go to rest; False if the subscription is not at its head, and then nothing is changed."""
        self._line.start()
        if not self._line.adopt(self._subscription, self._form):
            self._line.fd = -1
            return False
        self._sock = self._line.sock = take(self._sock)
        self._state.poller.watch(self._sock, self._hear)
        return True

    def end(self, reason: StreamingError) -> None:
        """End the stream properly, soon, for this reason. From any thread; never blocks."""
        if self.reason is not None:
            return
        self.reason = reason
        self._cut_at = time.monotonic() + FAREWELL
        if isinstance(reason, ClientGone):
            self._line.cut()
            return
        last = formats.farewell(self._form, reason, spread_retry())
        self._line.say_goodbye(self._form.frame(last) + _LAST_CHUNK)
        if self._line.is_finished:
            self._line.cut()

    def sweep(self, now: float) -> None:
        """See ``registry.Client``."""
        every, timeout = self._settings.heartbeat, self._settings.send_timeout
        if self._cut_at is not None:
            if self._line.is_finished or now >= self._cut_at:
                self._line.cut()
        elif self._line.is_stuck(now, timeout):
            self.end(ClientGone(f"The client took nothing for {timeout} s."))
        elif every is not None and now - max(self._spoke, self._subscription.offered) >= every:
            self._spoke = now
            try:
                self._line.ping()
            except OSError:
                self.end(ClientGone("The connection is lost."))

    def describe(self) -> Mapping[str, object]:
        """For the registry's snapshot."""
        return {
            "peer": self._peer,
            "channels": self._subscription.channels,
            "position": self._subscription.id,
            "state": self._subscription.state,
        }

    def _hear(self) -> None:
        """The client said something, which means nothing here, or left: the poller calls."""
        try:
            said = os.read(self._sock.fileno(), READ)
        except BlockingIOError:
            said = b" "
        except OSError:
            said = b""
        self._heard += len(said)
        if said and self._heard <= READ:
            self._state.poller.watch(self._sock, self._hear)
            return
        self.end(ClientGone("The client left."))
        self._line.stop()
        self._sock.close()
        self._state.registry.remove(self, self.reason or "")


def hand_over(client: StreamClient, subscription: Subscription, state: State) -> bool:
    """Let a stream go on without its generator, if it can now; then raise ``HandedOver``."""
    outlet = client.outlet
    if not outlet.is_direct or outlet.sock is None or not subscription.is_at_head:
        return False
    tail = Tail(client, outlet.sock, subscription, state)
    if not tail.start():
        return False
    client.subscription, client.outlet.fd = None, -1  # a sweep may still be looking at it
    state.registry.replace(tail)
    return True
