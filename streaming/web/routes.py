"""The blueprint: what every application that uses the package serves."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, request

from ..clients.life import Take
from ..clients.websocket import Connection
from ..errors import HandshakeError, InvalidRequest, StreamingError
from ..hub.hub import check_channels
from ..hub.presence import presence_channel, room_of
from ..identity import sign
from ..threads import note_greenlets
from . import metrics, protocol, publishing
from .json_objects import parse_sparse_object
from .origin import allow_origin
from .owners import owner_of
from .refusals import answer_error, in_stream
from .requests import check_parameters, last_seen, read_count, read_json
from .responses import event_stream
from .runs import join_run, stop_run
from .sock import PlainSock
from .state import current_state
from .surroundings import look_at_config, look_at_publish, look_at_stream

PARAMETERS = {
    "events": ("channel", "history", "last_event_id", "ticket"),
    "presence": ("after", "ticket"),
    "join_run": ("last_event_id", "ticket"),
    "stop_run": ("ticket",),
    "publish": ("ticket",),
    "socket": ("ticket",),
    "not_a_websocket": ("ticket",),
}
"""What the URL of each route may say behind the question mark; nothing elsewhere."""


def create_blueprint() -> Blueprint:
    """A blueprint with the streams, the WebSocket, HTTP publish and the browser client."""
    blueprint = Blueprint("streaming", __name__, static_folder="../static")
    sock = PlainSock()
    blueprint.get("/events")(events)
    blueprint.post("/channels/<channel>")(publish)
    blueprint.get("/presence/<room>")(presence)
    blueprint.get("/runs/<id>")(join_run)
    blueprint.delete("/runs/<id>")(stop_run)
    blueprint.get("/healthz")(healthz)
    blueprint.get("/readyz")(readyz)
    blueprint.get("/ws")(not_a_websocket)
    sock.route("/ws", blueprint, subprotocols=[protocol.PROTOCOL], endpoint="socket")(converse)
    blueprint.before_app_request(look_at_request)
    blueprint.before_request(check_url)
    blueprint.app_errorhandler(StreamingError)(answer_error)
    blueprint.after_request(allow_listed)
    return blueprint


def look_at_request() -> None:
    """See at the first request what was set too late, and what server a WebSocket meets."""
    state = current_state()
    if not state.unheard.is_heard:  # the first
        state.unheard.is_heard = True
        note_greenlets()
        look_at_config(current_app.config, state)
        metrics.begin(state)
    if request.url_rule is not None and request.url_rule.websocket:
        look_at_stream(request.environ, state)


def check_url() -> None:
    """Return if the URL's parameters mean something where they were sent; take its ticket."""
    name = (request.endpoint or "").rpartition(".")[2]
    if name != "static" and request.args and request.method != "OPTIONS":
        state, known = current_state(), PARAMETERS.get(name, ())
        own = state.settings.parameters
        check_parameters(request, known, own)
        if "ticket" in known:
            state.take_ticket(is_ours="ticket" not in own)


def allow_listed(response: Response) -> Response:
    """``response``, readable by the pages that the settings list."""
    settings = current_state().settings
    return allow_origin(request, response, settings.origins, settings.headers)


def events() -> Response:
    """``GET /events?channel=a&channel=b``: follow channels over SSE or NDJSON."""
    state = current_state()
    channels = check_channels(request.args.getlist("channel"))
    check_channels(map(room_of, channels))
    history = read_count(request.args.get("history"), "history")
    for channel in channels:
        state.check_allowed("subscribe", channel)
    look_at_stream(request.environ, state)
    after = last_seen(request)
    return in_stream(
        lambda: event_stream(
            request, state, channels, after=after, history=history, is_checked=True
        )
    )


def publish(channel: str) -> tuple[dict[str, str], int]:
    """``POST /channels/<channel>``: publish one message."""
    state = current_state()
    state.check_allowed("publish", channel)
    state.check_command(request.environ)
    look_at_publish(request.environ, state)
    most = 6 * state.settings.message_size + 4096  # "\u0041" is one byte
    body = read_json(request, most, parse=parse_sparse_object)
    unknown = body.keys() - {"data", "event", "key", "secret"}
    if unknown:
        raise InvalidRequest(
            f"{min(unknown)!r:.100} is unknown; send 'data', 'event', 'key' and 'secret'."
        )
    if not isinstance(body.get("data"), str):
        raise InvalidRequest("'data' is missing or not a text.")
    owner = owner_of(body)
    body.pop("secret", None)
    state.commands.check_message(channel, state.holder(request.environ))
    sender = sign(None, state.identity())
    message = publishing.publish(state.hub, channel, **body, owner=owner, sender=sender)
    state.registry.note_message(message.size)
    return {"channel": channel, "id": str(message.id)}, 201


def presence(room: str) -> Response:
    """``GET /presence/<room>``: who is in a room, over all workers; the page after ``?after=``."""
    state = current_state()
    presence_channel(room)  # checks the name
    state.check_allowed("subscribe", room)
    state.check_command(request.environ)
    account = state.account(request.environ)
    if account:
        account.check()
    page = state.presence.roster(room).page(request.args.get("after"))
    if account:
        account.charge(1, len(page))
    text = f'{{"room":"{room}",{page}}}'
    return Response(text, mimetype="application/json", headers={"Cache-Control": "no-store"})


def healthz() -> tuple[dict[str, object], int, dict[str, str]]:
    """``GET /healthz``: 200 while this worker answers at all, whatever it is at. Asks no log."""
    return {"status": "ok"}, 200, {"Cache-Control": "no-store"}


def readyz() -> tuple[dict[str, object], int, dict[str, str]]:
    """``GET /readyz``: 200 while this worker takes clients and its log can be written to.

    The log is looked at once a second at most, however many ask.
    """
    state = current_state()
    state.registry.check_open()
    state.health.check()
    body: dict[str, object] = {"status": "ok", "clients": len(state.registry)}
    return body, 200, {"Cache-Control": "no-store"}


def converse(connection: Connection) -> Take:
    """A WebSocket at ``/ws``: ``streaming.v1.json``."""
    return protocol.converse(connection, current_state())


def not_a_websocket() -> Response:
    """Answer plain requests for a WebSocket's address."""
    raise HandshakeError("Connect here with a WebSocket client.", status=426)
