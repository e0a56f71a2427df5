"""Who is in a room, over all processes: members in the log, changes in a channel beside it."""

from __future__ import annotations

from ..errors import InvalidMessage
from ..logs import Member
from ..names import check_channel
from ..own import Own
from ..threads import from_any_thread
from .attendance import SUFFIX, Attendance
from .hub import Hub
from .roster import Roster

INFO_SIZE = 1024
"""Bytes of text (UTF-8) that a member's info may hold."""


class Presence:
    """The members of this process, and the view of all others. From any thread.

    A forked child has no members: those of its parent stay its parent's.

    Args:
        hub: Where the members are kept and the events are published.
    """

    def __init__(self, hub: Hub) -> None:
        self._own = Own(lambda: Attendance(hub))

    @from_any_thread
    def join(self, room: str, member_id: str, info: str = "") -> bool:
        """Put a member into ``room`` until it leaves or this process ends; False if it was there.

        The room is told of a new member, and of new ``info`` of one that this process has. Use an
        id for each connection: it is one member however often it joins, and leaves once.

        Raises:
            InvalidMessage: If the room, the id or the info cannot be sent.
            HubClosed: If this process is about to stop.
            LogUnavailable: If the log cannot be reached; the member is not in the room.
        """
        presence_channel(room)
        return self._own().join(room, check_member(Member(member_id, info)))

    @from_any_thread
    def hold(self, room: str, member_id: str) -> None:
        """Be in a silent room until ``release``, also while this process drains, or until it ends.

        Raises:
            LogUnavailable: If the log cannot be reached; the member is not in the room.
        """
        self._own().join(room, Member(member_id))

    @from_any_thread
    def release(self, room: str, member_id: str) -> None:
        """Take ``hold`` back. Idempotent; put off while the log cannot be reached."""
        self._own().leave(room, member_id)

    @from_any_thread
    def leave(self, room: str, member_id: str) -> None:
        """Take a member that this process has out of ``room``, and tell the room. Idempotent.

        While the log cannot be reached this is put off, and done as soon as it can. In the midst of
        a ``join`` it is left to that, right behind it.

        Raises:
            InvalidMessage: If no room is called so.
        """
        presence_channel(room)
        self._own().leave(room, member_id)

    @from_any_thread
    def members(self, room: str) -> list[Member]:
        """Who is in ``room``, over all processes, in the order they came.

        Raises:
            InvalidMessage: If no room is called so.
            LogUnavailable: If the log cannot be reached.
        """
        presence_channel(room)
        return self._own().members(room)

    @from_any_thread
    def roster(self, room: str) -> Roster:
        """``members`` as JSON, written once for all who ask within a moment.

        Raises:
            InvalidMessage: If no room is called so.
            LogUnavailable: If the log cannot be reached.
        """
        presence_channel(room)
        return self._own().roster(room)

    @from_any_thread
    def close(self) -> None:
        """Have all members of this process leave, soon. Idempotent; does not wait.

        The hub is closed before: from then on nobody joins.
        """
        self._own().close()

    @property
    def is_idle(self) -> bool:
        """Whether this process has no members, and has told of all that left."""
        return self._own().is_idle

    def __len__(self) -> int:
        """How many members this process has, over all rooms."""
        return len(self._own())


def presence_channel(room: str) -> str:
    """The channel of a room's ``join`` and ``leave`` events.

    Raises:
        InvalidMessage: If no room is called so: it is no channel name, too long for a presence
            channel, or one itself.
    """
    if is_presence_channel(check_channel(room)):
        raise InvalidMessage(f"{room!r} is a presence channel; nobody joins it, subscribe to it.")
    return check_channel(room + SUFFIX)


def is_presence_channel(channel: str) -> bool:
    """Whether ``channel`` is the presence channel of a room."""
    return channel.endswith(SUFFIX)


def room_of(channel: str) -> str:
    """The room whose presence channel this is; any other channel is its own room."""
    return channel.removesuffix(SUFFIX) if is_presence_channel(channel) else channel


def check_member(member: Member) -> Member:
    """Return ``member`` if it can be told to others.

    Raises:
        InvalidMessage: If its id is not a text of 1 to 128 characters, or its info is over 1 KiB.
    """
    if not isinstance(member.id, str) or not 0 < len(member.id) <= 128:
        raise InvalidMessage("The id of a member is a text of 1 to 128 characters.")
    if not isinstance(member.info, str):
        raise InvalidMessage("The info of a member is a text; use json.dumps.")
    try:
        size = len(member.info.encode())
        member.id.encode()
    except UnicodeEncodeError as error:
        raise InvalidMessage("The text holds half of a surrogate pair.") from error
    if size > INFO_SIZE:
        raise InvalidMessage(f"The info of a member has at most {INFO_SIZE} bytes, not {size}.")
    return member
