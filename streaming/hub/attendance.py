"""The members of one process: what it has put into rooms, and has to take out again.

State first, then event: whoever subscribes to the room's presence channel and then asks for the
members misses nothing. Events say what is so now, so a reader may take one twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable

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
        self._own: dict[_Seat, Member] = {}
        self._joining: set[_Seat] = set()  # on their way into the log
        self._parting: dict[_Seat, bool] = {}  # to be taken out; whether it has to be told anyway
        self._dead: list[_Seat] = []  # taken out by our beat, not told yet
        self._bell = Bell()
        self._is_beating = False
        self._is_waiting = False
        self._beaten = -BEAT  # when (``time.monotonic``)

    def join(self, room: str, member: Member) -> bool:
        """Put a member into ``room``; False if it was there."""
        seat = (room, member.id)
        with self._lock:
            if self._hub.closed.is_set() and not room.startswith(SILENT):
                raise HubClosed()
            before = self._own.get(seat)
            self._own[seat] = member
            self._joining.add(seat)
            self._parting.pop(seat, None)
        self._ensure_beat()
        try:
            is_new = self._hub.log.enter(room, member)
            if is_new or (before and before.info != member.info):
                self._tell("join", room, member.id, member.info)
        except BaseException:
            self._take_back(seat, member, before)
            raise
        finally:
            with self._lock:
                self._joining.discard(seat)
        if seat not in self._own:  # it left while we entered
            self._part(seat)
        return is_new

    def leave(self, room: str, member_id: str) -> None:
        """Take a member out of ``room``."""
        seat = (room, member_id)
        with self._lock:
            self._own.pop(seat, None)
            self._parting.setdefault(seat, False)
        self._part(seat)

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

    def _take_back(self, seat: _Seat, member: Member, before: Member | None) -> None:
        """A join failed. What the log has seen of it is not known."""
        with self._lock:
            if self._own.get(seat) is member:
                if before is not None:
                    self._own[seat] = before
                else:
                    del self._own[seat]
                    self._parting[seat] = False

    def _part(self, seat: _Seat) -> None:
        """``_depart`` now, or at the next beat if the log cannot be reached."""
        try:
            self._depart(seat)
        except LogUnavailable as error:
            with self._lock:
                self._parting[seat] = True  # the log may have done it before it failed us
            self._ensure_beat()
            self._complain(error)

    def _depart(self, seat: _Seat) -> None:
        was_there = self._hub.log.leave(*seat)
        with self._lock:
            must_tell = was_there or self._parting.get(seat, False)
            if must_tell:
                self._parting[seat] = True
        if must_tell:
            self._tell("leave", *seat)
        if seat in self._own:  # it joined again while we took it out
            self._enter_again((seat,))
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
                seats = [seat for seat in self._own if seat not in self._joining]
            self._enter_again(seats)
        with self._lock:
            parting = tuple(self._parting)
        for seat in parting:
            if seat in self._parting:
                self._depart(seat)

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
            seat = next((seat for seat in self._own if seat not in self._joining), None)
            if seat is None:
                return True
            self._own[seat] = self._own.pop(seat)
        room, member_id = seat
        return any(member.id == member_id for member in self._hub.log.members(room))

    def _enter_again(self, seats: Iterable[_Seat]) -> None:
        for seat in seats:
            while member := self._own.get(seat):
                if self._hub.log.enter(seat[0], member):
                    self._tell("join", *seat, member.info)
                if self._own.get(seat) is member:
                    break
            else:  # it left meanwhile
                self._depart(seat)
