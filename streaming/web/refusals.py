"""How errors are answered: as problems (RFC 9457), and in event streams so that they come back."""

from __future__ import annotations

import random
from collections.abc import Callable

from flask import Request, Response, current_app, request

from ..clients.formats import SSE, farewell
from ..errors import HubClosed, LogUnavailable, StreamingError, TooManyClients, TooMuch
from ..wire.compact import compact
from .responses import HEADERS, choose_format

PASSING = (TooManyClients, TooMuch, HubClosed, LogUnavailable)
"""What is over in a moment: the client should come back."""


def answer_error(error: StreamingError) -> Response:
    """What the client of this request is answered, if it ends in ``error``.

    An ``EventSource`` takes every status but 200 as final, so where one asks, what passes is told
    in a stream. A mistake of the application's own call is answered as any bug in a view: 500, and
    the reason is in the application's log.
    """
    if error.is_applications:
        return current_app.handle_exception(error)
    is_events = request.method in ("GET", "HEAD") and SSE.mimetype in _accept(request)
    if is_events and isinstance(error, PASSING) and choose_format(request) is SSE:
        return come_back(error)
    _note(error)
    return Response(
        compact(error.problem()),
        error.status,
        dict(error.headers),
        content_type="application/problem+json",
    )


def in_stream(stream: Callable[[], Response]) -> Response:
    """The response that ``stream`` makes; a refusal of it that passes as one of the same format.

    Also for clients that say nothing of formats, who get events by default.

    Raises:
        StreamingError: What does not pass, and what passes for a client that wants no events.
    """
    try:
        return stream()
    except PASSING as error:
        if choose_format(request) is not SSE:
            raise
        return come_back(error)


def come_back(error: StreamingError) -> Response:
    """A stream that says only why there is none now, and when to come back: ``restart``.

    After about what ``Retry-After`` says, half as much again at most, drawn for each client.
    """
    _note(error)
    seconds = int(error.headers.get("Retry-After", "2"))
    retry = random.randint(seconds * 500, seconds * 1500)
    return Response(farewell(SSE, error, retry), mimetype=SSE.mimetype, headers=HEADERS)


def _accept(request: Request) -> str:
    return str(request.environ.get("HTTP_ACCEPT", ""))


def _note(error: StreamingError) -> None:
    if error.status >= 500:
        current_app.logger.warning("%s: %s", error.title, error)
