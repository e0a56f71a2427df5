"""Streams whose request lasts as long as they do: other servers, and producers that are pulled.

The response's generator writes through the server, or waits: for something to read, or for its
producer. A heartbeat that falls due while the producer is silent is written beside it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping

from ..bell import Bell
from ..errors import ClientGone, StreamingError
from ..hub.subscription import Subscription
from ..settings import Settings
from . import sockets
from .client import Client
from .deadlines import Deadlines
from .formats import EventFormat

LOOK = 0.25
"""Seconds between two looks at whether the client has left: nobody else would notice."""


class RequestStream(Client):
    """A client that is served by the generator of its response.

    Args:
        sock: The server's socket, if it is known.
        form: What it is sent; None for plain text.
    """

    __slots__ = ("_form", "_is_due", "_loan", "_sock", "_writing", "bell", "head", "subscription")

    def __init__(
        self,
        deadlines: Deadlines,
        settings: Settings,
        sock: socket.socket | None,
        form: EventFormat | None,
        *,
        peer: str = "",
    ) -> None:
        super().__init__(deadlines, settings, peer)
        self.bell = Bell()
        self.subscription: Subscription | None = None
        self.head: Head | None = None
        """The answer's head, while it may be sent beside a silent producer."""
        self._form = form
        self._sock = sock
        self._loan: Loan | None = None
        self._writing = 0.0
        self._is_due = False

    @property
    def transport(self) -> str:  # type: ignore[override]
        """The name of the stream's format."""
        return self._form.name if self._form else "text"

    def describe(self) -> Mapping[str, object]:
        """For the registry's snapshot."""
        if self.subscription is None:
            return super().describe()
        return {
            "peer": self.peer,
            "channels": self.subscription.channels,
            "position": self.subscription.id,
            "state": self.subscription.phase.value,
        }

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
        """Wait for a ring, at most ``seconds``; the heartbeat to send, if one is due.

        Raises:
            StreamingError: The reason, as soon as the stream is ended.
        """
        self.bell.wait(seconds)
        self.check()
        is_due, self._is_due = self._is_due, False
        return self._form.heartbeat if is_due and self._form else b""

    def lend(self, frame: Callable[[bytes], bytes]) -> Loan:
        """Have heartbeats written beside the generator while it waits for its producer.

        ``frame`` makes them what the server makes of a piece.
        """
        assert self._sock is not None
        assert self._form is not None
        self._loan = Loan(self._sock, frame(self._form.heartbeat))
        return self._loan

    # ---- how it ends, see ``Client``

    def _say_goodbye(self, reason: StreamingError) -> None:
        if self.subscription is not None:
            self.subscription.end(reason)
        self.bell.ring()  # the generator says it

    def _cut(self) -> None:
        if self._sock is not None:
            sockets.shut(self._sock)
        if self.reason is not None:
            self._say_goodbye(self.reason)

    def _is_finished(self) -> bool:
        return False

    def _beat(self) -> None:
        if self._loan is None or not self._loan.beat():
            self._is_due = True
            self.bell.ring()

    def _stuck_since(self) -> float:
        return self._writing

    def _beat_at(self) -> float | None:
        return None if self._form is None or self._writing else super()._beat_at()

    def _missing(self, now: float) -> ClientGone | None:
        if self.head is not None:
            self.head.send(now, self._sock)
        if self._sock is not None and sockets.is_gone(self._sock):
            return ClientGone("The client left.")
        return super()._missing(now)

    def _socket(self) -> socket.socket | None:
        return self._sock

    def _next(self, now: float) -> float | None:
        if self._sock is None:
            return super()._next(now)
        return now + LOOK


class Loan:
    """The server's socket, which heartbeats may be written to while a producer is silent."""

    __slots__ = ("_chunk", "_lock", "_rest", "_sock")

    def __init__(self, sock: socket.socket, chunk: bytes) -> None:
        self._sock = sock
        self._chunk = chunk
        self._rest: memoryview = memoryview(b"")
        self._lock = threading.Lock()
        self._lock.acquire()

    def lend(self) -> None:
        """The generator waits, and the server has written all it was handed."""
        self._lock.release()

    def recall(self) -> None:
        """The generator goes on. Blocks until what was begun is with the kernel.

        Raises:
            ClientGone: If the connection is lost.
        """
        self._lock.acquire()
        try:
            while self._rest:
                self._rest = self._rest[self._sock.send(self._rest) :]
        except OSError as error:
            raise ClientGone(f"The connection is lost: {error}") from error

    def beat(self) -> bool:
        """Write a heartbeat, now; False if the generator is at work, and has to do it.

        Raises:
            ClientGone: If the connection is lost.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if not self._rest:  # otherwise one waits to be taken already
                self._rest = memoryview(self._chunk)
            self._rest = self._rest[sockets.send_now(self._sock, self._rest) :]
        except OSError as error:
            raise ClientGone(f"The connection is lost: {error}") from error
        finally:
            self._lock.release()
        return True


class Head:
    """An answer's head, sent by the server's own thread, or beside it if that waits too long.

    Args:
        start: Calls ``start_response`` (PEP 3333) and returns its ``write``.
        at: When the head has to leave, whatever the producer does (``time.monotonic``).
    """

    __slots__ = ("_at", "_is_sent", "_lock", "_start")

    def __init__(self, start: Callable[[], Callable[[bytes], object] | None], at: float) -> None:
        self._start = start
        self._at = at
        self._is_sent = False
        self._lock = threading.Lock()

    def claim(self) -> bool:
        """Whether the caller may still say which head it is; nobody sends it any more then."""
        with self._lock:
            is_free, self._is_sent = not self._is_sent, True
            return is_free

    def send(self, now: float, sock: socket.socket | None) -> None:
        """Send it if it is time, and the client takes it without anybody having to wait."""
        if now < self._at or sock is None or not sockets.is_writable(sock):
            return
        with self._lock:
            if not self._is_sent:
                self._is_sent = True
                write = self._start()
                if write is not None:
                    write(b"")
