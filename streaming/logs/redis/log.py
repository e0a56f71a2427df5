"""``redis:``, the log that many processes on many machines share."""

from __future__ import annotations

import logging
import secrets
from functools import partial
from typing import Any

from ...errors import LogUnavailable
from ...message import Gap, Message, Position
from ..contract import LEASE, Follower, Member, Page, Retention
from ..follower import BellFollower
from .announcements import Announcements
from .commands import Commands
from .errors import may_have_run
from .rooms import Rooms
from .scripts import APPEND, CHECK, READ, TAIL, TOUCH, Script
from .url import RedisURL

MARGIN = 120_000
"""Milliseconds that a channel outlives its last message."""

_log = logging.getLogger(__name__)


class RedisLog:
    """Channels in Redis 6.2 or newer. Connects when first used, so workers may fork before.

    ``retention.channels`` is not counted: a channel that nobody uses or follows is forgotten when
    all of it has grown old, and never if ``retention.age`` is None.

    Args:
        url: See ``url.FORMS``.
        retention: How much of its past a channel keeps; the same in all processes.
        lease: Seconds without a beat after which a process's members are taken out.

    Raises:
        ConfigurationError: If the URL is not a Redis log's.
    """

    def __init__(
        self, url: str, retention: Retention | None = None, *, lease: float = LEASE
    ) -> None:
        place = RedisURL.parse(url)
        keep = retention or Retention()
        age, window = int((keep.age or 0) * 1000), int(keep.key_window * 1000)
        self._keep = max(age, window) + MARGIN if age else 0
        self._window = window
        self._bounds = (self._keep, keep.messages, keep.size, age)
        self._prefix = place.prefix
        self._commands = Commands(place)
        self._rooms = Rooms(self._commands, self._prefix, lease=lease)
        self._announcements = Announcements(self._commands.listen, self._look)

    def append(
        self,
        channel: str,
        data: str,
        *,
        event: str = "message",
        key: str | None = None,
        sender: str | None = None,
    ) -> Message:
        args = (self._window, key or "", data, event, sender or "")
        try:
            epoch, offset, *first = self._run(APPEND, channel, *args, again=key is not None)
        except LogUnavailable as error:
            if not may_have_run(error.__cause__):
                raise
            raise LogUnavailable(
                f"{error} The message may be stored all the same: with a key it can be repeated."
            ) from error
        if first and first[0]:
            return _message(channel, epoch, first[0][0])
        position = Position(epoch, int(offset))
        return Message(channel, data, position, event, sender, key, _size(data))

    def read(self, channel: str, after: Position, *, limit: int, size: int) -> Page:
        args = (after.epoch, after.offset, limit, size)
        epoch, start, is_gap, newest, entries = self._run(READ, channel, *args, again=True)
        start, newest = int(start), int(newest)
        gap = None
        if is_gap and start < newest:
            gap = Gap(channel, after, Position(epoch, start + 1), Position(epoch, newest))
        elif is_gap:
            gap = Gap(channel, after, None, None)
        messages = [_message(channel, epoch, entry) for entry in entries]
        return Page(messages, Position(epoch, start + len(messages)), gap)

    def tail(self, channel: str, history: int = 0) -> Position:
        epoch, oldest, newest = self._run(TAIL, channel, again=True)
        return Position(epoch, max(int(newest) - max(history, 0), int(oldest) - 1))

    def follow(self, channel: str) -> Follower:
        name = self._key(channel, "log")
        bell = self._announcements.follow(name)
        return BellFollower(bell, partial(self._announcements.leave, name, bell))

    def enter(self, room: str, member: Member) -> bool:
        return self._rooms.enter(room, member)

    def leave(self, room: str, member: str) -> bool:
        return self._rooms.leave(room, member)

    def members(self, room: str) -> list[Member]:
        return self._rooms.members(room)

    def beat(self) -> list[tuple[str, str]]:
        return self._rooms.beat()

    def check(self) -> None:
        self._commands.run(CHECK, [f"{self._prefix}check"], again=True)
        self._commands.ping()
        if trouble := self._announcements.trouble:
            raise LogUnavailable(f"New messages are not heard of: {trouble}")

    def close(self) -> None:
        self._announcements.close()
        try:
            self._rooms.close()
        except LogUnavailable as error:
            _log.warning("Members of this process stay until their lease is over: %s", error)
        self._commands.close()

    def _run(self, script: Script, channel: str, *args: object, again: bool) -> Any:
        keys = [self._key(channel, name) for name in ("log", "meta", "keys", "order")]
        fresh = secrets.token_hex(4)
        return self._commands.run(script, keys, fresh, *self._bounds, *args, again=again)

    def _look(self, name: str) -> str:
        """What tells whether the channel whose announcements have this name has changed."""
        keys = [name, f"{name.removesuffix('log')}meta"]
        return str(self._commands.run(TOUCH, keys, self._keep, again=True))

    def _key(self, channel: str, name: str) -> str:
        return f"{self._prefix}{{{channel}}}:{name}"


def _message(channel: str, epoch: str, entry: list[Any]) -> Message:
    """The message that is stored as ``entry``, an id and its fields."""
    offset, _, _ = entry[0].partition("-")
    fields = dict(zip(entry[1][::2], entry[1][1::2], strict=True))
    return Message(
        channel,
        fields["d"],
        Position(epoch, int(offset)),
        fields.get("e", "message"),
        fields.get("s"),
        fields.get("k"),
        _size(fields["d"]),
    )


def _size(data: str) -> int:
    return len(data) if data.isascii() else len(data.encode())
