"""What a room is told of those that come and go, in the channel beside it.

State first, then event: whoever subscribes to the room's presence channel and then asks for the
members misses nothing. Events say what is so now, so a reader may take one twice.

One may leave in this process and come back in another before the leave is told. So whoever tells
of a leave looks afterwards, and tells what is so until it stays so. Then the last event says what
is so: who told it has looked since, and who changes it later tells later.
"""

from __future__ import annotations

from dataclasses import replace

from ..logs import Member
from ..wire.compact import compact
from .hub import Hub
from .roster import about

SUFFIX = ":presence"
"""What a room's presence channel is called beyond the room."""

SILENT = "~"
"""What rooms of the engine's own begin with, as no channel does: nobody is told of them."""


class Tidings:
    """The events ``join`` and ``leave`` of all rooms.

    Each method raises LogUnavailable where the log is away; then it is not known what was told.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def joined(self, room: str, member: Member) -> None:
        """Tell that a member has come, or is known by other words; for who has it in the log."""
        if not room.startswith(SILENT):
            value = about(replace(member, connections=1))  # nobody is told when they change
            self._hub.publish(room + SUFFIX, compact(value), event="join")

    def left(self, room: str, member_id: str) -> None:
        """Tell that a member is gone from the log."""
        if not room.startswith(SILENT):
            self._hub.publish(room + SUFFIX, compact({"id": member_id}), event="leave")
            self.as_it_is(room, member_id, was_there=False)

    def as_it_is(self, room: str, member_id: str, *, was_there: bool | None = None) -> None:
        """Tell whether a member is there, unless that was told last."""
        if room.startswith(SILENT):
            return
        while ((found := self._hub.log.find(room, member_id)) is not None) != was_there:
            was_there = found is not None
            if found is not None:
                self.joined(room, found)
            else:
                self._hub.publish(room + SUFFIX, compact({"id": member_id}), event="leave")
