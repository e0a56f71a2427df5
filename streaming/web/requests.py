"""What clients ask for over HTTP, parsed and checked."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from ..clients.client import BODY
from ..clients.intake import Intake
from ..clients.sockets import client_socket
from ..errors import InvalidRequest, TooLarge, TooSlow, UnsupportedMediaType
from .json_objects import parse_object
from .state import current_state


def read_json(
    request: Request, limit: int, *, parse: Callable[[str], dict[str, Any]] = parse_object
) -> dict[str, Any]:
    """The JSON object in the body of ``request``, at most ``limit`` bytes, as ``parse`` reads it.

    Raises:
        UnsupportedMediaType: If the body is not ``application/json``.
        TooLarge: If it is larger than ``limit``.
        TooSlow: If it does not come; see ``Intake``.
        InvalidRequest: If it is not a JSON object in UTF-8, or is not there to its end.
    """
    if not request.is_json:
        raise UnsupportedMediaType("Send the body as JSON, with Content-Type: application/json.")
    request.max_content_length = limit + 1  # a body of unknown length is cut there, not refused
    try:
        body = _read(request)
    except RequestEntityTooLarge as error:
        raise TooLarge(f"The body is larger than {limit} bytes.") from error
    except (TooSlow, RequestTimeout) as error:  # our worker class may be faster to say so
        raise TooSlow("The body does not come. Send it in one go.") from error
    except Exception as error:  # cut off, or in bad chunks: each server has its own for that
        raise InvalidRequest("The body cannot be read to its end.") from error
    if len(body) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes.")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not JSON in UTF-8: {error}") from error
    return parse(text)


def _read(request: Request) -> bytes:
    sock = client_socket(request.environ, None)
    if sock is None:
        return request.get_data(cache=False)
    wheel, size = current_state().registry.deadlines, request.content_length or 0
    intake = Intake(wheel, sock, size=size)
    try:
        with intake.wait():
            return request.get_data(cache=False)
    finally:
        intake.drop()
        if intake.is_late:
            raise TooSlow("The body has not come.")


def unread_body(request: Request) -> int:
    """Bytes of its body that a client may still send: all, as nobody can tell what was read."""
    is_chunked = "HTTP_TRANSFER_ENCODING" in request.environ
    return BODY if is_chunked else request.content_length or 0


def last_seen(request: Request) -> str | None:
    """The id the client says it saw last: ``Last-Event-ID``, or ``last_event_id`` in the URL.

    In the URL in any spelling: libraries that cannot send headers write ``lastEventId``
    (event-source-polyfill), ``lastEventID`` or ``last-event-id``. Of several the last counts: a
    library adds its own behind those of the URL that it was given.
    """
    header = request.headers.get("Last-Event-ID")
    if header or not request.query_string:
        return header or None
    seen = [text for name, text in request.args.items(multi=True) if text and _is_last_seen(name)]
    return seen[-1] if seen else None


def check_parameters(request: Request, known: Collection[str], own: Collection[str]) -> None:
    """Return if all parameters of the URL mean something.

    ``known`` are those of the route, ``last_event_id`` in any spelling; ``own`` the application's.

    Raises:
        InvalidRequest: If one means nothing; it might have been meant to.
    """
    unknown = [
        name
        for name in request.args
        if name not in known
        and name not in own
        and not ("last_event_id" in known and _is_last_seen(name))
    ]
    if unknown:
        names = ", ".join(f"{name!r:.40}" for name in unknown[:2])
        more = f" and {len(unknown) - 2} more" if len(unknown) > 2 else ""
        raise InvalidRequest(
            f"Unknown in the URL: {names}{more}. Known: {', '.join(known) or 'no parameters'}. "
            "The application names its own in STREAMING_PARAMETERS."
        )


def _is_last_seen(name: str) -> bool:
    return name.lower().replace("_", "").replace("-", "") == "lasteventid"


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
