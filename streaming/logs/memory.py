"""``memory:``, the log that lives and dies with its process. A forked child has a copy."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice

from ..message import MARK, Gap, Message, Position, text_size
from ..own import Own
from .contract import MAX_KEYS, Heard, Member, Page, Retention
from .followers import Followers

AT_ONCE = 8
"""Channels that one new channel looks at, to forget those that are too many or too old."""


class _Channel:
    """One channel's past: ``held[gone:]`` are its messages, the first of them number ``oldest``.

    ``born`` and ``last`` number its first and its last append among all of the log's. What was
    appended to any channel that was forgotten before it was born came up to number ``clean``.
    """

    __slots__ = (
        "ages",
        "born",
        "clean",
        "epoch",
        "gone",
        "held",
        "keys",
        "last",
        "newest",
        "size",
        "used",
    )

    def __init__(self, born: int, clean: int) -> None:
        self.epoch = secrets.token_hex(4)
        self.newest = 0
        self.held: list[Message] = []
        self.gone = 0
        self.size = 0
        self.ages: deque[float] = deque()
        self.keys: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self.used = 0.0
        self.born = self.last = born
        self.clean = clean

    @property
    def oldest(self) -> int:
        return self.newest - (len(self.held) - self.gone) + 1

    def offset(self, after: Position, life: str) -> int | None:
        """The offset that ``after`` stands behind here; None if it is of another past."""
        if after.epoch == self.epoch:
            return after.offset
        if after.epoch == life and self.clean <= after.offset < self.born:
            return 0
        return None


class MemoryLog:
    """Channels in this process's memory, bounded by ``retention``.

    Args:
        retention: How much of the past each channel keeps.
        clock: Seconds that only go forward; for age and key window.
    """

    reads = 1

    def __init__(
        self, retention: Retention | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.retention = retention or Retention()
        self._clock = clock
        self._lock = Own(threading.Lock)
        self._channels: OrderedDict[str, _Channel] = OrderedDict()  # the longest unused first
        self._followers = Followers()
        self._unfollowed = 0  # how many of the channels nobody follows
        self._life = MARK + secrets.token_hex(4)
        self._appends = 0
        self._forgotten = 0  # the number of the last append to any channel that was forgotten
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
        size = text_size(data)
        with self._lock():
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
        self._followers.tell(channel, message)
        return message

    def read(self, channel: str, after: Position, *, limit: int, size: int) -> Page:
        with self._lock():
            place = self._channels.get(channel)
            if place is None:
                return self._read_nothing(channel, after)
            if after.epoch == place.epoch and after.offset == place.newest:
                return Page((), after, more=False)
            self._trim(place, self._clock())
            oldest, gap, seen = place.oldest, None, place.offset(after, self._life)
            start = oldest if seen is None else seen + 1
            if seen is None or not oldest <= start <= place.newest + 1:
                gap = self._gap(channel, place, after)
                start = oldest
            first = place.gone + start - oldest
            messages = place.held[first : first + limit]
            epoch = place.epoch
            newest = place.newest
        messages = _within(messages, size)
        end = start - 1 + len(messages)
        return Page(messages, Position(epoch, end), gap, more=end < newest)

    def tail(self, channel: str, history: int = 0) -> Position:
        with self._lock():
            place = self._channels.get(channel)
            if place is None:
                return Position(self._life, self._appends)
            self._trim(place, self._clock())
            return Position(place.epoch, max(place.newest - max(history, 0), place.oldest - 1))

    def follow(self, channel: str, heard: Heard) -> None:
        with self._lock():
            if self._followers.add(channel, heard) and channel in self._channels:
                self._unfollowed -= 1

    def unfollow(self, channel: str, heard: Heard) -> None:
        with self._lock():
            if self._followers.remove(channel, heard) and channel in self._channels:
                self._unfollowed += 1

    def enter(self, room: str, member: Member) -> bool:
        with self._lock():
            there = self._rooms.setdefault(room, {})
            is_new = member.id not in there
            there[member.id] = member
        return is_new

    def leave(self, room: str, member: str) -> bool:
        with self._lock():
            there = self._rooms.get(room, {})
            was_there = there.pop(member, None) is not None
            if not there:
                self._rooms.pop(room, None)
        return was_there

    def members(self, room: str) -> list[Member]:
        with self._lock():
            return list(self._rooms.get(room, {}).values())

    def beat(self) -> list[tuple[str, str]]:
        return []  # members and log die together

    def check(self) -> None:
        pass

    def close(self) -> None:
        with self._lock():
            self._channels.clear()
            self._unfollowed = 0
            self._rooms.clear()
            self._life = MARK + secrets.token_hex(4)
        self._followers.tell_all()

    def __len__(self) -> int:
        """How many channels are held."""
        return len(self._channels)

    def _read_nothing(self, channel: str, after: Position) -> Page:
        """What a channel without messages has behind ``after``."""
        if after.epoch == self._life and self._forgotten <= after.offset <= self._appends:
            return Page((), after, more=False)
        here = Position(self._life, self._appends)
        return Page((), here, Gap(channel, after, None, None))

    def _use(self, channel: str, now: float) -> _Channel:
        """The channel, to be appended to."""
        self._appends += 1
        place = self._channels.get(channel)
        if place is None:
            place = _Channel(self._appends, self._forgotten)
            self._unfollowed += channel not in self._followers
            self._forget(now)
            self._channels[channel] = place
        else:
            self._channels.move_to_end(channel)
        place.used, place.last = now, self._appends
        return place

    def _forget(self, now: float) -> None:
        """Drop channels nobody follows: the two longest unused if expired, more when too many.

        Those that are followed go behind the others, so that they are not looked at each time.
        """
        age = self.retention.age
        excess = self._unfollowed - self.retention.channels
        for name in list(islice(self._channels, AT_ONCE if excess > 0 else 2)):
            place = self._channels[name]
            if name in self._followers:
                self._channels.move_to_end(name)
            elif excess > 0 or (age is not None and now - place.used > age):
                del self._channels[name]
                self._unfollowed -= 1
                self._forgotten = max(self._forgotten, place.last)
                excess -= 1

    def _trim(self, place: _Channel, now: float) -> None:
        keep = self.retention
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
            if now - since <= self.retention.key_window and (key in keys or len(keys) < MAX_KEYS):
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


def _within(messages: list[Message], size: int) -> list[Message]:
    """The first messages whose text comes to about ``size`` bytes, at least one."""
    total = 0
    for count, message in enumerate(messages):
        total += message.size
        if total > size and count:
            return messages[:count]
    return messages
