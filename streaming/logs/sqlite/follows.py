"""What this process follows: whom to tell of it, and how far the file knows."""

from __future__ import annotations

import sqlite3
import threading
from itertools import islice

from ...message import Message, Position
from ..contract import Heard
from ..followers import Followers
from . import rooms


class Follows:
    """The followers of one process, and what the file has yet to be told of them.

    A channel that nobody has published to is not noted in the file; when it is heard of, it is.

    Args:
        worker: The process, as the file knows it.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._followers = Followers()
        self._lock = threading.Lock()
        self._noted: set[str] = set()
        self._untold: dict[str, None] = {}
        # what the present turn notes, by channel: followed or not; None if there is no such channel
        self._turn: dict[str, bool | None] = {}
        # the last of this process's own messages that was told, by channel
        self._own: dict[str, Position] = {}

    def add(self, channel: str, heard: Heard) -> None:
        """Tell ``heard`` of this channel."""
        if self._followers.add(channel, heard):
            self._compare(channel)

    def remove(self, channel: str, heard: Heard) -> None:
        """Take one ``add`` back. Idempotent beyond that."""
        if self._followers.remove(channel, heard):
            self._compare(channel)

    def tell_own(self, message: Message) -> None:
        """This process has appended ``message``."""
        channel = message.channel
        if channel in self._followers:
            self._followers.tell(channel, message)
            with self._lock:  # only now: if somebody could not be told, the watch tells them all
                if channel in self._followers:
                    self._own[channel] = message.id

    def tell(self, channel: str, newest: Position) -> None:
        """Somebody has appended up to ``newest``."""
        if channel not in self._followers:
            return
        if channel not in self._noted:
            self._compare(channel)
        if self._own.get(channel) != newest:
            self._followers.tell(channel)

    def tell_all(self) -> None:
        """What was appended is not known."""
        self._followers.tell_all()

    def note(self, db: sqlite3.Connection) -> bool:
        """Begin a turn, and tell the file some of what it does not know; whether it noted anything.

        ``settle`` follows, or if the turn fails, the next.
        """
        with self._lock:
            if not self._turn and self._untold:  # what a failed turn has left comes first
                self._turn = dict.fromkeys(islice(self._untold, rooms.AT_ONCE))
                for channel in self._turn:
                    del self._untold[channel]
        for channel in self._turn:
            self._turn[channel] = None
            if channel not in self._followers:
                rooms.unfollow(db, self._worker, channel)
                self._turn[channel] = False
            elif rooms.follow(db, self._worker, channel):
                self._turn[channel] = True
        return True in self._turn.values()

    def note_new(self, db: sqlite3.Connection, channel: str) -> bool:
        """Note in this turn that a channel is followed that has just come to be, if it is."""
        if channel not in self._followers:
            return False
        self._turn[channel] = rooms.follow(db, self._worker, channel)
        return True

    def settle(self) -> None:
        """The turn is committed."""
        if not self._turn:
            return
        turn, self._turn = self._turn, {}
        for channel, is_noted in turn.items():
            with self._lock:
                if is_noted:
                    self._noted.add(channel)
                else:
                    self._noted.discard(channel)
            if is_noted is not None:
                self._compare(channel)  # it may have changed meanwhile

    def tell_again(self) -> None:
        """What the file knows of this process may be gone, all or some of it."""
        names = self._followers.names()
        with self._lock:
            self._untold |= dict.fromkeys((*self._noted, *names))

    @property
    def is_noted(self) -> bool:
        """Whether the file may have noted anything."""
        return bool(self._noted)

    @property
    def is_untold(self) -> bool:
        """Whether the file has to be told of anything."""
        return bool(self._untold or self._turn)

    def __len__(self) -> int:
        """How many channels are followed."""
        return len(self._followers)

    def _compare(self, channel: str) -> None:
        with self._lock:
            is_followed = channel in self._followers
            if not is_followed:
                self._own.pop(channel, None)
            is_noted = channel in self._noted
            if is_followed != is_noted:
                self._untold[channel] = None
            elif not is_followed:
                self._untold.pop(channel, None)
