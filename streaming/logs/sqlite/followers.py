"""Who follows what in this process, and what the file has yet to be told about it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from itertools import islice

from ...bell import Bell
from ..follower import BellFollower


class Followers:
    """The followers of one process, by channel."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # by channel: what to ring, and the number of the last append that it was rung for
        self._channels: dict[str, dict[Bell, int]] = {}
        self._untold: dict[str, bool] = {}

    def add(self, channel: str, heard: int) -> BellFollower:
        """A new follower, that knows of everything up to the append number ``heard``."""
        bell = Bell()
        with self._lock:
            if channel not in self._channels:
                self._untold[channel] = True
            self._channels.setdefault(channel, {})[bell] = heard
        return BellFollower(bell, partial(self._remove, channel, bell))

    def ring(self, channel: str, seq: int) -> None:
        """Wake the channel's followers, unless they were woken for this append before."""
        with self._lock:
            bells = self._channels.get(channel, {})
            late = [bell for bell, heard in bells.items() if heard < seq]
            bells.update(dict.fromkeys(late, seq))
        for bell in late:
            bell.ring()

    def ring_all(self, seq: int) -> None:
        """Wake everybody: what was appended up to ``seq`` is not known by channel."""
        with self._lock:
            for bells in self._channels.values():
                bells.update(dict.fromkeys(bells, seq))
            late = [bell for bells in self._channels.values() for bell in bells]
        for bell in late:
            bell.ring()

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

    def _remove(self, channel: str, bell: Bell) -> None:
        with self._lock:
            bells = self._channels.get(channel, {})
            if bells.pop(bell, None) is not None and not bells:
                del self._channels[channel]
                self._untold[channel] = False
