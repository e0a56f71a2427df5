"""What arrives on a WebSocket: bytes from its socket, and what they mean."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from ..bell import is_crowded, wait_turn
from ..errors import ProtocolError
from ..wire import frames
from . import sockets
from .line import Line

SLICE = 0.005
"""Seconds after which a client that never stops talking lets others have a turn."""

READ = 64 * 1024
"""Bytes taken from the socket at once."""

WAITED = 0.0001
"""Seconds a read takes at least if it had to wait, and others had their turn."""

BRIEFLY = 1e-6
"""Seconds that a read without waiting may wait: none would make every send fail that has to."""

CONTROLS = 10_000
"""Pings and pongs that a client may send within ``PERIOD`` seconds."""

PERIOD = 10.0

_CONTROLS = (frames.Pong, frames.Ping)  # without what a decoder says of its progress

_NOTHING: Iterator[frames.Received] = iter(())


class Inlet:
    """The incoming side of a connection; what goes out is a ``Line``. One thread reads at a time.

    Args:
        line: The outgoing side, whose socket is read.
        limit: How many bytes a message may have.
        decompress: This end of permessage-deflate, if agreed on.
    """

    __slots__ = (
        "_controls",
        "_controls_since",
        "_decoder",
        "_line",
        "_received",
        "_timeout",
        "heard",
        "is_over",
        "is_waiting",
        "kept",
        "lock",
        "turn",
    )

    def __init__(
        self,
        line: Line,
        limit: int,
        *,
        decompress: Callable[[bytes, int], bytes] | None,
    ) -> None:
        self.heard = self.turn = time.monotonic()
        """When something last arrived, and others last had a turn (``time.monotonic``)."""
        self.is_waiting = False
        """Whether somebody waits for the client now."""
        self.is_over = False
        """Whether nothing counts any more of what the client has said, read or not."""
        self.kept: tuple[str | bytes, ...] = ()
        """Messages that were read before anybody asked for them."""
        self.lock = threading.Lock()
        """Held by whoever reads, where somebody else may want to."""
        self._line = line
        self._decoder = frames.Decoder(limit, decompress=decompress)
        self._controls = 0  # pings and pongs since then
        self._controls_since = self.heard
        self._received = _NOTHING  # what was read and not yet given away
        self._timeout = line.sock.gettimeout()

    @property
    def is_empty(self) -> bool:
        """Whether all that was read was given away."""
        return self._received is _NOTHING and not self.kept

    @property
    def is_ready(self) -> bool:
        """Whether there is something to look at, read or not."""
        return self._received is not _NOTHING or sockets.unread(self._line.sock) > 0

    def feed(self, data: bytes) -> None:
        """More has come; all that came before was given away."""
        self._received = self._decoder.feed(data)

    def next(self) -> frames.Received | None:
        """The next that was read and not given away, None if there is nothing. Does not read.

        Raises:
            ProtocolError: If it has no meaning; nothing behind it has.
        """
        for value in self._received:
            self._give_turns(time.monotonic())
            if self.is_over:
                break
            if type(value) in _CONTROLS:
                self._count_control()
            return value
        self._received = _NOTHING
        return None

    def read(self, timeout: float | None = None) -> bool | None:
        """Whether more came, False at the end; None after ``timeout`` seconds, or if told to rest.

        Blocks. Whoever exchanges the socket of the line meanwhile tells the reader to rest.
        """
        self._line.uncork()
        if self.is_over:
            return False
        if timeout is not None:
            timeout = max(timeout, BRIEFLY)
        sock = self._line.sock
        if self._timeout != timeout:
            self._timeout = timeout
            sock.settimeout(timeout)
        began = time.monotonic()
        self.is_waiting = True
        try:
            data = sock.recv(READ)
        except TimeoutError:
            return None
        except OSError:
            if sock is not self._line.sock:
                return None
            data = b""
        finally:
            self.is_waiting = False
            if timeout == BRIEFLY:  # others send on it, and would turn in circles
                self._timeout = None
                with suppress(OSError):
                    sock.settimeout(None)
        self.heard = now = time.monotonic()
        if now - began > WAITED and not is_crowded():
            self.turn = now
        self._give_turns(now)
        if data:
            self.feed(data)
        return bool(data)

    def read_at_rest(self) -> bool:
        """Read without waiting, when the poller says so; whether anybody need get up for it.

        Most that a silent client says is the answer to a ping, and nobody need.
        """
        try:
            data = os.read(self._line.sock.fileno(), READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            self.heard = time.monotonic()
            if self._decoder.is_between_frames and frames.is_lone_pong(data):
                return False
            self.feed(data)
        return True  # the end is found again

    def _count_control(self) -> None:
        self._controls += 1
        if self._controls > CONTROLS:
            if self.heard - self._controls_since < PERIOD:
                self.is_over = True
                raise ProtocolError("Pings or pongs without end.", 1008)
            self._controls, self._controls_since = 0, self.heard

    def _give_turns(self, now: float) -> None:
        """Let others run: a greenlet's ``recv`` does not, as long as the client has more to say.

        Where others flood, too, nothing more is done for one who has left.
        """
        if now - self.turn > SLICE:
            wait_turn()
            self.turn = time.monotonic()
            self.is_over = is_crowded() and sockets.is_gone(self._line.sock)
