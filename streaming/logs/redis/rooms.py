"""Who is in which room, over all processes that share a Redis."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from ...errors import LogUnavailable
from ...wire.compact import parse
from ..contract import Member
from ..doubt import Doubt
from .commands import Commands
from .errors import is_outage
from .scripts import Script
from .seats import (
    BEAT,
    BURY,
    CLEAR,
    ENTER,
    FIND,
    FORGET,
    LEAVE,
    MEMBERS,
    NOTE,
    RENEW,
    ROOMS,
)
from .url import RedisURL

KEPT = 3600
"""Seconds that what nobody renews is kept in Redis."""


def _parse(id: str, row: str, more: str | None, workers: set[str]) -> tuple[int, Member] | None:
    """A member as it is written there, as far as these workers have it, and its place.

    Raises:
        LogUnavailable: If it is none of ours.
    """
    try:
        place, worker, info = parse(row)
        name, held = ("", {}) if more is None else parse(more)
        connections = sum(number for it, number in {worker: 1, **held}.items() if it in workers)
    except (ValueError, TypeError) as error:
        raise LogUnavailable(_FOREIGN) from error
    if not (type(info) is type(name) is str and type(place) is type(connections) is int):
        raise LogUnavailable(_FOREIGN)
    return (place, Member(id, info, name, connections)) if connections > 0 else None


_FOREIGN = "Redis has what somebody else put among the members of a room."


class Rooms:
    """The rooms of one Redis, as one process sees them. From any thread.

    Args:
        lease: Seconds without a beat after which a process counts as dead.
    """

    def __init__(
        self,
        commands: Commands,
        url: RedisURL,
        *,
        lease: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._commands = commands
        self._url = url
        self._lease = int(lease * 1000)
        self._clock = clock
        self._worker = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._own: dict[str, set[str]] = {}
        self._renewed = clock()
        self._doubt = Doubt(lease, clock)
        self._gone: list[tuple[str, str]] = []  # taken out, and no beat has said so yet

    def enter(self, room: str, member: Member, *, says: bool) -> Member | None:
        """See ``Log.enter``."""
        with self._lock:
            is_noted = room in self._own
            self._own.setdefault(room, set()).add(member.id)
        if not is_noted:  # before the member, so that it is found; each beat notes it again
            self._note([room])
        about = (member.id, member.info, member.name, member.connections, int(says))
        asked: list[str] = []
        while True:
            living, _ = self._beat(self._worker)
            args = (self._worker, *about, KEPT * 1000, len(living), *living, *asked)
            connections, *before = self._run(ENTER, [self._room(room)], *args)
            if connections >= 0:
                return Member(member.id, before[0], before[1], connections) if connections else None
            asked += before

    def leave(self, room: str, member: str) -> bool:
        """See ``Log.leave``."""
        is_gone = bool(self._run(LEAVE, [self._room(room)], self._worker, member))
        with self._lock:
            own = self._own.get(room)
            if own is None:
                return is_gone
            own.discard(member)
            if own:
                return is_gone
            del self._own[room]
        self._run(FORGET, [self._noted(self._worker)], room, again=True)
        return is_gone

    def members(self, room: str) -> list[Member]:
        """See ``Log.members``."""
        flat = self._run(MEMBERS, [self._room(room)], again=True)
        if len(flat) < 4:  # nobody, or the last place alone
            return []
        living = set(self._beat("")[0])
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        found = [
            placed
            for field, row in fields.items()
            if field[:1] == "m"
            and (placed := _parse(field[1:], row, fields.get(f"x{field[1:]}"), living))
        ]
        return [member for _, member in sorted(found, key=itemgetter(0))]

    def find(self, room: str, member: str, *, own: bool) -> Member | None:
        """See ``Log.find``."""
        found, more = self._run(FIND, [self._room(room)], member, again=True)
        if not found:
            return None
        workers = {self._worker} if own else set(self._beat("")[0])
        placed = _parse(member, found, more, workers)
        return placed and placed[1]

    def beat(self) -> list[tuple[str, str]]:
        """See ``Log.beat``."""
        own = self._rooms()
        with self._doubt.noted():  # whatever kept us from it
            _, dead = self._beat(self._worker)
            if own:
                self._note(own)
        if self._clock() - self._renewed > KEPT / 4:
            for room in own:
                self._run(RENEW, [self._room(room)], KEPT * 1000, again=True)
            self._renewed = self._clock()
        for worker in dead:
            for room, ids in self._bury(worker):
                with self._lock:
                    self._gone += [(room, id) for id in ids]
        with self._lock:
            gone, self._gone = self._gone, []
        return gone

    def close(self) -> None:
        """Take out the members of this process.

        Raises:
            LogUnavailable: If Redis cannot be reached; the others take them out later.
        """
        own = self._rooms()
        if own:
            for _ in self._bury(self._worker, own, lease=-1):
                pass
        with self._lock:
            self._own.clear()

    def note_standstill(self) -> None:
        """See ``Log.note_standstill``."""
        self._doubt.note()

    def _rooms(self) -> list[str]:
        with self._lock:
            return list(self._own)

    def _beat(self, worker: str) -> tuple[list[str], list[str]]:
        """Who lives and who has died, as far as can be told."""
        living, dead = self._run(
            BEAT, [f"{self._url.prefix}workers"], worker, self._lease, KEPT * 1000, again=True
        )
        return (living + dead, []) if self._doubt.lasts() else (living, dead)

    def _bury(
        self, worker: str, rooms: list[str] | None = None, *, lease: int | None = None
    ) -> Iterator[tuple[str, list[str]]]:
        """Take out the members of a dead worker; gives those that nobody else has, by room, as
        soon as they are: the next step may fail, and nothing would know of them then."""
        place = self._noted(worker)
        if rooms is None:
            rooms = self._run(ROOMS, [place], again=True)
        for room in rooms:
            yield room, self._run(CLEAR, [self._room(room)], worker)
            self._run(FORGET, [place], room, again=True)
        lease = self._lease if lease is None else lease
        self._run(BURY, [f"{self._url.prefix}workers"], worker, lease, again=True)

    def _note(self, rooms: list[str]) -> None:
        place = self._noted(self._worker)
        for start in range(0, len(rooms), 1000):
            some = rooms[start : start + 1000]
            self._run(NOTE, [place], KEPT * 1000, *some, again=True)

    def _run(self, script: Script, keys: Sequence[str], *args: object, again: bool = False) -> Any:
        """See ``Commands.run``. Of a Cluster it may be another node that is away, and for hours."""
        try:
            return self._commands.run(script, keys, *args, again=again)
        except LogUnavailable as error:
            cause = error.__cause__
            if isinstance(cause, Exception) and is_outage(cause) and self._url.kind != "cluster":
                self._doubt.note()
            raise

    def _room(self, room: str) -> str:
        return self._url.key(room, "members")

    def _noted(self, worker: str) -> str:
        return f"{self._url.prefix}worker:{worker}:rooms"
