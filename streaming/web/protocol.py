"""``streaming.v1.json``: channels over a WebSocket, one JSON object in each text frame."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..clients.commands import Allowance
from ..clients.formats import FrameFormat
from ..clients.life import Bare, Take
from ..clients.websocket import Connection
from ..errors import HubClosed, InvalidRequest, ProtocolError, StreamingError, TooMuch
from ..hub.hub import MAX_CHANNELS
from ..hub.presence import presence_channel
from ..message import Cursor, Gap, Message
from ..names import check_channel, check_event
from ..wire import frames
from ..wire.compact import compact, escaped
from .admission import taken_ticket
from .json_objects import parse_flat_object
from .memberships import enter, leave
from .owners import owner_of
from .publishing import publish
from .state import State

PROTOCOL = "streaming.v1.json"

_log = logging.getLogger(__name__)


class JsonFormat(FrameFormat):
    """Messages and gaps as JSON objects."""

    def encode(self, message: Message, /) -> bytes:
        value = {**_about(message), "data": message.data}
        if message.sender:
            value["from"] = _sender(message)
        return _frame(value)

    def escape(self, text: str, /) -> bytes:
        return escaped(text)

    def around(self, message: Message, own: bool, others: bytes | None, /) -> tuple[bytes, bytes]:
        sender = "," + compact({"from": _sender(message)})[1:-1] if message.sender else ""
        before = compact(_about(message))[:-1]
        return f'{before},"data":"'.encode(), f'"{sender}}}'.encode()

    def gap(self, lost: Gap, after: str, /) -> bytes:
        return _frame({"type": "gap", **lost.payload(), "id": after})

    def ended(self, channel: str, /) -> bytes:
        return _frame({"type": "ended", "channel": channel})


JSON = JsonFormat()


def _about(message: Message) -> dict[str, object]:
    """What a message is, before its text."""
    return {
        "type": "message",
        "channel": message.channel,
        "id": str(message.id),
        "event": message.event,
    }


def _sender(message: Message) -> dict[str, str]:
    """Who published it: the connection, and who that was, if the application knew it."""
    value = {"client": message.client} if message.client else {}
    if (identity := message.identity) is not None:
        value |= {"id": identity.id, "name": identity.name}
    return value


def converse(connection: Connection, state: State) -> Take:
    """Say welcome; return what follows the client's frames (``docs/protocols.md``).

    For a handler of ``Sock.route`` to return. A frame that cannot be followed is answered with an
    ``error`` frame and changes nothing.
    """
    connection.is_checked = True
    connection.ticket_frame = _ticket
    session = _Conversation(connection, state)
    session.send({"type": "welcome", "client": connection.id})
    return Bare(session.take)


class _Conversation:
    def __init__(self, connection: Connection, state: State) -> None:
        self._connection = connection
        self._state = state
        self._check_allowed = state.checks_later(connection.identity)
        # since when its ticket says what it may do; without one that is asked each time
        self._asked = None if taken_ticket() is None else state.asked()
        self._rooms: tuple[str, ...] = ()
        self._allowance = Allowance(state.commands, connection.holder)
        self._account = state.replays.account(connection.holder, connection.id)

    def send(self, value: Mapping[str, object], request: Mapping[str, Any] | None = None) -> None:
        if request is not None and "ref" in request:
            value = {**value, "ref": request["ref"]}
        self._connection.send(compact(value))

    def take(self, data: str | bytes) -> None:
        """Follow one frame, or say what is wrong with it."""
        request: Mapping[str, Any] = {}
        try:
            refusal = self._allowance.ask()
            request = _parse(data)
            if refusal is not None:
                raise refusal
            verb = _VERBS.get(request["type"])
            if verb is None:
                raise InvalidRequest(
                    f"Type {request['type']!r:.60} is unknown; use one of {', '.join(_VERBS)}."
                )
            verb(self, request)
        except (HubClosed, ProtocolError):
            raise
        except StreamingError as error:
            if self._connection.reason is not None:
                raise
            if error.status >= 500:
                _log.warning("%s: %s", error.title, error)
            said = {**error.problem(), "type": "error"}
            if isinstance(error, TooMuch):
                said["retry_after"] = error.retry_after
            self.send(said, request)

    def _subscribe(self, request: Mapping[str, Any]) -> None:
        channel, line = check_channel(_text(request, "channel")), self._connection.line
        if line.subscription(channel) is not None:
            raise InvalidRequest(f"Channel {channel!r} is followed already.")
        if len(line.subscriptions()) >= MAX_CHANNELS:
            raise InvalidRequest(f"A connection follows at most {MAX_CHANNELS} channels.")
        after = _text(request, "after") if request.get("after") is not None else None
        history = request.get("history", 0)
        if not isinstance(history, int) or isinstance(history, bool) or history < 0:
            raise InvalidRequest("'history' is a number of messages.")
        if after is not None:
            Cursor.parse(after)
        account, asked = self._account, self._asked or time.monotonic()
        if account and (history or after is not None):
            account.check()
        self._check_allowed("subscribe", channel)
        subscription = self._state.hub.subscribe(
            channel,
            after=after,
            history=history,
            bell=line.bell,
            replayed=account.charge if account else None,
        )
        try:
            self.send({"type": "ready", "channel": channel, "id": subscription.id}, request)
        except BaseException:
            subscription.close()
            raise
        self._connection.follow(subscription, JSON)
        self._state.welcome(self._connection, asked)

    def _unsubscribe(self, request: Mapping[str, Any]) -> None:
        channel = _text(request, "channel")
        if not self._connection.line.unfollow(channel):
            raise InvalidRequest(f"Channel {channel!r} is not followed.")
        self.send({"type": "unsubscribed", "channel": channel}, request)

    def _publish(self, request: Mapping[str, Any]) -> None:
        channel, data = _text(request, "channel"), _text(request, "data")
        event = check_event(_text(request, "event")) if "event" in request else "message"
        key, owner = request.get("key"), owner_of(request)
        self._check_allowed("publish", channel)
        self._state.commands.check_message(channel, self._connection.holder)
        hub, by = self._state.hub, self._connection
        message = publish(hub, channel, data, event=event, key=key, owner=owner, by=by)
        self._connection.owe(message)
        self.send({"type": "ack", "channel": channel, "id": str(message.id)}, request)

    def _join(self, request: Mapping[str, Any]) -> None:
        room, presence = _room(request), self._state.presence
        if len(self._rooms) >= MAX_CHANNELS and room not in self._rooms:
            raise InvalidRequest(f"A connection is in at most {MAX_CHANNELS} rooms.")
        info = _text(request, "info") if "info" in request else ""
        if self._account:
            self._account.check()
        self._check_allowed("subscribe", room)
        self._connection.on_end(self._leave_all)
        enter(self._state, room, self._connection, info)
        try:
            members = presence.roster(room)
        except BaseException:
            if room not in self._rooms:
                leave(self._state, room, self._connection)
            raise
        if room not in self._rooms:
            self._rooms += (room,)
        self._list("joined", room, members.page(), request)

    def _leave(self, request: Mapping[str, Any]) -> None:
        room = _text(request, "channel")
        if room not in self._rooms:
            raise InvalidRequest(f"Room {room!r} was not joined.")
        self._rooms = tuple(other for other in self._rooms if other != room)
        leave(self._state, room, self._connection)
        self.send({"type": "left", "channel": room}, request)

    def _presence(self, request: Mapping[str, Any]) -> None:
        room = _room(request)
        after = _text(request, "after") if request.get("after") is not None else None
        if self._account:
            self._account.check()
        self._check_allowed("subscribe", room)
        self._list("presence", room, self._state.presence.roster(room).page(after), request)

    def _list(self, kind: str, room: str, members: str, request: Mapping[str, Any]) -> None:
        """Send a page of who is in a room, which is written down already."""
        if self._account:
            self._account.charge(1, len(members))
        value = {"type": kind, "channel": room}
        if "ref" in request:
            value["ref"] = request["ref"]
        self._connection.send(f"{compact(value)[:-1]},{members}}}")

    def _leave_all(self) -> None:
        for room in self._rooms:
            leave(self._state, room, self._connection)


_VERBS: Mapping[str, Callable[[_Conversation, Mapping[str, Any]], None]] = {
    "subscribe": _Conversation._subscribe,
    "unsubscribe": _Conversation._unsubscribe,
    "publish": _Conversation._publish,
    "join": _Conversation._join,
    "leave": _Conversation._leave,
    "presence": _Conversation._presence,
}


def _parse(data: str | bytes) -> Mapping[str, Any]:
    if isinstance(data, bytes):
        raise ProtocolError("This protocol speaks text frames only.", 1003)
    value = parse_flat_object(data)
    if not isinstance(value.get("type"), str):
        raise InvalidRequest("A frame is a JSON object with a 'type'.")
    ref = value.get("ref")
    if not (ref is None or isinstance(ref, int | str)) or not _is_short(str(ref)):
        del value["ref"]
        raise InvalidRequest("'ref' is a number or a text of at most 64 characters.")
    return value


def _is_short(ref: str) -> bool:
    """At most 64 characters, all of which can be sent back."""
    return len(ref) <= 64 and ref == ref.encode("utf-8", "replace").decode()


def _text(request: Mapping[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"{name!r} is missing or not a text.")
    return value


def _room(request: Mapping[str, Any]) -> str:
    room = _text(request, "channel")
    presence_channel(room)  # checks the name
    return room


def _ticket(ticket: Mapping[str, object]) -> bytes:
    return _frame({"type": "ticket", **ticket})


def _frame(value: Mapping[str, object]) -> bytes:
    return frames.encode_text(compact(value))
