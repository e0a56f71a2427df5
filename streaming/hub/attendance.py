"""The members of one process: what it has put into rooms, and has to take out again.

State first, then event: whoever subscribes to the room's presence channel and then asks for the
members misses nothing. Events say what is so now, so a reader may take one twice. What a process
does about a member is done, and told, one after the other: the last event says what is so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..bell import Bell
from ..errors import HubClosed, LogUnavailable
from ..logs import Member
from ..logs.contract import BEAT
from ..own import era, is_over
from ..wire.compact import compact
from .hub import Hub
from .roster import Roster, Rosters

SUFFIX = ":presence"
"""What a room's presence channel is called beyond the room."""

SILENT = "~"
"""What rooms of the engine's own begin with, as no channel does: nobody is told of them."""

PATIENCE = 5.0
"""Seconds that somebody waits for what is under way about the same member."""

_Seat = tuple[str, str]  # a room and the id of a member

_log = logging.getLogger(__name__)


class Attendance:
    """What ``Presence`` has of each process's own; see there for the verbs.

    Owns one daemon thread while it has members: it tells the log that this process lives, tells
    the rooms of the members that died with theirs, and makes up for what could not be done. A
    process that has none and is asked for them starts it for one such round.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._era = era()
        self._rosters = Rosters(self.members)
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._own: dict[_Seat, Member] = {}
        # Somebody is at it, in the log and in what is told; whether it was left meanwhile.
        self._busy: dict[_Seat, bool] = {}
        self._parting: dict[_Seat, bool] = {}  # to be taken out; whether it has to be told anyway
        self._dead: list[_Seat] = []  # taken out by our beat, not told yet
        self._amiss: dict[_Seat, bool] = {}  # lost by the log, to be entered again; likewise
        self._bell = Bell()
        self._is_beating = False
        self._is_waiting = False
        self._beaten = -BEAT  # when (``time.monotonic``)

    def join(self, room: str, member: Member) -> bool:
        """Put a member into ``room``; False if it was there."""
        seat = (room, member.id)
        with self._turn(seat):
            with self._lock:
                if self._hub.closed.is_set() and not room.startswith(SILENT):
                    raise HubClosed()
                before = self._own.get(seat)
                self._own[seat] = member
                owed = self._parting.pop(seat, False)
            self._ensure_beat()
            try:
                is_new = self._hub.log.enter(room, member)
                if is_new or (before and before.info != member.info):
                    self._tell("join", room, member.id, member.info)
            except BaseException:
                self._take_back(seat, before, owed)
                raise
        return is_new

    def leave(self, room: str, member_id: str) -> None:
        """Take a member out of ``room``."""
        seat = (room, member_id)
        with self._lock:
            self._own.pop(seat, None)
            self._parting.setdefault(seat, False)
            if seat in self._busy:
                self._busy[seat] = True
                return
            self._busy[seat] = True
        self._end_turn(seat)

    def members(self, room: str) -> list[Member]:
        """Who is in ``room``, over all processes."""
        found = self._hub.log.members(room)
        if not self._is_beating and time.monotonic() - self._beaten >= BEAT:
            self._bell.ring()  # it may be that nobody beats, and some are dead
            self._ensure_beat()
        return found

    def roster(self, room: str) -> Roster:
        """``members`` as JSON, written once for all who ask within a moment."""
        return self._rosters.get(room)

    def close(self) -> None:
        """Have all members leave, soon; those of silent rooms stay."""
        with self._lock:
            for seat in [seat for seat in self._own if not seat[0].startswith(SILENT)]:
                del self._own[seat]
                self._parting[seat] = False
                if seat in self._busy:
                    self._busy[seat] = True
            has_work = bool(self._parting)
        if has_work:
            self._ensure_beat()
            self._bell.ring()

    @property
    def is_idle(self) -> bool:
        """Whether there are no members, and all that left were told of."""
        return not (self._own or self._parting or self._dead)

    def __len__(self) -> int:
        """How many members this process has, over all rooms."""
        return len(self._own)

    def _tell(self, event: str, room: str, member_id: str, info: str | None = None) -> None:
        if room.startswith(SILENT):
            return
        value = {"id": member_id} if info is None else {"id": member_id, "info": info}
        self._hub.publish(room + SUFFIX, compact(value), event=event)

    def _take_back(self, seat: _Seat, before: Member | None, owed: bool) -> None:
        """A join failed. What the log has seen of it is not known."""
        with self._lock:
            if before is not None and seat in self._own:
                self._own[seat] = before
            else:
                self._own.pop(seat, None)
                self._parting[seat] = owed

    @contextmanager
    def _turn(self, seat: _Seat) -> Iterator[None]:
        """Nobody else of this process does anything about ``seat`` meanwhile. Waits for who does.

        Raises:
            LogUnavailable: If that takes too long.
        """
        with self._freed:
            if not self._freed.wait_for(lambda: seat not in self._busy, PATIENCE):
                raise LogUnavailable("The log is slow with the same member. Try again.")
            self._busy[seat] = False
        try:
            yield
        finally:
            self._end_turn(seat)

    def _end_turn(self, seat: _Seat) -> None:
        """Take ``seat`` out, if it was left meanwhile, and let the next one at it."""
        while True:
            with self._freed:
                if not self._busy[seat]:
                    del self._busy[seat]
                    self._freed.notify_all()
                    return
                self._busy[seat] = False
            try:
                self._part(seat)
            except BaseException:
                self._end_turn(seat)
                raise

    def _part(self, seat: _Seat) -> None:
        """``_depart`` now, or at the next beat if the log cannot be reached."""
        try:
            self._depart(seat)
        except LogUnavailable as error:
            self._ensure_beat()
            self._complain(error)

    def _depart(self, seat: _Seat) -> None:
        """Take ``seat`` out and tell so; for whoever has the turn."""
        try:
            was_there = self._hub.log.leave(*seat)
        except LogUnavailable:
            with self._lock:
                self._parting[seat] = True  # the log may have done it before it failed us
            raise
        with self._lock:
            must_tell = was_there or self._parting.get(seat, False)
            self._parting[seat] = must_tell
        if must_tell:
            self._tell("leave", *seat)
        with self._lock:
            self._parting.pop(seat, None)
            is_over = self._is_beating and self.is_idle
        if is_over:
            self._bell.ring()

    def _ensure_beat(self) -> None:
        with self._lock:
            start, self._is_beating = not self._is_beating, True
        if start:
            threading.Thread(target=self._run, name="presence beat", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._bell.wait(BEAT)
            if is_over(self._era):
                return
            try:
                self._beat()
                self._is_waiting = False
            except LogUnavailable as error:
                self._complain(error)
            except Exception:
                _log.exception("A presence beat failed")
            with self._lock:
                if self.is_idle:
                    self._is_beating = False
                    return

    def _complain(self, error: LogUnavailable) -> None:
        """Log the first of a row of failures."""
        if not self._is_waiting:
            self._is_waiting = True
            _log.warning("Presence waits for the log: %s", error)

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        self._dead += self._hub.log.beat()
        self._tell_dead()
        if not self._is_listed():
            with self._lock:
                self._amiss = dict.fromkeys(self._own, False) | self._amiss
        for seat in tuple(self._amiss):
            self._enter_again(seat)
        with self._lock:
            parting = tuple(self._parting)
        for seat in parting:
            self._make_up_for(seat)

    def _make_up_for(self, seat: _Seat) -> None:
        """Take ``seat`` out if that is still to be done, and nobody is at it."""
        with self._lock:
            if seat in self._busy or seat not in self._parting:
                return
            self._busy[seat] = False
        try:
            self._depart(seat)
        finally:
            self._end_turn(seat)

    def _tell_dead(self) -> None:
        told: dict[str, set[str]] = {}
        while self._dead:
            room, member_id = self._dead[-1]
            self._tell("leave", room, member_id)
            self._dead.pop()
            told.setdefault(room, set()).add(member_id)
        for room, ids in told.items():  # its process may have put one back before we spoke
            for member in self._hub.log.members(room):
                if member.id in ids:
                    self._tell("join", room, member.id, member.info)

    def _is_listed(self) -> bool:
        """Whether the log still has our members, judged by one, each time another.

        They go all together: when others have taken us for dead, or the log has lost its memory.
        """
        with self._lock:
            seat = next((seat for seat in self._own if seat not in self._busy), None)
            if seat is None:
                return True
            self._own[seat] = self._own.pop(seat)
        room, member_id = seat
        is_there = any(member.id == member_id for member in self._hub.log.members(room))
        return is_there or seat not in self._own  # it may have left just now

    def _enter_again(self, seat: _Seat) -> None:
        """Put a member that the log has lost into it, if it is still ours, and tell so."""
        with self._turn(seat):
            if member := self._own.get(seat):
                try:
                    self._amiss[seat] |= self._hub.log.enter(seat[0], member)
                except LogUnavailable:
                    self._amiss[seat] = True  # the log may have done it before it failed us
                    raise
                if self._amiss[seat]:
                    self._tell("join", *seat, member.info)
        del self._amiss[seat]
