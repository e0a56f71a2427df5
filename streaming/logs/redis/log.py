"""``redis:``, the log that many processes on many machines share."""

from __future__ import annotations

import logging
import re
import secrets
from typing import Any, NamedTuple

from ...errors import ChannelEnded, LogUnavailable
from ...message import Gap, Message, Position, text_size
from ...names import Patterns
from ...own import Own
from ...threads import from_any_thread
from ..contract import LEASE, Heard, Member, Page, Retention
from . import bounds
from .announcements import Announcements
from .bounds import Bounds
from .commands import Commands
from .errors import may_have_run
from .messages import stored
from .places import Places
from .rooms import Rooms
from .scripts import APPEND, CHECK, PRUNE, READ, TAIL, TOUCH, Script
from .url import RedisURL

_log = logging.getLogger(__name__)

_STRANGE = re.compile(r"[^A-Za-z0-9_.:-]")
"""What is in no channel's name."""

_SPECIAL = re.compile(r"[\\*?\[\]]")
"""What means something in a pattern of keys."""


class Process(NamedTuple):
    """One process's part in the log. Connects when first used."""

    commands: Commands
    rooms: Rooms
    announcements: Announcements
    places: Places


class RedisLog:
    """Channels in Redis 6.2 or newer. Connects when first used, each process for itself.

    ``retention.channels`` is not counted: a channel that nobody uses or follows is forgotten when
    all of it has grown old, and two minutes more; never if it is kept without a limit.

    Args:
        url: See ``url.FORMS``.
        retention: How much of its past a channel keeps; the same in all processes.
        lease: Seconds without a beat after which a process's members are taken out.

    Raises:
        ConfigurationError: If the URL is not a Redis log's.
    """

    reads = 4

    def __init__(
        self, url: str, retention: Retention | None = None, *, lease: float = LEASE
    ) -> None:
        place = RedisURL.parse(url)
        self.retention = keep = retention or Retention()
        self._bounds = Bounds.of(keep)
        self._named = Patterns({name: Bounds.of(other) for name, other in keep.named.items()})
        self._url = place
        self._lease = lease
        self._own = Own(self._begin)

    @property
    def process(self) -> Process:
        """This process's part in the log."""
        return self._own()

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
        size = text_size(data)
        args = (key or "", data, event, sender or "", int(last), traceparent or "")
        try:
            found = self._run(APPEND, channel, *args, again=key is not None)
        except LogUnavailable as error:
            if not may_have_run(error.__cause__):
                raise
            raise LogUnavailable(
                f"{error} The message may be stored all the same: with a key it can be repeated."
            ) from error
        if not found:
            raise ChannelEnded.of(channel)
        epoch, offset, *first = found
        if first and first[0]:
            return stored(channel, epoch, first[0][0])
        position = Position(epoch, int(offset))
        message = Message(channel, data, position, event, sender, key, size, traceparent)
        if not first:
            self.process.announcements.appended(message)
        return message

    @from_any_thread
    def read(self, channel: str, after: Position, *, limit: int, size: int) -> Page:
        args = (after.epoch, after.offset, limit, size)
        epoch, start, is_gap, newest, entries, ended = self._run(READ, channel, *args, again=True)
        start, newest = int(start), int(newest)
        gap = None
        if is_gap and start < newest:
            gap = Gap(channel, after, Position(epoch, start + 1), Position(epoch, newest))
        elif is_gap:
            gap = Gap(channel, after, None, None)
        messages = [stored(channel, epoch, entry) for entry in entries]
        end = start + len(messages)
        more = end < newest
        is_ended = bool(ended) and not more
        return Page(messages, Position(epoch, end), gap, more, is_ended, is_gap != 1)

    @from_any_thread
    def tail(self, channel: str, history: int = 0) -> Position:
        epoch, offset = self._run(TAIL, channel, max(history, 0), again=True)
        return Position(epoch, int(offset))

    @from_any_thread
    def channels(self, prefix: str = "", limit: int = 1000) -> list[str]:
        if limit < 1 or _STRANGE.search(prefix):
            return []
        start, brace, end = self._url.key("", "meta").rpartition("}")
        start = _SPECIAL.sub(r"\\\g<0>", start)
        found = self.process.commands.find(f"{start}{prefix}*{brace}{end}", limit)
        return [self._url.channel(key) for key in found]

    @from_any_thread
    def prune(self, channel: str) -> int:
        return int(self._run(PRUNE, channel, again=True))

    @from_any_thread
    def follow(self, channel: str, heard: Heard) -> None:
        self.process.announcements.follow(channel, heard)

    @from_any_thread
    def unfollow(self, channel: str, heard: Heard) -> None:
        self.process.announcements.unfollow(channel, heard)

    @from_any_thread
    def enter(self, room: str, member: Member, *, says: bool = True) -> Member | None:
        return self.process.rooms.enter(room, member, says=says)

    @from_any_thread
    def leave(self, room: str, member: str) -> bool:
        return self.process.rooms.leave(room, member)

    @from_any_thread
    def members(self, room: str) -> list[Member]:
        return self.process.rooms.members(room)

    @from_any_thread
    def find(self, room: str, member: str, *, own: bool = False) -> Member | None:
        return self.process.rooms.find(room, member, own=own)

    @from_any_thread
    def beat(self) -> list[tuple[str, str]]:
        return self.process.rooms.beat()

    @from_any_thread
    def take_place(self, holder: str, most: int) -> bool:
        return self.process.places.take(holder, most)

    @from_any_thread
    def give_place(self, holder: str) -> None:
        self.process.places.give(holder)

    def note_standstill(self) -> None:
        self.process.rooms.note_standstill()

    @from_any_thread
    def check(self) -> None:
        commands, _, announcements, _ = self.process
        commands.run(CHECK, [f"{self._url.prefix}check"], again=True)
        commands.ping()
        if trouble := announcements.trouble:
            raise LogUnavailable(f"New messages are not heard of: {trouble}")

    @from_any_thread
    def close(self) -> None:
        commands, rooms, announcements, places = self.process
        announcements.close()
        try:
            places.close()
            rooms.close()
        except LogUnavailable as error:
            _log.warning(
                "Members and places of this process stay until their lease is over: %s", error
            )
        commands.close()

    def _begin(self) -> Process:
        commands = Commands(self._url)
        return Process(
            commands,
            Rooms(commands, self._url, lease=self._lease),
            Announcements(commands.listen, self._look),
            Places(commands, self._url, lease=self._lease),
        )

    def _run(self, script: Script, channel: str, *args: object, again: bool) -> Any:
        keys = [self._url.key(channel, kind) for kind in ("log", "meta", "keys", "order")]
        fresh = secrets.token_hex(4)
        keep = self._named.of(channel, self._bounds)
        return self.process.commands.run(script, keys, fresh, *keep, *args, again=again)

    def _look(self, channel: str) -> str:
        """Where its head is, as far as it is there."""
        keys = [self._url.key(channel, kind) for kind in ("log", "meta")]
        keep = self._named.of(channel, self._bounds)
        args = (keep.keep, bounds.MARGIN, keep.least)
        return str(self.process.commands.run(TOUCH, keys, *args, again=True))
