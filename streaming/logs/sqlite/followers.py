"""Who follows what in this process, and what the file has yet to be told about it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from itertools import islice

from ...bell import Bell


class SqliteFollower:
    """A follower: a bell, and the number of the last append it was rung for."""

    __slots__ = ("_bell", "_leave", "channel", "heard")

    def __init__(self, channel: str, heard: int, leave: Callable[[SqliteFollower], None]) -> None:
        self.channel = channel
        self.heard = heard
        self._bell = Bell()
        self._leave = leave

    def wait(self, timeout: float | None = None) -> bool:
        return self._bell.wait(timeout)

    def wake(self) -> None:
        self._bell.ring()

    def close(self) -> None:
        self._leave(self)


class Followers:
    """The followers of one process, by channel."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channels: dict[str, list[SqliteFollower]] = {}
        self._untold: dict[str, bool] = {}

    def add(self, channel: str, heard: int) -> SqliteFollower:
        """A new follower, that knows of everything up to the append number ``heard``."""
        follower = SqliteFollower(channel, heard, self._remove)
        with self._lock:
            if channel not in self._channels:
                self._untold[channel] = True
            self._channels.setdefault(channel, []).append(follower)
        return follower

    def ring(self, channel: str, seq: int) -> None:
        """Wake the channel's followers, unless they were woken for this append before."""
        with self._lock:
            followers = tuple(self._channels.get(channel, ()))
        for follower in followers:
            if follower.heard < seq:
                follower.heard = seq
                follower.wake()

    def ring_all(self, seq: int) -> None:
        """Wake everybody: what was appended up to ``seq`` is not known by channel."""
        with self._lock:
            followers = [f for each in self._channels.values() for f in each]
        for follower in followers:
            follower.heard = seq
            follower.wake()

    def untold(self, limit: int) -> dict[str, bool]:
        """By channel, whether it is followed now: some of what changed since it was ``told``."""
        if not self._untold:
            return {}
        with self._lock:
            return dict(islice(self._untold.items(), limit))

    def told(self, changes: Mapping[str, bool]) -> None:
        """The file knows of these changes."""
        with self._lock:
            for channel, is_followed in changes.items():
                if self._untold.get(channel) is is_followed:
                    del self._untold[channel]

    def tell_again(self) -> None:
        """The file has forgotten what this process follows."""
        with self._lock:
            self._untold.update(dict.fromkeys(self._channels, True))

    def __len__(self) -> int:
        """How many channels are followed."""
        return len(self._channels)

    def _remove(self, follower: SqliteFollower) -> None:
        with self._lock:
            left = self._channels.get(follower.channel, [])
            if follower in left:
                left.remove(follower)
                if not left:
                    del self._channels[follower.channel]
                    self._untold[follower.channel] = False
