"""Which pages may talk to us: the Origin policy for WebSockets and cross-origin reads."""

from __future__ import annotations

from collections.abc import Collection

from flask import Request, Response
from werkzeug.datastructures import HeaderSet

from ..errors import Forbidden, InvalidRequest
from ..wire.origins import parse_host, parse_origin

EXPOSED = ("Location", "Retry-After")
"""The headers that scripts of listed pages may read: where a run is, when to come again."""

SENT = "Content-Type, Idempotency-Key, Last-Event-ID"
"""The headers that they may send: to begin a run once, and to resume."""


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
    if "*" in allowed:
        return True
    page = parse_origin(origin)
    return page is not None and any(page == parse_origin(o.removesuffix("/")) for o in allowed)


def allow_origin(request: Request, response: Response, allowed: Collection[str]) -> Response:
    """``response``, readable by pages of listed origins (Fetch standard, section 3.2: CORS)."""
    origin = request.headers.get("Origin")
    response.vary.add("Origin")
    if origin and is_listed(origin, allowed):
        response.headers["Access-Control-Allow-Origin"] = origin
        exposed = response.access_control_expose_headers or HeaderSet()
        exposed.update(EXPOSED)
        response.access_control_expose_headers = exposed
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Headers"] = SENT
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, DELETE"
    return response
