"""What one process follows, how far it is heard, and what was told of it."""

from __future__ import annotations

import threading
from enum import Enum, auto

from ...message import Message, Position
from ..contract import Heard
from ..followers import Followers

NOWHERE = Position("", 0)
"""The place of a channel of which nothing is known."""


class Phase(Enum):
    """How far a channel is heard.

    ASKED -> HEARD   it is confirmed
    ASKED -> LATE    who follows waits for that no longer, or the connection is lost
    LATE  -> HEARD   it is confirmed: who follows is told, for it may have missed something
    HEARD -> LATE    the connection is lost
    """

    ASKED = auto()
    LATE = auto()
    HEARD = auto()


class Topic:
    """A channel that is followed."""

    __slots__ = ("phase", "seen", "settled")

    def __init__(self) -> None:
        self.phase = Phase.ASKED
        self.seen = NOWHERE
        """The newest place that was told."""
        self.settled: threading.Event | None = threading.Event()
        """Set when there is nothing to wait for; None once it was heard."""


class Topics:
    """The channels that a process follows. From any thread; calls followers under no lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._followers = Followers()
        self._topics: dict[str, Topic] = {}
        self._changes: list[str] = []

    def add(self, channel: str, heard: Heard) -> Topic:
        """Follow a channel."""
        with self._lock:
            topic = self._topics.get(channel)
            if topic is None:
                topic = self._topics[channel] = Topic()
                self._changes.append(channel)
            self._followers.add(channel, heard)
            return topic

    def remove(self, channel: str, heard: Heard) -> None:
        """Take one ``add`` back."""
        with self._lock:
            if self._followers.remove(channel, heard) and channel in self._topics:
                del self._topics[channel]
                self._changes.append(channel)

    def clear(self) -> None:
        """Follow nothing any more, and tell everybody so."""
        with self._lock:
            self._changes.extend(self._topics)
            self._topics.clear()
        self._followers.tell_all()

    @property
    def has_changed(self) -> bool:
        """Whether ``take_changes`` has something to give."""
        return bool(self._changes)

    def take_changes(self) -> dict[str, bool]:
        """The channels that were added or removed since the last time, and whether they are in."""
        with self._lock:
            changes, self._changes = self._changes, []
            return {channel: channel in self._topics for channel in changes}

    def names(self) -> tuple[str, ...]:
        """The channels."""
        with self._lock:
            return tuple(self._topics)

    def confirm(self, channel: str) -> None:
        """From now on it is heard."""
        with self._lock:
            topic = self._topics.get(channel)
            if topic is None:
                return
            is_late, topic.phase = topic.phase is Phase.LATE, Phase.HEARD
            if topic.settled is not None:
                topic.settled.set()
                topic.settled = None
        if is_late:
            self._followers.tell(channel)

    def give_up(self, topic: Topic) -> None:
        """Who has followed goes on though it may not be heard yet."""
        with self._lock:
            if topic.phase is Phase.ASKED:
                topic.phase = Phase.LATE

    def lose(self) -> None:
        """Nothing is heard any more, until it is confirmed anew."""
        with self._lock:
            self._changes = list(self._topics)
            for topic in self._topics.values():
                topic.phase = Phase.LATE
                if topic.settled is not None:
                    topic.settled.set()

    def tell(
        self,
        channel: str,
        place: Position | None,
        message: Message | None = None,
        *,
        is_head: bool = False,
    ) -> None:
        """Tell who follows of this place, and of the message there, unless they know.

        Args:
            place: None if it is not known.
            is_head: A later one that was told is not there, or not any more.
        """
        with self._lock:
            topic = self._topics.get(channel)
            if topic is None or place == topic.seen:
                return
            if place is not None:
                seen = topic.seen
                if place.epoch == seen.epoch and place.offset < seen.offset and not is_head:
                    return
                topic.seen = place
        self._followers.tell(channel, message)

    def __contains__(self, channel: str) -> bool:
        return channel in self._topics

    def __len__(self) -> int:
        """How many channels are followed."""
        return len(self._topics)
