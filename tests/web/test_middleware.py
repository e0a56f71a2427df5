"""Extensions and middleware that people have around their apps, the real ones, around streams."""

import io
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask, Response
from flask_compress import Compress
from flask_cors import CORS
from flask_talisman import Talisman
from flask_wtf import CSRFProtect
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from werkzeug.debug import DebuggedApplication
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.profiler import ProfilerMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from whitenoise import WhiteNoise

from streaming import Sock, Streaming, stream
from streaming.web import said
from tests.greenlets import ROOT, in_greenlets, is_green, run_file
from tests.polling import PATIENCE, wait_until
from tests.sites import Site, make_app, serve

CHROME = {"Accept-Encoding": "gzip, deflate, br, zstd"}
"""What browsers say over HTTPS, and to localhost."""

JSON = {"Content-Type": "application/json"}


@dataclass
class Around:
    """What somebody has installed: an extension, middleware, settings."""

    extension: Callable[[Flask], Any] = lambda app: None
    middleware: Callable[[Any], Any] = lambda wsgi: wsgi
    config: dict[str, object] = field(default_factory=dict)


FLASK_COMPRESS = Around(Compress)

AROUND = {
    "nothing": Around(),
    "Flask-Compress": FLASK_COMPRESS,
    "Flask-Compress, told to compress streams": Around(
        Compress,
        config={"COMPRESS_MIMETYPES": ["text/event-stream", "application/x-ndjson", "text/plain"]},
    ),
    "Flask-WTF's CSRFProtect": Around(CSRFProtect, config={"SECRET_KEY": "x"}),
    "flask-talisman": Around(lambda app: Talisman(app, force_https=False)),
    "flask-cors": Around(CORS),
    "OpenTelemetry": Around(FlaskInstrumentor().instrument_app),
    "ProxyFix": Around(middleware=ProxyFix),
    "DebuggedApplication": Around(middleware=DebuggedApplication),
    "WhiteNoise": Around(middleware=lambda app: WhiteNoise(app, root=str(ROOT / "static"))),
    "DispatcherMiddleware": Around(middleware=lambda app: DispatcherMiddleware(app, {})),
}
"""What streams pass through: nobody has to know of it."""


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(said, "_said", set())
    caplog.set_level(logging.WARNING)


def app_within(around: Around) -> Flask:
    app = make_app(heartbeat=0.1)
    app.config.update(around.config)
    go_on = app.extensions["go_on"] = threading.Event()
    app.add_url_rule("/answer", "answer", lambda: stream(pieces(go_on)))
    app.add_url_rule("/page", "page", lambda: "<p>page</p>" * 200)
    Sock(app).route("/echo")(lambda ws: [ws.send(message) for message in ws] and None)
    around.extension(app)
    return app


def pieces(go_on: threading.Event) -> Iterator[str]:
    """One, and two more when they may come."""
    yield "a"
    go_on.wait(PATIENCE)
    yield from "bc"


@pytest.fixture(params=AROUND)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    around = AROUND[request.param]
    with serve(app_within(around), wrap=around.middleware) as running:
        yield running


def test_events_pass_at_once_and_are_written_directly_where_that_can_be(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with site.get("/streaming/events?channel=a", headers=CHROME) as client:
        assert client.headers.get("content-encoding") is None
        assert client.next_event().event == "ready"  # type: ignore[union-attr]
        for text in ("one", "two"):
            site.state.hub.publish("a", text)
            assert client.next_event().data == text  # type: ignore[union-attr]
        assert client.read().startswith(b":\n"), "a heartbeat"
        (connected,) = site.registry.clients()
        assert type(connected).__name__ == ("EventStream" if is_green() else "RequestStream")
    site.wait_empty()
    assert not caplog.records


def test_pieces_of_an_answer_pass_one_by_one(site: Site) -> None:
    with site.get("/answer", headers=CHROME) as client:
        assert client.read() == b"a"
        site.app.extensions["go_on"].set()
        assert client.read_all() == b"bc"
        assert client.ending == "whole"


def test_websockets_pass(site: Site) -> None:
    with site.chat("/echo") as ws:
        ws.send("hello")
        assert ws.recv() == "hello"
    with site.json() as client:
        assert client.ask(type="subscribe", channel="a")["type"] == "ready"


def test_a_drain_passes(site: Site) -> None:
    with site.get("/streaming/events?channel=a", headers=CHROME) as client:
        assert client.next_event()
        site.state.close()
        assert [event.event for event in client.events() if event.event] == ["restart"]
        assert client.ending == "whole"


# what has to be told how to leave streams alone


def check_nothing_is_seen(site: Site) -> None:
    """Not even a head has come when messages have been published and a heartbeat was due."""
    request = b"GET /streaming/events?channel=a HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", site.port), timeout=0.5) as client:
        client.sendall(request)
        wait_until(lambda: len(site.registry), "the client is listed")
        for n in range(3):
            site.state.hub.publish("a", str(n))
        with pytest.raises(TimeoutError):
            client.recv(1)
    site.wait_empty()


def test_pages_are_compressed_all_the_same() -> None:
    answer = app_within(FLASK_COMPRESS).test_client().get("/page", headers=CHROME)
    assert answer.headers["Content-Encoding"] == "zstd"


@in_greenlets
def test_middleware_that_collects_is_named_where_it_is_seen() -> None:
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("streaming").addHandler(handler)
    profiled = Around(middleware=lambda app: ProfilerMiddleware(app, stream=io.StringIO()))
    with serve(app_within(profiled), wrap=profiled.middleware) as site:
        for _ in range(2):
            check_nothing_is_seen(site)
        site.state.close()
        site.wait_empty()
    (line,) = lines
    assert "holds back streams" in line
    assert "ProfilerMiddleware" in line


def test_a_hook_that_reads_the_body_fails_on_events_and_collects_answers() -> None:
    app = app_within(Around())

    @app.after_request
    def measure(response: Response) -> Response:
        response.headers["X-Size"] = str(len(response.get_data()))
        return response

    app.testing = True
    app.extensions["go_on"].set()
    client = app.test_client()
    with pytest.raises(RuntimeError, match="iterable to be a sequence"):
        client.get("/streaming/events?channel=a")
    assert client.get("/answer").headers["X-Size"] == "3"


def test_a_hook_that_leaves_streams_alone_is_fine() -> None:
    app = app_within(Around())

    @app.after_request
    def measure(response: Response) -> Response:
        if not response.is_streamed:
            response.headers["X-Size"] = str(len(response.get_data()))
        return response

    with serve(app) as site, site.get("/streaming/events?channel=a") as client:
        assert client.next_event().event == "ready"  # type: ignore[union-attr]
    assert app.test_client().get("/page").headers["X-Size"] == "2200"


# Flask-WTF's CSRFProtect


def post(app: Flask, **how: Any) -> int:
    how = {"data": '{"data":"x"}', "content_type": "application/json", **how}
    return app.test_client().post("/streaming/channels/a", **how).status_code


def protected(exempt: bool) -> Flask:
    app = Flask("protected")
    app.config["SECRET_KEY"] = "x"
    app.testing = True
    csrf = CSRFProtect(app)
    streaming = Streaming(app, authorize=lambda action, channel: True)
    if exempt:
        csrf.exempt(streaming.blueprint)
    return app


def test_csrf_protection_refuses_http_publish_until_the_blueprint_is_exempt() -> None:
    assert post(protected(exempt=False)) == 400
    assert post(protected(exempt=True)) == 201


def test_a_page_may_send_the_token_instead() -> None:
    app = protected(exempt=False)

    @app.get("/token")
    def token() -> str:
        from flask_wtf.csrf import generate_csrf

        return generate_csrf()

    client = app.test_client()
    headers = {"X-CSRFToken": client.get("/token").text}
    answer = client.post("/streaming/channels/a", json={"data": "x"}, headers=headers)
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "content_type",
    ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", None],
)
def test_the_exempt_blueprint_takes_nothing_that_another_sites_form_can_send(
    content_type: str | None,
) -> None:
    """A browser asks first (CORS) before a page of another site may send JSON."""
    assert post(protected(exempt=True), content_type=content_type) == 415
    preflight = (
        protected(exempt=True)
        .test_client()
        .options(
            "/streaming/channels/a",
            headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
        )
    )
    assert "Access-Control-Allow-Origin" not in preflight.headers


# flask-talisman


def test_https_that_is_forced_redirects_streams_until_the_proxy_says_that_it_is_there() -> None:
    with serve(app_within(Around(Talisman))) as site:
        for headers, status in (({}, 302), ({"X-Forwarded-Proto": "https"}, 200)):
            with site.get("/streaming/events?channel=a", headers=headers) as client:
                assert client.status == status
        with site.chat("/echo", header={"X-Forwarded-Proto": "https"}) as ws:
            ws.send("x")
            assert ws.recv() == "x"


# flask-cors


def test_cors_for_the_whole_app_lets_every_page_read_streams_but_open_no_websocket() -> None:
    app = app_within(Around(CORS))
    page = {"Origin": "https://other.example"}
    with serve(app) as site:
        with site.get("/streaming/events?channel=a", headers=page) as client:
            assert client.headers["access-control-allow-origin"] in ("*", page["Origin"])
        with site.get(
            "/streaming/ws",
            headers={
                **page,
                "Upgrade": "websocket",
                "Connection": "Upgrade",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Protocol": "streaming.v1.json",
            },
        ) as refused:
            assert refused.status == 403


def test_cors_for_the_applications_own_paths_leaves_streams_to_streaming_origins() -> None:
    app = app_within(Around(lambda app: CORS(app, resources={r"/api/*": {}})))
    answer = app.test_client().get("/streaming/readyz", headers={"Origin": "https://other.example"})
    assert "Access-Control-Allow-Origin" not in answer.headers


# OpenTelemetry


def test_a_trace_of_a_stream_is_no_error_and_in_greenlets_ends_with_its_request() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traced = Around(lambda app: FlaskInstrumentor().instrument_app(app, tracer_provider=provider))
    with serve(app_within(traced)) as site, site.get("/streaming/events?channel=a") as client:
        assert client.next_event()
        site.state.hub.publish("a", "x")
        assert client.next_event()
        wait_until(exporter.get_finished_spans, "the trace ends while the stream goes on")
        (span,) = exporter.get_finished_spans()
        assert span.name == "GET /streaming/events"
        assert span.status.status_code is StatusCode.UNSET


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
