"""Vercel's AI SDK in front of an application's own producer: what ``useChat`` asks, and resumes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from hashlib import blake2s

from flask import Blueprint, Response, request

from ..errors import InvalidRequest, UnknownRun
from ..hub.making import PREFIX, OnDisconnect
from ..hub.orders import RESERVED
from ..wire.ui_messages import DONE, HEADER, UiMessage
from .conversations import Answerer, encoded, event_of, event_response, read_body, turns_of
from .piece_body import Begun
from .responses import FIRST
from .runs import begin, has_failed
from .state import State, current_state


def ui_messages_api(answer: Answerer, *, on_disconnect: OnDisconnect = "continue") -> Blueprint:
    """A blueprint for ``useChat``, to be registered where its transport asks: ``/api/chat``.

    ``POST ""`` begins an answer, ``GET /<chat>/stream`` resumes the one that is being made (204 if
    none is), ``DELETE /<chat>/stream`` stops it: the hook's own ``stop`` only leaves.

    ``answer(messages, options)`` is a producer, see ``Streaming.run``: the conversation as a list
    of ``{"role", "content", …}``, and the rest of what the client has sent.

    Who may ask is for the application to decide, in a ``before_request`` of the blueprint. Whoever
    knows a chat's id, which the client has made, may resume it, unless ``authorize`` says no.
    """
    blueprint = Blueprint("streaming_ui_messages", __name__)

    @blueprint.post("")
    def ask() -> Response:
        body, state = read_body(request), current_state()
        chat = body.get("id")
        if not isinstance(chat, str) or not 0 < len(chat) <= 200:
            raise InvalidRequest("'id' is missing: the chat's, a text of at most 200 characters.")
        messages = turns_of(body.pop("messages", None), "messages")
        run = begin(answer, (messages, body), None, on_disconnect)
        state.hub.publish(_channel(chat), run.id, key=run.id)  # who asks again names no older one
        state.runs.wait_first(run.id, FIRST)
        begun = state.runs.answer(run.id)
        if has_failed(begun):
            raise begun.error
        return _stream(run.id)

    @blueprint.get("/<chat>/stream")
    def resume(chat: str) -> Response:
        state = current_state()
        run = _running(state, chat)
        if run is None:
            return Response(status=204)
        state.check_allowed("subscribe", PREFIX + run)
        return _stream(run)

    @blueprint.delete("/<chat>/stream")
    def stop(chat: str) -> Response:
        state = current_state()
        run = _running(state, chat)
        if run is not None:
            state.check_allowed("stop", PREFIX + run)
            with suppress(UnknownRun):  # it has just been forgotten
                state.runs.stop(run)
        return Response(status=204)

    return blueprint


def _channel(chat: str) -> str:
    """The channel that names the runs of a chat; ids of chats may be any text. No client may write
    there, or it could pass another run for the answer."""
    return f"{RESERVED}ui:{blake2s(chat.encode('utf-8', 'replace'), digest_size=16).hexdigest()}"


def _running(state: State, chat: str) -> str | None:
    """The chat's newest run, if it is still made."""
    channel, log = _channel(chat), state.hub.log
    place = log.tail(channel, 1)
    if place.is_mark:
        return None
    page = log.read(channel, place, limit=1, size=1)
    run = page.messages[0].data if page.messages else None
    if run is None:
        return None
    try:
        return None if state.runs.answer(run).is_over else run
    except UnknownRun:  # an answer is kept by other rules than its name
        return None


def _stream(run: str) -> Response:
    response = event_response(partial(_chunks, current_state(), run))
    response.headers.set(*HEADER)
    return response


def _chunks(state: State, run: str, begun: Begun) -> Iterator[bytes]:
    for chunk in encoded(state, run, UiMessage(run), begun):
        yield event_of(chunk)
    yield event_of(DONE)
