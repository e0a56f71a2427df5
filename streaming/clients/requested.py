"""Streams whose request lasts as long as they do: other servers, and producers that are pulled.

The response's generator writes through the server, or waits: for something to read, or for its
producer. A heartbeat that falls due while the producer is silent is written beside it.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from ..bell import Bell
from ..errors import ClientGone, StreamingError
from ..hub.subscription import Subscription
from ..settings import Settings
from . import sockets
from .client import TALKS, Client, Traffic, allowance
from .formats import EventFormat, ticket_event
from .registry import Registry

Start = Callable[[], "Callable[[bytes], object] | None"]

LOOK = 0.25
"""Seconds between two looks at whether the client has left: nobody else would notice."""


class RequestStream(Client):
    """A client that is served by the generator of its response.

    Args:
        registry: Where it is listed; a client that is cut leaves it, whatever its producer does.
        sock: The server's socket, if it is known.
        form: What it is sent; None for plain text.
        body: Bytes of the request that the server may not have read.
    """

    __slots__ = (
        "_allowed",
        "_form",
        "_is_due",
        "_messages",
        "_registry",
        "_size",
        "_sock",
        "_ticket",
        "_writing",
        "aside",
        "bell",
        "subscription",
    )

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        sock: socket.socket | None,
        form: EventFormat | None,
        *,
        peer: str = "",
        body: int = 0,
    ) -> None:
        super().__init__(registry.deadlines, settings, peer)
        self._allowed = allowance(body)
        self._registry = registry
        self.bell = Bell()
        self.subscription: Subscription | None = None
        self.aside: Aside | None = None
        """What is written beside a silent producer."""
        self._form = form
        self._sock = sock
        self._writing = 0.0
        self._is_due = False
        self._ticket: Mapping[str, object] | None = None
        self._messages = self._size = 0

    @property
    def transport(self) -> str:  # type: ignore[override]
        """The name of the stream's format."""
        return self._form.name if self._form else "text"

    @property
    def channels(self) -> Sequence[str]:
        """What it follows."""
        return self.subscription.channels if self.subscription is not None else ()

    @property
    def traffic(self) -> Traffic:
        return Traffic(self._messages, self._size)

    @property
    def lags(self) -> bool:
        is_behind = self.subscription is not None and self.subscription.is_behind
        return is_behind or bool(self._writing)

    def count(self, messages: int, size: int) -> None:
        """The generator gives so many messages more to the server, ``size`` bytes of text."""
        self._messages += messages
        self._size += size

    def describe(self) -> Mapping[str, object]:
        """For the registry's snapshot."""
        followed = self.subscription.describe() if self.subscription is not None else {}
        return {**super().describe(), **followed}

    def hand(self, data: bytes) -> bytes:
        """``data``, about to be given to the server: call right before ``yield``."""
        self.spoke = self._writing = time.monotonic()
        return data

    def is_taken(self) -> None:
        """The server has written what it was handed: call right behind ``yield``.

        Raises:
            StreamingError: The reason, if the stream was ended meanwhile.
        """
        self._writing = 0.0
        self.check()

    def check(self) -> None:
        """Return if the stream may go on.

        Raises:
            StreamingError: The reason it was ended for.
        """
        if self.reason is not None:
            raise self.reason

    def wait(self, seconds: float | None = None) -> bytes:
        """Wait for a ring, at most ``seconds``; what to send beside the messages, if anything is
        due: a heartbeat, another ticket.

        Raises:
            StreamingError: The reason, as soon as the stream is ended.
        """
        self.bell.wait(seconds)
        self.check()
        is_due, self._is_due = self._is_due, False
        return self.take_soon() or (self._form.heartbeat if is_due and self._form else b"")

    def take_soon(self) -> bytes:
        """What is to be sent as soon as the generator can; once."""
        if self.subscription is None or self._form is None:
            return b""  # nothing is resumed, or nothing is followed yet
        ticket, self._ticket = self._ticket, None
        return b"" if ticket is None else ticket_event(self._form, ticket)

    def hand_ticket(self, ticket: Mapping[str, object]) -> None:
        self._ticket = ticket
        self.bell.ring()

    # ---- how it ends, see ``Client``

    def _say_goodbye(self, reason: StreamingError) -> None:
        if self.subscription is not None:
            self.subscription.end(reason)
        self.bell.ring()  # the generator says it

    def _cut(self) -> None:
        if self._sock is not None:
            sockets.shut(self._sock)
            sockets.discard(self._sock)  # its producer may keep the socket open for long
        if self.reason is not None:
            self._say_goodbye(self.reason)
            self._registry.remove(self, self.reason)

    def _is_finished(self) -> bool:
        return False

    def _beat(self) -> None:
        if self.aside is None or not self.aside.beat():
            self._is_due = True
            self.bell.ring()

    def _stuck_since(self) -> float:
        return self._writing or (self.aside.stuck_since() if self.aside is not None else 0.0)

    def _beat_at(self) -> float | None:
        return None if self._form is None or self._writing else super()._beat_at()

    def _missing(self, now: float) -> ClientGone | None:
        if self._sock is not None and sockets.is_gone(self._sock):
            return ClientGone("The client left.")
        if self._sock is not None and sockets.unread(self._sock) > self._allowed:
            return ClientGone(TALKS)
        try:
            if self.aside is not None:
                self.aside.send_head(now)
        except OSError as error:
            return ClientGone(f"The connection is lost: {error}")
        return super()._missing(now)

    def _socket(self) -> socket.socket | None:
        return self._sock

    def _next(self, now: float) -> float | None:
        if self._sock is None:
            return super()._next(now)
        return now + LOOK


class Aside:
    """What is written beside a generator that waits for its producer, through its server: the
    answer's head, if the first piece takes long, and heartbeats.

    The generator has it, and gives it away while it waits.

    Args:
        sock: The server's socket.
        start: Has the head sent, and returns what writes behind it: ``start_response`` and its
            ``write`` (PEP 3333).
        at: When the head has to leave, whatever the producer does (``time.monotonic``).
        beat: A heartbeat.
    """

    __slots__ = (
        "_at",
        "_beat",
        "_lock",
        "_sock",
        "_start",
        "_write",
        "is_begun",
        "may_beat",
        "since",
    )

    def __init__(self, sock: socket.socket, start: Start, *, at: float, beat: bytes) -> None:
        self.is_begun = False
        """Whether it is said already which head the answer has."""
        self.may_beat = False
        """Whether a heartbeat reaches the client as it is; only the generator knows."""
        self.since = 0.0
        """Since when the client takes no heartbeat (``time.monotonic``); 0 if it does."""
        self._sock = sock
        self._start = start
        self._at = at
        self._beat = beat
        self._write: Callable[[bytes], object] | None = None
        self._lock = threading.Lock()
        self._lock.acquire()

    def lend(self) -> None:
        """The generator waits, and the server has written all it was handed."""
        self._lock.release()

    def recall(self) -> None:
        """The generator goes on. Blocks while something is being written, which is not long."""
        self._lock.acquire()

    def begin(self) -> None:
        """Have the head sent, if it has not left; for whoever has it.

        Raises:
            OSError: If the connection is lost.
        """
        if not self.is_begun:
            self._write = self._start()
            self.is_begun = True

    def send_head(self, now: float) -> None:
        """Send the head if it is time, and the client takes it without anybody having to wait.

        Raises:
            OSError: If the connection is lost.
        """
        if now < self._at or self.is_begun or not sockets.is_writable(self._sock):
            return
        if self._lock.acquire(blocking=False):
            self._at = math.inf  # it is tried once
            try:
                self.begin()
                if self._write is not None:
                    self._write(b"")
            finally:
                self._lock.release()

    def beat(self) -> bool:
        """Write a heartbeat, if the client takes it now; False if the generator has to do it.

        Raises:
            ClientGone: If the connection is lost.
        """
        if self._write is None or not self.may_beat or not self._lock.acquire(blocking=False):
            return False
        try:
            if sockets.is_writable(self._sock):
                self._write(self._beat)
                self.since = 0.0
            else:
                self.since = self.since or time.monotonic()
        except OSError as error:
            raise ClientGone(f"The connection is lost: {error}") from error
        finally:
            self._lock.release()
        return True

    def stuck_since(self) -> float:
        """``since``, as it is now: the client may have taken all there was meanwhile."""
        if self.since and sockets.is_writable(self._sock):
            self.since = 0.0
        return self.since
