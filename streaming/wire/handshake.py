"""The opening handshake of a WebSocket, as the server reads it (RFC 6455 section 4.2)."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha1

from ..errors import HandshakeError

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64
_VERSION = re.compile(r"(?:HTTP/)?([0-9]{1,3})(?:\.([0-9]{1,3}))?")


def accept_key(key: str) -> str:
    """The ``Sec-WebSocket-Accept`` for a ``Sec-WebSocket-Key`` (section 4.2.2, item 5.4)."""
    return b64encode(sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def check_handshake(method: str, http_version: str, headers: Mapping[str, str]) -> str:
    """Return the ``Sec-WebSocket-Accept`` to answer a request with (section 4.2.1).

    ``http_version`` is ``"HTTP/1.1"`` or ``"1.1"``. Header names are compared without case; a
    header sent twice arrives as one, joined by commas. ``Host`` is the HTTP server's to check,
    ``Origin`` the application's.

    Raises:
        HandshakeError: If the request is not a handshake: status 426 for another version of the
            WebSocket protocol, otherwise 400.
    """
    fields = {name.lower(): value for name, value in headers.items()}
    if method != "GET":
        raise HandshakeError(f"A WebSocket handshake is a GET request, not {method:.20}.")
    if fields.get("content-length", "0").strip() not in ("", "0") or "transfer-encoding" in fields:
        raise HandshakeError("A WebSocket handshake has no body: it would be taken for frames.")
    version = _VERSION.fullmatch(http_version)
    if not version or (int(version[1]), int(version[2] or 0)) < (1, 1):
        raise HandshakeError(f"A WebSocket handshake needs HTTP/1.1, not {http_version:.20}.")
    if "websocket" not in _tokens(fields.get("upgrade", "").lower()):
        raise HandshakeError("The header 'Upgrade: websocket' is missing.")
    if "upgrade" not in _tokens(fields.get("connection", "").lower()):
        raise HandshakeError("The header 'Connection: Upgrade' is missing.")
    spoken = fields.get("sec-websocket-version", "").strip()
    if spoken != "13":
        raise HandshakeError(f"Sec-WebSocket-Version must be 13, not {spoken!r:.40}.", status=426)
    key = fields.get("sec-websocket-key", "").strip()
    if not _KEY.fullmatch(key):
        raise HandshakeError("Sec-WebSocket-Key must be 16 bytes in base64.")
    return accept_key(key)


def choose_subprotocol(offered: str | None, supported: Sequence[str]) -> str | None:
    """The first of the client's ``Sec-WebSocket-Protocol`` list that is supported, or ``None``.

    The client lists them in its order of preference (section 4.1, item 10); case counts.
    """
    return next((name for name in _tokens(offered or "") if name in supported), None)


def _tokens(header: str) -> list[str]:
    return [stripped for token in header.split(",") if (stripped := token.strip(" \t"))]
