"""``memory:``, the log that lives and dies with its process. A forked child has a copy."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from heapq import nlargest
from itertools import islice

from ..errors import ChannelEnded
from ..message import MARK, Gap, Message, Position, text_size
from ..own import Own
from ..threads import from_any_thread
from .contract import MAX_KEYS, Heard, Member, Page, Retention
from .followers import Followers

AT_ONCE = 8
"""Channels that one new channel looks at to forget those that are too many; and two for each time
that channels are kept, to forget those that are too old."""


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
        "is_ended",
        "keep",
        "keys",
        "last",
        "newest",
        "queue",
        "size",
        "used",
    )

    def __init__(self, keep: Retention, born: int, clean: int) -> None:
        self.keep = keep
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
        self.is_ended = False
        self.queue: _Queue | None = None  # of those that may be forgotten; None if followed

    @property
    def oldest(self) -> int:
        return self.newest - (len(self.held) - self.gone) + 1

    def is_over(self, now: float) -> bool:
        """Whether all that it had has grown old."""
        return self.keep.is_over(now - self.used, self.is_ended)

    def offset(self, after: Position, life: str) -> int | None:
        """The offset that ``after`` stands behind here; None if it is of another past."""
        if after.epoch == self.epoch:
            return after.offset
        if after.epoch == life and self.clean <= after.offset < self.born:
            return 0
        return None


_Queue = OrderedDict[str, _Channel]


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
        self._channels: dict[str, _Channel] = {}
        # Those nobody follows, by the seconds that they are kept, the longest unused first: the
        # next that grows old is first in its queue. Few times are set, so there are few queues.
        self._queues: dict[float | None, _Queue] = {}
        self._followers = Followers()
        self._life = MARK + secrets.token_hex(4)
        self._appends = 0
        self._forgotten = 0  # the number of the last append to any channel that was forgotten
        self._rooms: dict[str, dict[str, Member]] = {}

    @from_any_thread
    def append(
        self,
        channel: str,
        data: str,
        *,
        event: str = "message",
        key: str | None = None,
        sender: str | None = None,
        last: bool = False,
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
            if place.is_ended:
                raise ChannelEnded.of(channel)
            place.newest += 1
            place.held.append(message)
            place.ages.append(now)
            place.size += size
            if key is not None:
                place.keys[key] = (now, place.newest)
            self._trim(place, now)
            if last:
                self._end(channel, place)
        self._followers.tell(channel, message)
        return message

    @from_any_thread
    def read(self, channel: str, after: Position, *, limit: int, size: int) -> Page:
        with self._lock():
            place = self._channels.get(channel)
            if place is None:
                return self._read_nothing(channel, after)
            if after.epoch == place.epoch and after.offset == place.newest:
                return Page((), after, more=False, ended=place.is_ended)
            self._age(place)
            oldest, gap, seen = place.oldest, None, place.offset(after, self._life)
            start = oldest if seen is None else seen + 1
            if seen is None or not oldest <= start <= place.newest + 1:
                gap = self._gap(channel, place, after)
                start = oldest
            first = place.gone + start - oldest
            messages = place.held[first : first + limit]
            epoch, newest, is_ended = place.epoch, place.newest, place.is_ended
        messages = _within(messages, size)
        end = start - 1 + len(messages)
        more = end < newest
        return Page(messages, Position(epoch, end), gap, more, is_ended and not more)

    @from_any_thread
    def tail(self, channel: str, history: int = 0) -> Position:
        with self._lock():
            place = self._channels.get(channel)
            if place is None:
                return Position(self._life, self._appends)
            self._age(place)
            return Position(place.epoch, max(place.newest - max(history, 0), place.oldest - 1))

    @from_any_thread
    def channels(self, prefix: str = "", limit: int = 1000) -> list[str]:
        now = self._clock()
        with self._lock():
            found = [
                (place.last, name)
                for name, place in self._channels.items()
                if name.startswith(prefix) and not place.is_over(now)
            ]
        return [name for _, name in nlargest(limit, found)]

    @from_any_thread
    def follow(self, channel: str, heard: Heard) -> None:
        with self._lock():
            if self._followers.add(channel, heard) and channel in self._channels:
                self._take_out(channel, self._channels[channel])

    @from_any_thread
    def unfollow(self, channel: str, heard: Heard) -> None:
        with self._lock():
            place = self._channels.get(channel)
            if self._followers.remove(channel, heard) and place is not None:
                place.last = self._appends  # as if it was used now, so that queues stay in order
                self._put_in(channel, place)

    @from_any_thread
    def enter(self, room: str, member: Member) -> bool:
        with self._lock():
            there = self._rooms.setdefault(room, {})
            is_new = member.id not in there
            there[member.id] = member
        return is_new

    @from_any_thread
    def leave(self, room: str, member: str) -> bool:
        with self._lock():
            there = self._rooms.get(room, {})
            was_there = there.pop(member, None) is not None
            if not there:
                self._rooms.pop(room, None)
        return was_there

    @from_any_thread
    def members(self, room: str) -> list[Member]:
        with self._lock():
            return list(self._rooms.get(room, {}).values())

    @from_any_thread
    def beat(self) -> list[tuple[str, str]]:
        return []  # members and log die together

    @from_any_thread
    def check(self) -> None:
        pass

    @from_any_thread
    def close(self) -> None:
        with self._lock():
            self._channels.clear()
            self._queues.clear()
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
        """The channel, to be appended to; or as it is, if it has ended."""
        place = self._channels.get(channel)
        if place is None:
            place = self._begin(channel, now)
        elif place.is_ended:
            if place.queue is None or not place.is_over(now):
                return place
            self._drop(channel, place)
            place = self._begin(channel, now)
        elif place.queue is not None:
            place.queue.move_to_end(channel)
        self._appends += 1
        place.used, place.last = now, self._appends
        return place

    def _begin(self, channel: str, now: float) -> _Channel:
        """A channel that is about to get its first message; others may have to go."""
        place = _Channel(self.retention.of(channel), self._appends + 1, self._forgotten)
        is_followed = channel in self._followers
        self._forget(now, self.retention.channels - (not is_followed))
        self._channels[channel] = place
        if not is_followed:
            self._put_in(channel, place)
        return place

    def _end(self, name: str, place: _Channel) -> None:
        """The channel has got its last message: it is kept for another time now."""
        is_queued = place.queue is not None
        self._take_out(name, place)
        place.is_ended = True
        if is_queued:
            self._put_in(name, place)

    def _put_in(self, name: str, place: _Channel) -> None:
        """Nobody follows it: put it behind those that are kept as long."""
        life = place.keep.life(place.is_ended)
        queue = self._queues.get(life)
        if queue is None:
            queue = self._queues[life] = OrderedDict()
        queue[name] = place
        place.queue = queue

    @staticmethod
    def _take_out(name: str, place: _Channel) -> None:
        """It is not to be forgotten."""
        if place.queue is not None:
            del place.queue[name]
            place.queue = None

    def _forget(self, now: float, most: int) -> None:
        """Drop channels that nobody follows: of each queue the two longest unused if they have
        grown old, and the longest unused of all where there are more than ``most``."""
        count = 0
        for queue in self._queues.values():
            for name, place in list(islice(queue.items(), 2)):
                if not place.is_over(now):
                    break
                self._drop(name, place)
            count += len(queue)
        for _ in range(min(count - most, AT_ONCE)):
            heads = [next(iter(queue.items())) for queue in self._queues.values() if queue]
            self._drop(*min(heads, key=_last))

    def _drop(self, name: str, place: _Channel) -> None:
        """Forget a channel that nobody follows."""
        self._take_out(name, place)
        del self._channels[name]
        self._forgotten = max(self._forgotten, place.last)

    def _age(self, place: _Channel) -> None:
        """Let go of what has grown old since the last append."""
        now = self._clock()
        if not place.is_ended:
            self._trim(place, now)
        elif place.is_over(now):
            place.held, place.gone, place.size = [], 0, 0
            place.ages.clear()

    @staticmethod
    def _trim(place: _Channel, now: float) -> None:
        keep, held, ages = place.keep, place.held, place.ages
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

    @staticmethod
    def _first_offset(place: _Channel, key: str, now: float) -> int | None:
        keys = place.keys
        while keys:
            oldest, (since, _) = next(iter(keys.items()))
            if now - since <= place.keep.key_window and (key in keys or len(keys) < MAX_KEYS):
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


def _last(head: tuple[str, _Channel]) -> int:
    return head[1].last
