"""A server as its clients reach it: event streams and WebSockets, each wait with a deadline."""

from __future__ import annotations

import os
import ssl
import time
from base64 import b64encode
from collections import deque
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Self
from urllib.parse import urlsplit

from ....errors import ProtocolError
from ....wire import frames, sse
from ....wire.handshake import accept_key
from ...protocol import PROTOCOL

_MOST = 1 << 20
"""Bytes of a message that is read."""


class Address:
    """Where the application is to be found.

    Args:
        url: Its beginning, as browsers have it, with the path that it lies under.
        headers: What every request says besides: who it is.

    Raises:
        ValueError: If it is no address.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r:.100} is no address such as https://example.org/app")
        self.origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        """As a page of it says."""
        self.headers = headers
        self._is_tls = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._folder = parts.path.rstrip("/")

    def ask(
        self, path: str, headers: Mapping[str, str], seconds: float
    ) -> tuple[HTTPConnection, HTTPResponse]:
        """Send a GET; return the connection and the head of what is answered.

        Raises:
            TimeoutError: If no head comes within ``seconds``.
            OSError, HTTPException: If there is no such server, or it speaks no HTTP.
        """
        connection = (
            HTTPSConnection(
                self._host, self._port, timeout=seconds, context=ssl.create_default_context()
            )
            if self._is_tls
            else HTTPConnection(self._host, self._port, timeout=seconds)
        )
        try:
            connection.request("GET", self._folder + path, headers={**self.headers, **headers})
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise


class _Open:
    """A connection that is read."""

    def __init__(
        self, address: Address, path: str, headers: Mapping[str, str], seconds: float
    ) -> None:
        self._connection, self._response = address.ask(path, headers, seconds)
        self._sock = self._connection.sock
        self.status = self._response.status

    def header(self, name: str) -> str | None:
        """A header of the answer."""
        return self._response.getheader(name)

    def _wait(self, until: float) -> None:
        """Have the next read end then."""
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if self._sock is not None:  # else the answer ends with its connection, and is short
            self._sock.settimeout(left)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._connection.close()


class Stream(_Open):
    """An event stream."""

    def __init__(
        self, address: Address, path: str, headers: Mapping[str, str], seconds: float
    ) -> None:
        super().__init__(address, path, {"Accept": sse.MIMETYPE, **headers}, seconds)
        self._decoder = sse.Decoder(max_size=_MOST)
        self._events: deque[sse.Event] = deque()

    def next_event(self, seconds: float) -> sse.Event | None:
        """The next event; None at the stream's end.

        Raises:
            TimeoutError: If none comes within ``seconds``.
        """
        until = time.monotonic() + seconds
        while not self._events:
            data = self._read(until)
            if not data:
                return None
            self._events.extend(self._decoder.feed(data))
        return self._events.popleft()

    def lives(self, seconds: float) -> bool:
        """Read on: whether it is still there after ``seconds``."""
        until = time.monotonic() + seconds
        try:
            while self._read(until):
                pass
        except TimeoutError:
            return True
        return False

    def _read(self, until: float) -> bytes:
        self._wait(until)
        try:
            return self._response.read1(65536)
        except (HTTPException, ConnectionError):
            return b""  # cut off


class Talk(_Open):
    """A WebSocket that speaks ``streaming.v1.json``, if it was opened."""

    def __init__(self, address: Address, path: str, origin: str | None, seconds: float) -> None:
        key = b64encode(os.urandom(16)).decode()
        headers = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": PROTOCOL,
        }
        super().__init__(address, path, headers | ({"Origin": origin} if origin else {}), seconds)
        is_accepted = self.header("Sec-WebSocket-Accept") == accept_key(key)
        self.is_open = self.status == 101 and is_accepted
        self._decoder = frames.Decoder(_MOST, require_mask=False)

    def is_welcomed(self, seconds: float) -> bool:
        """Whether the server says anything within ``seconds``."""
        return self._listen(seconds, is_first=True)

    def lives(self, seconds: float) -> bool:
        """Answer pings: whether it is still there after ``seconds``."""
        return self._listen(seconds, is_first=False)

    def _listen(self, seconds: float, *, is_first: bool) -> bool:
        until = time.monotonic() + seconds
        try:
            while True:
                self._wait(until)
                data = self._response.fp.read1(65536)
                for value in self._decoder.feed(data):
                    if isinstance(value, frames.Close):
                        return False
                    if isinstance(value, frames.Ping):
                        pong = frames.Opcode.PONG
                        mask = os.urandom(4)
                        self._sock.sendall(frames.encode_client(pong, value.data, mask))
                    elif is_first and isinstance(value, frames.Text):
                        return True
                if not data:
                    return False
        except TimeoutError:
            return not is_first
        except (OSError, ProtocolError):
            return False
