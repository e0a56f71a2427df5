"""What clients may ask for at all: the package's own rules, the same in every application."""

from __future__ import annotations

from ..errors import Forbidden, HubClosed
from ..hub.making import PREFIX
from ..hub.orders import RESERVED
from ..hub.presence import is_presence_channel, room_of
from ..names import check_channel
from .permissions import Action


def open_room(action: Action, channel: str, *, is_closing: bool) -> str:
    """The room that ``authorize`` is asked about, for who wants to do this in ``channel``.

    Who may subscribe to a room may know who is in it: ``authorize`` is asked for the room. To
    a presence channel no client publishes, or it could forge who is there; nor to that of a
    run, or it could forge an answer.

    Raises:
        InvalidMessage: If no channel is called so.
        Forbidden: If no client may do it.
        HubClosed: If it wants to publish to a server that ``is_closing``.
    """
    room = check_channel(room_of(check_channel(channel)))  # ":presence" has none
    if room.startswith(RESERVED):
        raise Forbidden(f"Channel {channel!r:.100} is the package's own.")
    if action != "publish":
        return room
    if is_closing:
        raise HubClosed("The server is restarting. Nothing was published. Try again in a moment.")
    if is_presence_channel(channel):
        raise Forbidden(f"Nobody publishes to {channel!r:.100}: only joining and leaving does.")
    if room.startswith(PREFIX):
        raise Forbidden(f"Nobody publishes to {channel!r:.100}: only the run's producer does.")
    return room
