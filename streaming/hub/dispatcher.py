"""From the log to every subscriber at the head, for all channels of a process.

The seam between *live* and *lagging* is here. A live subscriber has no position of its own: being
in a channel's live set means standing where the dispatcher stands. The dispatcher moves its
position first and writes then, to those who were live at that moment; whoever arrives in between
reads the log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable

from ..errors import NO_THREAD, LogUnavailable, TooManyClients
from ..logs import Log, Page
from ..message import Message, Position
from ..names import END
from ..threads import is_here
from . import traces
from .channel import Channel
from .encodings import Encodings
from .fanout import Fanout
from .sink import Rest, Seat
from .subscription import Reading, Subscription
from .tallies import Tallies
from .workers import SLICE, Workers

BATCH_MESSAGES = 256
BATCH_SIZE = 64 * 1024
"""One write to each live subscriber takes at most about so many messages, and bytes of text."""

RETRY = 0.5
"""Seconds until a log that could not be reached is asked again."""

_log = logging.getLogger(__name__)


class Dispatcher:
    """Offers what is appended to the followed channels, in log order, to all at the head.

    Owns ``log.reads`` daemon threads at most, while anything is followed. Each takes the next
    channel with something new, writes for ``SLICE`` seconds, and puts it behind the others if that
    was not enough. So no channel holds up another.
    """

    def __init__(self, log: Log, tallies: Tallies) -> None:
        self.encodings = Encodings(log)
        """What is at hand of what those are in the midst of that lag."""
        self._log = log
        self._tallies = tallies
        self._lock = threading.Lock()
        self._channels: dict[str, Channel] = {}
        self._fanouts: dict[Channel, Fanout] = {}  # that are under way
        self._is_away = False
        self._workers: Workers[Channel] = Workers(
            "streaming dispatcher",
            self._work,
            most=log.reads,
            is_needed=lambda: bool(self._channels),
            patience=RETRY,
        )

    def __len__(self) -> int:
        """How many channels are followed."""
        return len(self._channels)

    # ---- joining and leaving

    def join(self, subscription: Subscription, names: Iterable[str]) -> dict[str, Channel]:
        """Have ``subscription`` told of what is new in these channels, once they are followed.

        Raises:
            TooManyClients: If no thread can be started for it.
        """
        with self._lock:
            joined = {name: self._channel(name) for name in names}
            subscription.heads = joined
            for channel in joined.values():
                channel.waiting[subscription] = None
        if not self._workers.ensure():
            raise TooManyClients(NO_THREAD)
        return joined

    def follow(self, channel: Channel) -> None:
        """See to it that the log tells of the channel; before its head is asked for. Blocks a
        moment.

        Raises:
            TooManyClients: If no thread can be started for it.
        """
        with self._lock:
            if channel.position is not None:
                return
            channel.follows += 1  # several may ask: none knows when the other has its answer
        self._log.follow(channel.name, self.heard)

    def _channel(self, name: str) -> Channel:
        """The channel, followed from now on."""
        channel = self._channels.get(name)
        if channel is None:  # not ``or``: one without subscriptions is false
            channel = self._channels[name] = Channel(name)
        return channel

    def settle(self, channel: Channel, head: Position, *, ended: bool) -> None:
        """Begin at ``head``, which the log gave after it was asked to tell of the channel."""
        with self._lock:
            if channel.position is None:
                channel.position = channel.written = head
                channel.ended = ended
                if channel.news:
                    self._workers.put(channel)

    def leave(self, subscription: Subscription) -> None:
        """Forget a subscription; its sink is not written to any more."""
        gone: list[Channel] = []
        with self._lock:
            if subscription.is_closed:
                return
            subscription.move(Reading.CLOSED)
            subscription.unseat()
            for name in subscription.channels:
                channel = self._channels.get(name)
                if channel is None:
                    continue
                channel.waiting.pop(subscription, None)
                channel.live.pop(subscription, None)
                if not len(channel):
                    gone.append(self._channels.pop(name))
                    self._fanouts.pop(channel, None)
            if not self._channels:
                self._workers.end()
        for channel in gone:
            self._workers.forget(channel)
            channel.end_delivery()
            for _ in range(channel.follows):
                self._log.unfollow(channel.name, self.heard)

    def seat(self, subscription: Subscription, seat: Seat) -> bool:
        """Take a subscription among the live if it stands exactly where the dispatcher stands."""
        with self._lock:
            if not is_here() or not subscription.is_at_head:
                return False
            subscription.move(Reading.LIVE)
            subscription.sit(seat)
            for name in subscription.channels:
                channel = self._channels[name]
                del channel.waiting[subscription]
                channel.live[subscription] = seat
            return True

    def stall(
        self,
        subscription: Subscription,
        seat: Seat,
        channel: Channel,
        place: Position,
        rest: Rest,
    ) -> None:
        """Let a live subscription lag: at ``place`` in ``channel``, ``rest`` still to be sent."""
        with self._lock:
            if channel.live.get(subscription) is not seat:
                return  # it left, and may be back, while this batch was on its way
            subscription.move(Reading.LAGGING)
            for name in subscription.channels:
                other = self._channels[name]
                del other.live[subscription]
                other.waiting[subscription] = None
            subscription.unseat()
            subscription.fall(channel.name, place)
        try:
            seat.sink.hold(rest)
        except Exception:  # else all would be ended for one
            _log.exception("A client's socket could not be taken back")
            subscription.end(_failure(channel))
        subscription.bell.ring()

    def channel(self, name: str) -> Channel | None:
        """The channel, if somebody of this process follows it."""
        return self._channels.get(name)

    def subscriptions(self, name: str | None = None) -> list[Subscription]:
        """All of a channel, or all there are; each once."""
        with self._lock:
            found = self._channels.values() if name is None else filter(None, [self.channel(name)])
            return list(dict.fromkeys(s for c in found for s in (*c.waiting, *c.live)))

    # ---- being told

    def heard(self, name: str, message: Message | None = None) -> None:
        """Something was appended; see ``logs.Heard``. Never blocks, never fails."""
        with self._lock:
            channel = self._channels.get(name)
            if channel is None:
                return
            if not channel.heard:
                channel.heard = time.monotonic()
            if len(channel.news) < 2:  # one message can be passed on; more are read
                channel.news.append(message)
            if channel.position is not None:
                self._workers.put(channel)

    def note_gap(self) -> None:
        """A subscription has read of a gap."""
        self._tallies.gaps.add()

    def read(self, name: str, after: Position, *, limit: int, size: int) -> Page:
        """Read the log; see ``Log.read``.

        Raises:
            LogUnavailable: If the log cannot be reached.
        """
        began = time.perf_counter()
        try:
            page = self._log.read(name, after, limit=limit, size=size)
        except LogUnavailable:
            self._tallies.read_failed.add()
            raise
        self._tallies.read.add(time.perf_counter() - began)
        return page

    def read_later(self, name: str) -> None:
        """Ring everybody once the log can be read again: a subscription could not."""
        with self._lock:
            channel = self._channels.get(name)
            if channel is not None:
                self._put_off(channel)

    def _put_off(self, channel: Channel) -> None:
        channel.is_retried = True
        if self._channels.get(channel.name) is channel:
            self._workers.put_off(channel)

    # ---- working

    def _work(self, channel: Channel) -> bool:
        """Do a part of what is to do for a channel; True if there is more."""
        goes_on = False
        try:
            goes_on = self._serve(channel)
        except LogUnavailable as error:
            if not self._is_away:
                _log.warning("Delivery waits for the log: %s", error)
            self._is_away = True
            with self._lock:
                self._put_off(channel)
        except Exception:
            _log.exception("Delivery on %s failed", channel.name)
            self._fail(channel)
        with self._lock:
            if self._channels.get(channel.name) is channel:
                return goes_on or (bool(channel.news) and not channel.is_retried)
            self._fanouts.pop(channel, None)  # all have left meanwhile
        channel.end_delivery()
        return False

    def _serve(self, channel: Channel) -> bool:
        """Offer what is new for a moment; True if there is more to do."""
        fanout = self._fanouts.pop(channel, None) or self._begin(channel)
        if not fanout.run(time.monotonic() + SLICE):
            self._fanouts[channel] = fanout
            return True
        channel.written = fanout.page.position
        channel.end_delivery()
        if fanout.page.messages:
            channel.offered = time.monotonic()
        return fanout.page.more and bool(fanout.page.messages)

    def _begin(self, channel: Channel) -> Fanout:
        """Read what is new, move on, ring those who wait; what live subscriptions get of it."""
        with self._lock:
            news, channel.news = channel.news, []
            heard, channel.heard = channel.heard, 0.0
            before = channel.position
            if channel.is_retried:  # what was told before could not be read
                news.append(None)
        assert before is not None
        try:
            page = _at_hand(news, before) or self.read(
                channel.name, before, limit=BATCH_MESSAGES, size=BATCH_SIZE
            )
        except LogUnavailable:
            channel.heard = heard
            raise
        page = page.for_follower()
        self._is_away = False
        with self._lock:
            is_new = page.position != before or page.gap is not None
            waiting = tuple(channel.waiting) if is_new or channel.is_retried else ()
            live = list(channel.live.items()) if page.messages or page.gap or page.ended else []
            channel.position, channel.is_retried = page.position, False
            channel.ended = page.ended
            if page.messages and page.gap is None and not page.ended:
                count, size = channel.passed
                channel.passed = count + len(page.messages), size + page.size
            if page.more and page.messages:  # what is behind these may be as old
                channel.heard = heard
        channel.delivery = traces.delivery(
            channel.name, page.messages, live=len(live), lagging=len(waiting)
        )
        for subscription in waiting:
            subscription.notice(channel.name)
        if page.gap is not None or page.ended:  # each is to be told by its own reading
            for subscription, seat in live:
                self.stall(subscription, seat, channel, before, b"")
            live = []
        told = self._tallies.delivery if heard else None
        return Fanout(channel, page, before, live, self.stall, self.encodings, told, heard)

    def _fail(self, channel: Channel) -> None:
        """Nothing more can be delivered to these: end everybody, so that they come back."""
        channel.end_delivery()
        for subscription in self.subscriptions(channel.name):
            subscription.end(_failure(channel))
            if seat := subscription.seat:
                self.stall(subscription, seat, channel, channel.written or Position("", 0), b"")
        channel.written = channel.position


def _failure(channel: Channel) -> LogUnavailable:
    return LogUnavailable(f"Delivery on channel {channel.name!r} failed. Come back.")


def _at_hand(news: list[Message | None], before: Position) -> Page | None:
    """The page behind ``before``, where the log has told it, and nothing else of the channel."""
    if len(news) != 1 or news[0] is None:
        return None
    place = news[0].id
    is_first = before.is_mark and place.offset == 1
    is_next = place.epoch == before.epoch and place.offset == before.offset + 1
    if not (is_first or is_next):
        return None
    return Page((news[0],), place, more=False, ended=news[0].event == END)
