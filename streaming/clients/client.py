"""A connected client: how its connection ends, and its deadlines. Streams and WebSockets alike."""

from __future__ import annotations

import math
import random
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ClientGone, Recalled, StreamingError
from ..identity import USERS, Identity, sign
from ..settings import Settings
from . import sockets
from .budgets import NOBODY
from .deadlines import Deadlines
from .outlet import FAREWELL

if TYPE_CHECKING:
    from ..hub.spans import Connection

TALK = 32 * 1024
"""Bytes a client may say on a stream, where it has nothing to say, before it is cut: less than the
kernel keeps for whoever does not read."""

TALKS = "The client talks where it has nothing to say."

BODY = 16 * 1024 * 1024
"""Bytes of its request's body that may still be under way; nobody reads them."""


def allowance(body: int) -> int:
    """Bytes a client may say on a stream, ``body`` of which its request has announced."""
    return TALK + min(body, BODY)


class Traffic(NamedTuple):
    """What has gone over a connection: messages, and bytes of their text."""

    sent: int = 0
    """Messages that its client was sent, or has begun to be."""
    sent_bytes: int = 0
    received: int = 0
    """Messages that came from it."""
    received_bytes: int = 0


class Client:
    """One connection, until it has left the registry.

    It ends once, for one reason. From then on it has ``FAREWELL`` seconds to take its goodbye, and
    is cut. Until then it is looked at when it may be due for a heartbeat or may be stuck. What a
    subclass adds is how it says goodbye, how it is cut, and what a heartbeat is.
    """

    __slots__ = (
        "__weakref__",
        "_cut_at",
        "_deadlines",
        "_over_at",
        "_settings",
        "_taken",
        "_waits",
        "holder",
        "id",
        "identity",
        "is_checked",
        "is_left",
        "peer",
        "permit",
        "reason",
        "since",
        "spoke",
        "tick",
        "trace",
    )

    transport = ""
    """How it is connected."""

    def __init__(self, deadlines: Deadlines, settings: Settings, peer: str) -> None:
        self.id = secrets.token_hex(8)
        """Its name in this worker: 16 hexadecimal digits."""
        self.since = time.time()
        self.peer = peer
        """The client's address, for people to read."""
        self.identity: Identity | None = None
        """Who it is, as the application says; None for a stranger."""
        self.holder = NOBODY
        """Whom it counts for; does not change while it is in the registry."""
        self.permit: Callable[[], float] | None = None
        """Asks the application whether it still may be here; raises if not. Returns the seconds
        until it wants to be asked again."""
        self.is_checked = False
        """Whether the application was asked about each channel that it follows."""
        self.reason: StreamingError | None = None
        """Why it is over, or about to be."""
        self.is_left = False
        """Whether it is out of everything."""
        self.tick = 0
        self.trace: Connection | None = None
        """Its span, from when it is in the registry; None where nobody records it."""
        self.spoke = time.monotonic()
        """When something was last sent to it (``time.monotonic``)."""
        self._deadlines = deadlines
        self._settings = settings
        self._over_at = spread(settings.lifetime)
        self._cut_at: float | None = None
        self._taken: int | None = None  # what the peer had taken when we last looked
        self._waits = 0.0  # since when it has taken no more

    @property
    def sender(self) -> str | None:
        """It as the sender of a message, for the log."""
        return sign(self.id, self.identity)

    @property
    def member(self) -> str:
        """What it is called in a room: a stranger by its id, and all connections of one identity
        alike."""
        return self.id if self.identity is None else USERS + self.identity.id

    @property
    def channels(self) -> Sequence[str]:
        """What it follows."""
        return ()

    @property
    def traffic(self) -> Traffic:
        """What has gone over it up to now."""
        return Traffic()

    @property
    def lags(self) -> bool:
        """Whether it has not taken all that there is for it."""
        return False

    def describe(self) -> Mapping[str, object]:
        """Channels, position and peer, for people to read."""
        return {"peer": self.peer}

    def hand_ticket(self, ticket: Mapping[str, object]) -> None:
        """Send what it is to come back with from now on, if its transport has a word for that.
        Never blocks.

        Raises:
            ClientGone: If the connection is lost.
        """

    def watch(self) -> None:
        """Be looked at from now on; those that came together are not all looked at together.

        Raises:
            RuntimeError: If no thread can be started for it.
        """
        if (when := self._next(time.monotonic())) is not None:
            self._deadlines.set(self, when)
        if self._cut_at is not None:  # it was ended meanwhile, and this is sooner
            self._deadlines.set(self, self._cut_at)

    def end(self, reason: StreamingError) -> None:
        """End the connection soon, and properly, for this reason. From any thread; never blocks."""
        until = time.monotonic() + FAREWELL
        if self.reason is not None:
            return
        self.reason, self._cut_at = reason, until  # at once: whoever sees one sees the other
        try:
            if isinstance(reason, ClientGone):
                self._cut()
            else:
                self._say_goodbye(reason)
        except ClientGone:
            self._cut()
        try:
            self._deadlines.set(self, until)
        except RuntimeError:  # nobody would cut it later
            self._cut()

    def leave(self) -> None:
        """Be looked at no more; the connection is closed. Idempotent."""
        self.is_left = True
        self._deadlines.drop(self)

    def due(self, now: float) -> float | None:
        """See ``deadlines.Timed``."""
        if self.is_left:
            return None
        if self._cut_at is not None:
            if now < self._cut_at and not self._is_finished():
                return self._cut_at
            self._cut()
            return None
        reason: StreamingError | None = self._missing(now)
        if reason is None and now >= self._over_at:
            reason = Recalled("Its time is over. Connect again and resume.")
        if reason is None and (beat_at := self._beat_at()) is not None and now >= beat_at:
            self.spoke = now
            try:
                self._beat()
            except ClientGone as gone:
                reason = gone
        if reason is not None:
            self.end(reason)
        return None if self.reason is not None else self._next(now)

    # ---- what subclasses say

    def _say_goodbye(self, reason: StreamingError) -> None:
        """Send the last words for ``reason``, now or soon. Never blocks."""
        raise NotImplementedError

    def _cut(self) -> None:
        """Break the connection. Idempotent."""
        raise NotImplementedError

    def _is_finished(self) -> bool:
        """Whether the last words are out, and the connection may be cut before its time."""
        raise NotImplementedError

    def _beat(self) -> None:
        """Send a heartbeat, now or soon. Never blocks.

        Raises:
            ClientGone: If the connection is lost.
        """
        raise NotImplementedError

    def _quiet_since(self) -> float:
        """Since when the connection has needed no heartbeat (``time.monotonic``)."""
        return self.spoke

    def _stuck_since(self) -> float:
        """Since when something waits to be sent, as far as we know; 0 if nothing does."""
        raise NotImplementedError

    def _missing(self, now: float) -> ClientGone | None:
        """What the client owes us for too long, if anything."""
        return self._stuck(now)

    def _socket(self) -> socket.socket | None:
        """The client's socket, where there is one to ask."""
        raise NotImplementedError

    # ---- deadlines

    def _beat_at(self) -> float | None:
        """When the next heartbeat is due (``time.monotonic``), if one is."""
        every = self._settings.heartbeat
        return None if every is None else self._quiet_since() + every

    def _stuck(self, now: float) -> ClientGone | None:
        """A client that takes nothing of what waits for it. Who takes little is slow, not stuck."""
        since, timeout = self._stuck_since(), self._settings.send_timeout
        if timeout is None or not since:
            self._taken = None
            return None
        sock = self._socket()
        taken = sockets.taken(sock) if sock is not None else None
        if taken is None:
            self._waits = since
        elif taken != self._taken:
            self._taken, self._waits = taken, now
        if now - self._waits < timeout:
            return None
        return ClientGone(f"The client took nothing for {timeout:g} s.")

    def _next(self, now: float) -> float | None:
        """When to look again."""
        timeout, times = self._settings.send_timeout, []
        if self._over_at < math.inf:
            times.append(max(self._over_at, now))
        if (beat_at := self._beat_at()) is not None:
            times.append(max(beat_at, now))
        if timeout is not None:
            times.append(now + timeout / 4 if self._stuck_since() else now + timeout)
        return min(times, default=None)


def spread(seconds: float | None) -> float:
    """When so many seconds have passed (``time.monotonic``), a tenth more or less; never if None:
    those that came together do not come back together."""
    return math.inf if seconds is None else time.monotonic() + seconds * random.uniform(0.9, 1.1)


def spread_retry(draw: Callable[[int, int], int] = random.randint) -> int:
    """Milliseconds after which a client of a stopping server should come back, spread."""
    return draw(1000, 3000)
