"""A WebSocket client with deadlines, on wsproto, which flask-sock stands on, too."""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

from wsproto import ConnectionType, WSConnection
from wsproto import events as said

from .deadline import Deadline


class Refused(AssertionError):
    """The server has answered the handshake with something else than a WebSocket.

    ``status`` and ``headers`` (names in lower case) are those of its answer.
    """

    def __init__(self, path: str, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"{path} was refused with {status}")
        self.status = status
        self.headers = dict(headers)


class Closed(AssertionError):
    """The connection is over. ``code`` and ``reason`` are what the server has said (RFC 6455,
    section 7.4); 1006 where it has said nothing."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the server has closed the connection: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class Talk:
    """A WebSocket. ``Site.websocket`` makes it; it is a context manager.

    ``subprotocol`` is the one that the server has chosen, or None.
    """

    def __init__(
        self, port: int, path: str, headers: Mapping[str, str], subprotocols: Sequence[str]
    ) -> None:
        self._path = path
        self._messages: deque[str | bytes] = deque()
        self._begun: list[str | bytes] = []
        self._closed: Closed | None = None
        self.subprotocol: str | None = None
        self._is_open = False
        deadline = Deadline(None, f"an answer to the handshake of {path}")
        self._sock = socket.create_connection(("127.0.0.1", port), 5)
        self._wire = WSConnection(ConnectionType.CLIENT)
        asked = said.Request(
            host=f"127.0.0.1:{port}",
            target=path,
            extra_headers=[(name.encode(), value.encode()) for name, value in headers.items()],
            subprotocols=list(subprotocols),
        )
        try:
            self._sock.sendall(self._wire.send(asked))
            while not self._is_open:
                self._receive(deadline)
        except BaseException:
            self._sock.close()
            raise

    def send(self, message: str | bytes | Mapping[str, object]) -> None:
        """Send text, bytes, or a mapping as JSON.

        Raises:
            Closed: If the connection is over.
        """
        if self._closed is not None:
            raise self._closed
        if isinstance(message, Mapping):
            message = json.dumps(message)
        try:
            if isinstance(message, str):
                self._sock.sendall(self._wire.send(said.TextMessage(message)))
            else:
                self._sock.sendall(self._wire.send(said.BytesMessage(message)))
        except OSError:
            self._end(1006, "")

    def receive(self, *, within: float | None = None) -> str | bytes:
        """The next message.

        Raises:
            TooLate: If none comes within so many seconds (5 if None).
            Closed: If the connection is over.
        """
        deadline = Deadline(within, f"a message over {self._path}")
        while not self._messages:
            if self._closed is not None:
                raise self._closed
            self._receive(deadline)
        return self._messages.popleft()

    def json(self, *, within: float | None = None) -> Any:
        """The value that the next message is; raises what ``receive`` raises."""
        return json.loads(self.receive(within=within))

    def closed(self, *, within: float | None = None) -> Closed:
        """How the server ends the connection; what it still says before is thrown away.

        Raises:
            TooLate: If it does not within so many seconds (5 if None).
        """
        deadline = Deadline(within, f"the end of {self._path}")
        while self._closed is None:
            self._receive(deadline)
        return self._closed

    def close(self) -> None:
        """Leave properly. Idempotent."""
        if self._closed is None:
            self._closed = Closed(1000, "")
            with suppress(OSError):  # it is gone already
                self._sock.sendall(self._wire.send(said.CloseConnection(1000)))
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self, deadline: Deadline) -> None:
        try:
            deadline.arm(self._sock)
            data = self._sock.recv(65536)
        except TimeoutError:
            raise deadline.missed() from None
        except OSError:
            data = b""
        self._wire.receive_data(data or None)
        for event in self._wire.events():
            self._take(event)
        if not data and self._closed is None:
            self._end(1006, "")

    def _take(self, event: said.Event) -> None:
        if isinstance(event, said.AcceptConnection):
            self._is_open, self.subprotocol = True, event.subprotocol
        elif isinstance(event, said.RejectConnection):
            headers = {name.decode().lower(): value.decode() for name, value in event.headers}
            raise Refused(self._path, event.status_code, headers)
        elif isinstance(event, said.Ping):
            self._sock.sendall(self._wire.send(event.response()))
        elif isinstance(event, said.CloseConnection):
            self._end(event.code, event.reason or "")
        elif isinstance(event, said.Message):
            self._begun.append(event.data)
            if event.message_finished:
                self._messages.append(type(event.data)().join(self._begun))
                self._begun = []

    def _end(self, code: int, reason: str) -> None:
        self._closed = Closed(code, reason)
        self._sock.close()
        self._is_open = True
