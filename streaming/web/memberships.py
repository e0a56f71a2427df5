"""A WebSocket in a room: a stranger as itself, an identity as one member with all of its own."""

from __future__ import annotations

from ..clients.websocket import Connection
from .state import State


def enter(state: State, room: str, connection: Connection, info: str = "") -> None:
    """Be in ``room`` for this connection; ``info`` is what it says of itself.

    Raises:
        InvalidMessage: If the room or the info cannot be sent.
        HubClosed: If this process is about to stop.
        TooManyClients: If the system has no thread left.
        LogUnavailable: If the log cannot be reached; it has not joined.
        TooMuch: If its identity or address is in as many rooms as it may be.
    """
    name = connection.identity.name if connection.identity else ""
    is_new = state.joined.enter(connection.holder, connection.id, room)
    try:
        state.presence.join(room, connection.member, info, name=name, connection=connection.id)
    except BaseException:
        if is_new:
            state.joined.leave(connection.id, room)
        raise


def leave(state: State, room: str, connection: Connection) -> None:
    """Take ``enter`` back. Idempotent."""
    state.joined.leave(connection.id, room)
    state.presence.leave(room, connection.member, connection=connection.id)
