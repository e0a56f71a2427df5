"""One client of many: an event stream on a socket that never blocks."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlencode, urlsplit

from ....errors import StreamingError
from ....wire import sse
from .score import Score, Sheet

PATIENCE = 10.0
"""Seconds that a connection may take."""

PIECE = 256 * 1024

_WAITING = (BlockingIOError, ssl.SSLWantReadError)


class Refused(Exception):
    """The server does not let it follow."""


class Follower:
    """Follows channels, and goes on where it was when it connects again.

    Args:
        url: Of the streams.
        now: The numbers that come next in each channel, as far as was published.
    """

    def __init__(
        self, url: str, channels: list[str], score: Score, now: Callable[[], dict[str, int]]
    ) -> None:
        self.sock: socket.socket | None = None
        self.sheet = Sheet(channels, score)
        self._url, self._channels, self._score, self._now = url, channels, score, now
        self._last = ""
        self._missed: dict[str, int] | None = None
        self._began = 0.0
        self._chunks = _Chunks()
        self._decoder = sse.Decoder()

    @property
    def is_ready(self) -> bool:
        """Whether the stream has said where it stands."""
        return bool(self._last)

    def connect(self) -> socket.socket:
        """Ask for the stream; the answer comes through ``take``.

        Raises:
            OSError: If there is no server.
        """
        parts = urlsplit(self._url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._began, self._missed = time.monotonic(), self._now() if self._last else None
        sock = socket.create_connection((parts.hostname or "", port), timeout=PATIENCE)
        if parts.scheme == "https":
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=parts.hostname)
        query = urlencode([("channel", name) for name in self._channels])
        lines = [f"GET {parts.path}?{query} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"Last-Event-ID: {self._last}"] if self._last else []
        sock.sendall("\r\n".join([*lines, f"Accept: {sse.MIMETYPE}", "", ""]).encode())
        sock.setblocking(False)
        self._chunks, self._decoder = _Chunks(), sse.Decoder()
        self.sock = sock
        return sock

    def close(self) -> None:
        """Leave, as a phone does that loses its network."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def take(self) -> bool:
        """What has come is counted; False if the connection is over.

        Raises:
            Refused: If the answer is no stream.
        """
        assert self.sock is not None
        while True:
            try:
                data = self.sock.recv(PIECE)
            except _WAITING:
                return True
            except OSError:
                return False
            if not data:
                return False
            for body in self._chunks.feed(data):
                try:
                    events = self._decoder.feed(body)
                except StreamingError:
                    return False
                self._count(events)

    def _count(self, events: list[sse.Event]) -> None:
        now = time.monotonic()
        for event in events:
            self._last = event.id or self._last
            if event.event == "gap":
                self._score.counts["gaps"] += 1
            elif event.event == "bench":
                channel, number, sent = event.data.split(" ")
                self.sheet.note(channel, int(number))
                if self._missed is None:
                    self._score.waits.append(now - float(sent))
        if self._missed is not None and self.sheet.has(self._missed):
            self._score.replays.append(now - self._began)
            self._missed = None


class _Chunks:
    """The head of an answer, and its body in chunks (RFC 9112 section 7.1) or as it comes."""

    def __init__(self) -> None:
        self._data = b""
        self._is_body = self._is_chunked = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces of the body that are whole with ``data``."""
        self._data += data
        if not self._is_body:
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            if head.split(b" ", 2)[1] != b"200":
                raise Refused(head.split(b"\r\n", 1)[0].decode("latin-1"))
            self._is_body, self._data = True, rest
            self._is_chunked = b"transfer-encoding: chunked" in head.lower()
        if not self._is_chunked:
            body, self._data = self._data, b""
            yield body
            return
        while True:
            size, end, rest = self._data.partition(b"\r\n")
            count = int(size.partition(b";")[0], 16) if end else 0
            if not end or len(rest) < count + 2:
                return
            self._data = rest[count + 2 :]
            yield rest[:count]
