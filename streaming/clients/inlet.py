"""What arrives on a WebSocket: bytes from its socket, and what they mean."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from ..errors import ProtocolError, TooMuch
from ..message import text_size
from ..wire import frames
from . import sockets
from .line import Line
from .turns import SLICE, Turns
from .unfinished import unfinished

READ = 64 * 1024
"""Bytes taken from the socket at once."""

WAITED = 0.0001
"""Seconds a read takes at least if it had to wait, and others had their turn."""

BRIEFLY = 1e-6
"""Seconds that a read without waiting may wait: none would make every send fail that has to."""

ELSEWHERE = 0.0003
"""Seconds of work that are counted at most where others had a turn meanwhile: greenlets have one
processor's time together, and nobody knows whose it was."""

WALL = 0.05
"""Seconds by the clock that a slice counts for at most, where the processor worked for fewer:
whoever wrote to a file held up all others, and a handler that waits for somebody else nobody."""

CONTROLS = 10_000
"""Pings and pongs that a client may send within ``PERIOD`` seconds, without those for which it had
to wait for its turn: where hundreds flood, that would be most of the time."""

PERIOD = 10.0

_CONTROLS = (frames.Pong, frames.Ping)  # without what a decoder says of its progress

_turns = Turns()

_NOTHING: Iterator[frames.Received] = iter(())


class Inlet:
    """The incoming side of a connection; what goes out is a ``Line``. One thread reads at a time.

    Args:
        line: The outgoing side, whose socket is read.
        limit: How many bytes a message may have.
        decompress: This end of permessage-deflate, if agreed on.
    """

    __slots__ = (
        "_begun",
        "_controls",
        "_controls_since",
        "_counted",
        "_decoder",
        "_held",
        "_line",
        "_received",
        "_timeout",
        "_used",
        "heard",
        "is_over",
        "is_waiting",
        "kept",
        "limit",
        "lock",
        "messages",
        "size",
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
        self.limit = limit
        """How many bytes a message may have."""
        self.lock = threading.Lock()
        """Held by whoever reads, where somebody else may want to."""
        self.messages = 0
        """Messages that its reader was given."""
        self.size = 0
        """Their bytes."""
        self._line = line
        self._decoder = frames.Decoder(limit, decompress=decompress)
        self._held = 0  # bytes of an unfinished message
        self._controls = 0  # pings and pongs since then
        self._controls_since = self.heard
        self._received = _NOTHING  # what was read and not yet given away
        self._timeout = line.sock.gettimeout()
        self._begun = self.heard  # when its slice began, by the clock
        self._counted = time.thread_time()  # up to where the processor's time was counted
        self._used = 0.0  # seconds of it that went into this client since others had a turn

    def count(self, data: str | bytes) -> None:
        """Its reader is given another message; for the one that reads."""
        self.messages += 1
        self.size += text_size(data) if isinstance(data, str) else len(data)

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
            self._count_work()
            if self.is_over:
                break
            if type(value) in _CONTROLS:
                self._count_control()
            return value
        self._received = _NOTHING
        held = self._decoder.held
        if held != self._held and not self.is_over:
            self._hold(held)
        return None

    def _hold(self, size: int) -> None:
        """So much of an unfinished message is held."""
        self._held = size
        unfinished().note(self, size)
        if self.is_over:  # by now: whoever has closed it may have come first
            unfinished().note(self, 0)

    def read(self, timeout: float | None = None) -> bool | None:
        """Whether more came, False at the end; None after ``timeout`` seconds, or if told to rest.

        Blocks. Whoever exchanges the socket of the line meanwhile tells the reader to rest.
        """
        self._line.uncork()
        self._count_work()
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
        if now - began > WAITED:
            self.turn = self._begun = now
            self._counted = time.thread_time()
            self._used = max(0.0, self._used - (now - began))
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
            self.heard = self._begun = time.monotonic()
            self._used, self._counted = 0.0, math.inf  # a thread with a time of its own goes on
            if self._decoder.is_between_frames and frames.is_lone_pong(data):
                return False
            self.feed(data)
        return True  # the end is found again

    def give_up(self) -> None:
        """The message that has begun to arrive is not waited for: others need the room."""
        self._line.give_up(TooMuch("A message that does not come to its end.", 5.0))
        self._decoder.forget()

    def close(self) -> None:
        """Nothing more is read."""
        self.is_over = True
        if self._held:
            unfinished().note(self, 0)

    def _count_control(self) -> None:
        self._controls += 1
        if self._controls > CONTROLS:
            now = max(self.heard, self.turn)
            if now - self._controls_since < PERIOD:
                self.is_over = True
                raise ProtocolError("Pings or pongs without end.", 1008)
            self._controls, self._controls_since = 0, now

    def _count_work(self) -> None:
        """Count the work since the last look as this client's, and let others run when it was
        enough: a greenlet's ``recv`` does not, as long as the client has more to say.

        Where others flood, too, nothing more is done for one who has left.
        """
        now = time.thread_time()
        spent, self._counted = max(0.0, now - self._counted), now
        if _turns.running != id(self):
            _turns.running = id(self)
            self._begun = time.monotonic()
            spent = min(spent, ELSEWHERE)
        self._used += spent
        if self._used > SLICE:
            asked = time.monotonic()
            used = max(self._used, min(asked - self._begun, WALL))
            is_crowded = _turns.take(id(self), used)
            self._used, self._counted = 0.0, time.thread_time()
            self.turn = self._begun = time.monotonic()
            self._controls_since += self._begun - asked  # the wait is not its own
            self.is_over = is_crowded and sockets.is_gone(self._line.sock)
