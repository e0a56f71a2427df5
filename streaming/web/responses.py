"""Iterables and subscriptions in, Flask generator responses out: SSE, NDJSON and plain text."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

from flask import Request, Response, current_app
from werkzeug.exceptions import HTTPException

from ..clients.formats import NDJSON, SSE, EventFormat
from ..errors import ProducerFailed, StreamingError
from ..hub.hub import check_channels
from ..hub.pieces import check_pieces
from ..message import Cursor
from .event_body import EventBody
from .piece_body import PieceBody, source_of
from .state import State

HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
"""No cache keeps a stream, no proxy collects or compresses it."""

_ABOUT_BODY = {"content-type", "content-length", "content-encoding", *map(str.lower, HEADERS)}

FIRST = 1.0
"""Seconds for which an answer's head waits for the first piece, and may become an error's."""

_log = logging.getLogger(__name__)


def choose_format(request: Request, *, text: bool = False) -> EventFormat | None:
    """The format a client asks for with ``Accept``; None for plain text.

    Plain text is the first choice where ``text`` offers it, Server-Sent Events otherwise.
    """
    if not text and request.environ.get("HTTP_ACCEPT", "*/*") in ("*/*", SSE.mimetype):
        return SSE  # what nearly every client says; parsing the header costs more than the rest
    offers: dict[str, EventFormat | None] = {"text/plain": None} if text else {}
    offers |= {SSE.mimetype: SSE, NDJSON.mimetype: NDJSON}
    first = next(iter(offers))
    return offers[request.accept_mimetypes.best_match(offers, first) or first]


def event_stream(
    request: Request,
    state: State,
    channels: Iterable[str],
    *,
    after: str | None = None,
    history: int = 0,
    form: EventFormat | None = None,
    opening: bytes = b"",
    is_checked: bool = False,
) -> Response:
    """A response that follows ``channels``, resuming behind ``after``.

    In ``form``, or the one that the client asks for. ``opening``: what it begins with; by default
    an event that says where it stands. ``is_checked``: whether ``authorize`` was asked.

    Raises:
        InvalidMessage: If a channel name is not well formed.
        InvalidRequest: If there are no channels or too many.
        InvalidCursor: If ``after`` cannot be read.
        TooManyClients: If this worker has as many as it takes.
        TooMuch: If this client's identity or address has as many as it may have.
    """
    names = check_channels(channels)
    if after is not None:
        Cursor.parse(after)
    is_past = after is not None or history > 0
    if is_past and not opening and (account := state.account(request.environ)):
        account.check()
    form = form or choose_format(request) or SSE
    body = EventBody(request, state, form, names, after, history, opening, is_checked)
    response = StreamResponse(body, form.mimetype)
    response.implicit_sequence_conversion = False  # it has no end that could be waited for
    return response


def stream_response(
    request: Request,
    state: State,
    pieces: Iterable[str | bytes],
    *,
    every: float | None = None,
    form: EventFormat | None = None,
) -> Response:
    """A response that sends each piece as soon as ``pieces`` gives it.

    Plain text without ``form``. ``every`` is the pause after each piece in seconds; while pausing,
    a client that leaves ends the stream at once, and otherwise at the next piece. The iterable is
    closed at the end, whatever the end is, also if nothing of it was asked for. It is asked for a
    piece only when the one before is with the kernel, so a slow client slows it down.

    An iterable that fails before its first piece and within ``FIRST`` seconds is an error of HTTP;
    later the head has left, and the error is told in the stream.

    The iterable's own errors are raised as well where Flask raises those of views for tests: with
    ``app.testing``, or by ``PROPAGATE_EXCEPTIONS``.

    Raises:
        TooManyClients: If this worker has as many as it takes.
        TooMuch: If this client's identity or address has as many as it may have.
        TypeError: If ``pieces`` is no iterable of text or bytes.
    """
    check_pieces(pieces)
    body = PieceBody(request, state, pieces, every, form, raises_errors())
    return StreamResponse(body, form.mimetype if form else "text/plain")


class StreamResponse(Response):
    """A response whose body learns how it reaches the client, and may still refuse.

    It says ``no-transform``. An extension that has compressed it all the same, as Flask-Compress
    does with plain text, would hold back what it is given: that is undone.
    """

    def __init__(self, body: EventBody | PieceBody, mimetype: str) -> None:
        super().__init__(body, mimetype=mimetype, headers=HEADERS)
        self._body = body

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        if self.headers.pop("Content-Encoding", None) is not None:
            self.response = self._body
        body = self.response
        if not isinstance(body, EventBody | PieceBody):  # an extension has put another in its place
            return super().__call__(environ, start_response)
        body.passage.look(start_response)
        if isinstance(body, EventBody) or environ["REQUEST_METHOD"] == "HEAD":
            return super().__call__(environ, start_response)
        pieces, status, headers = self.get_wsgi_response(environ)
        try:
            body.begin(lambda: start_response(status, headers), time.monotonic() + FIRST)
        except Exception as error:
            self.close()
            if raises_errors() and not isinstance(error, StreamingError | HTTPException):
                raise source_of(error) from None
            return self._refused(error)(environ, start_response)
        except BaseException:  # somebody's time limit, as gevent has them
            self.close()
            raise
        return pieces

    def _refused(self, error: Exception) -> Response:
        """The error's answer, with what extensions have added to ours: origins, cookies."""
        answer = refusal(error)
        for name, value in self.headers:
            is_new = name == "Set-Cookie" or name not in answer.headers
            if is_new and name.lower() not in _ABOUT_BODY:
                answer.headers.add(name, value)
        return answer


def raises_errors() -> bool:
    """Whether the current application wants errors raised rather than answered."""
    wanted = current_app.config["PROPAGATE_EXCEPTIONS"]
    return bool(current_app.testing if wanted is None else wanted)


def refusal(error: Exception) -> Response:
    """What a client is answered whose stream failed before its head left."""
    if not isinstance(error, StreamingError | HTTPException):
        _log.error("A streamed answer failed", exc_info=error)
        error = ProducerFailed.of(source_of(error))
    return current_app.make_response(current_app.handle_user_exception(error))
