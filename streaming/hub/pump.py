"""One pump per followed channel: from the log to every subscriber at its head.

The seam between *live* and *lagging* is here. A live subscriber has no position of its own: being
in the pump's live set means standing where the pump stands. The pump moves its position first and
writes then, to those who were live at that moment; whoever arrives in between reads the log.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ..bell import give_turn
from ..errors import LogUnavailable
from ..message import Message, Position

if TYPE_CHECKING:
    from ..logs import Follower, Log, Page
    from .subscription import Subscription

BATCH_MESSAGES = 256
BATCH_SIZE = 64 * 1024
"""One write to each live subscriber takes at most about so many messages, and bytes of text."""

RETRY = 0.5
"""Seconds until a log that could not be reached is asked again."""

TURN = 0.001
"""Seconds of writing after which the pump lets other greenlets run."""

LOOK = 32
"""Writes between two looks at the clock."""

_log = logging.getLogger(__name__)


class Format(Protocol):
    """How messages become the bytes of one kind of sink. Hashable; one object per format."""

    personal: bool
    """Whether a message looks different to the client that published it."""

    def encode(self, message: Message, /) -> bytes:
        """The bytes that stand for ``message``, the same for every subscriber."""

    def encode_own(self, message: Message, /) -> bytes:
        """The bytes for the client that published ``message``."""

    def frame(self, blocks: bytes, /) -> bytes:
        """``blocks`` as they go onto the socket in a direct write."""


class Sink(Protocol):
    """A client's socket that can be written to without blocking."""

    fd: int
    """Non-blocking file descriptor; -1 while something of ours waits to be sent, or at the end."""

    client: str
    """The client's id; messages it published itself are encoded with ``encode_own``."""

    def hold(self, rest: bytes | memoryview) -> None:
        """Take over what the kernel did not take (nothing, if it took nothing). Sets fd to -1."""


class Pump:
    """Takes what was appended to one channel and offers it, in log order, to all at the head.

    Owns one daemon thread, from ``start`` until ``stop``.
    """

    __slots__ = (
        "_failed",
        "_follower",
        "_live",
        "_lock",
        "_log",
        "_native",
        "_stopped",
        "_waiting",
        "channel",
        "is_broken",
        "offered",
        "position",
        "written",
    )

    def __init__(self, channel: str, log: Log) -> None:
        self.channel = channel
        self.position: Position | None = None
        self.written: Position | None = None
        """Up to where all that is live has been written to, or found to lag."""
        self.offered = 0.0
        """When it last wrote to the live set (``time.monotonic``)."""
        self._log = log
        self._lock = threading.Lock()
        self._waiting: set[Subscription] = set()
        self._live: dict[Format, dict[Sink, Subscription]] = {}
        self._native = 0
        self._failed = False
        self.is_broken = False
        """Whether its thread died; the hub replaces it."""
        self._stopped = threading.Event()
        self._follower: Follower | None = None  # asks the log: done in the pump's thread

    def start(self) -> None:
        """Start the pump's thread."""
        threading.Thread(target=self._run, name=f"pump {self.channel}", daemon=True).start()

    def stop(self) -> None:
        """End the pump's thread soon. Does not wait for it."""
        self._stopped.set()
        self._wake()

    def retry(self) -> None:
        """Ring everybody once the log can be read again: a subscription could not."""
        self._failed = True
        self._wake()

    def _wake(self) -> None:
        if self._follower is not None:  # else it looks around before it waits
            self._follower.wake()

    def join(self, subscription: Subscription) -> None:
        """Ring this subscription's bell whenever something was appended."""
        with self._lock:
            self._waiting.add(subscription)

    def leave(self, subscription: Subscription) -> None:
        """Forget a subscription; its sink is not written to any more. Idempotent."""
        with self._lock:
            self._waiting.discard(subscription)
            if subscription.sink is not None:
                form, sink = subscription.sink
                self._live.get(form, {}).pop(sink, None)

    def park(self, sub: Subscription, place: Position, form: Format, sink: Sink) -> bool:
        """Take ``sub`` into the live set if it stands exactly where the pump stands."""
        with self._lock:
            if place != self.position or threading.get_native_id() != self._native:
                return False
            self._waiting.discard(sub)
            self._live.setdefault(form, {})[sink] = sub
            sub.state = "live"
            return True

    def subscriptions(self) -> list[Subscription]:
        """All it serves, waiting and live."""
        with self._lock:
            return [*self._waiting, *(s for sinks in self._live.values() for s in sinks.values())]

    def __len__(self) -> int:
        """How many subscriptions it serves."""
        return len(self._waiting) + sum(map(len, self._live.values()))

    def _run(self) -> None:
        self._native = threading.get_native_id()
        try:
            while not self._stopped.is_set():
                try:
                    self._turn()
                except LogUnavailable as error:
                    if not self._failed:
                        _log.warning("Pump of %s waits for its log: %s", self.channel, error)
                    self._failed = True
        except Exception:
            _log.exception("Pump of %s failed", self.channel)
            self._fail()
        finally:
            if self._follower is not None:
                self._follower.close()

    def _fail(self) -> None:
        """Nothing will be delivered any more: end everybody, so that they come back to another."""
        self.is_broken = True
        reason = LogUnavailable(f"Delivery on channel {self.channel!r} failed. Come back.")
        with self._lock:
            live = [(f, s, sub) for f, sinks in self._live.items() for s, sub in sinks.items()]
        for subscription in self.subscriptions():
            subscription.end(reason)
        for form, sink, subscription in live:
            self._stall(form, sink, subscription, self.position or Position("", 0), b"")

    def _turn(self) -> None:
        """Offer what is new, or wait for it."""
        if self._failed:
            self._stopped.wait(RETRY)
        if self._follower is None:
            self._follower = self._log.follow(self.channel)
            return  # it may have been stopped meanwhile
        if self.position is None:
            self.position = self.written = self._log.tail(self.channel)
            self._ring()
        page = self._log.read(self.channel, self.position, limit=BATCH_MESSAGES, size=BATCH_SIZE)
        if self._failed:
            self._failed = False
            self._ring()
        if page.messages or page.gap:
            self._offer(page)
        elif page.position != self.position:  # the same place, in a newer epoch
            with self._lock:
                self.position = self.written = page.position
            self._ring()
        else:
            self._follower.wait()

    def _ring(self) -> None:
        with self._lock:
            waiting = tuple(self._waiting)
        for subscription in waiting:
            subscription.bell.ring()

    def _offer(self, page: Page) -> None:
        with self._lock:
            before, self.position = self.position, page.position
            live = [(form, dict(sinks)) for form, sinks in self._live.items() if sinks]
        assert before is not None
        self._ring()
        for form, sinks in live:
            if page.gap is not None:  # the pump itself came too late: let each be told
                for sink, subscription in sinks.items():
                    self._stall(form, sink, subscription, before, b"")
            else:
                self._write(form, sinks, page.messages, before)
        for message in page.messages if live else ():
            message.forget_encoded()
        self.written = page.position
        self.offered = time.monotonic()

    def _write(
        self,
        form: Format,
        sinks: dict[Sink, Subscription],
        messages: Sequence[Message],
        before: Position,
    ) -> None:
        """Write one batch to every sink. This is the hot path of the package."""
        data = form.frame(b"".join([message.encoded(form) for message in messages]))
        senders = {m.sender for m in messages if m.sender} if form.personal else ()
        look, write, live = LOOK, os.write, self._live[form]
        turn = time.monotonic() + TURN
        for sink, subscription in sinks.items():
            if live.get(sink) is not subscription:
                continue  # it left, and may be back, while this batch was on its way
            piece = data
            if senders and sink.client in senders:
                piece = _own(form, messages, sink.client)
            try:
                sent = write(sink.fd, piece)
            except OSError:  # it would block, or still has something to send, or is closed
                self._stall(form, sink, subscription, before, b"")
            else:
                if sent != len(piece):
                    rest = memoryview(piece)[sent:]
                    self._stall(form, sink, subscription, self.position or before, rest)
            look -= 1
            if not look:
                look = LOOK
                if time.monotonic() > turn:
                    give_turn()
                    turn = time.monotonic() + TURN

    def _stall(
        self,
        form: Format,
        sink: Sink,
        subscription: Subscription,
        place: Position,
        rest: bytes | memoryview,
    ) -> None:
        """Let a live subscriber lag, from ``place`` on, with ``rest`` still to be sent."""
        with self._lock:
            if self._live[form].get(sink) is not subscription:
                return  # it left, and may be back, while this batch was on its way
            del self._live[form][sink]
            self._waiting.add(subscription)
            subscription.state = "lagging"
        subscription.lag(place)
        sink.hold(rest)
        subscription.bell.ring()


def _own(form: Format, messages: Sequence[Message], sender: str) -> bytes:
    """The batch as the client sees it that published some of it."""
    return form.frame(
        b"".join([form.encode_own(m) if m.sender == sender else m.encoded(form) for m in messages])
    )
