"""Event streams as a client reads them: chunks, blocks or lines, ids."""

from typing import Protocol

from streaming.clients.formats import NDJSON, SSE, EventFormat
from streaming.wire import ndjson, sse

FORMS: dict[str, EventFormat] = {"sse": SSE, "ndjson": NDJSON}


class Chunks:
    """Chunked bodies (RFC 9112 section 7.1), and not one byte out of its place."""

    def __init__(self) -> None:
        self._data = b""
        self.is_over = False

    def feed(self, data: bytes) -> bytes:
        assert not self.is_over, f"behind the last chunk: {data[:40]!r}"
        self._data += data
        body = b""
        while b"\r\n" in self._data[:12] and not self.is_over:
            head, rest = self._data.split(b"\r\n", 1)
            size = int(head, 16)
            if len(rest) < size + 2:
                return body
            end = rest[size : size + 2]
            assert end == b"\r\n", f"torn: {rest[max(size - 20, 0) : size + 20]!r}"
            body += rest[:size]
            self._data = rest[size + 2 :]
            self.is_over = size == 0
        assert len(self._data) < (1 if self.is_over else 12), f"torn: {self._data[:40]!r}"
        return body


class Reader(Protocol):
    """The bytes of a body in, events out."""

    last_id: str
    """What the next request resumes from; empty if no id has come."""

    def feed(self, data: bytes) -> list[sse.Event]:
        """The events that ``data`` completes."""


class SseReader:
    def __init__(self) -> None:
        self._decoder = sse.Decoder()

    @property
    def last_id(self) -> str:
        return self._decoder.last_event_id

    def feed(self, data: bytes) -> list[sse.Event]:
        return self._decoder.feed(data)


class NdjsonReader:
    def __init__(self) -> None:
        self._decoder = ndjson.Decoder()
        self.last_id = ""

    def feed(self, data: bytes) -> list[sse.Event]:
        events = []
        for line in self._decoder.feed(data):
            self.last_id = str(line.get("id", self.last_id))
            events.append(sse.Event(str(line["event"]), str(line["data"]), self.last_id))
        return events


def reader(form: EventFormat) -> Reader:
    """What understands ``form``."""
    return SseReader() if form is SSE else NdjsonReader()
