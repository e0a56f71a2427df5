"""streaming/testing/: what the tests of applications stand on."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask, abort, redirect, request, session

from streaming import ConfigurationError, Connection, Sock, Streaming, chat, stream
from streaming.clients.client import Client
from streaming.testing import (
    Closed,
    Reader,
    Refused,
    Site,
    TooLate,
    clock,
    deadline,
    record,
    serve,
)
from tests.polling import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]


def make_app() -> Flask:
    """An application such as readers of the page have."""
    app = Flask("theirs")
    app.secret_key = "x"
    streaming = app.extensions["theirs"] = Streaming(
        app, identify=lambda: session.get("name"), authorize=lambda *_: True
    )
    sock = Sock(app)

    @app.post("/prices/<int:price>")
    def set_price(price: int) -> tuple[str, int]:
        streaming.publish("prices", {"price": price}, event="price")
        return "", 204

    @app.get("/login")
    def login() -> str:
        session["name"] = request.args["name"]
        return "hello"

    @sock.route("/away")
    def away(ws: Connection) -> object:
        return redirect("/login")

    app.add_url_rule("/prices", "prices", lambda: streaming.events("prices"))
    app.add_url_rule("/answer", "answer", lambda: stream(["one ", "two\n", "三"]))
    app.add_url_rule("/page", "page", lambda: "a page")

    @sock.route("/chat")
    def talk(ws: Connection) -> object:
        return chat(ws, "room")

    @sock.route("/members")
    def members(ws: Connection) -> object:
        if "name" not in session:
            abort(401)
        name = session["name"]
        return lambda text: ws.send(f"{name}: {text!r}")

    return app


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of it than the tests of applications have."""
    monkeypatch.setattr(deadline, "PATIENCE", PATIENCE)


@pytest.fixture
def app() -> Flask:
    return make_app()


@pytest.fixture
def site(app: Flask) -> Iterator[Site]:
    with serve(app) as site:
        yield site


def test_an_event_that_is_published_is_read(app: Flask, site: Site) -> None:
    with site.events("/prices") as reader:
        assert reader.status == 200
        assert app.test_client().post("/prices/7").status_code == 204
        event = reader.next()
    assert (event.event, event.json()) == ("price", {"price": 7})
    assert event.id == reader.last_event_id


def test_a_reader_that_comes_back_goes_on_where_it_was(app: Flask, site: Site) -> None:
    client = app.test_client()
    with site.events("/prices") as reader:
        client.post("/prices/1")
        assert reader.next().json() == {"price": 1}
        reader.close()
        client.post("/prices/2")
        assert reader.reconnect().next().json() == {"price": 2}


def test_a_reader_that_was_told_nothing_yet_comes_back_to_where_it_began(
    app: Flask, site: Site
) -> None:
    with site.events("/prices") as reader:

        def begin() -> str:
            with pytest.raises(TooLate):
                reader.next(within=0.05)
            return reader.last_event_id

        wait_until(begin, "it has read what the stream begins with")
        reader.close()
        app.test_client().post("/prices/2")
        assert reader.reconnect().next().json() == {"price": 2}


@pytest.mark.parametrize(
    ("accept", "pieces"),
    [
        ("text/event-stream", ["one ", "two\n", "三", "{}"]),
        ("application/x-ndjson", ["one ", "two\n", "三", "{}"]),
    ],
)
def test_a_stream_is_read_to_its_end_in_either_format(
    site: Site, accept: str, pieces: list[str]
) -> None:
    with site.events("/answer", headers={"Accept": accept}) as reader:
        assert [event.data for event in reader.rest()] == pieces
        with pytest.raises(AssertionError, match="ended without another event; before it came"):
            reader.next()
    with site.events("/answer", headers={"Accept": "text/plain"}) as reader:
        assert reader.text() == "one two\n三"


def test_what_does_not_come_fails_in_time_and_says_what_came_before(app: Flask, site: Site) -> None:
    with site.events("/prices") as reader:
        app.test_client().post("/prices/7")
        reader.next()
        with pytest.raises(TooLate, match=r"an event of /prices; before it came Event\(.*7"):
            reader.next(within=0.05)


def test_what_is_no_stream_of_events_is_shown(site: Site) -> None:
    with site.events("/page") as reader, pytest.raises(AssertionError, match="200: a page"):
        reader.next()


def test_a_slow_reader_misses_nothing(app: Flask, site: Site) -> None:
    streaming = app.extensions["streaming"]
    with site.events("/prices", receive_buffer=4096) as reader:
        for n in range(100):
            streaming.hub.publish("prices", f"{n}:" + "x" * 20_000)
        assert [reader.next().data.split(":")[0] for _ in range(100)] == list(map(str, range(100)))


def test_two_clients_talk(site: Site) -> None:
    with site.websocket("/chat") as one, site.websocket("/chat") as two:
        greeting = one.receive(), two.receive()
        assert greeting[0] == greeting[1]
        one.send("hello")
        assert one.receive() == "You said: hello"
        assert two.receive() == "Other client said: hello"


def test_a_session_of_the_test_client_is_the_streams_and_the_websockets(
    app: Flask, site: Site
) -> None:
    login = app.test_client()
    login.get("/login?name=ada")
    with site.websocket("/members", login=login) as ws, site.events("/prices", login=login):
        ws.send(b"\0")
        assert ws.receive() == "ada: b'\\x00'"
        assert {row["identity"] for row in site.clients} == {"ada"}


def test_a_refused_handshake_has_its_status(site: Site) -> None:
    with pytest.raises(Refused, match="/members was refused with 401") as refused:
        site.websocket("/members")
    assert refused.value.status == 401
    with pytest.raises(Refused) as refused:
        site.websocket("/away")
    assert (refused.value.status, refused.value.headers["location"]) == (302, "/login")


def test_the_end_of_a_websocket_has_its_code(app: Flask, site: Site) -> None:
    login = app.test_client()
    login.get("/login?name=ada")
    with site.websocket("/members", login=login) as ws:
        with app.app_context():
            app.extensions["theirs"].revoke(identity="ada")
        end = ws.closed()
        assert end.code == 1008
        with pytest.raises(Closed):
            ws.receive()
        with pytest.raises(Closed):
            ws.send("x")
    site.wait_clients(0)


def test_a_json_client_speaks_the_protocol(site: Site) -> None:
    with site.websocket("/streaming/ws", subprotocols=["streaming.v1.json"]) as ws:
        assert ws.subprotocol == "streaming.v1.json"
        ws.send({"type": "subscribe", "channel": "prices"})
        assert [ws.json()["type"], ws.json()["type"]] == ["welcome", "ready"]
        with pytest.raises(TooLate, match="a message over /streaming/ws"):
            ws.receive(within=0.05)


def test_all_that_is_published_is_in_a_list(app: Flask) -> None:
    streaming = app.extensions["streaming"]
    with record(app) as published:
        app.test_client().post("/prices/7")
        streaming.hub.publish("news", "once", key="k")
        streaming.hub.publish("news", "once", key="k")
    streaming.hub.publish("news", "afterwards")
    assert [message.channel for message in published] == ["prices", "news"]
    assert published.texts("news") == ["once"]
    assert published.of("prices")[0].event == "price"


def test_an_application_may_be_served_again_and_again(app: Flask) -> None:
    for _ in range(3):
        with serve(app) as site, site.events("/prices") as reader:
            app.test_client().post("/prices/1")
            assert reader.next().event == "price"
    assert app.extensions["streaming"].hub.subscribers("prices") == 0


def test_an_hour_is_over_at_once(app: Flask) -> None:
    app.config["SECRET_KEY"] = "s" * 32
    streaming: Streaming = app.extensions["theirs"]
    hub = app.extensions["streaming"].hub
    with clock(app) as time, serve(app) as site, app.app_context():
        first = streaming.publish("prices", "1", key="k")
        ticket = streaming.ticket("prices", seconds=600)
        time.forward(100)
        assert streaming.publish("prices", "1", key="k").id == first.id
        path = f"/streaming/events?channel=prices&ticket={ticket}&history=9"
        with site.events(path) as reader:
            assert reader.next().data == "1"
        time.forward(510)
        with site.events(path) as refused:
            assert refused.status == 401
        assert streaming.publish("prices", "2", key="k").id != first.id
        time.forward(3000)
        with site.events("/prices", last_event_id=f"{first.id.epoch}-0") as reader:
            assert reader.next().event == "gap"
            assert reader.next().data == "2"
    assert hub.log.tail("prices", 9) == first.id, "afterwards it is the real time again"
    with pytest.raises(ValueError, match="forward"), clock(app) as time:
        time.forward(-1)


def test_a_log_that_others_look_at_has_no_time_of_its_own(tmp_path: Path) -> None:
    app = Flask("theirs")
    app.config["STREAMING_LOG"] = f"sqlite:///{tmp_path}/log.db"
    Streaming(app)
    with pytest.raises(ConfigurationError, match="memory: alone"), clock(app):
        pass


def test_a_handler_that_does_not_end_is_told(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    bell = threading.Event()

    @Sock(app).route("/stuck")
    def stuck(ws: Connection) -> None:
        ws.send("here")
        bell.wait(PATIENCE)

    def leave_early() -> None:
        with serve(app) as site, site.websocket("/stuck") as ws:
            assert ws.receive() == "here"
            monkeypatch.setattr(deadline, "PATIENCE", 0.1)

    try:
        with pytest.raises(TooLate, match=r"0 clients. There are: .*websocket"):
            leave_early()
    finally:
        bell.set()


def test_who_comes_while_all_are_ended_is_ended_too(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a browser does, which comes again by itself."""
    registry, late = app.extensions["streaming"].registry, list[Reader]()
    look = registry.clients

    def clients() -> tuple[Client, ...]:
        there: tuple[Client, ...] = look()
        if not late:
            late.append(site.events("/prices"))
        return there

    with serve(app) as site:
        early = site.events("/prices")
        monkeypatch.setattr(registry, "clients", clients)
    for reader in (early, *late):
        assert reader.rest(), "it was told of its end"
        reader.close()


PLUGIN = """
import pytest
from tests.testing.test_testing import make_app

@pytest.fixture
def app():
    return make_app()

def test_endless(app, monkeypatch):
    monkeypatch.setattr("streaming.testing.deadline.PATIENCE", 0.2)
    app.test_client().get("/prices").data

def test_finite(app):
    assert app.test_client().get("/answer", headers={"Accept": "text/event-stream"}).data

def test_fixtures(streaming_site, published):
    with streaming_site.events("/prices") as reader:
        streaming_site.app.test_client().post("/prices/7")
        assert reader.next().json() == {"price": 7}
    assert published.values("prices") == [{"price": 7}]
"""


def test_pytest_finds_the_fixtures_and_an_endless_body_fails_with_a_word(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(PLUGIN, "utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "streaming.testing.plugin", "-p", "no:xdist"]
    command += ["-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "TooLate: This stream has not ended within 0.2 s" in done.stdout
