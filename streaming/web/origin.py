"""Which pages may talk to us: the Origin policy for WebSockets and cross-origin reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from flask import Request, Response
from werkzeug.datastructures import HeaderSet

from ..errors import Forbidden, InvalidRequest
from ..wire.origins import parse_host, parse_origin

EXPOSED = ("Location", "Retry-After")
"""The headers that scripts of listed pages may read: where a run is, when to come again."""

SENT = ("Content-Type", "Idempotency-Key", "Last-Event-ID", "Authorization")
"""The headers that they may send: to begin a run once, to resume, to say who they are."""

KEPT = 600
"""Seconds for which a browser need not ask again what it may send."""


def check_origin(request: Request, allowed: Collection[str]) -> None:
    """Return if the page that sent ``request`` may open a WebSocket (RFC 6455 section 10.2).

    Allowed are pages of the own origin (scheme, host and port) and of the listed ones, and programs
    that are not browsers and send no Origin. An origin that cannot be read (``null``, that of a
    sandboxed frame) is nobody's. Behind a proxy that rewrites Host the own host is what the proxy
    says, if the application trusts it (``werkzeug.middleware.proxy_fix.ProxyFix``), or what the
    browser says itself with ``Sec-Fetch-Site: same-origin``, a header that no page can set.

    Raises:
        InvalidRequest: If ``Host`` is missing or malformed (RFC 9112 section 3.2).
        Forbidden: If it may not.
    """
    host = request.headers.get("Host", "")  # not ``request.host``: that is empty for my_app:8000
    own = parse_host(host, request.scheme)
    if own is None:
        raise InvalidRequest(f"The header Host is missing or malformed: {host!r:.100}.")
    origin = request.headers.get("Origin")
    if (
        origin is None
        or is_listed(origin, allowed)
        or parse_origin(origin) == own
        or request.headers.get("Sec-Fetch-Site") == "same-origin"
    ):
        return
    raise Forbidden(
        f"Pages of {origin:.100} may not connect to {own!s:.100}. List them in "
        "STREAMING_ORIGINS, or have the proxy pass Host and X-Forwarded-Proto on."
    )


def is_listed(origin: str, allowed: Collection[str]) -> bool:
    """Whether ``origin`` is one of ``allowed``, or ``allowed`` has ``*``."""
    return "*" in allowed or is_named(origin, allowed)


def is_named(origin: str, allowed: Collection[str]) -> bool:
    """Whether ``origin`` is one of ``allowed``, or a sub-domain where that says ``*.``."""
    page = parse_origin(origin)
    if page is None:
        return False
    listed = (parse_origin(text.removesuffix("/")) for text in allowed)
    return any(each is not None and each.covers(page) for each in listed)


def allow_origin(
    request: Request, response: Response, allowed: Collection[str], headers: Iterable[str] = ()
) -> Response:
    """``response``, readable by pages of listed origins (Fetch standard, section 3.2: CORS), which
    may send ``headers`` besides those that we read.

    With cookies for those that are named. ``*`` lists pages that nobody knows: they read what a
    stranger reads.
    """
    origin = request.headers.get("Origin")
    response.vary.add("Origin")
    if origin and is_listed(origin, allowed):
        response.headers["Access-Control-Allow-Origin"] = origin
        if is_named(origin, allowed):
            response.headers["Access-Control-Allow-Credentials"] = "true"
        exposed = response.access_control_expose_headers or HeaderSet()
        exposed.update(EXPOSED)
        response.access_control_expose_headers = exposed
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Headers"] = ", ".join((*SENT, *headers))
            response.headers["Access-Control-Max-Age"] = str(KEPT)
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, DELETE"
    return response
