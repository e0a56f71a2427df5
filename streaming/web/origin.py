"""Which pages may talk to us: the Origin policy for WebSockets and cross-origin reads."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from flask import Request, Response

from ..errors import Forbidden

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def check_origin(request: Request, allowed: Collection[str]) -> None:
    """Return if the page that sent ``request`` may open a WebSocket (RFC 6455 section 10.2).

    Allowed are pages of the own host and of the listed origins, and programs that are not
    browsers and send no Origin. Behind a proxy that rewrites Host the own host is what the proxy
    says, if the application trusts it (``werkzeug.middleware.proxy_fix.ProxyFix``), or what the
    browser says itself with ``Sec-Fetch-Site: same-origin``, a header that no page can set.

    Raises:
        Forbidden: If it may not.
    """
    origin = request.headers.get("Origin")
    if (
        origin is None
        or is_listed(origin, allowed)
        or _host(origin) == _host(f"{request.scheme}://{request.host}")
        or request.headers.get("Sec-Fetch-Site") == "same-origin"
    ):
        return
    raise Forbidden(
        f"Pages of {origin:.200} may not connect to {request.host:.200}. "
        "List them in STREAMING_ORIGINS, or have the proxy pass Host on."
    )


def is_listed(origin: str, allowed: Collection[str]) -> bool:
    """Whether ``origin`` is one of ``allowed``, or ``allowed`` has ``*``."""
    return "*" in allowed or origin.lower().rstrip("/") in {o.lower().rstrip("/") for o in allowed}


def allow_origin(request: Request, response: Response, allowed: Collection[str]) -> Response:
    """``response``, readable by pages of listed origins (Fetch standard, section 3.2: CORS)."""
    origin = request.headers.get("Origin")
    response.vary.add("Origin")
    if origin and is_listed(origin, allowed):
        response.headers["Access-Control-Allow-Origin"] = origin
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Headers"] = "Content-Type, Last-Event-ID"
            response.headers["Access-Control-Allow-Methods"] = "GET, POST"
    return response


def _host(url: str) -> tuple[str | None, int | None] | None:
    """Host and port, the default port of the scheme filled in. None if there are none."""
    try:
        parts = urlsplit(url)
        if parts.hostname is None:
            return None
        return parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
