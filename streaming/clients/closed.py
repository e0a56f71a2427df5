"""How a handler is told that its WebSocket is over."""

from __future__ import annotations

import simple_websocket

from ..errors import StreamingError


class ConnectionClosed(StreamingError, simple_websocket.ConnectionClosed):  # type: ignore[misc]
    """The WebSocket is over. Caught as flask-sock's exception of this name too.

    ``reason`` is the close code and ``message`` the text behind it, as they are called there; the
    peer's, or ours if we ended it. ``code`` is another name for ``reason``.
    """

    title = "Connection closed"

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(f"The WebSocket was closed: {code} {message}".rstrip())
        self.close_code = self.code = self.reason = code
        self.message = message


def as_closed(reason: StreamingError) -> ConnectionClosed:
    """The same end as the exception that handlers know."""
    if isinstance(reason, ConnectionClosed):
        return reason
    return ConnectionClosed(reason.close_code, str(reason))
