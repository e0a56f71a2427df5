"""``memory:``, the log that lives and dies with its process. A forked child has a copy."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from heapq import nlargest

from ..errors import ChannelEnded, LogUnavailable
from ..message import MARK, Gap, Message, Position, text_size
from ..own import Own
from ..threads import from_any_thread
from .contract import Heard, Member, Page, Retention
from .followers import Followers
from .past import Past, Unfollowed

AT_ONCE = 8
"""Channels that are forgotten at most for one new channel, where there are too many."""


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
        self._lock = Own(lambda: threading.Lock())
        self._channels: dict[str, Past] = {}
        self._unfollowed = Unfollowed()
        self._followers = Followers()
        self._life = MARK + secrets.token_hex(4)
        self._appends = 0
        self._forgotten = 0  # the number of the last append to any channel that was forgotten
        self._size = 0
        """Bytes of text in all channels."""
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
        traceparent: str | None = None,
    ) -> Message:
        now = self._clock()
        size = text_size(data)
        with self._lock():
            place = self._use(channel, now)
            first = None if key is None else place.first_offset(key, now)
            if first is not None and first >= place.oldest:
                return place.held[place.gone + first - place.oldest]
            position = Position(place.epoch, first or place.newest + 1)
            message = Message(channel, data, position, event, sender, key, size, traceparent)
            if first is not None:
                return message  # the first is no longer held; this one says the same
            if place.is_ended:
                raise ChannelEnded.of(channel)
            self._make_room(channel, place, size)
            before = place.size
            place.newest += 1
            place.held.append(message)
            place.ages.append(now)
            place.size += size
            if key is not None:
                place.keys[key] = (now, place.newest)
            place.trim(now)
            self._size += place.size - before
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
                gap = place.gap(channel, after)
                start = oldest
            first = place.gone + start - oldest
            messages = place.held[first : first + limit]
            epoch, newest, is_ended = place.epoch, place.newest, place.is_ended
        messages = _within(messages, size)
        end = start - 1 + len(messages)
        more = end < newest
        is_sure = after.epoch != self._life
        ended = is_ended and not more
        return Page(messages, Position(epoch, end), gap, more, ended, is_sure)

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
    def prune(self, channel: str) -> int:
        with self._lock():
            place = self._channels.get(channel)
            if place is None:
                return 0
            count = len(place.held) - place.gone
            self._size -= place.size
            place.clear()
        return count

    @from_any_thread
    def follow(self, channel: str, heard: Heard) -> None:
        with self._lock():
            if self._followers.add(channel, heard) and channel in self._channels:
                self._unfollowed.remove(channel, self._channels[channel])

    @from_any_thread
    def unfollow(self, channel: str, heard: Heard) -> None:
        with self._lock():
            place = self._channels.get(channel)
            if self._followers.remove(channel, heard) and place is not None:
                place.last = self._appends  # as if it was used now, so that queues stay in order
                self._unfollowed.add(channel, place)

    @from_any_thread
    def enter(self, room: str, member: Member, *, says: bool = True) -> Member | None:
        with self._lock():
            there = self._rooms.setdefault(room, {})
            before = there.get(member.id)
            if before is not None and not says:
                member = replace(before, connections=member.connections)
            there[member.id] = member
        return before

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
    def find(self, room: str, member: str, *, own: bool = False) -> Member | None:
        with self._lock():
            return self._rooms.get(room, {}).get(member)

    @from_any_thread
    def beat(self) -> list[tuple[str, str]]:
        return []  # members and log die together

    def note_standstill(self) -> None:
        pass

    def take_place(self, holder: str, most: int) -> bool:
        return True  # each process counts for itself

    def give_place(self, holder: str) -> None:
        pass

    @from_any_thread
    def check(self) -> None:
        pass

    @from_any_thread
    def close(self) -> None:
        with self._lock():
            self._channels.clear()
            self._size = 0
            self._unfollowed.clear()
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
        gap = Gap(channel, after, None, None)
        return Page((), here, gap, is_sure=after.epoch != self._life)

    def _use(self, channel: str, now: float) -> Past:
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

    def _begin(self, channel: str, now: float) -> Past:
        """A channel that is about to get its first message; others may have to go."""
        place = Past(self.retention.of(channel), self._appends + 1, self._forgotten)
        is_followed = channel in self._followers
        self._forget(now, self.retention.channels - (not is_followed))
        self._channels[channel] = place
        if not is_followed:
            self._unfollowed.add(channel, place)
        return place

    def _end(self, name: str, place: Past) -> None:
        """The channel has got its last message: it is kept for another time now."""
        is_followed = place.queue is None
        self._unfollowed.remove(name, place)
        place.is_ended = True
        if not is_followed:
            self._unfollowed.add(name, place)

    def _forget(self, now: float, most: int) -> None:
        """Drop channels that nobody follows: some that have grown old, and the longest unused
        where there are more than ``most``."""
        for name, place in self._unfollowed.old(now):
            self._drop(name, place)
        for _ in range(min(len(self._unfollowed) - most, AT_ONCE)):
            self._drop(*self._unfollowed.longest_unused())

    def _make_room(self, name: str, place: Past, size: int) -> None:
        """Return if ``size`` bytes more are within the total, perhaps once others are forgotten.

        Raises:
            LogUnavailable: If they are not.
        """
        total = self.retention.total
        if total is None or self._size + size <= total:
            return
        self._unfollowed.remove(name, place)
        for _ in range(min(len(self._unfollowed), AT_ONCE) if size <= total else 0):
            if self._size + size > total:
                self._drop(*self._unfollowed.longest_unused())
        if name not in self._followers:
            self._unfollowed.add(name, place)
        if self._size - place.size + size > total:
            if not place.newest:
                self._drop(name, place)
            raise LogUnavailable(
                f"The log in memory is full: all channels together hold {self._size} bytes of at "
                f"most {total} (STREAMING_RETENTION_TOTAL). Have less kept, or raise it."
            )
        before = place.size
        place.let_go(self._size + size - total)
        self._size += place.size - before

    def _age(self, place: Past) -> None:
        before = place.size
        place.age(self._clock())
        self._size += place.size - before

    def _drop(self, name: str, place: Past) -> None:
        self._size -= place.size
        self._unfollowed.remove(name, place)
        del self._channels[name]
        self._forgotten = max(self._forgotten, place.last)


def _within(messages: list[Message], size: int) -> list[Message]:
    """The first messages whose text comes to about ``size`` bytes, at least one."""
    total = 0
    for count, message in enumerate(messages):
        total += message.size
        if total > size and count:
            return messages[:count]
    return messages
