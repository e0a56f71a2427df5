"""Runs over HTTP: how one is begun, joined, resumed and stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from flask import Request, Response, current_app, has_request_context, request, url_for

from ..clients.formats import NDJSON, SSE, EventFormat, ready
from ..clients.replays import Account
from ..errors import InvalidMessage, InvalidRequest, ProducerFailed, UnknownRun
from ..hub.making import PREFIX, OnDisconnect
from ..hub.parts import LOST, Answer
from ..hub.pieces import Producer
from ..hub.runs import id_of_key, new_id
from ..message import START, Cursor, Gap
from ..names import check_key
from ..wire.compact import compact
from .piece_body import Begun, Followed
from .refusals import in_stream
from .requests import last_seen
from .responses import FIRST, event_stream, stream_response
from .state import State, current_state

ATTEMPTS = 8
"""Runs that one idempotency key stands for, if they come to nothing."""

TEXT, JSON = "text/plain", "application/json"


class Run:
    """A run, whoever makes it. From ``Streaming.run`` and ``Streaming.find_run``.

    Needs an application context.
    """

    __slots__ = ("_is_new", "id")

    def __init__(self, id: str, *, is_new: bool = False) -> None:
        self.id: str = id
        """What it is called; nobody guesses it."""
        self._is_new = is_new

    @property
    def channel(self) -> str:
        """The channel that it is in; ends with it."""
        return PREFIX + self.id

    @property
    def url(self) -> str:
        """Where it is joined, resumed and stopped: ``…/runs/<id>``; needs a request."""
        return url_for(f"{current_state().name}.join_run", id=self.id)

    @property
    def state(self) -> str:
        """``queued``, ``running``, ``done``, ``stopped``, ``failed`` or ``interrupted``."""
        return self.answer().state

    @property
    def is_stopped(self) -> bool:
        """Whether somebody has stopped it."""
        return self.state == "stopped"

    def answer(self) -> Answer:
        """What it has said up to now.

        Raises:
            UnknownRun: If it is no longer kept.
            LogUnavailable: If the log cannot be reached.
        """
        return current_state().runs.answer(self.id)

    def stop(self) -> Answer:
        """End it, on whichever worker it is made; what was said is kept. Idempotent.

        Raises:
            UnknownRun: If it is no longer kept.
            LogUnavailable: If the log cannot be reached.
        """
        return current_state().runs.stop(self.id)

    def response(self) -> Response:
        """The answer as it is made, to whoever sent this request, with its ``Location``.

        Plain text, NDJSON or Server-Sent Events by the client's ``Accept``; 202 and what there is
        for JSON. Somebody who joins gets what was said first.

        Raises:
            ProducerFailed: If it fails within a second and before it has said anything.
            UnknownRun: If it is no longer kept.
            TooManyClients: If this worker has as many as it takes.
            LogUnavailable: If the log cannot be reached.
        """
        state = current_state()
        wanted = choose(request, TEXT)
        if self._is_new and wanted != TEXT:
            state.runs.wait_first(self.id, FIRST)
        response = respond(state, self.id, wanted, after=None, is_new=self._is_new)
        if wanted == JSON:
            response.status_code = 202
        response.headers["Location"] = self.url
        return response

    def __repr__(self) -> str:
        return f"Run({self.id!r})"


def begin(
    producer: Producer,
    args: tuple[Any, ...],
    key: str | None,
    on_disconnect: OnDisconnect,
    *,
    about: Mapping[str, Any] | None = None,
) -> Run:
    """The run of ``producer``, or the one that has the key already; see ``Streaming.run``."""
    state, app = current_state(), current_app
    how: Any = {"context": app.app_context, "on_disconnect": on_disconnect, "about": about}
    start = partial(state.runs.start, producer, args, **how)
    key = _client_key() if key is None else check_key(key)
    if key is None:
        id = new_id()
        start(id=id)
        return Run(id, is_new=True)
    for attempt in range(ATTEMPTS):
        id = id_of_key(f"{key}\n{attempt}", app.secret_key or "")
        if start(id=id):
            return Run(id, is_new=True)
        if attempt == ATTEMPTS - 1 or not _came_to_nothing(state, id):
            break
    return Run(id)


def _came_to_nothing(state: State, id: str) -> bool:
    """Whether a run is of no use to who asks again: it is no longer kept, or broke off before it
    had said anything. So did one whose first message is in the log though its maker was told that
    the log is away."""
    try:
        answer = state.runs.answer(id)
    except UnknownRun:
        return True
    return answer.state in ("failed", "interrupted") and not answer.parts


def _client_key() -> str | None:
    key = request.headers.get("Idempotency-Key") if has_request_context() else None
    try:
        return None if key is None else check_key(key)
    except InvalidMessage as error:
        raise InvalidRequest(f"Idempotency-Key: {error}") from error


def has_failed(answer: Answer) -> bool:
    """Whether it ended in an error before it had said anything: an error of HTTP."""
    return answer.state == "failed" and not answer.parts


def choose(request: Request, first: str) -> str:
    """The media type a client wants of a run; ``first`` if it does not say."""
    offers = dict.fromkeys((first, TEXT, SSE.mimetype, NDJSON.mimetype, JSON))
    return request.accept_mimetypes.best_match(offers, first) or first


def join_run(id: str) -> Response | tuple[str, int]:
    """``GET /runs/<id>``: join or resume a run, in any format."""
    state = current_state()
    state.check_allowed("subscribe", PREFIX + id)
    wanted, after = choose(request, SSE.mimetype), last_seen(request)
    account = state.account(request.environ)

    def join() -> Response:
        if account:
            account.check()
        return respond(state, id, wanted, after=after)

    if wanted in (SSE.mimetype, NDJSON.mimetype):
        return in_stream(join)
    response = join()
    if account and wanted == JSON:
        account.charge(1, len(response.data))
    return response


def stop_run(id: str) -> Response:
    """``DELETE /runs/<id>``: stop a run."""
    state = current_state()
    state.check_allowed("stop", PREFIX + id)
    return _json(state.runs.stop(id))


def respond(
    state: State, id: str, wanted: str, *, after: str | None, is_new: bool = False
) -> Response:
    """A run in the format that is wanted, behind ``after`` or from what was said up to now."""
    if wanted == JSON:
        return _json(state.runs.answer(id))
    if wanted == TEXT:
        return _text(state, id, after)
    form = NDJSON if wanted == NDJSON.mimetype else SSE
    place = None if after is None else Cursor.parse(after).get(PREFIX + id)
    if place is None:
        return _from_start(state, id, form, is_new=is_new)
    if state.runs.is_read(id, place):
        return Response(status=204)
    return event_stream(request, state, [PREFIX + id], after=after, form=form)


def _from_start(state: State, id: str, form: EventFormat, *, is_new: bool) -> Response:
    answer = state.runs.answer(id)
    if is_new and has_failed(answer):
        raise answer.error
    channel, start = PREFIX + id, str(state.hub.start_of(PREFIX + id))
    opening = ready(form, [channel], start)
    after = start
    if not is_new:
        after = answer.before or start
        opening += form.event("snapshot", compact(answer.snapshot()), id=after)
    return event_stream(request, state, [channel], after=after, form=form, opening=opening)


def _json(answer: Answer) -> Response:
    return Response(
        compact(answer.describe()), mimetype=JSON, headers={"Cache-Control": "no-store"}
    )


def _text(state: State, id: str, after: str | None) -> Response:
    answer = state.runs.answer(id)  # ends it if nobody makes it any more
    if has_failed(answer):
        raise answer.error
    account = state.account(request.environ)
    pieces = Followed(partial(_texts, state, id, after or START, account))
    return stream_response(request, state, pieces)


def _texts(
    state: State, id: str, after: str, account: Account | None, begun: Begun
) -> Iterator[str]:
    """The text of a run; breaks off where it is not the whole."""
    answer = Answer(id)
    for item in state.runs.messages(id, after, begun=begun):
        if isinstance(item, Gap):
            raise ProducerFailed(LOST, status=410)
        if item.event == "text":
            if account:
                account.charge(1, item.size)
            yield item.data
        else:
            answer.add([item])
    if answer.state not in ("done", "stopped"):
        raise answer.error
