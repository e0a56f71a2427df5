"""Everything this package raises, one tree.

Each class carries, as data, what the transports need to translate it once: the HTTP ``status``, the
WebSocket ``close_code`` (RFC 6455 section 7.4) and a ``title``. ``str(error)`` is the detail: what
happened and what to do about it, written for the person who reads it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import ClassVar, Self

LONGEST = 400
"""Characters of a detail that clients are told."""


class StreamingError(Exception):
    """The root of the tree; never raised itself."""

    status: ClassVar[int] = 500
    close_code: int = 1011
    title: ClassVar[str] = "Internal error"
    is_applications: bool = False
    """Whether a call of the application itself was wrong, and not what a client sent."""

    def blame_application(self) -> None:
        """Make it the application's: 500 or 1011, and what was wrong is for the server's log."""
        self.is_applications, self.close_code = True, 1011
        self.status = 500  # type: ignore[misc]  # it differs by instance

    @property
    def headers(self) -> Mapping[str, str]:
        """HTTP headers that belong to the answer."""
        return {}

    @property
    def told(self) -> str:
        """The detail as clients are told it: not the application's mistakes, and nothing long,
        since what the client sent may be in it."""
        if self.is_applications:
            return "The application has made a mistake. Its log says which."
        detail = str(self)
        return detail if len(detail) <= LONGEST else f"{detail[: LONGEST - 1]}…"

    def problem(self) -> dict[str, object]:
        """The error as a problem object (RFC 9457)."""
        return {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.told,
        }


class ConfigurationError(StreamingError):
    """Ours, at start: a setting is wrong or the extension is used in the wrong order."""

    title = "Configuration error"


class InvalidMessage(StreamingError):
    """The publisher's: a channel name, event name or text that cannot be sent."""

    status = 400
    close_code = 1008
    title = "Invalid message"


class InvalidRequest(StreamingError):
    """The client's: a request that cannot be understood."""

    status = 400
    close_code = 1008
    title = "Invalid request"


class InvalidCursor(InvalidRequest):
    """The client's: a cursor (``Last-Event-ID``) that no log ever gave out."""

    title = "Unreadable cursor"


class Forbidden(StreamingError):
    """The client's: not allowed here."""

    status = 403
    close_code = 1008
    title = "Not allowed"


class InvalidTicket(StreamingError):
    """The client's: a ticket that is none, or is not good any more. Get another one."""

    status = 401
    close_code = 1008
    title = "Ticket not valid"

    @property
    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": "Ticket"}  # RFC 9110 section 15.5.2


class UnsupportedMediaType(InvalidRequest):
    """The client's: a request body in a format that is not read here."""

    status = 415
    close_code = 1003
    title = "Unsupported media type"


class TooLarge(StreamingError):
    """The client's: a body or a message over the limit."""

    status = 413
    close_code = 1009
    title = "Too large"


class TooSlow(StreamingError):
    """The client's: a body that does not come."""

    status = 408
    close_code = 1008
    title = "Too slow"


class HandshakeError(StreamingError):
    """The client's: a WebSocket handshake that RFC 6455 section 4.2.1 does not allow."""

    close_code = 1002
    title = "Not a WebSocket handshake"

    def __init__(self, detail: str, *, status: int = 400) -> None:
        super().__init__(detail)
        self.status = status  # type: ignore[misc]  # 400 and 426 differ by instance

    @property
    def headers(self) -> Mapping[str, str]:
        if self.status != 426:
            return {}
        return {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}


class ProtocolError(StreamingError):
    """The peer's: bytes that the protocol does not allow. Answer with ``close_code``, hang up."""

    status = 400
    title = "Protocol error"

    def __init__(self, detail: str, close_code: int = 1002) -> None:
        super().__init__(detail)
        self.close_code = close_code


class LogUnavailable(StreamingError):
    """The log's: it cannot be reached now. Try again later; if it says that a message may be stored
    all the same, with the same key."""

    status = 503
    close_code = 1013
    title = "Log unavailable"

    @property
    def told(self) -> str:
        """Not the detail: paths and addresses are for the server's log."""
        return "The log of messages cannot be reached now. Try again in a moment."

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": "2"}


class ChannelEnded(StreamingError):
    """The publisher's: the channel has ended, and nothing follows its last message."""

    status = 409
    close_code = 1008
    title = "Channel ended"

    @classmethod
    def of(cls, channel: str) -> Self:
        """The error that says which."""
        return cls(f"The channel {channel!r} has ended; nothing can follow.")


class Lagged(StreamingError):
    """The subscriber's: it fell behind on a channel whose policy is ``disconnect``. Resume."""

    status = 503
    close_code = 1013
    title = "Too slow"


class StreamEnded(StreamingError):
    """Nobody's: all that was followed has ended, and everything was told."""

    status = 410
    close_code = 1000
    title = "The end"


class HubClosed(StreamingError):
    """Nobody's: this process is about to stop. Come back in a moment and resume."""

    status = 503
    close_code = 1012
    title = "Restarting"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or "The server is restarting. Come back in a moment and resume.")

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": "2"}


class Recalled(StreamingError):
    """Nobody's: the connection has to be made anew. Come back in a moment and resume."""

    status = 503
    close_code = 1012
    title = "Connect again"

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": "2"}


class Revoked(Forbidden):
    """The client's: what it was allowed it is allowed no more."""

    title = "Not allowed any more"


NO_THREAD = "The server cannot start another thread. Try again in a moment."
"""What somebody is told who cannot be served for that."""


class TooManyClients(StreamingError):
    """Nobody's: this worker has as many clients as it may have. Try again in a moment."""

    status = 503
    close_code = 1013
    title = "Too many clients"

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": str(random.randint(5, 8))}  # they do not come all at once


class TooMuch(StreamingError):
    """The client's: more than one may have, at once or in a time. Try again in a moment.

    ``wait``: seconds after which there is room again, as far as is known.
    """

    status = 429
    close_code = 1013
    title = "Too much"

    def __init__(self, detail: str, wait: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after = math.ceil(wait * random.uniform(1.0, 1.5)) or 1

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": str(self.retry_after)}


class UnknownRun(StreamingError):
    """The client's: there is no such run, or it is no longer kept."""

    status = 404
    close_code = 1008
    title = "No such run"


class RunStopped(StreamingError):
    """Nobody's: what a producer says is wanted no more. For producers to let pass."""

    status = 409
    title = "Stopped"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or "The run was stopped.")


class TooManyRuns(StreamingError):
    """Nobody's: this worker makes as many answers as it may. Try again in a moment."""

    status = 503
    close_code = 1013
    title = "Too many answers"

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": "5"}


class ProducerFailed(StreamingError):
    """The application's or its source's: a streamed answer failed before its first piece."""

    title = "The answer failed"

    def __init__(self, detail: str, *, status: int = 500, retry_after: object = None) -> None:
        super().__init__(detail)
        self.status = status  # type: ignore[misc]  # it differs by instance
        self.retry_after = None if retry_after is None else str(retry_after)

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """What clients are told of a producer's error; never its own words.

        An error of an upstream's answer (it has a ``status_code``, or a ``response`` that has one)
        is ours to the client: 502. Only 429 and 503 mean the same to it, with their
        ``Retry-After``.
        """
        response = getattr(error, "response", None)
        status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
        if not isinstance(status, int):
            return cls("The answer failed.")
        if status not in (429, 503):
            return cls("The answer's source has refused.", status=502)
        after = (getattr(response, "headers", None) or {}).get("Retry-After")
        return cls("The answer's source is busy.", status=status, retry_after=after)

    @property
    def headers(self) -> Mapping[str, str]:
        return {} if self.retry_after is None else {"Retry-After": self.retry_after}


class ClientGone(StreamingError):
    """Nobody's: the client left, or its network did."""

    close_code = 1006
    title = "Client gone"
