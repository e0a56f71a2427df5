"""Clients on bare sockets: they read only when told to, so they can stall, vanish or break off.

The SSE decoder here is written from the WHATWG text and shares no code with the package.
"""

import json
import re
import select
import socket
import ssl
import struct
import threading
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.greenlets import is_green
from tests.polling import PATIENCE

T = TypeVar("T")

LINE_END = re.compile(rb"\r\n|\r(?!\Z)|\n")  # a CR at the end may be half of a CR LF


@dataclass(frozen=True)
class Event:
    """One SSE block as it stood on the wire. ``id`` and ``retry`` are those of this very block."""

    event: str = "message"
    data: str | None = None
    id: str | None = None
    retry: int | None = None

    def json(self) -> Any:
        assert self.data is not None, f"{self} has no data"
        return json.loads(self.data)


class SseReader:
    """Bytes in, events and comments out; any chunking gives the same."""

    def __init__(self) -> None:
        self.comments: list[str] = []
        self._rest = b""
        self._block: dict[str, Any] = {}

    def feed(self, data: bytes) -> list[Event]:
        self._rest += data
        *lines, self._rest = LINE_END.split(self._rest)
        events = [self._line(line.decode()) for line in lines]
        return [event for event in events if event is not None]

    def _line(self, line: str) -> Event | None:
        if not line:
            block, self._block = self._block, {}
            return Event(**block) if block else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            self.comments.append(value)
        elif name == "data":
            before = self._block.get("data")
            self._block["data"] = value if before is None else f"{before}\n{value}"
        elif name == "retry" and value.isascii() and value.isdigit():
            self._block["retry"] = int(value)
        elif name in {"event", "id"}:
            self._block[name] = value
        return None


class TlsSocket:
    """A TLS connection that one thread reads and another writes: of an ``SSLSocket`` OpenSSL would
    tell one of them an end of file that has not come, if both are at it at once."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._timeout = sock.gettimeout() or 0.0
        self._turn = threading.Lock()
        sock.settimeout(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, timeout: float) -> None:
        self._timeout = timeout

    def recv(self, size: int) -> bytes:
        return self._do(lambda: self._sock.recv(size))

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._do(lambda view=view: self._sock.send(view)) :]

    def _do(self, call: Callable[[], T]) -> T:
        until = time.monotonic() + self._timeout
        while True:
            ready: list[list[ssl.SSLSocket]] = [[], []]
            with self._turn:
                try:
                    return call()
                except ssl.SSLWantReadError:
                    ready[0] = [self._sock]
                except ssl.SSLWantWriteError:
                    ready[1] = [self._sock]
            left = until - time.monotonic()
            if left <= 0 or not any(select.select(*ready, [], left)):
                raise TimeoutError("timed out")


def for_two(sock: ssl.SSLSocket) -> Any:
    """``sock``, to be read by one thread and written by another. Greenlets never meet in it."""
    return sock if is_green() else TlsSocket(sock)


def read_head(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status and headers of a response, and what has already come of its body."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        assert piece, f"the connection ended inside the response head: {received!r}"
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in rest)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    return int(first.split()[1]), headers, body


def post_json(url: str, value: Any) -> tuple[int, Any]:
    """Post a value as JSON; return the status and the value in the answer."""
    body = json.dumps(value).encode()
    headers = {"Content-Type": "application/json"}
    with RawClient(url, method="POST", headers=headers, body=body) as client:
        return client.status, client.json()


class RawClient:
    """One HTTP request on a bare socket; the response is read piece by piece, on demand.

    ``receive_buffer`` makes the kernel's buffer small, so that a client that does not read is
    felt by the server soon. ``ending`` says how the body ended: ``"whole"`` (the last chunk or the
    announced length came), ``"cut"`` (the connection ended before), or None (it has not).
    """

    def __init__(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        receive_buffer: int | None = None,
        timeout: float = PATIENCE,
        tls: ssl.SSLContext | None = None,
        version: str = "1.1",
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.timeout = timeout
        self.ending: str | None = None
        self.reader = SseReader()
        self._events: list[Event] = []
        self._left = 0  # bytes of the current chunk still to come
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fields = {"Host": parts.netloc, **(headers or {})}
        if body:
            fields["Content-Length"] = str(len(body))
        lines = [f"{method} {target} HTTP/{version}", *(f"{k}: {v}" for k, v in fields.items())]
        self.socket.settimeout(timeout)
        try:
            self.socket.connect((parts.hostname, parts.port))
            if tls is not None:
                self.socket = for_two(tls.wrap_socket(self.socket))
            self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            self.status, self.headers, self._raw = read_head(self.socket)
        except BaseException:
            self.socket.close()
            raise
        self._chunked = self.headers.get("transfer-encoding") == "chunked"
        length = self.headers.get("content-length")
        self._length = None if length is None else int(length)
        is_gzip = self.headers.get("content-encoding") == "gzip"
        self._gzip = zlib.decompressobj(31) if is_gzip else None

    def send_body(self, size: int | None) -> None:
        """So many bytes behind the request's head, or chunks, until all are out or it is over."""
        with suppress(OSError):
            if size is not None:
                self.socket.sendall(b"b" * size)
                return
            for _ in range(200):
                self.socket.sendall(b"1000\r\n" + b"b" * 4096 + b"\r\n")
            self.socket.sendall(b"0\r\n\r\n")

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(65536)
        except ConnectionResetError:
            return b""

    def read(self, timeout: float | None = None) -> bytes:
        """The next piece of the body, b"" at its end.

        Raises:
            TimeoutError: If nothing arrives within ``timeout`` (default: the client's own).
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while self.ending is None:
            piece = self._unpack(self._unframe())
            if piece or self.ending is not None:
                return piece
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            received = self._receive()
            self._raw += received
            if not received:
                unframed = not self._chunked and self._length is None
                self.ending = "whole" if unframed else "cut"
        return b""

    def _unframe(self) -> bytes:
        if not self._chunked:
            piece, self._raw = self._raw, b""
            if self._length is not None:
                self._length -= len(piece)
                self.ending = "whole" if self._length <= 0 else None
            return piece
        body = b""
        while self._raw:
            if self._left > 2:
                piece = self._raw[: self._left - 2]
                body += piece
                self._raw = self._raw[len(piece) :]
                self._left -= len(piece)
            elif self._left:
                piece = self._raw[: self._left]
                assert piece in (b"\r\n", b"\r", b"\n"), f"broken chunk framing: {piece!r}"
                self._raw = self._raw[len(piece) :]
                self._left -= len(piece)
            else:
                size, end, rest = self._raw.partition(b"\r\n")
                if not end:
                    break
                self._raw = rest
                count = int(size.split(b";")[0], 16)
                if count == 0:
                    self.ending = "whole"
                    break
                self._left = count + 2
        return body

    def _unpack(self, piece: bytes) -> bytes:
        return self._gzip.decompress(piece) if self._gzip else piece

    def read_all(self) -> bytes:
        """The rest of the body; waits for its end."""
        body = b""
        while piece := self.read():
            body += piece
        return body

    def json(self) -> Any:
        return json.loads(self.read_all())

    def next_event(self, timeout: float | None = None) -> Event | None:
        """The next SSE event, or None at the end of the stream.

        Raises:
            TimeoutError: If none arrives within ``timeout`` (default: the client's own).
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not self._events:
            piece = self.read(max(0.001, deadline - time.monotonic()))
            if not piece:
                return None
            self._events += self.reader.feed(piece)
        return self._events.pop(0)

    def events(self) -> Iterator[Event]:
        """The events up to the end of the stream."""
        while (event := self.next_event()) is not None:
            yield event

    def close(self) -> None:
        """Leave as a client does that closes its connection."""
        self.socket.close()

    def reset(self) -> None:
        """Leave as a client does that crashes: the server sees a connection reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
