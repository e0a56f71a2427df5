"""What an HTTP stream of events says, in each of its formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..errors import HubClosed, StreamingError
from ..hub.pump import Format
from ..message import Gap, Message
from ..wire import ndjson, sse
from ..wire.compact import compact


class EventFormat(Format, Protocol):
    """A format for a stream of events; see ``docs/protocols.md`` for every byte."""

    name: str
    mimetype: str
    heartbeat: bytes

    def event(
        self,
        event: str,
        data: str,
        *,
        id: str | None = None,
        channel: str | None = None,
        retry: int | None = None,
    ) -> bytes:
        """One event; ``id`` is the cursor behind it, ``retry`` in milliseconds."""

    def encode_at(self, message: Message, id: str) -> bytes:
        """``message`` with another id: the cursor of a stream of several channels."""

    def gap(self, lost: Gap, id: str, /) -> bytes:
        """The event that says what is no longer held; ``id`` is the cursor behind it."""


class _Chunked:
    """Frames for a direct write into an HTTP/1.1 response (RFC 9112 section 7.1)."""

    personal = False

    def encode(self, message: Message, /) -> bytes:
        raise NotImplementedError

    def encode_own(self, message: Message, /) -> bytes:
        return message.encoded(self)

    def event(self, event: str, data: str, *, id: str | None = None) -> bytes:
        raise NotImplementedError

    def gap(self, lost: Gap, id: str, /) -> bytes:
        return self.event("gap", compact(lost.payload()), id=id)

    def frame(self, blocks: bytes, /) -> bytes:
        return b"%x\r\n%b\r\n" % (len(blocks), blocks)


class SseFormat(_Chunked):
    """Server-Sent Events (WHATWG HTML section 9.2)."""

    name = "sse"
    mimetype = sse.MIMETYPE
    heartbeat = sse.COMMENT

    def event(
        self,
        event: str,
        data: str,
        *,
        id: str | None = None,
        channel: str | None = None,
        retry: int | None = None,
    ) -> bytes:
        return sse.encode(data, event=event, id=id, retry=retry)

    def encode(self, message: Message, /) -> bytes:
        return sse.encode(message.data, event=message.event, id=str(message.id))

    def encode_at(self, message: Message, id: str) -> bytes:
        return sse.finish(message.encoded(_SSE_BODY), id)


class NdjsonFormat(_Chunked):
    """One JSON object a line."""

    name = "ndjson"
    mimetype = ndjson.MIMETYPE
    heartbeat = ndjson.HEARTBEAT

    def event(
        self,
        event: str,
        data: str,
        *,
        id: str | None = None,
        channel: str | None = None,
        retry: int | None = None,
    ) -> bytes:
        line = {"event": event, "channel": channel, "data": data, "id": id, "retry": retry}
        return ndjson.encode({k: v for k, v in line.items() if v is not None})

    def encode(self, message: Message, /) -> bytes:
        return self.encode_at(message, str(message.id))

    def encode_at(self, message: Message, id: str) -> bytes:
        return self.event(message.event, message.data, channel=message.channel, id=id)


class _SseBody:
    """A message's block without its id, shared by streams of several channels."""

    def encode(self, message: Message, /) -> bytes:
        return sse.encode_body(message.data, event=message.event)


_SSE_BODY = _SseBody()
SSE = SseFormat()
NDJSON = NdjsonFormat()


def ready(form: EventFormat, channels: Sequence[str], id: str) -> bytes:
    """The priming event: a client has a cursor before its first message."""
    return form.event("ready", compact({"channels": list(channels)}), id=id)


def farewell(form: EventFormat, reason: StreamingError, retry: int) -> bytes:
    """The last event of a stream that ends for ``reason``.

    ``restart`` if that passes (status 503: the server stops, the client was too slow): come back
    after ``retry`` milliseconds and resume. Otherwise ``close``: do not come back.
    """
    if reason.status != 503:
        return close(form, reason.problem())
    problem = {} if isinstance(reason, HubClosed) else reason.problem()
    return form.event("restart", compact(problem), retry=retry)


def close(form: EventFormat, problem: Mapping[str, object] | None = None) -> bytes:
    """The deliberate end: the client must not come back. ``problem`` says what went wrong."""
    return form.event("close", compact(problem or {}))
