"""What an HTTP stream of events says, in each of its formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from ..errors import HubClosed, StreamEnded, StreamingError, TooMuch
from ..hub.sink import Format
from ..message import Encoder, Gap, Message, print_place
from ..wire import frames, ndjson, sse
from ..wire.compact import compact, escaped


class EventFormat(Format, Protocol):
    """A format for a stream of events; see ``docs/protocols.md`` for every byte."""

    name: str
    mimetype: str
    heartbeat: bytes

    def event(
        self, event: str, data: str, *, id: str | None = None, retry: int | None = None
    ) -> bytes:
        """One event; ``id`` is the cursor behind it, ``retry`` in milliseconds."""

    def gap(self, lost: Gap, id: str, /) -> bytes:
        """The event that says what is no longer held; ``id`` is the cursor behind it."""

    def ended(self, channel: str, /) -> bytes:
        """Nothing: the stream is over with its channels.

        Raises:
            StreamEnded: Always.
        """


class _Chunked:
    """Frames for a direct write into an HTTP/1.1 response (RFC 9112 section 7.1)."""

    personal = False
    begun: ClassVar[Encoder]
    """A message of several channels, up to where its id goes on with the other channels."""
    end: ClassVar[bytes]
    """What follows the id."""

    def encode(self, message: Message, /) -> bytes:
        raise NotImplementedError

    def encode_own(self, message: Message, /) -> bytes:
        return message.encoded(self)

    def cut(self, messages: Sequence[Message], /) -> list[bytes]:
        blocks = [message.encoded(self.begun) for message in messages]
        return [blocks[0], *(self.end + block for block in blocks[1:]), self.end]

    def event(
        self, event: str, data: str, *, id: str | None = None, retry: int | None = None
    ) -> bytes:
        raise NotImplementedError

    def gap(self, lost: Gap, id: str, /) -> bytes:
        return self.event("gap", compact(lost.payload()), id=id)

    def ended(self, channel: str, /) -> bytes:
        raise StreamEnded(f"Channel {channel!r} has ended.")

    def frame(self, blocks: bytes, /) -> bytes:
        return b"%x\r\n%b\r\n" % (len(blocks), blocks)

    def ends(self, size: int, /) -> tuple[bytes, bytes]:
        return b"%x\r\n" % size, b"\r\n"

    def _id_in(self, message: Message, others: bytes | None) -> bytes:
        """A message's id, alone or in a stream of several channels."""
        if others is None:
            return str(message.id).encode()
        return print_place(message.channel, message.id).encode() + others


class _SseBegun:
    def encode(self, message: Message, /) -> bytes:
        body = sse.encode_body(message.data, event=message.event)
        return b"%bid: %b" % (body, print_place(message.channel, message.id).encode())


class _NdjsonBegun:
    def encode(self, message: Message, /) -> bytes:
        place = print_place(message.channel, message.id)
        return _line(message, place).removesuffix(NdjsonFormat.end)


class SseFormat(_Chunked):
    """Server-Sent Events (WHATWG HTML section 9.2)."""

    name = "sse"
    mimetype = sse.MIMETYPE
    heartbeat = sse.COMMENT
    begun = _SseBegun()
    end = b"\n\n"

    def encode(self, message: Message, /) -> bytes:
        body = sse.encode_body(message.data, event=message.event)
        return b"%bid: %b\n\n" % (body, str(message.id).encode())

    def escape(self, text: str, /) -> bytes:
        return sse.continued(text).encode()

    def around(self, message: Message, own: bool, others: bytes | None, /) -> tuple[bytes, bytes]:
        before = sse.encode_body("", event=message.event).removesuffix(b"\n") + b" "
        return before, b"\nid: " + self._id_in(message, others) + self.end

    def event(
        self, event: str, data: str, *, id: str | None = None, retry: int | None = None
    ) -> bytes:
        return sse.encode(data, event=event, id=id, retry=retry)


class MadeFormat(SseFormat):
    """Server-sent events that are bytes already; nothing is added but heartbeats."""

    def event(
        self,
        event: str,
        data: str,
        *,
        id: str | None = None,
        channel: str | None = None,
        retry: int | None = None,
    ) -> bytes:
        return data.encode() if event == "message" else b""


class NdjsonFormat(_Chunked):
    """One JSON object a line."""

    name = "ndjson"
    mimetype = ndjson.MIMETYPE
    heartbeat = ndjson.HEARTBEAT
    begun = _NdjsonBegun()
    end = b'"}\n'

    def encode(self, message: Message, /) -> bytes:
        return _line(message, str(message.id))

    def escape(self, text: str, /) -> bytes:
        return escaped(text)

    def around(self, message: Message, own: bool, others: bytes | None, /) -> tuple[bytes, bytes]:
        line = ndjson.encode({"event": message.event, "channel": message.channel, "data": ""})
        return line.removesuffix(self.end), b'","id":"' + self._id_in(message, others) + self.end

    def event(
        self, event: str, data: str, *, id: str | None = None, retry: int | None = None
    ) -> bytes:
        line = {"event": event, "data": data, "id": id, "retry": retry}
        return ndjson.encode({name: value for name, value in line.items() if value is not None})


def _line(message: Message, place: str) -> bytes:
    line = {"event": message.event, "channel": message.channel, "data": message.data, "id": place}
    return ndjson.encode(line)


SSE = SseFormat()
NDJSON = NdjsonFormat()
MADE = MadeFormat()


class FrameFormat:
    """Messages as WebSocket frames, each subscription of one channel: ids as messages have them."""

    personal = False

    def encode(self, message: Message, /) -> bytes:
        raise NotImplementedError

    def encode_own(self, message: Message, /) -> bytes:
        return message.encoded(self)

    def cut(self, messages: Sequence[Message], /) -> list[bytes]:
        raise NotImplementedError

    def ended(self, channel: str, /) -> bytes:
        raise StreamEnded(f"Channel {channel!r} has ended.")

    def frame(self, blocks: bytes, /) -> bytes:
        return blocks

    def escape(self, text: str, /) -> bytes:
        return text.encode()

    def around(self, message: Message, own: bool, others: bytes | None, /) -> tuple[bytes, bytes]:
        raise NotImplementedError

    def ends(self, size: int, /) -> tuple[bytes, bytes]:
        return frames.announce(frames.Opcode.TEXT, size), b""


def ready(form: EventFormat, channels: Sequence[str], id: str) -> bytes:
    """The priming event: a client has a cursor before its first message."""
    return form.event("ready", compact({"channels": list(channels)}), id=id)


def ticket_event(form: EventFormat, ticket: Mapping[str, object]) -> bytes:
    """What a client is to come back with from now on. It moves no cursor."""
    return form.event("ticket", compact(ticket))


def farewell(form: EventFormat, reason: StreamingError, retry: int) -> bytes:
    """The last event of a stream that ends for ``reason``.

    ``restart`` if that passes (status 503: the server stops, the client was too slow; or it wants
    too much): come back after ``retry`` milliseconds and resume. Otherwise ``close``: do not.
    """
    if isinstance(reason, StreamEnded):
        return close(form)
    if reason.status != 503 and not isinstance(reason, TooMuch):
        return close(form, reason.problem())
    problem = {} if isinstance(reason, HubClosed) else reason.problem()
    return form.event("restart", compact(problem), retry=retry)


def close(form: EventFormat, problem: Mapping[str, object] | None = None) -> bytes:
    """The deliberate end: the client must not come back. ``problem`` says what went wrong."""
    return form.event("close", compact(problem or {}))
