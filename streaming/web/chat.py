"""The tutorial's chat: plain text both ways, everybody in one room, which is a channel."""

from __future__ import annotations

from functools import partial

from flask import request

from ..clients.commands import Allowance
from ..clients.formats import FrameFormat
from ..clients.life import Bare, Take
from ..clients.websocket import Connection
from ..errors import Lagged
from ..hub.presence import presence_channel
from ..message import Gap, Message
from ..names import END
from ..wire import frames
from .admission import taken_ticket
from .memberships import enter, leave
from .publishing import publish
from .state import current_state

WELCOME = "Welcome to the WebSocket server!"


class ChatFormat(FrameFormat):
    """A message as the sender sees it, and as all others do."""

    personal = True

    def encode(self, message: Message, /) -> bytes:
        if message.event == END:
            return b""  # the connection ends, which says it
        return frames.encode_text(f"Other client said: {message.data}")

    def encode_own(self, message: Message, /) -> bytes:
        return frames.encode_text(f"You said: {message.data}")

    def around(self, message: Message, own: bool, others: bytes | None, /) -> tuple[bytes, bytes]:
        return b"You said: " if own else b"Other client said: ", b""

    def gap(self, lost: Gap, after: str, /) -> bytes:
        """Plain text has no words for a gap: end the connection rather than be silent.

        Raises:
            Lagged: Always.
        """
        raise Lagged(f"Too slow: messages of {lost.channel!r} are lost. Connect again.")


CHAT = ChatFormat()


def chat(connection: Connection, room: str, *, history: int = 0, check: bool = True) -> Take:
    """Join channel ``room`` and talk the tutorial's protocol; return what takes each message.

    Begins with the last ``history`` messages held. The client is a member of the room under its
    connection's id. ``authorize`` is asked once, at the start, whether it may follow the room and
    publish to it; with ``check=False`` the handler has decided. Needs an app context.

    Binary frames are taken as UTF-8 text. A message reaches its sender as ``You said: X``, all
    others as ``Other client said: X``, in the order of the log. For a handler of ``Sock.route`` to
    return. Who sends more than ``STREAMING_COMMANDS`` allows, or to a room that has all it may have
    (``STREAMING_CHANNEL_MESSAGES``), is ended with 1013.

    Raises:
        StreamingError: What ends the connection: a room that is none or is not for this client, a
            log that cannot be reached. The returned function raises for a message that cannot be
            sent.
    """
    state = current_state()
    asked = state.asked()
    presence_channel(room)
    if check:
        state.check_allowed("subscribe", room)
        state.check_allowed("publish", room)
    else:
        state.check_ticket("subscribe", [room])
        state.check_ticket("publish", [room])
    account = None
    if history:
        account = state.replays.account(state.holder(connection.environ), connection.id)
    if account:
        account.check()
    subscription = state.hub.subscribe(
        room,
        history=history,
        bell=connection.line.bell,
        replayed=account.charge if account else None,
    )
    try:
        connection.send(WELCOME)
        connection.is_checked = check
        if (ticket := taken_ticket()) is not None and connection.identity is not ticket.identity:
            state.introduce(connection, state.arrive(request.environ))
    except BaseException:
        subscription.close()
        raise
    connection.follow(subscription, CHAT)
    state.welcome(connection, asked)
    connection.on_end(partial(leave, state, room, connection))
    enter(state, room, connection)

    allowance = Allowance(state.commands, connection.holder)

    def take(data: str | bytes) -> None:
        if (refusal := allowance.ask()) is not None:
            raise refusal
        state.commands.check_message(room, connection.holder)
        text = data if isinstance(data, str) else data.decode("utf-8", "replace")
        connection.owe(publish(state.hub, room, text, by=connection))

    return Bare(take)
