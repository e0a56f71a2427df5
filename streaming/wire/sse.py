"""Server-Sent Events: ``text/event-stream`` and back (WHATWG HTML sections 9.2.5 and 9.2.6).

Lines end at CR, LF or CRLF and nowhere else: ``str.splitlines()`` would also cut at U+2028, U+0085,
VT and FF. The three come out of a decoder as LF, so that is the one thing a round trip changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InvalidMessage, ProtocolError

MIMETYPE = "text/event-stream"

COMMENT = b":\n"
"""The heartbeat: a comment line alone, which every client ignores. A blank line after it would
end a block, and some clients report an event for every blank line."""

_UNSAFE = re.compile(r"[\r\n\0\ud800-\udfff]")
_MOST_RETRY_DIGITS = 18


def check_event(name: str) -> str:
    """Return ``name`` if it can stand in an ``event:`` line and nowhere else.

    Raises:
        InvalidMessage: If it holds a line break, NUL or half a surrogate pair.
    """
    return _check_line(name, "event name")


def check_id(id: str) -> str:
    """Return ``id`` if it can stand in an ``id:`` line and nowhere else.

    Raises:
        InvalidMessage: If it holds a line break, NUL or half a surrogate pair.
    """
    return _check_line(id, "id")


def encode(
    data: str, *, event: str | None = None, id: str | None = None, retry: int | None = None
) -> bytes:
    """One block: ``event:``, ``retry:``, the ``data:`` lines, ``id:`` last, a blank line.

    The id is last because some clients take it over as soon as its line is read. Without one the
    client keeps the id it has. ``retry`` is in milliseconds.

    Raises:
        InvalidMessage: If the event name, the id or the data cannot be sent.
    """
    body = encode_body(data, event, retry)
    return body + b"\n" if id is None else finish(body, id)


def encode_body(data: str, event: str | None = None, retry: int | None = None) -> bytes:
    """A block without its id and its end; complete it with ``finish``.

    Connections with several channels share the body and add an id of their own. An event name of
    ``None``, ``""`` or ``"message"`` is left out: all three arrive as ``message``. Empty data still
    gives a ``data:`` line, since a client drops a block without one.

    Raises:
        InvalidMessage: If the event name or the data cannot be sent, or ``retry`` is negative.
    """
    data = f"data: {continued(data)}\n" if data else "data:\n"
    if retry is not None:
        if retry < 0:
            raise InvalidMessage(f"retry is a time in milliseconds; {retry} is negative.")
        data = f"retry: {retry}\n{data}"
    if event and event != "message":
        data = f"event: {check_event(event)}\n{data}"
    return _utf8(data)


def finish(body: bytes, id: str) -> bytes:
    """The whole block: ``body`` from ``encode_body``, the ``id:`` line and the blank line.

    Raises:
        InvalidMessage: If the id cannot be sent.
    """
    return b"%bid: %b\n\n" % (body, check_id(id).encode())


def continued(text: str) -> str:
    """``text`` as it stands behind ``data: ``: each line break begins another such line.

    What it gives for two texts is what it gives for both together, unless the first ends with CR
    and the other begins with LF.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\n", "\ndata: ")


def _check_line(text: str, what: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    found = _UNSAFE.search(text)
    if found:
        raise InvalidMessage(
            f"{text!r:.150} cannot be the {what} of an event: it holds {found[0]!r}."
        )
    return text


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidMessage(
            f"The text holds half a surrogate pair at position {error.start}; it is not Unicode."
        ) from error


@dataclass(frozen=True, slots=True)
class Event:
    """An event as a client gets it; ``id`` is the last event id that was in force."""

    event: str
    data: str
    id: str


class Decoder:
    """Bytes of an event stream in, events out, exactly as a browser reads them (section 9.2.6).

    ``last_event_id`` is what the next request should resume from, ``retry`` the reconnection time
    in milliseconds if the stream gave one. What follows the last blank line is dropped at the end
    of a stream, as the specification says, so there is nothing to close.
    """

    def __init__(self, *, max_size: int = 1 << 20) -> None:
        """``max_size`` bounds, in bytes, the data of an event and the line being read."""
        self.last_event_id = ""
        self.retry: int | None = None
        self._max_size = max_size
        self._fault: str | None = None
        self._first = True
        self._after_cr = False
        self._line = bytearray()
        self._data = bytearray()
        self._event = b""
        self._id = ""

    def feed(self, data: bytes) -> list[Event]:
        """The events that ``data`` completes; any chunking gives the same events.

        Raises:
            ProtocolError: If the pending event grows beyond ``max_size``. The events before it are
                returned first, so it may be the next call that raises; so does every later one.
        """
        events: list[Event] = []
        if data and self._fault is None:
            self._read(data, events)
        if self._fault is not None and not events:
            raise ProtocolError(self._fault, 1009)
        return events

    def _read(self, data: bytes, events: list[Event]) -> None:
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = data.split(b"\n")
        for line in lines:
            if self._line:
                line = bytes(self._line) + line
                self._line.clear()
            if len(line) + len(self._data) > self._max_size:
                return self._give_up()
            self._take_line(line, events)
        self._line += rest
        if len(self._line) + len(self._data) > self._max_size:
            self._give_up()

    def _give_up(self) -> None:
        self._fault = f"An event of more than {self._max_size} bytes; raise max_size to read it."
        self._line.clear()
        self._data.clear()

    def _take_line(self, line: bytes, events: list[Event]) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            self._dispatch(events)
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data += value
            self._data += b"\n"
        elif name == b"event":
            self._event = value
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) <= _MOST_RETRY_DIGITS:
            self.retry = int(value)

    def _dispatch(self, events: list[Event]) -> None:
        self.last_event_id = self._id
        if self._data:
            data = self._data[:-1].decode("utf-8", "replace")
            name = self._event.decode("utf-8", "replace") or "message"
            events.append(Event(name, data, self._id))
            self._data.clear()
        self._event = b""
