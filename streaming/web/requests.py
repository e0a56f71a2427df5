"""What clients ask for over HTTP, parsed and checked."""

from __future__ import annotations

import json
from typing import Any

from flask import Request
from werkzeug.exceptions import HTTPException

from ..errors import InvalidRequest, TooLarge, UnsupportedMediaType


def read_json(request: Request, limit: int) -> dict[str, Any]:
    """The JSON object in the body of ``request``, at most ``limit`` bytes.

    Raises:
        UnsupportedMediaType: If the body is not ``application/json``.
        TooLarge: If it is larger than ``limit``.
        InvalidRequest: If it is not a JSON object in UTF-8.
    """
    if not request.is_json:
        raise UnsupportedMediaType("Send the body as JSON, with Content-Type: application/json.")
    request.max_content_length = limit + 1  # a body of unknown length is cut there, not refused
    try:
        body = request.get_data(cache=False)
    except HTTPException as error:
        raise TooLarge(f"The body is larger than {limit} bytes.") from error
    if len(body) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes.")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The body is not JSON in UTF-8: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return value


def read_text(value: dict[str, Any], name: str, *, limit: int) -> str:
    """The text called ``name``, without blanks around it, 1 to ``limit`` characters.

    Raises:
        InvalidRequest: If it is missing, empty, too long or not a text.
    """
    text = value.get(name)
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequest(f"{name!r} is missing or empty.")
    if len(text) > limit:
        raise InvalidRequest(f"{name!r} has {len(text)} characters; at most {limit} are read.")
    return text.strip()


def last_seen(request: Request) -> str | None:
    """The id the client says it saw last: ``Last-Event-ID``, or ``last_event_id`` in the URL."""
    return request.headers.get("Last-Event-ID") or request.args.get("last_event_id") or None


def read_count(text: str | None, name: str) -> int:
    """A number of messages, 0 if there is none.

    Raises:
        InvalidRequest: If it is not a whole number from 0 to 999,999.
    """
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise InvalidRequest(f"{name!r} is a whole number from 0 to 999999.")
    return int(text)
