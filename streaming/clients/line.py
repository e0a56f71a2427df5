"""The outgoing side of a client: whole frames, one writer at a time, deliveries from the log.

What is begun is finished first. While nothing is begun the line is open, and pump, sweep and
reader write whole frames to the socket at once. When the kernel takes less, a deliverer thread is
started: it finishes the frame, reads on from the log, parks at the head and ends. Where direct
writes are not possible the deliverer stays for as long as the connection.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from ..bell import Bell
from ..errors import ClientGone, StreamingError
from ..hub.pump import Format
from ..hub.subscription import Subscription
from ..message import Gap, Message
from .outlet import Outlet

_log = logging.getLogger(__name__)


class LineFormat(Format, Protocol):
    """How messages and gaps become what goes over a line."""

    def gap(self, lost: Gap, after: str, /) -> bytes:
        """The block that tells of a gap; ``after`` is the cursor behind it.

        Raises:
            Lagged: If the protocol has no words for it; the connection ends instead.
        """


class Line(Outlet):
    """Everything that goes out on one connection.

    Args:
        sock: The client's socket.
        client: The client's id.
        bell: What subscriptions of this line ring.
        ping: The bytes of a heartbeat.
        is_direct: Whether direct writes may be used at all.
        end: Called with the reason when the line cannot go on; from any thread, once or more.
    """

    __slots__ = (
        "_delivering",
        "_end",
        "_followed",
        "_goodbye",
        "_ping",
        "_ping_due",
        "_turn",
        "bell",
        "pinged",
    )

    def __init__(
        self,
        sock: socket.socket,
        client: str,
        *,
        bell: Bell,
        ping: bytes,
        is_direct: bool,
        end: Callable[[StreamingError], None],
    ) -> None:
        super().__init__(sock, client, may=is_direct)
        self.bell = bell
        self._ping = ping
        self._end = end
        self._turn = threading.Lock()
        self._followed: dict[str, tuple[Subscription, LineFormat]] = {}
        self._delivering = True  # nobody else is called before ``start``
        self._goodbye: bytes | None = None
        self._ping_due = False
        self.pinged = 0.0
        """When the last heartbeat went out (``time.monotonic``)."""

    def start(self) -> None:
        """Let others write; called once, after the handshake's answer."""
        self._delivering = False
        if self.is_direct and self._goodbye is None:
            self.open()
        else:
            self._call_deliverer()

    def open(self) -> None:
        """Let others write, unless the goodbye was said: nothing follows it."""
        if self._goodbye is None and not self._delivering:
            super().open()

    def hold(self, rest: bytes | memoryview) -> None:
        """The pump found the socket full; the deliverer takes over."""
        super().hold(rest)
        self._call_deliverer()

    def put(self, frame: bytes) -> None:
        """Send whole frames behind those that were begun. Blocks while the client does not read.

        Raises:
            OSError: If the connection is lost.
        """
        if self.fd >= 0:
            if self.write(frame):
                return
            frame = b""  # begun; its rest goes first
        with self._turn:
            self.finish()
            if frame and self._goodbye is None:
                self.send(frame)
            self._send_due_ping()
            self.open()

    def ping(self) -> None:
        """Send a ping now, or as soon as the line is free. Never blocks."""
        if self.fd >= 0:
            self.pinged = time.monotonic()
            if not self.write(self._ping):
                self._call_deliverer()
        else:
            self._ping_due = True
            self.bell.ring()

    def say_goodbye(self, last: bytes) -> None:
        """Send ``last`` behind what was begun, and nothing after it. Never blocks; idempotent."""
        if self._goodbye is not None:
            return
        self._goodbye = last
        if self.fd >= 0:
            try:
                if self.write(self._goodbye):
                    self._goodbye = b""
                    self.fd = -1
                    return
            except OSError:
                return
            self._goodbye = b""  # begun; the deliverer finishes it
        self._call_deliverer()

    @property
    def is_finished(self) -> bool:
        """Whether the goodbye is out."""
        return self._goodbye == b"" and not self.rest

    def adopt(self, subscription: Subscription, form: LineFormat) -> bool:
        """``follow``, but only if the subscription is at the head and the line is free."""
        if self.fd < 0 or not subscription.park(form, self):
            return False
        (channel,) = subscription.channels
        self._followed[channel] = (subscription, form)
        return True

    def follow(self, subscription: Subscription, form: LineFormat) -> None:
        """Deliver a subscription of one channel, made with this line's bell, until ``unfollow``."""
        (channel,) = subscription.channels
        self._followed[channel] = (subscription, form)
        if self.fd < 0 or not subscription.park(form, self):
            self._call_deliverer()

    def unfollow(self, channel: str) -> bool:
        """Stop delivering a channel; False if it was not followed."""
        subscription, _ = self._followed.pop(channel, (None, None))
        if subscription is not None:
            subscription.close()
        return subscription is not None

    def subscription(self, channel: str) -> Subscription | None:
        """The subscription that follows ``channel`` here, if any."""
        return self._followed.get(channel, (None, None))[0]

    def subscriptions(self) -> list[Subscription]:
        """All that is delivered here."""
        return [subscription for subscription, _ in tuple(self._followed.values())]

    def stop(self) -> None:
        """Write nothing any more and let the deliverer go. Idempotent."""
        if self._goodbye is None:
            self._goodbye = b""
        self.fd = -1
        for channel in tuple(self._followed):
            self.unfollow(channel)
        self._end = _ignore  # its owner refers to us: leave no work to the cycle collector
        self.bell.ring()

    def _call_deliverer(self) -> None:
        if self._delivering:
            self.bell.ring()
            return
        self._delivering = True
        self.fd = -1
        threading.Thread(target=self._deliver, name=f"deliver {self.client}", daemon=True).start()

    def _deliver(self) -> None:
        """The deliverer: until all is at the head, or the goodbye is out."""
        try:
            while self._goodbye is None:
                if not self._read_on():
                    self._catch_up()
                    if self._park():
                        return
                    self.bell.wait()
            with self._turn:
                self.finish()
                if self._goodbye:
                    self.send(self._goodbye)
                    self._goodbye = b""
        except StreamingError as reason:
            self._stop_delivering(reason)
        except OSError as error:
            self._stop_delivering(ClientGone(str(error)))
        except Exception:
            _log.exception("Delivery to %s failed", self.client)
            self._stop_delivering(StreamingError("Delivery failed."))

    def _stop_delivering(self, reason: StreamingError) -> None:
        self._delivering = False
        self._end(reason)
        if self._goodbye and not isinstance(reason, ClientGone):
            self._call_deliverer()  # it was said before, when the deliverer was to send it

    def _read_on(self) -> bool:
        """Send what the log holds for those who lag; False if there was nothing."""
        found = False
        for subscription, form in tuple(self._followed.values()):
            if self._goodbye is not None:
                return True
            if subscription.state != "lagging":
                continue
            items = subscription.read()
            if items:
                found = True
                blocks = [self._encode(subscription, form, item) for item in items]
                data = form.frame(b"".join(blocks))
                with self._turn:
                    self.finish()
                    if subscription.is_closed:
                        continue  # unfollowed while others had their turn
                    self.send(data)
                    self._send_due_ping()
            subscription.mark_sent()
        return found

    def _encode(self, sub: Subscription, form: LineFormat, item: Message | Gap) -> bytes:
        if isinstance(item, Gap):
            return form.gap(item, sub.step(item))
        return form.encode_own(item) if item.sender == self.client else item.encoded(form)

    def _catch_up(self) -> None:
        with self._turn:
            self.finish()
            self._send_due_ping()

    def _send_due_ping(self) -> None:
        if self._ping_due and self._goodbye is None:
            self._ping_due = False
            self.pinged = time.monotonic()  # before: the answer may be read while we still send
            self.send(self._ping)

    def _park(self) -> bool:
        """Hand the line back to the pumps, if everything is at its head. Switches no greenlet."""
        if not self.is_direct:
            return False
        for subscription, form in self._followed.values():
            if subscription.state == "lagging" and not subscription.park(form, self):
                return False
        if self.rest or self._turn.locked() or self._goodbye is not None:
            return False
        self._delivering = False
        self.open()
        return True


def _ignore(reason: StreamingError) -> None:
    """What a line that was stopped calls."""
