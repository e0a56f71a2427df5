"""Who is in a room, over all processes: members in the log, changes in a channel beside it."""

from __future__ import annotations

from ..errors import InvalidMessage
from ..logs import Member
from ..names import check_channel
from ..own import Own
from ..threads import from_any_thread
from .attendance import Attendance
from .hub import Hub
from .roster import Roster
from .tidings import SUFFIX

INFO_SIZE = 1024
"""Bytes of text (UTF-8) that a member's info may hold."""

NAME_SIZE = 100
"""Characters that a member's name may hold."""


class Presence:
    """The members of this process, and the view of all others. From any thread.

    A forked child has no members: those of its parent stay its parent's.

    Args:
        hub: Where the members are kept and the events are published.
    """

    def __init__(self, hub: Hub) -> None:
        self._own = Own(lambda: Attendance(hub))

    @from_any_thread
    def join(
        self, room: str, member_id: str, info: str = "", *, name: str = "", connection: str = ""
    ) -> bool:
        """Put a member into ``room`` for a connection; False if it was there.

        It is there until each connection that has joined it has left, in this process and in all
        others. A connection joins once, however often it calls; the application's own calls are one
        connection of each process. ``name`` is who it is, as the application says, ``info`` what
        it says itself; what was said last counts. The room is told of a new member, and of a new
        name or info, but not of further connections.

        Raises:
            InvalidMessage: If the room, the id, the info or the name cannot be sent.
            HubClosed: If this process is about to stop.
            TooManyClients: If no thread can be started that beats for it.
            LogUnavailable: If the log cannot be reached; the connection has not joined.
        """
        presence_channel(room)
        return self._own().join(room, check_member(Member(member_id, info, name)), connection)

    @from_any_thread
    def hold(self, room: str, member_id: str) -> None:
        """Be in a silent room until ``release``, also while this process drains, or until it ends.

        Raises:
            TooManyClients: If no thread can be started that beats for it.
            LogUnavailable: If the log cannot be reached; the member is not in the room.
        """
        self._own().join(room, Member(member_id))

    @from_any_thread
    def release(self, room: str, member_id: str) -> None:
        """Take ``hold`` back. Idempotent; put off while the log cannot be reached."""
        self._own().leave(room, member_id)

    @from_any_thread
    def leave(self, room: str, member_id: str, *, connection: str = "") -> None:
        """Take ``join`` back for a connection. Idempotent.

        The room is told if with that nobody has the member any more. While the log cannot be
        reached this is put off, and done as soon as it can. In the midst of a ``join`` it is left
        to that, right behind it.

        Raises:
            InvalidMessage: If no room is called so.
        """
        presence_channel(room)
        self._own().leave(room, member_id, connection)

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
        InvalidMessage: If its id is not a text of 1 to 128 characters, its name not one of at most
            100, or its info over 1 KiB.
    """
    if not isinstance(member.id, str) or not 0 < len(member.id) <= 128:
        raise InvalidMessage("The id of a member is a text of 1 to 128 characters.")
    if not isinstance(member.name, str) or len(member.name) > NAME_SIZE:
        raise InvalidMessage(f"The name of a member is a text of at most {NAME_SIZE} characters.")
    if not isinstance(member.info, str):
        raise InvalidMessage("The info of a member is a text; use json.dumps.")
    try:
        size = len(member.info.encode())
        f"{member.id}{member.name}".encode()
    except UnicodeEncodeError as error:
        raise InvalidMessage("The text holds half of a surrogate pair.") from error
    if size > INFO_SIZE:
        raise InvalidMessage(f"The info of a member has at most {INFO_SIZE} bytes, not {size}.")
    return member
