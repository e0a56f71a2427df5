"""What a WebSocket's handler answers, where it answers as a view: before the 101, and after it."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TypeGuard

from flask import current_app
from werkzeug.exceptions import HTTPException
from werkzeug.sansio.response import Response

from ..clients.closed import ConnectionClosed

LATER = (429, 503)
"""HTTP statuses that mean that the client should come back."""


def is_take(answer: object) -> TypeGuard[Callable[[str | bytes], None]]:
    """Whether a handler has returned what takes messages. Responses can be called, too."""
    return callable(answer) and not isinstance(answer, Response | HTTPException)


def end_of(answer: object) -> ConnectionClosed:
    """The end of an open connection whose handler has returned ``answer``.

    What Flask would not take from a view means nothing.
    """
    try:
        return _end(current_app.make_response(answer).status_code)  # type: ignore[arg-type]
    except TypeError:
        return ConnectionClosed(1000)


def explain(error: Exception) -> ConnectionClosed | None:
    """The end of an open connection for an error of HTTP (``abort``); None for any other."""
    if not isinstance(error, HTTPException):
        return None
    said = error.description
    if said == type(error).description:  # long, and for pages
        said = None
    return _end(error.code or error.get_response().status_code, said)


def _end(status: int, said: str | None = None) -> ConnectionClosed:
    if status < 300:
        return ConnectionClosed(1000)
    code = 1013 if status in LATER else 1008 if status < 500 else 1011
    try:
        return ConnectionClosed(code, said or HTTPStatus(status).phrase)
    except ValueError:  # a status of the application's own
        return ConnectionClosed(code, str(status))
