"""Who is told when a channel got something."""

from __future__ import annotations

import threading

from ..message import Message
from ..own import Own
from .contract import Heard


class Followers:
    """The followers of one log in one process, by channel. From any thread."""

    __slots__ = ("_channels", "_lock")

    def __init__(self) -> None:
        self._lock = Own(lambda: threading.Lock())
        self._channels: dict[str, tuple[Heard, ...]] = {}

    def add(self, channel: str, heard: Heard) -> bool:
        """Tell ``heard`` of this channel; whether it is the first that follows it."""
        with self._lock():
            before = self._channels.get(channel, ())
            self._channels[channel] = (*before, heard)
            return not before

    def remove(self, channel: str, heard: Heard) -> bool:
        """Take one ``add`` back; whether nobody follows the channel any more."""
        with self._lock():
            left = list(self._channels.get(channel, ()))
            if heard not in left:
                return False
            left.remove(heard)
            if left:
                self._channels[channel] = tuple(left)
            else:
                del self._channels[channel]
            return not left

    def tell(self, channel: str, message: Message | None = None) -> None:
        """Call whoever follows ``channel``, once each."""
        for heard in dict.fromkeys(self._channels.get(channel, ())):
            heard(channel, message)

    def tell_all(self) -> None:
        """Call everybody, for every channel: what was appended is not known."""
        for channel in self.names():
            self.tell(channel)

    def names(self) -> tuple[str, ...]:
        """The channels that are followed."""
        with self._lock():
            return tuple(self._channels)

    def __contains__(self, channel: str) -> bool:
        return channel in self._channels

    def __len__(self) -> int:
        """How many channels are followed."""
        return len(self._channels)
