"""A client of an HTTP stream. It reads only when the test says so: as slowly as it likes."""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any, Self

from ..wire import ndjson, sse
from .deadline import Deadline

LARGEST = 64 * 1024 * 1024
"""Bytes of the largest event that a test reads."""


@dataclass(frozen=True)
class Event:
    """One event, as an ``EventSource`` tells it (WHATWG HTML, section 9.2), or a line of NDJSON."""

    data: str = ""
    event: str = "message"
    id: str = ""
    """The last id there was."""

    def json(self) -> Any:
        """The value that ``data`` is.

        Raises:
            ValueError: If it is no JSON.
        """
        return json.loads(self.data)


class Reader:
    """A stream that is read. ``Site.events`` makes it; it is a context manager.

    ``status`` and ``headers`` are those of the response. ``ready``, which the package says at the
    beginning, is not among the events: it sets ``last_event_id``.
    """

    def __init__(
        self, port: int, path: str, headers: Mapping[str, str], receive_buffer: int | None
    ) -> None:
        self._port = port
        self._path = path
        self._given = dict(headers)
        self._receive_buffer = receive_buffer
        self.last_event_id = ""
        """Where a client goes on that comes back."""
        self._last: Event | None = None
        self._open()

    def next(self, *, within: float | None = None) -> Event:
        """The next event.

        Raises:
            TooLate: If none comes within so many seconds (5 if None).
            AssertionError: If the stream ends, or is no stream of events.
        """
        found = self._take(Deadline(within, f"an event of {self._path}; {self._before()}"))
        if found is None:
            raise AssertionError(f"{self._path} has ended without another event; {self._before()}")
        return found

    def rest(self, *, within: float | None = None) -> list[Event]:
        """All events until the stream ends.

        Raises:
            TooLate: If it goes on for longer than so many seconds (5 if None).
            AssertionError: If it is no stream of events.
        """
        deadline = Deadline(within, f"the end of {self._path}; {self._before()}")
        return list(iter(lambda: self._take(deadline), None))

    def text(self, *, within: float | None = None) -> str:
        """What is left of the body, as it is on the wire, until the end.

        Raises:
            TooLate: If it goes on for longer than so many seconds (5 if None).
        """
        deadline = Deadline(within, f"the end of {self._path}")
        return b"".join(iter(lambda: self._read(deadline), b"")).decode("utf-8", "replace")

    def reconnect(self) -> Self:
        """Break off and come back as a browser does, with ``Last-Event-ID``. Returns itself."""
        self.close()
        if self.last_event_id:
            self._given["Last-Event-ID"] = self.last_event_id
        self._open()
        return self

    def close(self) -> None:
        """Leave. Idempotent."""
        self._response.close()
        self._connection.close()
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        self._events: deque[Event] = deque()
        deadline = Deadline(None, f"an answer from {self._path}")
        self._sock = socket.socket()
        if self._receive_buffer is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        deadline.arm(self._sock)
        self._sock.connect(("127.0.0.1", self._port))
        self._connection = HTTPConnection("127.0.0.1", self._port)
        self._connection.sock = self._sock
        try:
            self._connection.request("GET", self._path, headers=self._given)
            self._response = self._connection.getresponse()
        except TimeoutError:
            raise deadline.missed() from None
        self.status = self._response.status
        self.headers = self._response.headers
        self._decoder = self._find_decoder()

    def _find_decoder(self) -> sse.Decoder | ndjson.Decoder | None:
        kind = self.headers.get_content_type()
        if kind == "text/event-stream":
            return sse.Decoder(max_size=LARGEST)
        return ndjson.Decoder(max_size=LARGEST) if kind == ndjson.MIMETYPE else None

    def _read(self, deadline: Deadline) -> bytes:
        """What comes next; nothing at the end, or where it was cut."""
        try:
            deadline.arm(self._sock)
            return self._response.read1(65536)
        except TimeoutError:
            raise deadline.missed() from None
        except (OSError, HTTPException, ValueError):
            return b""

    def _take(self, deadline: Deadline) -> Event | None:
        if self._decoder is None:
            raise AssertionError(
                f"{self._path} is no stream of events but {self.headers.get_content_type()}, "
                f"status {self.status}: {self.text()[:500]}"
            )
        while not self._events:
            piece = self._read(deadline)
            if not piece:
                return None
            for found in self._decoder.feed(piece):
                self._note(found)
        self._last = self._events.popleft()
        return self._last

    def _note(self, found: sse.Event | dict[str, object]) -> None:
        if isinstance(found, sse.Event):
            event = Event(found.data, found.event, found.id)
        else:
            name, last = found.get("event", "message"), found.get("id", self.last_event_id)
            event = Event(str(found.get("data", "")), str(name), str(last))
        self.last_event_id = event.id
        if event.event != "ready":
            self._events.append(event)

    def _before(self) -> str:
        return "nothing came before" if self._last is None else f"before it came {self._last}"
