"""Who is in which room, over all processes that share a Redis."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable

from ...errors import LogUnavailable
from ..contract import Member
from .commands import Commands
from .scripts import Script
from .url import RedisURL

KEPT = 3600
"""Seconds that what nobody renews is kept in Redis."""

# A room is one hash: member -> [order, worker, info], and under "" the last order given.
# ARGV: worker, member, info, ms, workers that live. Gives 1 if the member was not there.
ENTER = Script.of("""
local worker, member, info = ARGV[1], 'm' .. ARGV[2], ARGV[3]
local there = redis.call('HGET', KEYS[1], member)
local order, isNew = nil, 1
if there then
  local old = cjson.decode(there)
  for n = 5, #ARGV do
    if ARGV[n] == old[2] then order, isNew = old[1], 0 end
  end
end
order = order or redis.call('HINCRBY', KEYS[1], '', 1)
redis.call('HSET', KEYS[1], member, cjson.encode({order, worker, info}))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return isNew
""")

LEAVE = Script.of("return redis.call('HDEL', KEYS[1], 'm' .. ARGV[1])")

MEMBERS = Script.of("return redis.call('HGETALL', KEYS[1])")

# Takes out all members of one worker and gives their ids: to one caller, for it is one step.
CLEAR = Script.of("""
local gone, all = {}, redis.call('HGETALL', KEYS[1])
for n = 1, #all, 2 do
  if string.sub(all[n], 1, 1) == 'm' and cjson.decode(all[n + 1])[2] == ARGV[1] then
    redis.call('HDEL', KEYS[1], all[n])
    gone[#gone + 1] = string.sub(all[n], 2)
  end
end
return gone
""")

RENEW = Script.of("return redis.call('PEXPIRE', KEYS[1], ARGV[1])")

# The rooms that one worker has members in, so that they can be found when it dies.
NOTE = Script.of("""
-- Redis asks for memory before a script's first write only, and not for this one.
redis.call('SREM', KEYS[1], '')
redis.call('SADD', KEYS[1], unpack(ARGV, 2))
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
""")

ROOMS = Script.of("return redis.call('SMEMBERS', KEYS[1])")

FORGET = Script.of("return redis.call('SREM', KEYS[1], ARGV[1])")

# All workers by their last beat. ARGV: worker or '', ms of a lease, ms to keep it.
# Gives those that live, and those that died. Where Redis takes no writes nobody can beat, so those
# live that did when somebody last could.
BEAT = Script.of("""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local nothing = redis.pcall('ZREM', KEYS[1], '')  -- no memory is asked for, nor behind it
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now, ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
elseif type(nothing) == 'table' then
  local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
  now = math.min(tonumber(last) or now, now)
end
return {redis.call('ZRANGEBYSCORE', KEYS[1], now - ARGV[2], '+inf'),
        redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now - ARGV[2]))}
""")

# Forgets a worker unless it has come back. ARGV: worker, ms of a lease (below 0: in any case).
BURY = Script.of("""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local beat = redis.call('ZSCORE', KEYS[1], ARGV[1])
if beat and tonumber(beat) < now - ARGV[2] then redis.call('ZREM', KEYS[1], ARGV[1]) end
""")


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
        self._is_away = False
        self._spared = 0.0  # until then nobody is taken for dead: they could not beat either

    def enter(self, room: str, member: Member) -> bool:
        """See ``Log.enter``."""
        with self._lock:
            is_noted = room in self._own
            self._own.setdefault(room, set()).add(member.id)
        if not is_noted:  # before the member, so that it is found; each beat notes it again
            self._note([room])
        living, _ = self._beat(self._worker)
        args = (self._worker, member.id, member.info, KEPT * 1000, *living)
        return bool(self._commands.run(ENTER, [self._room(room)], *args))

    def leave(self, room: str, member: str) -> bool:
        """See ``Log.leave``."""
        was_there = bool(self._commands.run(LEAVE, [self._room(room)], member))
        with self._lock:
            own = self._own.get(room)
            if own is None:
                return was_there
            own.discard(member)
            if own:
                return was_there
            del self._own[room]
        self._commands.run(FORGET, [self._noted(self._worker)], room, again=True)
        return was_there

    def members(self, room: str) -> list[Member]:
        """See ``Log.members``."""
        flat = self._commands.run(MEMBERS, [self._room(room)], again=True)
        if len(flat) < 4:  # nobody, or the last order alone
            return []
        living, _ = self._beat("")
        fields = zip(flat[::2], flat[1::2], strict=True)
        there = [(*json.loads(value), name[1:]) for name, value in fields if name[:1] == "m"]
        return [
            Member(member, info) for _, worker, info, member in sorted(there) if worker in living
        ]

    def beat(self) -> list[tuple[str, str]]:
        """See ``Log.beat``."""
        own = self._rooms()
        try:
            _, dead = self._beat(self._worker)
            if own:
                self._note(own)
        except LogUnavailable:
            self._is_away = True
            raise
        if self._is_away:
            self._is_away, self._spared = False, self._clock() + self._lease / 1000
        if self._clock() - self._renewed > KEPT / 4:
            for room in own:
                self._commands.run(RENEW, [self._room(room)], KEPT * 1000, again=True)
            self._renewed = self._clock()
        if self._clock() < self._spared:
            return []
        return [gone for worker in dead for gone in self._bury(worker)]

    def close(self) -> None:
        """Take out the members of this process.

        Raises:
            LogUnavailable: If Redis cannot be reached; the others take them out later.
        """
        own = self._rooms()
        if own:
            self._bury(self._worker, own, lease=-1)
        with self._lock:
            self._own.clear()

    def _rooms(self) -> list[str]:
        with self._lock:
            return list(self._own)

    def _beat(self, worker: str) -> tuple[list[str], list[str]]:
        living, dead = self._commands.run(
            BEAT, [f"{self._url.prefix}workers"], worker, self._lease, KEPT * 1000, again=True
        )
        return living, dead

    def _bury(
        self, worker: str, rooms: list[str] | None = None, *, lease: int | None = None
    ) -> list[tuple[str, str]]:
        """Take out the members of a dead worker; gives those that nobody else has."""
        place = self._noted(worker)
        if rooms is None:
            rooms = self._commands.run(ROOMS, [place], again=True)
        gone: list[tuple[str, str]] = []
        for room in rooms:
            ids = self._commands.run(CLEAR, [self._room(room)], worker)
            gone += [(room, member) for member in ids]
            self._commands.run(FORGET, [place], room, again=True)
        lease = self._lease if lease is None else lease
        self._commands.run(BURY, [f"{self._url.prefix}workers"], worker, lease, again=True)
        return gone

    def _note(self, rooms: list[str]) -> None:
        place = self._noted(self._worker)
        for start in range(0, len(rooms), 1000):
            some = rooms[start : start + 1000]
            self._commands.run(NOTE, [place], KEPT * 1000, *some, again=True)

    def _room(self, room: str) -> str:
        return self._url.key(room, "members")

    def _noted(self, worker: str) -> str:
        return f"{self._url.prefix}worker:{worker}:rooms"
