"""Who is in a room, written down once for all who ask at the same time.

After a deploy thousands join one room again, and each asks who is there: a list for each of them
would be a square. So lists of a room are made one after the other, with a pause in proportion to
what one costs, and a list is good for all who had asked when it was begun. It is given out in
pages: else a thousand with a kilobyte each would be sent a gigabyte for a megabyte.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from ..errors import LogUnavailable
from ..logs import Member
from ..wire.compact import compact

PAUSE = 20.0
"""The pause behind a list, in times of what it took to make."""

LONGEST = 1.0
"""Seconds that a pause has at most."""

PATIENCE = 15.0
"""Seconds that somebody waits for a list which another one makes."""

KNOWN = 1000
"""Rooms of which it is remembered what their last list took."""

PAGE = 16 * 1024
"""Characters of JSON after which a page takes no other member."""


class Roster:
    """Who was in a room at one moment, in the order they came, as JSON."""

    __slots__ = ("_members", "_places", "_texts")

    def __init__(self, members: Iterable[Member]) -> None:
        self._members = list(members)
        self._texts = [compact(about(m)) for m in self._members]
        self._places = {member.id: place for place, member in enumerate(self._members, 1)}

    def page(self, after: str | None = None) -> str:
        """Fields of a JSON object: ``members``, a page of them; ``more``, the id that the next page
        comes after, if there is one; ``after``, if this one comes after somebody.

        The first page where ``after`` is nobody's id, or has left.
        """
        start, size, texts = self._places.get(after or "", 0), 0, self._texts
        end = start
        while end < len(texts) and size < PAGE:
            size += len(texts[end])
            end += 1
        fields = f'"members":[{",".join(texts[start:end])}]'
        if start:
            fields += f",{compact({'after': after})[1:-1]}"
        if end < len(texts):
            fields += f",{compact({'more': self._members[end - 1].id})[1:-1]}"
        return fields


def about(member: Member) -> dict[str, str | int]:
    """What others are told of a member: its name where it has one, its connections where they are
    several."""
    value: dict[str, str | int] = {"id": member.id, "info": member.info}
    if member.name:
        value["name"] = member.name
    if member.connections > 1:
        value["connections"] = member.connections
    return value


class _Batch:
    """Those who asked before one list was begun."""

    __slots__ = ("done", "error", "roster")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.roster = Roster(())
        self.error: Exception | None = LogUnavailable("The list of members is late. Try again.")


class Rosters:
    """Lists of members, by room. From any thread.

    Args:
        members: Who is in a room; may block and raise.
    """

    def __init__(self, members: Callable[[str], Iterable[Member]]) -> None:
        self._members = members
        self._lock = threading.Lock()
        self._open: dict[str, _Batch] = {}  # by room: lists that nobody has begun
        self._free: OrderedDict[str, float] = OrderedDict()  # when the next list may be begun

    def get(self, room: str) -> Roster:
        """The list of ``room``, begun after this was called. Waits for others who ask.

        Raises:
            Exception: What making it raises.
        """
        with self._lock:
            batch = self._open.get(room)
            is_mine = batch is None
            if batch is None:
                batch = self._open[room] = _Batch()
            pause = self._free.get(room, 0.0) - time.monotonic()
        if is_mine:
            self._write(room, batch, pause)
        else:
            batch.done.wait(PATIENCE)
        if batch.error is not None:
            raise batch.error
        return batch.roster

    def _write(self, room: str, batch: _Batch, pause: float) -> None:
        began = time.monotonic()
        try:
            time.sleep(max(pause, 0.0))
            with self._lock:
                self._open.pop(room, None)  # who asks from now on waits for the next
            began = time.monotonic()
            batch.roster = Roster(self._members(room))
            batch.error = None
        except Exception as error:
            batch.error = error
        finally:
            now = time.monotonic()
            with self._lock:
                if self._open.get(room) is batch:
                    del self._open[room]
                self._free[room] = now + min((now - began) * PAUSE, LONGEST)
                self._free.move_to_end(room)
                if len(self._free) > KNOWN:
                    self._free.popitem(last=False)
            batch.done.set()
