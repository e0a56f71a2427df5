"""Spans of OpenTelemetry: of publishes, deliveries, connections. In threads and greenlets."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from streaming import InvalidMessage, Publisher, Sock, Streaming
from streaming.hub import spans, traces
from streaming.logs import MemoryLog
from streaming.wire import traceparent
from tests.greenlets import is_green, run_file
from tests.polling import wait_until
from tests.sites import Site, serve

ROOT = Path(__file__).parents[2]


class Recorded:
    """The spans that have ended, of an application's one provider; each test has its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.exporter = InMemorySpanExporter()
        self.use(SimpleSpanProcessor(self.exporter))

    def use(self, processor: SpanProcessor, sampler: Sampler = ALWAYS_ON) -> None:
        self.provider = TracerProvider(sampler)
        self.provider.add_span_processor(processor)
        self._monkeypatch.setattr(trace, "get_tracer_provider", lambda: self.provider)

    def all(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """The one of this name, as soon as it is there."""
        (span,) = wait_until(lambda: self.all(name), f"the span {name!r}")
        return span


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return Recorded(monkeypatch)


@pytest.fixture
def site(recorded: Recorded) -> Iterator[Site]:
    with serve(make_app(recorded.provider)) as site:
        yield site


def make_app(provider: TracerProvider) -> Flask:
    """An application that is traced as people do that, and publishes what it is told to."""
    app = Flask("traced")
    streaming = Streaming(app, authorize=lambda action, channel: True)

    @app.post("/say")
    def say() -> str:
        return str(streaming.publish("a", request.get_data(as_text=True)).traceparent)

    FlaskInstrumentor().instrument_app(app, tracer_provider=provider)
    return app


def say(site: Site, text: str = "text") -> str:
    return site.app.test_client().post("/say", data=text).text


def printed(span: ReadableSpan) -> str:
    """A span as messages name it."""
    at = span.get_span_context()
    assert at is not None
    return traceparent.encode(at.trace_id, at.span_id, at.trace_flags)


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    at = span.get_span_context()
    assert at is not None
    return at.span_id


# A publish


def test_a_publish_is_a_span_within_the_one_of_its_request(site: Site, recorded: Recorded) -> None:
    trace_of_it = say(site)
    span = recorded.one("publish")
    assert parent(span) == id_of(recorded.one("POST /say"))
    assert span.kind is SpanKind.PRODUCER
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "messaging.system": "flask-streaming",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "a",
        "messaging.message.id": str(site.state.hub.log.tail("a")),
        "messaging.message.body.size": 4,
    }
    page = site.state.hub.log.read("a", site.state.hub.start_of("a"), limit=9, size=9)
    assert [message.traceparent for message in page.messages] == [trace_of_it] == [printed(span)]


def test_a_publish_that_is_refused_says_so(tmp_path: Path, recorded: Recorded) -> None:
    with (
        Publisher(f"sqlite:///{tmp_path}/a.db") as publisher,
        pytest.raises(InvalidMessage, match="event name"),
    ):
        publisher.publish("a", "text", event="")
    span = recorded.one("publish")
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "InvalidMessage"


def test_what_a_client_publishes_on_a_websocket_is_a_trace_of_its_own(
    site: Site, recorded: Recorded
) -> None:
    with site.json() as client:
        for _ in range(2):
            assert client.ask(type="publish", channel="a", data="x")["type"] == "ack"
    connection = recorded.one("connection")
    wait_until(
        lambda: parent(connection) in map(id_of, recorded.all("GET /streaming/ws")),
        "the end of its request",
    )
    publishes = recorded.all("publish")
    assert [parent(span) for span in publishes] == [None, None]
    for span in publishes:
        assert [link.context.span_id for link in span.links] == [id_of(connection)]


# A delivery


def test_a_delivery_is_linked_to_the_publish_and_in_its_trace(
    site: Site, recorded: Recorded
) -> None:
    with site.get("/streaming/events?channel=a") as one, site.get("/streaming/events?channel=a"):
        assert one.next_event()
        wait_until(lambda: site.state.hub.subscribers("a") == 2, "two subscriptions")
        told = say(site)
        assert one.next_event().data == "text"
        span = recorded.one("deliver")
    assert span.kind is SpanKind.CONSUMER
    (link,) = span.links
    assert link.context.is_remote
    assert parent(span) == link.context.span_id == id_of(recorded.one("publish"))
    assert traceparent.decode(told)[0] == link.context.trace_id
    attributes = dict(span.attributes or {})
    assert attributes.pop("streaming.live") + attributes.pop("streaming.lagging") == 2
    assert attributes == {
        "messaging.system": "flask-streaming",
        "messaging.operation.name": "deliver",
        "messaging.operation.type": "process",
        "messaging.destination.name": "a",
        "messaging.batch.message_count": 1,
    }


def test_a_batch_is_one_span_however_many_messages_and_clients(recorded: Recorded) -> None:
    log, tracer = MemoryLog(), recorded.provider.get_tracer("test")
    traced = [printed(tracer.start_span("publish")) for _ in range(3)]  # type: ignore[arg-type]
    of = [*traced, None, "no trace"]
    batch = [log.append("a", "text", traceparent=text) for text in of]
    delivery = traces.delivery("a", batch, live=5000, lagging=7)
    assert delivery is not None
    delivery.end()
    span = recorded.one("deliver")
    assert [link.context.span_id for link in span.links] == [
        traceparent.decode(text)[1] for text in traced
    ]
    assert parent(span) == span.links[0].context.span_id
    assert (span.attributes or {})["messaging.batch.message_count"] == 5
    assert (span.attributes or {})["streaming.live"] == 5000


def test_what_nobody_follows_or_nobody_traced_makes_no_delivery(recorded: Recorded) -> None:
    log = MemoryLog()
    trace_of_it = printed(recorded.provider.get_tracer("test").start_span("x"))  # type: ignore[arg-type]
    traced = log.append("a", "text", traceparent=trace_of_it)
    assert traces.delivery("a", [traced], live=0, lagging=0) is None
    assert traces.delivery("a", [log.append("a", "text")], live=1, lagging=0) is None
    assert traces.delivery("a", [], live=1, lagging=0) is None
    junk = log.append("a", "text", traceparent="junk")
    assert traces.delivery("a", [junk], live=1, lagging=0) is None


# A connection


def test_a_connection_ends_when_the_stream_does_and_says_why(
    site: Site, recorded: Recorded
) -> None:
    with site.get("/streaming/events?channel=a") as client:
        assert client.next_event()
        site.state.hub.publish("a", "four")
        assert client.next_event()
        assert recorded.all("connection") == []
        (row,) = site.registry.snapshot()["clients"]
    span = recorded.one("connection")
    request = recorded.one("GET /streaming/events")
    assert (parent(span), span.kind) == (id_of(request), SpanKind.INTERNAL)
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "streaming.client.id": row["id"],
        "streaming.transport": "sse",
        "streaming.end": "client_gone",
        "streaming.sent_messages": 1,
        "streaming.sent_bytes": 4,
        "streaming.received_messages": 0,
        "streaming.received_bytes": 0,
    }


def test_a_stream_that_middleware_changes_is_one_connection(recorded: Recorded) -> None:
    """It keeps its request: another object stands for its client then, with another id."""

    def changing(app: Any) -> Any:
        def wrapped(environ: Any, start_response: Any) -> Any:
            pieces = app(environ, lambda *how: start_response(*how))
            try:
                for piece in pieces:
                    yield piece + b": more\n\n"
            finally:
                pieces.close()

        return wrapped

    with (
        serve(make_app(recorded.provider), wrap=changing) as site,
        site.get("/streaming/events?channel=a") as client,
    ):
        assert client.next_event()
        (row,) = site.registry.snapshot()["clients"]
    assert (recorded.one("connection").attributes or {})["streaming.client.id"] == row["id"]


def test_a_handler_that_fails_is_an_error_of_the_connection(recorded: Recorded) -> None:
    app = make_app(recorded.provider)

    @Sock(app).route("/fails")
    def fails(ws: Any) -> None:
        ws.send("about to fail")
        raise ValueError("on purpose")

    with serve(app, expect_errors=True) as site:
        with site.chat("/fails") as client:
            assert client.recv() == "about to fail"
        span = recorded.one("connection")
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["streaming.transport"] == "websocket"


# Where nothing is recorded


def test_nothing_is_kept_of_what_nobody_records(site: Site, recorded: Recorded) -> None:
    recorded.use(SimpleSpanProcessor(recorded.exporter), ALWAYS_OFF)
    with site.get("/streaming/events?channel=a") as client, site.json() as talker:
        assert client.next_event()
        assert say(site) == "None"
        assert client.next_event().data == "text"
        assert talker.ask(type="publish", channel="a", data="x")["type"] == "ack"
    site.wait_empty()
    names = {span.name for span in recorded.exporter.get_finished_spans()}
    assert not names & {"publish", "deliver", "connection"}


def test_an_application_without_opentelemetry_does_not_get_it() -> None:
    code = """
import sys
from flask import Flask
from streaming import Streaming
app = Flask("plain")
streaming = Streaming(app)
with app.app_context():
    assert streaming.publish("a", "text").traceparent is None
    with streaming.subscribe("a", history=1) as items:
        assert items.take()
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
from opentelemetry import trace  # its interface alone: nobody has set a provider
with app.app_context():
    assert streaming.publish("a", "text").traceparent is None
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT, timeout=60)


class Failing(SpanProcessor, Sampler):
    def on_start(self, *args: Any, **options: Any) -> None:
        raise RuntimeError("on purpose")

    def on_end(self, span: Any) -> None:
        raise RuntimeError("on purpose")

    def should_sample(self, *args: Any, **options: Any) -> Any:
        raise RuntimeError("on purpose")

    def get_description(self) -> str:
        return "fails"


class FailsAtTheEnd(Failing):
    def on_start(self, *args: Any, **options: Any) -> None:
        pass


@pytest.mark.parametrize("where", ["sampler", "start", "end"])
def test_a_tracer_that_fails_costs_a_line_in_the_log_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(TracerProvider())  # whose own spans do not fail
    monkeypatch.setattr(spans, "_untold", [None])
    recorded = Recorded(monkeypatch)
    sampler: Sampler = Failing() if where == "sampler" else ALWAYS_ON
    recorded.use(FailsAtTheEnd() if where == "end" else Failing(), sampler)
    with serve(app, expect_errors=True) as site:
        with site.get("/streaming/events?channel=a") as client, site.json() as talker:
            assert client.next_event()
            say(site, "one")
            assert client.next_event().data == "one"
            assert talker.ask(type="publish", channel="a", data="two")["type"] == "ack"
            assert client.next_event().data == "two"
        site.wait_empty()
        assert len(site.errors) == 1
        assert "streaming goes on" in site.errors[0]


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
