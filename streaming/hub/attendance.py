"""The members of one process: what it has put into rooms, and has to take out again.

A member is there while any connection of this process has joined it. ``_own`` says what is to be
so: who has joined, and what was said last. What is so in the log, and is told, follows from it, by
one thread at a time for each member (``_turn``). Who changes ``_own`` while another is at it says
so (``_busy``), and leaves the rest to it. So behind the last turn, log and channel say what
``_own`` says; where the log failed, ``_parting`` or ``_amiss`` has the member, and the beat makes
up for it. Other processes may have the same member: the log says who was the first or the last.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ..bell import Bell
from ..errors import NO_THREAD, HubClosed, LogUnavailable, TooManyClients
from ..logs import Member
from ..logs.contract import BEAT
from ..own import era, is_over
from .hub import Hub
from .pulse import Pulse
from .roster import Roster, Rosters
from .tidings import SILENT, Tidings

PATIENCE = 5.0
"""Seconds that somebody waits for what is under way about the same member."""

_Seat = tuple[str, str]  # a room and the id of a member

_log = logging.getLogger(__name__)


class _Joined:
    """A member of ours: what was said of it last, and which connections have joined it."""

    __slots__ = ("connections", "member", "written")

    def __init__(self, member: Member) -> None:
        self.member = member
        self.connections: set[str] = set()
        self.written = 0  # the number that the log was told last

    @property
    def is_written(self) -> bool:
        """Whether the log was told how many connections there are."""
        return self.written == len(self.connections)

    def entered(self) -> Member:
        """What the log is told, about to be so."""
        self.written = len(self.connections)
        return replace(self.member, connections=self.written)


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
        self._tidings = Tidings(hub)
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._own: dict[_Seat, _Joined] = {}
        # Somebody is at it, in the log and in what is told; whether it was changed meanwhile.
        self._busy: dict[_Seat, bool] = {}
        # To be taken out; whether what is so has to be told anyway.
        self._parting: dict[_Seat, bool] = {}
        self._dead: deque[_Seat] = deque()  # gone with our beat, not told yet
        # To be entered again, for the log may not have it as it is here; likewise.
        self._amiss: dict[_Seat, bool] = {}
        self._bell = Bell()
        self._is_beating = False
        self._is_waiting = False
        self._beaten = -BEAT  # when (``time.monotonic``)
        self._pulse = Pulse()

    def join(self, room: str, member: Member, connection: str = "") -> bool:
        """Put a member into ``room`` for a connection; False if it was there."""
        seat = (room, member.id)
        with self._turn(seat):
            with self._lock:
                if self._hub.closed.is_set() and not room.startswith(SILENT):
                    raise HubClosed()
                joined = self._own.setdefault(seat, _Joined(member))
                before = joined.member if joined.connections else None
                is_first = connection not in joined.connections
                joined.connections.add(connection)
                joined.member = member
                owed = self._parting.pop(seat, False)
                entered = joined.entered()
            try:
                if not self._ensure_beat():
                    raise TooManyClients(NO_THREAD)
                seen = self._hub.log.enter(room, entered)
                is_news = seen is None or (seen.info, seen.name) != (member.info, member.name)
                if is_news or self._amiss.get(seat):
                    self._tidings.joined(room, member)
                with self._lock:
                    if seat in self._amiss:
                        self._amiss[seat] = False
            except BaseException:
                self._take_back(seat, before, connection if is_first else None, owed)
                raise
        return seen is None

    def leave(self, room: str, member_id: str, connection: str = "") -> None:
        """Take a connection's member out of ``room``, if no other of this process has joined it."""
        seat = (room, member_id)
        with self._lock:
            if (joined := self._own.get(seat)) is not None:
                joined.connections.discard(connection)
                if not joined.connections:
                    del self._own[seat]
                    self._parting.setdefault(seat, False)
                elif joined.is_written:
                    return
            elif seat not in self._parting:
                return
            if seat in self._busy:
                self._busy[seat] = True
                return
            self._busy[seat] = True
        self._end_turn(seat)

    def members(self, room: str) -> list[Member]:
        """Who is in ``room``, over all processes."""
        self._feel_the_pulse()
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
        with self._lock:
            return self._has_nothing()

    def _has_nothing(self) -> bool:
        return not (self._own or self._parting or self._dead)

    def __len__(self) -> int:
        """How many members this process has, over all rooms."""
        return len(self._own)

    def _take_back(
        self, seat: _Seat, before: Member | None, connection: str | None, owed: bool
    ) -> None:
        """A join failed. What the log has seen of it is not known."""
        with self._lock:
            joined = self._own.get(seat)
            if joined is not None and connection is not None:
                joined.connections.discard(connection)
            if joined is not None and joined.connections and before is not None:
                is_news = joined.member != before  # which the log may have, and nobody was told
                joined.member = before
                self._amiss[seat] = self._amiss.get(seat, False) or is_news
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
        """Do what was left to be done about ``seat`` meanwhile, and let the next one at it."""
        while True:
            with self._freed:
                if not self._busy[seat]:
                    del self._busy[seat]
                    self._freed.notify_all()
                    return
                self._busy[seat] = False
                is_parting = seat in self._parting
            try:
                if is_parting:
                    self._part(seat)
                else:
                    self._count(seat)
            except BaseException:
                self._end_turn(seat)
                raise

    def _count(self, seat: _Seat) -> None:
        """Tell the log how many connections have joined, now or at the next beat."""
        with self._lock:
            joined = self._own.get(seat)
            if joined is None or joined.is_written:
                return
            self._amiss.setdefault(seat, False)
        try:
            self._enter_amiss(seat)
        except LogUnavailable as error:
            self._complain(error)

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
            is_gone = self._hub.log.leave(*seat)
        except LogUnavailable:
            with self._lock:
                self._parting[seat] = True  # the log may have done it before it failed us
            raise
        with self._lock:
            is_owed = self._parting.get(seat, False)
            self._parting[seat] = is_owed or is_gone
        if is_gone:
            self._tidings.left(*seat)
        elif is_owed:
            self._tidings.as_it_is(*seat)
        with self._lock:
            self._parting.pop(seat, None)
            self._amiss.pop(seat, None)
            is_over = self._is_beating and self._has_nothing()
        if is_over:
            self._bell.ring()

    def _ensure_beat(self) -> bool:
        """See to it that somebody beats; False if no thread is to be had, for now."""
        with self._lock:  # nobody relies on it before it is there
            if not self._is_beating:
                try:
                    threading.Thread(target=self._run, name="presence beat", daemon=True).start()
                except RuntimeError:
                    return False
                self._is_beating = True
                self._pulse.begin()
        return True

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
                if self._has_nothing():
                    self._is_beating = False
                    self._pulse.end()
                    return

    def _complain(self, error: LogUnavailable) -> None:
        """Log the first of a row of failures."""
        if not self._is_waiting:
            self._is_waiting = True
            _log.warning("Presence waits for the log: %s", error)

    def _beat(self) -> None:
        self._say_that_we_live()
        while self._dead:
            self._stay_alive()
            self._tidings.left(*self._dead[0])
            self._dead.popleft()
        with self._lock:
            amiss = tuple(self._amiss)
        if not self._is_listed():
            with self._lock:
                self._amiss = dict.fromkeys(self._own, False) | self._amiss
                amiss = tuple(self._amiss)
        for seat in amiss:
            self._stay_alive()
            with self._turn(seat):
                self._enter_amiss(seat)
        with self._lock:
            parting = tuple(self._parting)
        for seat in parting:
            self._stay_alive()
            self._make_up_for(seat)

    def _say_that_we_live(self) -> None:
        self._beaten = time.monotonic()
        self._feel_the_pulse()
        self._dead += self._hub.log.beat()

    def _feel_the_pulse(self) -> None:
        """Tell the log if we have stood still: those that could not beat meanwhile live."""
        if self._pulse.has_stopped():
            self._hub.log.note_standstill()

    def _stay_alive(self) -> None:
        """Beat if that is due: thousands may be to be told, which takes longer than a lease."""
        if time.monotonic() - self._beaten >= BEAT:
            self._say_that_we_live()

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

    def _is_listed(self) -> bool:
        """Whether the log still has our members, judged by one, each time another.

        They go all together: when others have taken us for dead, or the log has lost its memory.
        """
        with self._lock:
            seat = next((seat for seat in self._own if seat not in self._busy), None)
            if seat is None:
                return True
            self._own[seat] = self._own.pop(seat)
        is_there = self._hub.log.find(*seat, own=True) is not None
        return is_there or seat not in self._own  # it may have left just now

    def _enter_amiss(self, seat: _Seat) -> None:
        """Put a member into the log as it is here, if it is still ours; for whoever has the turn.

        Tells so if the log had lost it.
        """
        with self._lock:
            is_owed = self._amiss.pop(seat, False)
            joined = self._own.get(seat)
            if joined is None:
                return
            entered = joined.entered()
        try:
            seen = self._hub.log.enter(seat[0], entered, says=False)
            is_owed |= seen is None
            if is_owed:
                self._tidings.joined(seat[0], seen or entered)
        except BaseException as error:
            with self._lock:  # the log may have done it before it failed us
                self._amiss[seat] = is_owed or isinstance(error, LogUnavailable)
            raise
