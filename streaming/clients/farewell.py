"""How a WebSocket ends on its line: ``wire.closing`` says what comes next, and it is done here."""

from __future__ import annotations

import time
from contextlib import suppress

from ..errors import ClientGone, ProtocolError, StreamingError
from ..message import Message
from ..wire import frames
from ..wire.closing import Closing, Ending, Move
from .closed import ConnectionClosed
from .inlet import READ, Inlet
from .line import Line
from .outlet import Writing

BEHIND = 64
"""Reads for which a client is followed behind our close frame, and those of one message more."""

SETTLE = 1.0
"""Seconds a client that closes is kept for what it published last."""


def last_frame(reason: StreamingError) -> bytes:
    """The close frame for ``reason``; empty for a client that is gone.

    Raises:
        InvalidMessage: If the close code may not be sent (RFC 6455 section 7.4).
    """
    if isinstance(reason, ClientGone):
        return b""
    text = reason.message if isinstance(reason, ConnectionClosed) else reason.told
    return frames.encode_close(None if reason.close_code == 1005 else reason.close_code, text)


class Farewell(Closing):
    """The closing handshake of one connection. From any thread."""

    __slots__ = ("_line", "owed")

    def __init__(self, line: Line) -> None:
        super().__init__()
        self.owed: Message | None = None
        """What the client published last: it gets it back, even if it closes now."""
        self._line = line

    def say(self, reason: StreamingError) -> None:
        """Send our close frame, now or soon. Never blocks.

        Raises:
            ClientGone: If the connection is lost.
        """
        self._note(Move.END)
        self._line.say_goodbye(last_frame(reason))
        if self._line.phase is Writing.OVER:
            self._note(Move.OUT)

    def hear(self) -> None:
        """The client's close frame has come. Blocks, at most ``SETTLE`` seconds, until the client
        was sent what it published itself."""
        owed, until = self.owed, time.monotonic() + SETTLE
        subscription = owed and self._line.subscription(owed.channel)
        while subscription and owed and not subscription.is_past(owed.id):
            if time.monotonic() > until or self.phase is not Ending.OPEN:
                break
            time.sleep(0.002)
        self._note(Move.HEARD)

    def cut(self) -> None:
        """Break the connection. Never blocks; idempotent."""
        self._note(Move.LOST)
        self._line.cut()
        self._line.bell.ring()

    def wait(self, inlet: Inlet, until: float) -> None:
        """Read until the client's close frame or its end, then wait until ours is out, at most
        ``until`` (``time.monotonic``). Whoever gives no close frame in time is cut meanwhile.

        Somebody else who reads already meets the one or the other, and is waited for. Closing a
        socket with unread input would reset the connection and lose what is under way. So what
        still comes is read and dropped, but not without end.
        """
        if not inlet.lock.acquire(timeout=max(0.0, until - time.monotonic())):
            self._note(Move.LOST)  # who reads has met neither
            return
        try:
            self._read(inlet)
            if self.phase is not Ending.OVER:
                self._line.wait_over(until)
            if self.phase is Ending.ANSWERING:
                self._note(Move.OUT)
        finally:
            inlet.lock.release()

    def _read(self, inlet: Inlet) -> None:
        """Read until the client's close frame or its end; for the holder of the lock."""
        reads = BEHIND + inlet.limit // READ
        while not (self.is_heard or inlet.is_over):
            with suppress(ProtocolError):  # what follows a fault has no meaning: it is told of it
                while (value := inlet.next()) is not None:
                    if isinstance(value, frames.Close):
                        self._note(Move.HEARD)
            reads -= 1
            if not self.is_heard and (reads < 0 or not inlet.read()):
                self._note(Move.LOST)
                return

    def _note(self, event: Move) -> None:
        """Something has happened to the closing handshake; nothing does once it is over."""
        with self._line.guard:
            if self.phase is not Ending.OVER:
                self.move(event)
