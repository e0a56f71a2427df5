"""``memory:``, the log that lives and dies with its process."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial

from ..bell import Bell
from ..message import Gap, Message, Position
from .contract import Follower, Member, Page, Retention
from .follower import BellFollower


class _Channel:
    """One channel's past: ``held[gone:]`` are its messages, the first of them number ``oldest``."""

    __slots__ = ("ages", "epoch", "followers", "gone", "held", "keys", "newest", "size", "used")

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(4)
        self.newest = 0
        self.held: list[Message] = []
        self.gone = 0
        self.size = 0
        self.ages: deque[float] = deque()
        self.keys: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self.followers: list[Bell] = []
        self.used = 0.0

    @property
    def oldest(self) -> int:
        return self.newest - (len(self.held) - self.gone) + 1


class MemoryLog:
    """Channels in this process's memory, bounded by ``retention``.

    Args:
        retention: How much of the past each channel keeps.
        clock: Seconds that only go forward; for age and key window.
    """

    def __init__(
        self, retention: Retention | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._retention = retention or Retention()
        self._clock = clock
        self._lock = threading.Lock()
        self._channels: OrderedDict[str, _Channel] = OrderedDict()
        self._rooms: dict[str, dict[str, Member]] = {}

    def append(
        self,
        channel: str,
        data: str,
        *,
        event: str = "message",
        key: str | None = None,
        sender: str | None = None,
    ) -> Message:
        now = self._clock()
        size = len(data) if data.isascii() else len(data.encode())
        with self._lock:
            place = self._use(channel, now)
            first = None if key is None else self._first_offset(place, key, now)
            if first is not None and first >= place.oldest:
                return place.held[place.gone + first - place.oldest]
            position = Position(place.epoch, first or place.newest + 1)
            message = Message(channel, data, position, event, sender, key, size)
            if first is not None:
                return message  # the first is no longer held; this one says the same
            place.newest += 1
            place.held.append(message)
            place.ages.append(now)
            place.size += size
            if key is not None:
                place.keys[key] = (now, place.newest)
            self._trim(place, now)
            followers = tuple(place.followers)
        for bell in followers:
            bell.ring()
        return message

    def read(self, channel: str, after: Position, *, limit: int, size: int) -> Page:
        with self._lock:
            place = self._use(channel, self._clock(), touch=False)
            if after.epoch == place.epoch and after.offset == place.newest:
                return Page((), after)
            self._trim(place, self._clock())
            oldest, gap, start = place.oldest, None, after.offset + 1
            if after.epoch != place.epoch or not oldest <= start <= place.newest + 1:
                gap = self._gap(channel, place, after)
                start = oldest
            first = place.gone + start - oldest
            messages = place.held[first : first + limit]
            epoch = place.epoch
        messages = _within(messages, size)
        return Page(messages, Position(epoch, start - 1 + len(messages)), gap)

    def tail(self, channel: str, history: int = 0) -> Position:
        with self._lock:
            place = self._use(channel, self._clock(), touch=False)
            self._trim(place, self._clock())
            return Position(place.epoch, max(place.newest - max(history, 0), place.oldest - 1))

    def follow(self, channel: str) -> Follower:
        bell = Bell()
        with self._lock:
            self._use(channel, self._clock()).followers.append(bell)
        return BellFollower(bell, partial(self._leave, channel, bell))

    def enter(self, room: str, member: Member) -> bool:
        with self._lock:
            there = self._rooms.setdefault(room, {})
            is_new = member.id not in there
            there[member.id] = member
        return is_new

    def leave(self, room: str, member: str) -> bool:
        with self._lock:
            there = self._rooms.get(room, {})
            was_there = there.pop(member, None) is not None
            if not there:
                self._rooms.pop(room, None)
        return was_there

    def members(self, room: str) -> list[Member]:
        with self._lock:
            return list(self._rooms.get(room, {}).values())

    def beat(self) -> list[tuple[str, str]]:
        return []  # members and log die together

    def check(self) -> None:
        pass

    def close(self) -> None:
        with self._lock:
            followers = [f for place in self._channels.values() for f in place.followers]
            self._channels.clear()
            self._rooms.clear()
        for bell in followers:
            bell.ring()

    def __len__(self) -> int:
        """How many channels are held."""
        return len(self._channels)

    def _leave(self, channel: str, bell: Bell) -> None:
        with self._lock:
            place = self._channels.get(channel)
            if place is not None and bell in place.followers:
                place.followers.remove(bell)

    def _use(self, channel: str, now: float, *, touch: bool = True) -> _Channel:
        place = self._channels.get(channel)
        if place is None:
            self._forget(now)
            place = self._channels[channel] = _Channel()
            place.used = now
        elif touch:
            place.used = now
            self._channels.move_to_end(channel)
        return place

    def _forget(self, now: float) -> None:
        """Drop channels nobody follows: the two longest unused if expired, more when too many."""
        age = self._retention.age
        excess = len(self._channels) + 1 - self._retention.channels
        for name in list(_first(self._channels, max(excess, 0) + 2)):
            place = self._channels[name]
            if place.followers:
                self._channels.move_to_end(name)
            elif excess > 0 or (age is not None and now - place.used > age):
                del self._channels[name]
                excess -= 1

    def _trim(self, place: _Channel, now: float) -> None:
        keep = self._retention
        held, ages = place.held, place.ages
        while ages and (
            len(ages) > keep.messages
            or (place.size > keep.size and len(ages) > 1)
            or (keep.age is not None and now - ages[0] > keep.age)
        ):
            ages.popleft()
            place.size -= held[place.gone].size
            held[place.gone] = None  # type: ignore[call-overload]  # let it go before the list moves
            place.gone += 1
        if place.gone > 64 and place.gone * 2 > len(held):
            del held[: place.gone]
            place.gone = 0

    def _first_offset(self, place: _Channel, key: str, now: float) -> int | None:
        keys = place.keys
        while keys:
            oldest, (since, _) = next(iter(keys.items()))
            if now - since <= self._retention.key_window and (key in keys or len(keys) < MAX_KEYS):
                break
            del keys[oldest]
        return keys[key][1] if key in keys else None

    @staticmethod
    def _gap(channel: str, place: _Channel, requested: Position) -> Gap:
        if place.oldest > place.newest:
            return Gap(channel, requested, None, None)
        return Gap(
            channel,
            requested,
            Position(place.epoch, place.oldest),
            Position(place.epoch, place.newest),
        )


MAX_KEYS = 10_000
"""Idempotency keys a channel remembers at most, however long the window."""


def _within(messages: list[Message], size: int) -> list[Message]:
    """The first messages whose text comes to about ``size`` bytes, at least one."""
    total = 0
    for count, message in enumerate(messages):
        total += message.size
        if total > size and count:
            return messages[:count]
    return messages


def _first(names: OrderedDict[str, _Channel], count: int) -> list[str]:
    return [name for name, _ in zip(names, range(count), strict=False)]
