"""Who may write to a client's socket now, and how.

    phase   who writes                                                       fd
    NEW     the server, or whoever answers the handshake                     -1
    OPEN    nothing is begun: dispatcher, deadlines and owner, whole frames  >= 0
            at once, and never in the midst of each other
    BUSY    something is begun, or lags: the deliverer; others wait for      -1
            ``turn`` and write behind it
    LAST    the deliverer, the goodbye, behind what was begun                -1
    OVER    nobody                                                           -1

    from    to      when
    NEW     OPEN    ``start``, direct writes are possible
    NEW     BUSY    ``start``, they are not, or something lags already
    OPEN    BUSY    the kernel took less than a frame, or a subscription lags
    BUSY    OPEN    nothing is begun, everything is at its head
    NEW OPEN BUSY   LAST   the goodbye was said
    any     OVER    the goodbye is out, or the connection was cut

Direct writes need greenlets: those switch only where they wait, and between a look at ``fd`` and
the write nobody waits. Elsewhere an outlet is never OPEN.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from enum import Enum

from ..errors import ClientGone, LogUnavailable
from ..hub.encodings import HELD
from ..hub.remainder import Remainder
from ..hub.sink import Rest
from . import sockets

FAREWELL = 0.5
"""Seconds a client has to take the end of its stream, or to answer our close frame."""

PIECE = 256 * 1024
"""Bytes given to the kernel in one blocking send, so that progress can be seen."""

RETRY = 0.5
"""Seconds until a log that could not be reached is asked again for what was begun."""


class Writing(Enum):
    """See the table above."""

    NEW = "new"
    OPEN = "open"
    BUSY = "busy"
    LAST = "last"
    OVER = "over"


_MOVES = {
    Writing.NEW: {Writing.OPEN, Writing.BUSY, Writing.LAST, Writing.OVER},
    Writing.OPEN: {Writing.BUSY, Writing.LAST, Writing.OVER},
    Writing.BUSY: {Writing.OPEN, Writing.LAST, Writing.OVER},
    Writing.LAST: {Writing.OVER},
    Writing.OVER: {Writing.OVER},
}


_NOBODY_ELSE: AbstractContextManager[object] = nullcontext()


class Outlet:
    """A client's socket as the dispatcher and the deadlines see it (a ``hub.Sink``).

    Args:
        sock: The socket; may be exchanged until ``start``.
        client: The client's id.
        may: Whether direct writes may be used at all.
    """

    __slots__ = (
        "_is_corked",
        "client",
        "fd",
        "guard",
        "is_direct",
        "messages",
        "phase",
        "progress",
        "rest",
        "size",
        "sock",
    )

    def __init__(self, sock: socket.socket, client: str, *, may: bool) -> None:
        self.sock = sock
        self.client = client
        self.fd = -1
        self.messages = 0
        """Messages that have gone out, or have begun to; counted by whoever may write."""
        self.size = 0
        """Bytes of their text."""
        self.phase = Writing.NEW
        self.rest: Rest = b""
        """What was begun and not yet taken by the kernel."""
        self.progress = 0.0
        """While something waits to be sent: when the kernel last took some of it, or it was begun
        (``time.monotonic``)."""
        self.is_direct = may and sockets.is_direct(sock)
        """Whether direct writes are possible."""
        self.guard = _NOBODY_ELSE if self.is_direct else threading.Lock()
        """Held for a look at ``phase`` and a move, or at something else and its change: greenlets
        do not switch between the two."""
        self._is_corked = False

    def move(self, phase: Writing) -> None:
        """Be in another phase; what is OVER stays so.

        Raises:
            RuntimeError: If the table above has no such move.
        """
        with self.guard:
            self._move(phase)

    def _move(self, phase: Writing) -> None:
        """``move``, for the holder of the guard."""
        if self.phase is Writing.OVER:
            return
        if phase not in _MOVES[self.phase]:
            raise RuntimeError(f"An outlet does not go from {self.phase} to {phase}.")
        self.phase = phase
        self.fd = self.sock.fileno() if phase is Writing.OPEN else -1

    def write(self, data: bytes) -> bool:
        """Write whole frames to an OPEN outlet, now. False if the kernel did not take it all: then
        the outlet is BUSY and ``finish`` sends the rest.

        Raises:
            ClientGone: If the connection is lost.
        """
        try:
            sent = os.write(self.fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientGone(f"The connection is lost: {error}") from error
        if sent == len(data):
            return True
        self.keep(memoryview(data)[sent:])
        return False

    def keep(self, rest: Rest) -> None:
        """Be BUSY, with ``rest`` of a frame still to be sent, if anything."""
        if self.phase is Writing.OPEN:
            self.move(Writing.BUSY)
        if rest:
            self.rest = rest
            self.progress = time.monotonic()

    def finish(self) -> None:
        """Send what is left of a frame. Blocks; for the holder of the turn.

        Raises:
            ClientGone: If the connection is lost, or was cut because it made no progress.
        """
        if self.rest:
            self.send(self.rest)
            self.rest = b""

    def send(self, data: Rest) -> None:
        """Send all of ``data``; blocks, a bounded piece at a time. For the holder of the turn.

        Raises:
            ClientGone: If the connection is lost, or was cut because it made no progress; or the
                log has forgotten what was begun.
        """
        self.progress = time.monotonic()
        try:
            if isinstance(data, Remainder):
                self._send_remainder(data)
            elif isinstance(data, bytes | memoryview):
                view = memoryview(data)
                while view:
                    view = view[self._give(view[:PIECE]) :]
        except OSError as error:
            raise ClientGone(f"The connection is lost: {error}") from error
        self.progress = 0.0

    def _give(self, data: bytes | memoryview) -> int:
        """Wait until the kernel takes some of ``data``, maybe in vain; how much it took."""
        with suppress(TimeoutError):  # the deadline is the client's: see Client.due
            sent = self.sock.send(data)
            self.progress = time.monotonic()
            return sent
        return 0

    def _send_remainder(self, rest: Remainder) -> None:
        """Send what a client is in the midst of; while it takes nothing, hold next to nothing."""
        while rest:
            try:
                with rest.encoded.encodings.turnstile:
                    next_bytes = self._next_bytes(rest)
            except LogUnavailable:
                time.sleep(RETRY)
                if self.phase is Writing.OVER:
                    raise ClientGone("The connection was cut.") from None
            else:
                rest.take(self._give(next_bytes) if next_bytes else 0)

    def _next_bytes(self, rest: Remainder) -> bytes | memoryview:
        """Write all that is taken at once; the next few bytes, to wait with."""
        try:
            while self.is_direct and rest:
                pieces = rest.pieces()  # others may have a turn in here, and close the socket
                rest.take(os.writev(self.sock.fileno(), pieces))
                self.progress = time.monotonic()
                rest.encoded.encodings.turnstile.pause()
        except BlockingIOError:
            rest.encoded.settle()
        for piece in rest.pieces() if rest else ():
            if piece:
                return bytes(piece[:HELD]) if self.is_direct else piece
        return b""

    def count(self, messages: int, size: int) -> None:
        """So many messages more go out; for whoever may write now."""
        self.messages += messages
        self.size += size

    def cork(self) -> None:
        """Collect what is written until ``uncork``; see ``sockets.cork``."""
        if self.is_direct:
            sockets.cork(self.sock, True)
            self._is_corked = True

    def uncork(self) -> None:
        """Let go what was collected. Idempotent."""
        if self._is_corked:
            sockets.cork(self.sock, False)
            self._is_corked = False

    def cut(self) -> None:
        """Break the connection: whoever reads or writes it gets an error at once. Idempotent."""
        self.move(Writing.OVER)
        sockets.shut(self.sock)
