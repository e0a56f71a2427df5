"""Spans of OpenTelemetry, by its API alone; imported where the application has it: see ``traces``.

Names and attributes follow the semantic conventions for messaging as far as they fit. A channel's
name is an attribute and stands in no span's name: there may be any number of channels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, Tracer

from ..message import Message
from ..wire import traceparent

P = ParamSpec("P")
T = TypeVar("T")

_ABOUT = {"messaging.system": "flask-streaming"}

_log = logging.getLogger(__name__)


_untold = [None]  # whoever takes it says what happened, for this process


def _tell() -> None:
    """Log the error that is handled now; those that come after the first are the same."""
    try:
        _untold.pop()
    except IndexError:
        return
    _log.exception("OpenTelemetry failed, and may fail again without a word; streaming goes on")


def _harmless(call: Callable[P, T]) -> Callable[P, T | None]:
    """``call``, which gives None where a tracer, a sampler or a processor fails."""

    @wraps(call)
    def tried(*args: P.args, **options: P.kwargs) -> T | None:
        try:
            return call(*args, **options)
        except Exception:
            _tell()
            return None

    return tried


class Publishing:
    """The span of one publish: kind PRODUCER, a child of the caller's."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: Span) -> None:
        at = span.get_span_context()
        self._span = span
        self.traceparent = traceparent.encode(at.trace_id, at.span_id, at.trace_flags)
        """What is kept with the message."""

    def run(self, publish: Callable[[], Message]) -> Message:
        """What ``publish`` gives or raises; its own spans are children of this one."""
        scope = trace.use_span(self._span, record_exception=False, set_status_on_exception=False)
        try:
            with scope:
                message = publish()
        except BaseException as error:
            self._end({"error.type": type(error).__qualname__}, error)
            raise
        self._end(
            {
                "messaging.message.id": str(message.id),
                "messaging.message.body.size": message.size,
            }
        )
        return message

    @_harmless
    def _end(self, found: Mapping[str, str | int], error: BaseException | None = None) -> None:
        self._span.set_attributes(found)
        if error is not None:
            self._span.set_status(StatusCode.ERROR, str(error))
        self._span.end()


class Delivery:
    """The span of one batch on its way to all who follow a channel in this process."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    @_harmless
    def end(self) -> None:
        """All were written to, or told to read."""
        self._span.end()


class Connection:
    """The span of a client's connection, which may last long beyond its request: kind INTERNAL.

    ``within`` is the span of the request, which ends when its response does.
    """

    __slots__ = ("_span", "_tracer", "_within")

    def __init__(self, tracer: Tracer, within: Context) -> None:
        self._tracer = tracer
        self._within: Context | None = within
        self._span: Span | None = None

    @_harmless
    def begin(self, transport: str) -> None:
        """The client is in the list. Idempotent."""
        within, self._within = self._within, None
        if within is None:
            return
        about = {"streaming.transport": transport}
        span = self._tracer.start_span("connection", within, attributes=about)
        self._span = span if span.is_recording() else None

    @property
    def context(self) -> SpanContext | None:
        """What others can link to; None if nothing is recorded."""
        return None if self._span is None else self._span.get_span_context()

    @_harmless
    def end(
        self,
        client: str,
        ended: str,
        error: str | None,
        sent: int,
        sent_bytes: int,
        received: int,
        received_bytes: int,
    ) -> None:
        """The client is out of the list. ``ended``: a word for why; ``error``, if it was ours.

        ``client`` is the id it was listed with: one that could not give its request back has got
        another since it began.
        """
        span, self._span = self._span, None
        if span is None:
            return
        found = {
            "streaming.sent_messages": sent,
            "streaming.sent_bytes": sent_bytes,
            "streaming.received_messages": received,
            "streaming.received_bytes": received_bytes,
        }
        span.set_attributes({"streaming.client.id": client, "streaming.end": ended, **found})
        if error is not None:
            span.set_attribute("error.type", ended)
            span.set_status(StatusCode.ERROR, error)
        span.end()


class Spans:
    """What one tracer makes. Each gives None where nothing would be recorded, or where it fails."""

    __slots__ = ("_tracer",)

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @_harmless
    def publishing(self, channel: str, by: Connection | None) -> Publishing | None:
        """About to publish to ``channel``: in a trace of its own if a client says so on a
        connection, which may last for days and has a span itself."""
        about = _ABOUT | {
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "messaging.destination.name": channel,
        }
        link = None if by is None else by.context
        span = self._tracer.start_span(
            "publish",
            None if link is None else Context(),
            SpanKind.PRODUCER,
            about,
            [] if link is None else [Link(link)],
        )
        return Publishing(span) if span.is_recording() else None

    @_harmless
    def delivery(
        self, channel: str, count: int, traced: Sequence[str], live: int, lagging: int
    ) -> Delivery | None:
        """A batch of ``count`` messages, some of which were published in a span: linked to each of
        these, and in the trace of the first, so that it is sampled as that was."""
        links = [Link(at) for at in map(_remote, traced) if at is not None]
        if not links:
            return None
        about: dict[str, str | int] = {
            **_ABOUT,
            "messaging.operation.name": "deliver",
            "messaging.operation.type": "process",
            "messaging.destination.name": channel,
            "messaging.batch.message_count": count,
            "streaming.live": live,
            "streaming.lagging": lagging,
        }
        within = trace.set_span_in_context(trace.NonRecordingSpan(links[0].context), Context())
        span = self._tracer.start_span("deliver", within, SpanKind.CONSUMER, about, links)
        return Delivery(span) if span.is_recording() else None

    @_harmless
    def connection(self) -> Connection:
        """Somebody is about to be connected, in this request."""
        here = trace.get_current_span()
        return Connection(self._tracer, trace.set_span_in_context(here, Context()))


def _remote(text: str) -> SpanContext | None:
    """The span that a message was published in."""
    if traceparent.known(text) is None:
        return None
    trace_id, span_id, flags = traceparent.decode(text)
    return SpanContext(trace_id, span_id, True, trace.TraceFlags(flags))


_last: tuple[object, Spans] | None = None


@_harmless
def found() -> Spans | None:
    """What the application's tracer makes; None while it has set no provider."""
    global _last
    provider = trace.get_tracer_provider()
    if _last is not None and _last[0] is provider:
        return _last[1]
    if isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
        return None
    spans = Spans(provider.get_tracer("streaming"))
    _last = provider, spans
    return spans
