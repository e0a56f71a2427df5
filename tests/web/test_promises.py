"""What is promised on every way to a client: plain, TLS, HTTP/1.0, without direct writes, and
behind middleware; here under threads, and once more in greenlets."""

import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

import pytest
from flask import Flask, Response
from werkzeug.debug import DebuggedApplication

from streaming import NDJSON, SSE, Connection, Sock, stream
from streaming.clients.formats import EventFormat
from streaming.web import responses
from streaming.web.state import State
from tests.greenlets import is_green, run_file
from tests.live.clients import RawClient
from tests.live.raw_websocket import CLOSE, TEXT, RawWebSocket
from tests.middleware import Watching, Wsgi, collecting, compressing
from tests.polling import PATIENCE, wait_until
from tests.sites import WAYS, Site, Way, make_app, serve, trusting

every_way = pytest.mark.parametrize("way", WAYS, ids=str)
every_socket = pytest.mark.parametrize("way", [w for w in WAYS if w.version == "1.1"], ids=str)
every_form = pytest.mark.parametrize("form", [SSE, NDJSON], ids=["SSE", "NDJSON"])


class Producer:
    """Gives a piece when the test says so."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.ready = threading.Semaphore(0)
        self.pieces: list[object] = []
        self.closed = threading.Event()

    def __iter__(self) -> "Producer":
        return self

    def __next__(self) -> Any:
        self.asked.release()
        assert self.ready.acquire(timeout=PATIENCE)
        piece = self.pieces.pop(0)
        if piece is None:
            raise StopIteration
        if isinstance(piece, Exception):
            raise piece
        return piece

    def give(self, piece: object) -> None:
        """The next piece; None for the end, an exception for a fault."""
        self.pieces.append(piece)
        self.ready.release()

    def close(self) -> None:
        self.closed.set()


def app_of(producer: Iterable[Any], form: EventFormat | None, way: Way, **config: Any) -> Flask:
    app = make_app(way=way, **config)
    app.get("/answer")(lambda: stream(producer, form=form))
    return app


def read_until(client: RawClient, part: bytes) -> bytes:
    """Until this has come, and what has come with it."""
    body = b""
    while part not in body:
        piece = client.read()
        assert piece, f"the stream ended behind {body!r}"
        body += piece
    return body


def told(form: EventFormat, text: str) -> bytes:
    return form.event("message", text)


# while the producer is silent


@every_way
@every_form
def test_heartbeats_come_between_two_pieces_and_nothing_is_torn(
    way: Way, form: EventFormat
) -> None:
    producer = Producer()
    with (
        serve(app_of(producer, form, way, heartbeat=0.05), way=way) as site,
        threading_get(site, "/answer") as asked,
    ):
        producer.give("one")
        client = asked()
        body = read_until(client, form.heartbeat + form.heartbeat)
        producer.give("two")
        body += read_until(client, told(form, "two"))
        body += read_until(client, form.heartbeat + form.heartbeat)
        producer.give(None)
        body += client.read_all()
        assert client.ending == "whole"
    rest = without_heartbeats(form, body)
    assert rest == told(form, "one") + told(form, "two") + form.event("close", "{}")


@every_way
@every_form
def test_a_head_that_waits_too_long_leaves_before_the_first_piece_and_heartbeats_behind_it(
    way: Way, form: EventFormat
) -> None:
    producer = Producer()
    with (
        mock.patch.object(responses, "FIRST", 0.05),
        serve(app_of(producer, form, way, heartbeat=0.05), way=way) as site,
        site.get("/answer") as client,
    ):
        assert client.status == 200
        assert client.headers["content-type"].startswith(form.mimetype)
        body = read_until(client, form.heartbeat + form.heartbeat)
        producer.give("one")
        producer.give(None)
        body += client.read_all()
        assert client.ending == "whole"
    assert without_heartbeats(form, body) == told(form, "one") + form.event("close", "{}")


def without_heartbeats(form: EventFormat, body: bytes) -> bytes:
    if form is SSE:
        return body.replace(b":\n", b"")
    return b"".join(line + b"\n" for line in body.split(b"\n") if line)


class threading_get:
    """A request whose head may take as long as it likes: the client is there when it has come."""

    def __init__(self, site: Site, path: str, **how: Any) -> None:
        self._clients: list[RawClient] = []
        self._thread = threading.Thread(target=lambda: self._clients.append(site.get(path, **how)))

    def __enter__(self) -> Callable[[], RawClient]:
        self._thread.start()
        return self._client

    def _client(self) -> RawClient:
        self._thread.join(PATIENCE)
        return self._clients[0]

    def __exit__(self, *_: object) -> None:
        self._thread.join(PATIENCE)
        for client in self._clients:
            client.close()


@every_way
def test_text_has_no_heartbeat_but_its_head_leaves_too(way: Way) -> None:
    producer = Producer()
    with (
        mock.patch.object(responses, "FIRST", 0.05),
        serve(app_of(producer, None, way, heartbeat=0.02), way=way) as site,
        site.get("/answer") as client,
    ):
        assert client.status == 200
        producer.give("one")
        producer.asked.acquire()
        producer.asked.acquire()  # it is silent again
        with pytest.raises(TimeoutError):
            client.read(timeout=0.1) == b"one" and client.read(timeout=0.1)
        producer.give(None)
        assert client.read_all() in (b"", b"one")


@every_way
@pytest.mark.parametrize("pieces", [0, 1])
def test_a_client_that_leaves_while_the_producer_is_silent_is_forgotten_at_once(
    way: Way, pieces: int
) -> None:
    producer = Producer()
    with (
        mock.patch.object(responses, "FIRST", 0.05),
        serve(app_of(producer, SSE, way, heartbeat=None), way=way) as site,
    ):
        with threading_get(site, "/answer") as asked:
            for n in range(pieces):
                producer.give(str(n))
            client = asked()
            for _ in range(pieces + 1):
                producer.asked.acquire()
            assert len(site.registry) == 1
            client.close()
            site.wait_empty()
            site.wait_reason("left")
        assert not producer.closed.is_set(), "it is closed when it gives its next piece"
        producer.give("more")
        assert producer.closed.wait(PATIENCE)


@every_way
@every_form
def test_an_idle_stream_of_events_has_heartbeats_and_messages_and_an_end(
    way: Way, form: EventFormat
) -> None:
    app = make_app(way=way, heartbeat=0.05)
    headers = {"Accept": form.mimetype}
    with (
        serve(app, way=way) as site,
        site.get("/streaming/events?channel=a&channel=b", headers=headers) as client,
    ):
        body = read_until(client, form.heartbeat + form.heartbeat)
        site.state.hub.publish("b", "hello")
        while b"hello" not in body:
            body += client.read()
        body += read_until(client, form.heartbeat)
        site.state.close()
        body += client.read_all()
        assert client.ending == "whole"
    events = [block for block in without_heartbeats(form, body).split(b"\n") if block]
    assert b"ready" in events[0]
    assert any(b"restart" in line for line in events[-3:])


@every_way
def test_a_stream_of_events_whose_client_leaves_is_forgotten(way: Way) -> None:
    with serve(make_app(way=way, heartbeat=None), way=way) as site:
        with site.get("/streaming/events?channel=a") as client:
            assert client.next_event().event == "ready"  # type: ignore[union-attr]
            assert len(site.registry) == 1
        site.wait_empty()
        wait_until(lambda: not site.state.hub.subscribers("a"), "nobody follows")


# behind middleware


def after_request(change: Callable[[Response], None]) -> Callable[[Flask], None]:
    def install(app: Flask) -> None:
        @app.after_request
        def apply(response: Response) -> Response:
            if response.is_streamed:
                change(response)
            return response

    return install


def collect(response: Response) -> None:
    inner = response.response

    def collected() -> Iterator[bytes]:
        held = b""
        for piece in inner:
            held += piece  # type: ignore[operator]
            if len(held) > 10_000:
                yield held
                held = b""
        yield held

    response.response = collected()


def compress(response: Response) -> None:
    inner, packer = response.response, zlib.compressobj(wbits=31)

    def packed() -> Iterator[bytes]:
        for piece in inner:
            yield packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)  # type: ignore[arg-type]
        yield packer.flush()

    response.response = packed()
    response.headers["Content-Encoding"] = "gzip"


def nothing(app: Any) -> Any:
    return app


HOLDERS: dict[str, tuple[Callable[[Wsgi], Wsgi], Callable[[Flask], Any]]] = {
    "collecting middleware": (collecting, nothing),
    "compressing middleware": (compressing, nothing),
    "an extension that collects": (nothing, after_request(collect)),
    "an extension that compresses": (nothing, after_request(compress)),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_events_that_something_holds_back_come_whole_and_behind_the_head(name: str) -> None:
    wrap, install = HOLDERS[name]
    app = make_app(heartbeat=0.05)
    install(app)
    texts = [f"{n}:" + "x" * 3000 for n in range(12)]
    with serve(app, wrap=wrap) as site:
        path = "/streaming/events?channel=a&history=4"
        for text in texts[:4]:
            site.state.hub.publish("a", text)
        with site.get(path) as client:
            assert client.status == 200
            body = client.read()
            for text in texts[4:]:
                site.state.hub.publish("a", text)
            while texts[-4].encode() not in body:
                body += client.read()
            site.state.close()
            body += client.read_all()
            assert client.ending == "whole"
    events = client.reader.feed(body)
    assert [event.data for event in events if event.event == "message"] == texts
    assert (events[0].event, events[-1].event) == ("ready", "restart")


@pytest.mark.parametrize("name", HOLDERS)
def test_an_answer_that_something_holds_back_comes_whole_and_behind_the_head(name: str) -> None:
    wrap, install = HOLDERS[name]
    texts = [f"{n}:" + "x" * 3000 for n in range(12)]
    producer = Producer()
    app = app_of(producer, SSE, WAYS[0], heartbeat=0.02)
    install(app)
    with (
        mock.patch.object(responses, "FIRST", 0.05),
        serve(app, wrap=wrap) as site,
        threading_get(site, "/answer") as asked,
    ):
        for text in texts:
            producer.asked.acquire()
            wait_until(lambda: len(site.registry) == 1, "the client is listed")
            (client,) = site.registry.clients()
            since = client.spoke
            wait_until(lambda: client.spoke != since, "a heartbeat was due")  # noqa: B023
            producer.give(text)
        producer.give(None)
        body = asked().read_all()
        assert asked().ending == "whole"
    events = asked().reader.feed(body)
    assert [event.data for event in events] == [*texts, "{}"]


@pytest.mark.parametrize("name", HOLDERS)
def test_what_something_holds_back_ends_at_a_drain(name: str) -> None:
    """It is in the registry although nobody but an extension has asked for it."""
    wrap, install = HOLDERS[name]
    app = make_app()
    pieces = iter(["x" * 11_000] + ["more"] * 1000)
    app.get("/answer")(lambda: stream(pieces, form=SSE, every=600))
    install(app)
    with serve(app, wrap=wrap) as site, site.get("/answer") as client:
        body = client.read()
        wait_until(lambda: len(site.registry) == 1, "the client is listed")
        site.state.close()
        body += client.read_all()
        assert b"restart" in body
        assert client.ending == "whole"


def test_middleware_that_lets_everything_through_costs_nothing() -> None:
    def transparent(app: Wsgi) -> Wsgi:
        return lambda environ, start: app(environ, lambda *how: start(*how))

    app = make_app()
    with serve(app, wrap=transparent) as site, site.get("/streaming/events?channel=a") as client:
        assert client.next_event().event == "ready"  # type: ignore[union-attr]
        (connected,) = site.registry.clients()
        kind = "EventStream" if is_green() else "RequestStream"
        assert type(connected).__name__ == kind
        site.state.hub.publish("a", "hello")
        assert client.next_event().data == "hello"  # type: ignore[union-attr]


def test_a_client_that_can_be_read_by_gzip_gets_gzip() -> None:
    """The tests' own middleware is what it says."""
    with serve(make_app(), wrap=compressing) as site, site.get("/streaming/readyz") as client:
        assert client.headers["content-encoding"] == "gzip"
        assert b"clients" in client.read_all()


# nobody's errors


@every_way
@pytest.mark.parametrize("is_debugged", [False, True])
def test_a_stream_that_ends_as_it_should_is_nobodys_error(way: Way, is_debugged: bool) -> None:
    watching: list[Watching] = []

    def wrap(app: Wsgi) -> Any:
        watching.append(Watching(app))
        return DebuggedApplication(watching[0], evalex=False) if is_debugged else watching[0]

    app = make_app(way=way)
    endless = iter(lambda: "more", "")
    app.get("/answer", endpoint="answer")(lambda: stream(iter(["a", "b"]), form=SSE))
    app.get("/endless", endpoint="endless")(lambda: stream(endless, form=SSE, every=600))
    sock = Sock(app)
    sock.route("/echo", endpoint="echo")(lambda ws: [ws.send(data) for data in ws] and None)
    sock.route("/rest", endpoint="rest")(lambda ws: ws.send)
    sock.route("/hello", endpoint="hello")(lambda ws: ws.send("hello"))
    with serve(app, way=way, wrap=wrap) as site:  # nothing is logged as an error either
        with site.get("/streaming/events?channel=a") as client:
            assert client.next_event().event == "ready"  # type: ignore[union-attr]
            site.state.hub.publish("a", "x")
            assert client.next_event().data == "x"  # type: ignore[union-attr]
        with site.get("/endless") as client:
            assert client.next_event().data == "more"  # type: ignore[union-attr]
        with site.get("/answer") as client:
            assert [event.data for event in client.events()] == ["a", "b", "{}"]
        site.wait_empty()
        if way.version == "1.1":
            for path in ("/echo", "/rest", "/hello"):
                talk(site, path)
        site.wait_empty()
        with site.get("/streaming/events?channel=a") as client:
            assert client.next_event().event == "ready"  # type: ignore[union-attr]
            site.state.close()
            assert [event.event for event in client.events()] == ["restart"]
            assert client.ending == "whole"
            site.wait_empty()
        wait_until(lambda: watching[0].closed >= 4, "all responses are closed")
    assert watching[0].seen == []


def websocket(site: Site, path: str) -> RawWebSocket:
    tls = trusting() if site.way.tls else None
    return RawWebSocket(site, path, subprotocol=None, tls=tls)  # type: ignore[arg-type]


def talk(site: Site, path: str) -> None:
    """A WebSocket that ends in each of the ways that are no fault."""
    for leave in ("a close frame", "without a word"):
        with websocket(site, path) as ws:
            if path == "/hello":
                assert ws.read_text() == "hello"
                ws.send(CLOSE, ws.read_close().payload)
                assert ws.is_ended()
                continue
            ws.send(TEXT, b"x")
            assert ws.read_text() == "x"
            if leave == "a close frame":
                ws.send(CLOSE, b"\x03\xe8")
                assert ws.read_close().close_code == 1000
                assert ws.is_ended()


# what a request holds


@every_socket
def test_a_connection_that_goes_on_does_not_keep_its_views_request(way: Way) -> None:
    app, ended = make_app(way=way), []
    app.teardown_request(lambda error: ended.append("request"))
    app.teardown_appcontext(lambda error: ended.append("app"))

    @Sock(app).route("/rest")
    def rest(ws: Connection) -> Callable[[str | bytes], None]:
        ws.send("hello")
        return lambda message: ws.send(f"{message} {sorted(ended)}")

    with (
        serve(app, way=way) as site,
        websocket(site, "/rest") as ws,
    ):
        assert ws.read_text() == "hello"
        wait_until(lambda: len(ended) == 2, "the view's contexts have ended")
        ws.send(TEXT, b"still open")
        assert ws.read_text() == "still open ['app', 'request']"


@every_way
def test_what_was_to_be_done_when_a_response_is_closed_is_done(way: Way) -> None:
    app, done = make_app(way=way), []

    @app.get("/events")
    def events() -> Response:
        state: State = app.extensions["streaming"]
        response = responses.event_stream(flask_request(), state, ["a"])
        response.call_on_close(lambda: done.append("events"))
        return response

    @app.get("/answer")
    def answer() -> Response:
        response = stream(iter(["x"]), form=SSE)
        response.call_on_close(lambda: done.append("answer"))
        return response

    with serve(app, way=way) as site:
        with site.get("/answer") as client:
            assert client.read_all()
            wait_until(lambda: done == ["answer"], "it is done")
        with site.get("/events") as client:
            assert client.next_event().event == "ready"  # type: ignore[union-attr]
            if is_green() and way.name == "plain":  # it goes on without its request
                wait_until(lambda: done == ["answer", "events"], "it is done")
                assert len(site.registry) == 1
        wait_until(lambda: done == ["answer", "events"], "it is done")
        site.wait_empty()


def flask_request() -> Any:
    from flask import request

    return request._get_current_object()  # type: ignore[attr-defined]


# the request's body


@every_socket
@pytest.mark.parametrize("size", [200_000, 5_000_000, None])
def test_a_body_that_nobody_reads_ends_no_stream(way: Way, size: int | None) -> None:
    app = make_app(way=way)

    @app.post("/events")
    def events() -> Response:
        return responses.event_stream(flask_request(), app.extensions["streaming"], ["a"])

    headers = {"Content-Length": str(size)} if size else {"Transfer-Encoding": "chunked"}
    with (
        serve(app, way=way) as site,
        site.get("/events", method="POST", headers=headers) as client,
    ):
        assert client.next_event().event == "ready"  # type: ignore[union-attr]
        sending = threading.Thread(target=client.send_body, args=(size,))
        sending.start()
        for n in range(10):
            site.state.hub.publish("a", f"{n}")
            assert client.next_event().data == str(n)  # type: ignore[union-attr]
        (connected,) = site.registry.clients()
        if type(connected).__name__ == "EventStream":  # elsewhere the server reads it at the end
            sending.join(PATIENCE)
            assert not sending.is_alive()
        assert connected.reason is None
        site.state.hub.publish("a", "last")
        assert client.next_event().data == "last"  # type: ignore[union-attr]
        site.state.close()
        assert [event.event for event in client.events()] == ["restart"]
        sending.join(PATIENCE)


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
