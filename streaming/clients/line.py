"""The outgoing side of a connection: whole frames, one writer at a time, deliveries from the log.

Who may write when is in ``outlet``. When the kernel takes less than a frame, or a subscription
lags, a deliverer thread is called: it finishes the frame, reads on from the log, parks at the head
and ends. Where direct writes are not possible it stays for as long as the connection.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from ..bell import Bell
from ..errors import ClientGone, StreamEnded, StreamingError
from ..hub.remainder import begin
from ..hub.sink import Format, Rest
from ..hub.subscription import Reading, Subscription
from ..message import Gap, Message
from .outlet import Outlet, Writing

_log = logging.getLogger(__name__)


class LineFormat(Format, Protocol):
    """How messages and gaps become what goes over a line."""

    def gap(self, lost: Gap, after: str, /) -> bytes:
        """The block that tells of a gap; ``after`` is the cursor behind it.

        Raises:
            Lagged: If the protocol has no words for it; the connection ends instead.
        """

    def ended(self, channel: str, /) -> bytes:
        """What goes over the line where a channel has ended, and the connection goes on.

        Raises:
            StreamEnded: If the connection ends with it.
        """


class Line(Outlet):
    """Everything that goes out on one connection.

    Args:
        sock: The client's socket.
        client: The client's id.
        ping: The bytes of a heartbeat.
        may: Whether direct writes may be used at all.
        end: Called with the reason when the line cannot go on; from any thread, once or more.
    """

    __slots__ = (
        "_delivers",
        "_end",
        "_followed",
        "_last",
        "_over",
        "_ping",
        "_ping_due",
        "_soon",
        "_turn",
        "bell",
        "pinged",
    )

    def __init__(
        self,
        sock: socket.socket,
        client: str,
        *,
        ping: bytes,
        may: bool,
        end: Callable[[StreamingError], None],
    ) -> None:
        super().__init__(sock, client, may=may)
        self.bell = Bell()
        """What the subscriptions of this line ring."""
        self.pinged = 0.0
        """When the last heartbeat went out (``time.monotonic``)."""
        self._ping = ping
        self._ping_due = False
        self._soon = b""  # what goes out beside the deliveries, as soon as the line is free
        self._end = end
        self._turn = threading.Lock()
        self._followed: tuple[tuple[Subscription, LineFormat], ...] = ()
        self._delivers = False  # whether the deliverer is there
        self._last = b""
        self._over: Bell | None = None

    def start(self) -> None:
        """Let others write; called once, when the answer's head or the handshake is out."""
        if self.phase is Writing.NEW and self.is_direct and not self._soon:
            self.move(Writing.OPEN)
        elif self.phase in (Writing.NEW, Writing.LAST):
            self._call_deliverer()

    def hold(self, rest: Rest) -> None:
        """The dispatcher found the socket full; the deliverer takes over."""
        self.keep(rest)
        self._call_deliverer()

    def put(self, frame: bytes, messages: int = 0, size: int = 0) -> None:
        """Send whole frames behind those that were begun. Blocks while the client does not read.

        They count as so many ``messages`` of ``size`` bytes.

        What comes behind the goodbye is dropped.

        Raises:
            ClientGone: If the connection is lost.
        """
        if self.phase is Writing.OPEN:
            self.count(messages, size)
            if self.write(frame):
                return
            frame = b""  # begun; its rest goes first
            self._call_deliverer()
        with self._turn:
            self.finish()
            if frame:
                self.count(messages, size)
                self._say(frame)
            self._send_due()

    def _say(self, frame: bytes) -> None:
        """Send whole frames; for the holder of the turn, behind what was begun."""
        if self.phase is Writing.BUSY:
            self.send(frame)
        elif self.phase is Writing.OPEN and not self.write(frame):
            # The deliverer has opened the line while we waited for our turn: all may write now.
            self._call_deliverer()
            self.finish()

    def ping(self) -> None:
        """Send a heartbeat now, or as soon as the line is free. Never blocks.

        Raises:
            ClientGone: If the connection is lost.
        """
        if self.phase is Writing.OPEN:
            self.pinged = time.monotonic()
            if not self.write(self._ping):
                self._call_deliverer()
        else:
            self._ping_due = True
            self.bell.ring()

    def say_soon(self, frame: bytes) -> None:
        """Send whole frames now, or as soon as the line is free: of those that wait the last ones.
        Never blocks.

        Raises:
            ClientGone: If the connection is lost.
        """
        if self.phase is Writing.OPEN:
            if not self.write(frame):
                self._call_deliverer()
        else:
            with self.guard:
                self._soon = frame
            self.bell.ring()

    def say_goodbye(self, last: bytes) -> None:
        """Send ``last`` behind what was begun, and nothing after it. Never blocks; idempotent.

        Raises:
            ClientGone: If the connection is lost.
        """
        if self.phase is Writing.OPEN:
            if self.write(last):
                self.move(Writing.OVER)
                return
            last = b""  # begun; the deliverer finishes it
        with self.guard:
            was = self.phase
            if was in (Writing.LAST, Writing.OVER):
                return
            self._last = last
            self._move(Writing.LAST)
        if was is not Writing.NEW:
            self._call_deliverer()

    def wait_over(self, until: float) -> None:
        """Block until nobody writes any more, or ``until`` (``time.monotonic``)."""
        self._over = over = self._over or Bell()
        while self.phase is not Writing.OVER and (left := until - time.monotonic()) > 0:
            over.wait(left)

    def follow(self, subscription: Subscription, form: LineFormat) -> None:
        """Deliver a subscription, made with this line's bell, until ``unfollow``."""
        with self.guard:
            self._followed += ((subscription, form),)
        if self.phase is not Writing.OPEN or not subscription.park(form, self):
            self.keep(b"")
            self._call_deliverer()

    def unfollow(self, channel: str) -> bool:
        """Stop delivering a channel; False if it was not followed."""
        with self.guard:
            gone = self.subscription(channel)
            self._followed = tuple(pair for pair in self._followed if pair[0] is not gone)
        if gone is not None:
            gone.close()
        return gone is not None

    def subscription(self, channel: str) -> Subscription | None:
        """The subscription that follows ``channel`` here, if any."""
        return next((sub for sub, _ in self._followed if channel in sub.channels), None)

    def subscriptions(self) -> list[Subscription]:
        """All that is delivered here."""
        return [subscription for subscription, _ in self._followed]

    @property
    def sent(self) -> tuple[int, int]:
        """Messages that have gone out, or have begun to, and bytes of their text."""
        messages, size = self.messages, self.size
        for subscription, _ in self._followed:
            more, more_size = subscription.passed
            messages += more
            size += more_size
        return messages, size

    @property
    def lags(self) -> bool:
        """Whether its client has not taken all that there is for it."""
        if self.phase is not Writing.BUSY:
            return False
        return bool(self.progress) or any(sub.is_behind for sub, _ in self._followed)

    def give_up(self, reason: StreamingError) -> None:
        """Have its connection ended. From any thread; never blocks."""
        self._end(reason)

    def stop(self) -> None:
        """Write nothing any more and let the deliverer go. Idempotent."""
        self.move(Writing.OVER)
        with self.guard:
            followed, self._followed = self._followed, ()
        for subscription, _ in followed:
            subscription.close()
        self._end = _ignore  # its owner refers to us: leave no work to the cycle collector
        self.bell.ring()

    def _move(self, phase: Writing) -> None:
        super()._move(phase)
        if phase is Writing.OVER and self._over is not None:
            self._over.ring()

    # ---- the deliverer

    def _call_deliverer(self) -> None:
        with self.guard:
            is_there, self._delivers = self._delivers, True
            if self.phase in (Writing.NEW, Writing.OPEN):
                self._move(Writing.BUSY)
        if is_there:
            self.bell.ring()
            return
        name = f"deliver {self.client}"
        try:
            threading.Thread(target=self._deliver, name=name, daemon=True).start()
        except RuntimeError as error:  # no thread to be had: better gone than mute for ever
            self._delivers = False
            self._end(ClientGone(f"Delivery could not start: {error}"))
            self.cut()

    def _deliver(self) -> None:
        """The deliverer: until all is at the head, or the goodbye is out."""
        is_parked = self._try(self._catch_up)
        if not is_parked:
            self._try(self._send_last)
            self.move(Writing.OVER)
            self._delivers = False

    def _try(self, part: Callable[[], bool]) -> bool:
        """What ``part`` returns; False, and the end of the connection, if it fails."""
        try:
            return part()
        except StreamingError as reason:
            self._end(reason)
        except Exception:
            _log.exception("Delivery to %s failed", self.client)
            self._end(StreamingError("Delivery failed."))
        return False

    def _catch_up(self) -> bool:
        """Deliver until there is nothing to do; True if the line is open again."""
        while self.phase is Writing.BUSY:
            if not self._read_on():
                with self._turn:
                    self.finish()
                    self._send_due()
                if self._park():
                    return True
                self.bell.wait()
        return False

    def _send_last(self) -> bool:
        with self._turn:
            self.finish()
            if self.phase is Writing.LAST:
                self.send(self._last)
        return True

    def _read_on(self) -> bool:
        """Send what the log holds for those who lag; False if there was nothing."""
        found = False
        for subscription, form in self._followed:
            if self.phase is not Writing.BUSY:
                return True
            if subscription.phase is not Reading.LAGGING:
                continue
            with self._turn:
                self.finish()
            try:
                with subscription.encodings.turnstile:
                    said, count = self._encode(subscription, form, subscription.read_on())
            except StreamEnded:
                self._let_end(subscription, form)
                return True
            if said:
                found = True
                with self._turn:
                    self.finish()
                    if subscription.is_closed:
                        continue  # unfollowed while others had their turn
                    self.count(*count)
                    while said:
                        self.send(said.pop(0))
                    self._send_due()
            subscription.mark_sent()
        return found

    def _let_end(self, subscription: Subscription, form: LineFormat) -> None:
        """Say that all of a subscription was told, and follow it no longer.

        Raises:
            StreamEnded: If the connection is over with it.
        """
        channel = subscription.channels[0]
        said = form.ended(channel)
        with self._turn:
            self.finish()
            self.send(said)
        self.unfollow(channel)

    def _encode(
        self, sub: Subscription, form: LineFormat, items: list[Message | Gap]
    ) -> tuple[list[Rest], tuple[int, int]]:
        """What ``read_on`` gave, as it goes out, and what it counts as; moves what its client was
        told."""
        said: list[Rest] = [
            form.frame(form.gap(item, sub.step(item))) for item in items if isinstance(item, Gap)
        ]
        messages = [item for item in items if isinstance(item, Message)]
        if messages:
            others = sub.tell_all(messages)
            said.append(begin(sub.encodings, messages, form, self.client, others))
        return said, (len(messages), sum([message.size for message in messages]))

    def _send_due(self) -> None:
        """Send what has waited for the line to be free; for the holder of the turn."""
        if self._soon:
            with self.guard:
                frame, self._soon = self._soon, b""
            self._say(frame)
        if self._ping_due and self.phase in (Writing.BUSY, Writing.OPEN):
            self._ping_due = False
            self.pinged = time.monotonic()  # before: the answer may be read while we still send
            self._say(self._ping)

    def _park(self) -> bool:
        """Hand the line back, if everything is at its head. Switches no greenlet."""
        if not self.is_direct:
            return False
        for subscription, form in self._followed:
            if subscription.phase is Reading.LAGGING and not subscription.park(form, self):
                return False
        if self.rest or self._soon or self._turn.locked() or self.phase is not Writing.BUSY:
            return False
        self._delivers = False
        self.move(Writing.OPEN)
        return True


def _ignore(reason: StreamingError) -> None:
    """What a line that was stopped calls."""
