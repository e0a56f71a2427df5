"""What others' clients send of a conversation, as role and text; and answers in their formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from flask import Request, Response, request

from ..clients.formats import MADE, SSE
from ..errors import InvalidRequest
from ..hub.parts import LOST, Answer, Part
from ..message import Gap
from ..names import END
from ..wire import sse
from ..wire.compact import compact
from .piece_body import Begun, Followed
from .requests import read_json
from .responses import stream_response
from .state import State, current_state

Turn = dict[str, Any]
"""``role`` and ``content``, a text; and whatever else the client has said of it."""

Answerer = Callable[[list[Turn], dict[str, Any]], Any]
"""A producer that is given the conversation, and what else the client has asked for."""

MOST = 2000
"""Turns of a conversation that are read."""


class Encoder(Protocol):
    """An answer as somebody's clients read it."""

    def begin(self) -> Iterator[Mapping[str, Any]]:
        """What comes before all parts."""

    def feed(self, kind: str, data: Any) -> Iterator[Mapping[str, Any]]:
        """What one part is."""

    def end(self, state: str, detail: str) -> Iterator[Mapping[str, Any]]:
        """What comes at the end."""


def read_body(request: Request) -> dict[str, Any]:
    """The JSON object that was sent: a conversation may be as long as a message.

    Raises:
        StreamingError: If there is none, or it is too large.
    """
    return read_json(request, current_state().settings.message_size)


def turns_of(value: object, name: str) -> list[Turn]:
    """The turns of a conversation, each with its text.

    Raises:
        InvalidRequest: If they are none.
    """
    if not isinstance(value, list) or not 0 < len(value) <= MOST:
        raise InvalidRequest(f"{name!r} is missing, or not a list of 1 to {MOST} turns.")
    return [_turn(each, name) for each in value]


def _turn(value: object, name: str) -> Turn:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name!r} holds {value!r:.60}; each turn is an object.")
    said = value.get("content", value.get("parts", value.get("output", "")))
    role = value.get("role", "tool")
    if not isinstance(role, str):
        raise InvalidRequest(f"A 'role' in {name!r} is {role!r:.60}; it is a text.")
    return {**value, "role": role, "content": _text(said, name)}


def _text(said: object, name: str) -> str:
    """The text of a turn: a text, or a list of pieces of which some have one."""
    if said is None:
        return ""
    if isinstance(said, str):
        return said
    if isinstance(said, list):
        texts = [piece.get("text") for piece in said if isinstance(piece, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    raise InvalidRequest(f"A 'content' in {name!r} is {said!r:.60}; it is a text or a list.")


def encoded(state: State, id: str, encoder: Encoder, begun: Begun) -> Iterator[Mapping[str, Any]]:
    """The run from its start, as it is made, to its end."""
    yield from encoder.begin()
    for item in state.runs.messages(id, begun=begun):
        if isinstance(item, Gap):
            yield from encoder.end("failed", LOST)
            return
        part = Part.of(item)
        if part is not None:
            yield from encoder.feed(part.kind, part.data)
        elif item.event == END:
            answer = Answer(id)
            answer.add([item])
            yield from encoder.end(answer.state, answer.detail)


def feed_all(answer: Answer, encoder: Encoder) -> None:
    """Let the encoder have all that there is, for its whole."""
    for _ in encoder.begin():
        pass
    for part in answer.parts:
        for _ in encoder.feed(part.kind, part.data):
            pass


def event_response(make: Callable[[Begun], Iterator[bytes]]) -> Response:
    """Server-sent events that are bytes already, as a response; ended when the client leaves."""
    response = stream_response(request, current_state(), Followed(make), form=MADE)
    response.mimetype = SSE.mimetype
    return response


def event_of(value: Mapping[str, Any] | str, *, name: str = "message") -> bytes:
    """One event with JSON, or a text, as its data."""
    return sse.encode(value if isinstance(value, str) else compact(value), event=name)
