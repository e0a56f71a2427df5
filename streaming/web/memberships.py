"""A WebSocket in a room: a stranger as itself, an identity as one member with all of its own."""

from __future__ import annotations

from ..clients.websocket import Connection
from ..hub.presence import Presence


def enter(presence: Presence, room: str, connection: Connection, info: str = "") -> None:
    """Be in ``room`` for this connection; ``info`` is what it says of itself.

    Raises:
        InvalidMessage: If the room or the info cannot be sent.
        HubClosed: If this process is about to stop.
        LogUnavailable: If the log cannot be reached; it has not joined.
    """
    name = connection.identity.name if connection.identity else ""
    presence.join(room, connection.member, info, name=name, connection=connection.id)


def leave(presence: Presence, room: str, connection: Connection) -> None:
    """Take ``enter`` back. Idempotent."""
    presence.leave(room, connection.member, connection=connection.id)
