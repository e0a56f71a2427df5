"""OpenAI's API in front of an application's own producer: Chat Completions and Responses.

Their clients start answers, lose them, resume them by sequence number and cancel them, unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from flask import Blueprint, Response, request

from ..errors import InvalidRequest, StreamingError, UnknownRun
from ..hub.making import PREFIX, OnDisconnect
from ..hub.parts import LOST, Answer
from ..wire.chat_completions import DONE, ChatCompletion, error_of
from ..wire.compact import compact
from ..wire.responses import ResponseEvents
from .conversations import (
    Answerer,
    Turn,
    encoded,
    event_of,
    event_response,
    feed_all,
    read_body,
    turns_of,
)
from .piece_body import Begun
from .responses import FIRST
from .runs import begin, has_failed
from .state import State, current_state

CHAT, RESPONSE = "chatcmpl-", "resp_"

_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def openai_api(
    answer: Answerer, models: Sequence[str], *, on_disconnect: OnDisconnect = 10.0
) -> Blueprint:
    """A blueprint that speaks OpenAI's API, to be registered under ``/v1``.

    ``answer(messages, options)`` is a producer, see ``Streaming.run``: the conversation as a list
    of ``{"role", "content", …}``, and the rest of what the client has asked for, ``model`` too.

    Who may ask is for the application to decide, in a ``before_request`` of the blueprint; whether
    somebody may read an answer again or cancel it, ``authorize`` is asked, as for all runs.

    Args:
        answer: Makes each answer.
        models: The names that clients may ask for.
        on_disconnect: What becomes of an answer that nobody reads any more, unless it was asked for
            in the background.
    """
    api = _Api(answer, tuple(models), on_disconnect)
    blueprint = Blueprint("streaming_openai", __name__)
    blueprint.get("/models")(api.list_models)
    blueprint.get("/models/<model>")(api.get_model)
    blueprint.post("/chat/completions")(api.complete)
    blueprint.post("/responses")(api.respond)
    blueprint.get("/responses/<id>")(api.retrieve)
    blueprint.post("/responses/<id>/cancel")(api.cancel)
    blueprint.errorhandler(StreamingError)(answer_error)
    return blueprint


class _Api:
    def __init__(
        self, answer: Answerer, models: tuple[str, ...], on_disconnect: OnDisconnect
    ) -> None:
        self._answer = answer
        self._models = models
        self._on_disconnect = on_disconnect

    def list_models(self) -> Response:
        """``GET /models``."""
        return _json({"object": "list", "data": [_model(name) for name in self._models]})

    def get_model(self, model: str) -> Response:
        """``GET /models/<model>``."""
        return _json(_model(self._known(model)))

    def complete(self) -> Response:
        """``POST /chat/completions``."""
        body = read_body(request)
        messages = turns_of(body.pop("messages", None), "messages")
        model, streams = self._known(body.get("model")), body.pop("stream", False) is True
        options = body.pop("stream_options", None)
        wants_usage = isinstance(options, dict) and options.get("include_usage") is True
        id = self._begin(messages, body, self._on_disconnect)
        answer = _started(id)
        encoder = ChatCompletion(CHAT + id, model, _created(answer), usage=wants_usage)
        if not streams:
            return _json(_whole(id, encoder))
        return event_response(partial(_chunks, current_state(), id, encoder))

    def respond(self) -> Response:
        """``POST /responses``."""
        body = read_body(request)
        given = body.pop("input", None)
        turns = [{"role": "user", "content": given}] if isinstance(given, str) else given
        messages = turns_of(turns, "input")
        if isinstance(body.get("instructions"), str):
            messages.insert(0, {"role": "system", "content": body["instructions"]})
        self._known(body.get("model"))
        streams = body.pop("stream", False) is True
        is_background = body.get("background") is True
        alone: OnDisconnect = "continue" if is_background else self._on_disconnect
        id = self._begin(messages, body, alone)
        answer = _started(id)
        if streams:
            return event_response(partial(_events, current_state(), id, _encoder(answer), -1))
        if not is_background:
            _wait(id)
            answer = current_state().runs.answer(id)
        return _json(_snapshot(answer))

    def retrieve(self, id: str) -> Response:
        """``GET /responses/<id>``, whole, or from the event behind ``starting_after`` on."""
        after = request.args.get("starting_after", "-1")
        if not after.removeprefix("-").isdecimal() or not after.isascii() or len(after) > 9:
            raise InvalidRequest(f"'starting_after' is {after!r:.40}; it is a sequence number.")
        run = _run_of(id, "subscribe")
        answer = current_state().runs.answer(run)
        if request.args.get("stream") not in ("true", "1"):
            return _json(_snapshot(answer))
        return event_response(partial(_events, current_state(), run, _encoder(answer), int(after)))

    def cancel(self, id: str) -> Response:
        """``POST /responses/<id>/cancel``."""
        return _json(_snapshot(current_state().runs.stop(_run_of(id, "stop"))))

    def _begin(self, messages: list[Turn], options: dict[str, Any], alone: OnDisconnect) -> str:
        about = {"model": options["model"], "background": options.get("background") is True}
        return begin(self._answer, (messages, options), None, alone, about=about).id

    def _known(self, model: object) -> str:
        if model not in self._models:
            raise _unknown_model(model, self._models)
        return str(model)


def answer_error(error: StreamingError) -> Response:
    """An error as OpenAI's clients read it."""
    kind = _KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    response = _json({"error": error_of(error.told, kind)})
    response.status_code = error.status
    response.headers.extend(dict(error.headers))
    return response


def _started(id: str) -> Answer:
    """The run, once it has said something or a moment has passed.

    Raises:
        ProducerFailed: If it has failed before it said anything.
    """
    runs = current_state().runs
    runs.wait_first(id, FIRST)
    answer = runs.answer(id)
    if has_failed(answer):
        raise answer.error
    return answer


def _wait(id: str) -> None:
    for _ in current_state().runs.messages(id):
        pass


def _whole(id: str, encoder: ChatCompletion) -> Any:
    _wait(id)
    answer = current_state().runs.answer(id)
    if answer.state not in ("done", "stopped") or not answer.is_whole:
        raise answer.error
    feed_all(answer, encoder)
    for _ in encoder.end(answer.state, answer.detail):
        pass
    return encoder.whole()


def _chunks(state: State, id: str, encoder: ChatCompletion, begun: Begun) -> Iterator[bytes]:
    for chunk in encoded(state, id, encoder, begun):
        yield event_of(chunk)
    yield event_of(DONE)


def _events(
    state: State, id: str, encoder: ResponseEvents, after: int, begun: Begun
) -> Iterator[bytes]:
    for event in encoded(state, id, encoder, begun):
        if event["sequence_number"] > after:
            yield event_of(event, name=event["type"])


def _encoder(answer: Answer) -> ResponseEvents:
    model, background = str(answer.about.get("model")), answer.about.get("background") is True
    return ResponseEvents(RESPONSE + answer.id, model, _created(answer), background=background)


def _snapshot(answer: Answer) -> Any:
    encoder = _encoder(answer)
    feed_all(answer, encoder)
    if answer.is_whole:
        encoder.note(answer.state, answer.detail)
    else:
        encoder.note("failed", LOST)
    return encoder.whole()


def _run_of(id: str, action: Any) -> str:
    run = id.removeprefix(RESPONSE)
    if run == id:
        raise UnknownRun(f"There is no response {id!r:.60}.")
    current_state().check_allowed(action, PREFIX + run)
    return run


def _created(answer: Answer) -> int:
    if not answer.started:
        return 0  # what said so is no longer held
    return int(datetime.fromisoformat(answer.started).timestamp())


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "application"}


def _unknown_model(model: object, models: tuple[str, ...]) -> UnknownRun:
    return UnknownRun(f"There is no model {model!r:.60}; known: {', '.join(models)}.")


def _json(value: Any) -> Response:
    return Response(
        compact(value), mimetype="application/json", headers={"Cache-Control": "no-store"}
    )
