"""What the memory log holds of one channel, and which channels it may forget. Under its lock."""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from itertools import islice

from ..message import Gap, Message, Position
from .contract import MAX_KEYS, Retention


class Past:
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
        self.queue: _Queue | None = None
        """Where it stands among those that may be forgotten; None while it is followed."""

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

    def first_offset(self, key: str, now: float) -> int | None:
        """The offset of the message that had this key; forgets keys that are too old or many."""
        keys = self.keys
        while keys:
            oldest, (since, _) = next(iter(keys.items()))
            if now - since <= self.keep.key_window and (key in keys or len(keys) < MAX_KEYS):
                break
            del keys[oldest]
        return keys[key][1] if key in keys else None

    def trim(self, now: float) -> None:
        """Let go of what is too much or too old; before the end."""
        keep, held, ages = self.keep, self.held, self.ages
        while ages and (
            len(ages) > keep.messages
            or (self.size > keep.size and len(ages) > 1)
            or (keep.age is not None and now - ages[0] > keep.age)
        ):
            ages.popleft()
            self.size -= held[self.gone].size
            held[self.gone] = None  # type: ignore[call-overload]  # let it go before the list moves
            self.gone += 1
        self._move_up()

    def let_go(self, size: int) -> None:
        """Let go of the oldest messages, of so many bytes or of all that there is."""
        while size > 0 and self.ages:
            self.ages.popleft()
            size -= self.held[self.gone].size
            self.size -= self.held[self.gone].size
            self.held[self.gone] = None  # type: ignore[call-overload]
            self.gone += 1
        self._move_up()

    def _move_up(self) -> None:
        if self.gone > 64 and self.gone * 2 > len(self.held):
            del self.held[: self.gone]
            self.gone = 0

    def age(self, now: float) -> None:
        """Let go of what has grown old since the last append."""
        if not self.is_ended:
            self.trim(now)
        elif self.is_over(now):
            self.clear()

    def clear(self) -> None:
        """Let go of all messages."""
        self.held, self.gone, self.size = [], 0, 0
        self.ages.clear()

    def gap(self, channel: str, requested: Position) -> Gap:
        """What whoever needs more than is held is told."""
        if self.oldest > self.newest:
            return Gap(channel, requested, None, None)
        oldest, newest = Position(self.epoch, self.oldest), Position(self.epoch, self.newest)
        return Gap(channel, requested, oldest, newest)


_Queue = OrderedDict[str, Past]


class Unfollowed:
    """The channels that nobody follows, in the order in which they may be forgotten.

    They stand in queues, one for each time that channels are kept, the longest unused first: so the
    next to grow old is first in its queue. Few times are set, so there are few queues.
    """

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        self._queues: dict[float | None, _Queue] = {}

    def add(self, name: str, past: Past) -> None:
        """It was used last of all."""
        life = past.keep.life(past.is_ended)
        queue = self._queues.get(life)
        if queue is None:
            queue = self._queues[life] = OrderedDict()
        queue[name] = past
        past.queue = queue

    @staticmethod
    def remove(name: str, past: Past) -> None:
        """It is followed, or forgotten. Idempotent."""
        if past.queue is not None:
            del past.queue[name]
            past.queue = None

    def old(self, now: float) -> list[tuple[str, Past]]:
        """Some that have grown old: two of each queue at most."""
        found = []
        for queue in self._queues.values():
            for head in islice(queue.items(), 2):
                if not head[1].is_over(now):
                    break
                found.append(head)
        return found

    def longest_unused(self) -> tuple[str, Past]:
        """There must be one."""
        heads = [next(iter(queue.items())) for queue in self._queues.values() if queue]
        return heads[0] if len(heads) == 1 else min(heads, key=_last)

    def clear(self) -> None:
        """Nothing is held any more."""
        self._queues.clear()

    def __len__(self) -> int:
        """How many there are."""
        return sum(map(len, self._queues.values()))


def _last(head: tuple[str, Past]) -> int:
    return head[1].last
