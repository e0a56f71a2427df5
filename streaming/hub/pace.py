"""How publishers keep from outrunning the subscribers of their process that keep up."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ..bell import give_turn
from ..logs import Retention
from ..message import Message, Position
from .channel import Channel
from .dispatcher import Dispatcher
from .subscription import Reading, Subscription

PATIENCE = 0.05
"""Seconds that publishers give a subscriber to get on; who does not is slow until at the head."""

TURNS = 5
"""Turns that it is given in any case: the whole process may have been held up."""

MOST = 1.0
"""Seconds that one ``publish`` waits at most; the next ones do not wait then, until they are as far
ahead again. Also what one subscriber may cost publishers until it is at the head."""

SHARE = 4
"""The part of what a channel keeps (one of so many) that publishers may be ahead."""


class Pace:
    """Lets a publisher wait while a subscriber that keeps up is far behind.

    A burst is made faster than it is delivered, so without this the log would forget its beginning
    before anybody had a chance to read it. A subscriber whose client takes nothing costs
    ``PATIENCE`` once, one whose client is slow ``MOST`` in all, and then nothing until it has
    caught up. Other processes cannot be waited for, nor can a
    log that cannot be read.
    """

    def __init__(self, dispatcher: Dispatcher, retention: Retention) -> None:
        self._dispatcher = dispatcher
        self._retention = retention
        self._weight = 1.0  # bytes of the larger ones among the last messages

    def keep(self, message: Message) -> None:
        """Wait, if need be, before the message behind ``message`` may come."""
        channel = self._dispatcher.channel(message.channel)
        if channel is None:
            return
        self._weight = max(message.size, self._weight * 0.95, 1.0)
        ahead = message.id.offset - channel.paced
        if 0 <= ahead < self._limit(channel):
            return
        until = time.monotonic() + MOST
        while (behind := self._behind(channel, message)) and not channel.is_retried:
            if time.monotonic() > until:
                channel.paced = message.id.offset
                return
            self._wait(channel, behind)

    def _limit(self, channel: Channel) -> int:
        keep = self._retention.of(channel.name)
        return max(1, int(min(keep.messages, keep.size / self._weight)) // SHARE)

    def _behind(self, channel: Channel, message: Message) -> dict[Subscription, int]:
        """Who keeps up and is too far behind, and where; notes when to look again."""
        newest, limit = message.id.offset, self._limit(channel)
        offsets = {
            sub: _offset(sub, channel, message)
            for sub in self._dispatcher.subscriptions(channel.name)
            if not sub.is_slow
        }
        slowest = min(offsets.values(), default=newest)
        channel.paced = max(slowest, newest - limit + 1)
        return {sub: offset for sub, offset in offsets.items() if newest - offset >= limit}

    def _wait(self, channel: Channel, behind: dict[Subscription, int]) -> None:
        """Until one of them has got on; if none does, they are slow."""
        began, turns = time.monotonic(), 1
        give_turn()
        while all(self._stands(channel, sub, offset) for sub, offset in behind.items()):
            if time.monotonic() - began > PATIENCE and turns >= TURNS:
                _give_up(behind)
                return
            time.sleep(0.001)
            turns += 1
        waited = min(time.monotonic() - began, PATIENCE)  # else the whole process was held up
        lagging = [sub for sub in behind if sub.phase is not Reading.LIVE]
        for sub in lagging:
            sub.waited += waited
        _give_up(sub for sub in lagging if sub.waited > MOST)

    @staticmethod
    def _stands(channel: Channel, sub: Subscription, offset: int) -> bool:
        place = _place(sub, channel)
        if place is None or sub.is_closed or channel.is_retried:
            return False
        return place.is_mark or place.offset <= offset


def _give_up(subscriptions: Iterable[Subscription]) -> None:
    for sub in subscriptions:  # who is live waits for the dispatcher, not for its client
        sub.is_slow = sub.phase is not Reading.LIVE


def _place(sub: Subscription, channel: Channel) -> Position | None:
    """Up to where ``sub`` has been given the channel; None if it has not begun."""
    return channel.written if sub.phase is Reading.LIVE else sub.place(channel.name)


def _offset(sub: Subscription, channel: Channel, message: Message) -> int:
    """``_place``, counted as ``message`` is; who has not begun is not behind."""
    place = _place(sub, channel)
    if place is not None and place.is_mark:
        return 0
    return place.offset if place and place.epoch == message.id.epoch else message.id.offset
