"""What one may do at once and in a time: whom it counts for, and how more of it is refused."""

import json
import socket
import time

import pytest
import websocket
from flask import Flask, abort, request
from werkzeug.middleware.proxy_fix import ProxyFix

from streaming import Connection, Sock, Streaming, chat, stream
from streaming.errors import Revoked
from streaming.web.chat import WELCOME
from tests.live.clients import RawClient
from tests.live.raw_websocket import TEXT, RawWebSocket, handshake
from tests.polling import PATIENCE, wait_until
from tests.sites import WAYS, Site, Way, make_app, serve

EVENTS = "/streaming/events?channel=a"
BEHIND = {"X-Forwarded-For": "1.1.1.1, 198.51.100.7"}
"""What the proxy of this machine says; the first is what its client has made up."""


def peers(site: Site) -> list[object]:
    return [row["peer"] for row in site.registry.snapshot()["clients"]]


def test_the_registry_shows_the_address_that_a_trusted_proxy_has_said() -> None:
    app = make_app(trusted_proxies=["127.0.0.1"])
    app.add_url_rule("/answer", view_func=lambda: stream(iter(["a", "b"]), every=60))
    with serve(app) as site:
        for path in (EVENTS, "/answer"):
            with site.get(path, headers=BEHIND) as client:
                client.read()
                assert peers(site) == ["198.51.100.7"]
            site.wait_empty()
        with site.json(headers=BEHIND):
            assert peers(site) == ["198.51.100.7"]


def test_the_word_of_a_proxy_that_nobody_named_does_not_count_but_proxy_fix_does() -> None:
    with serve(make_app()) as site, site.json(headers=BEHIND):
        assert peers(site) == ["127.0.0.1"]
    with serve(make_app(), wrap=ProxyFix) as site, site.json(headers=BEHIND):
        assert peers(site) == ["198.51.100.7"]
    both = make_app(trusted_proxies=["127.0.0.1"])
    with serve(both, wrap=ProxyFix) as site, site.json(headers=BEHIND):
        assert peers(site) == ["198.51.100.7"]


# how many connections one may have


def answer_of(site: Site, path: str, address: str, **headers: str) -> tuple[int, str, str]:
    """Status, type and text of an answer that ends."""
    with site.get(path, headers={"X-Forwarded-For": address, **headers}) as client:
        return client.status, client.headers["content-type"], client.read_all().decode()


def counted(**settings: object) -> Flask:
    """An application behind a proxy that it knows, which says who is who."""
    app = Flask("counted")
    app.config["STREAMING_TRUSTED_PROXIES"] = ["127.0.0.1"]
    app.config.update({f"STREAMING_{name.upper()}": value for name, value in settings.items()})
    Streaming(app, authorize=lambda *_: True, identify=lambda: request.headers.get("X-User"))
    app.add_url_rule("/answer", view_func=lambda: stream(iter(["a", "b"]), every=60))
    Sock(app).route("/echo", endpoint="echo")(lambda ws: ws.send)
    return app


LINES = "application/x-ndjson"
ONE, OTHER = "198.51.100.1", "198.51.100.2"


def test_who_has_all_connections_it_may_have_is_refused_in_the_words_of_each_transport() -> None:
    with serve(counted(clients_per_address=1)) as site:
        with site.get(EVENTS, headers={"X-Forwarded-For": ONE}) as first:
            assert first.next_event()
            for path, accept in ((EVENTS, LINES), ("/answer", "text/plain")):
                status, kind, text = answer_of(site, path, ONE, Accept=accept)
                assert (status, kind) == (429, "application/problem+json")
                assert "STREAMING_CLIENTS_PER_ADDRESS" in text
            status, _, text = answer_of(site, EVENTS, ONE)
            assert (status, text.count("event: restart")) == (200, 1)
            assert int(text.partition("retry: ")[2].split()[0]) >= 2500
            for path in ("/streaming/ws", "/echo"):
                head = handshake(site, path, X_Forwarded_For=ONE)  # type: ignore[arg-type]
                status, headers, _ = site.raw(head)
                assert status == 429
                assert int(headers["retry-after"]) >= 5
            with site.get(EVENTS, headers={"X-Forwarded-For": OTHER}) as other:
                assert other.next_event()
            refused = site.registry.snapshot()["refused"]
            assert refused == [{"reason": "clients_per_address", "times": 5}]
        site.wait_empty()
        with site.json(headers={"X-Forwarded-For": ONE}) as again:
            assert again.ask(type="subscribe", channel="a")["type"] == "ready"


def test_an_identity_has_its_own_number_wherever_it_comes_from() -> None:
    with serve(counted(clients_per_identity=1)) as site:
        with site.json(headers={"X-Forwarded-For": ONE, "X-User": "ada"}):
            who = {"Accept": LINES, "X-User": "ada"}
            assert answer_of(site, EVENTS, OTHER, **who)[0] == 429
            with site.get(EVENTS, headers={"X-Forwarded-For": ONE, "X-User": "bob"}) as bob:
                assert bob.next_event()
        site.wait_empty()
        with site.json(headers={"X-User": "ada"}) as ada:
            assert ada.ask(type="subscribe", channel="a")["type"] == "ready"


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_connection_counts_until_its_end_whatever_that_is(way: Way) -> None:
    app = counted(clients_per_address=1, clients_per_identity=1, **dict(way.settings))
    who = {"X-Forwarded-For": ONE, "X-User": "ada"}

    def abort_at_once(ws: Connection) -> None:
        abort(403)

    def fail_when_open(ws: Connection) -> None:
        ws.send("hi")
        raise LookupError("the handler's own")

    sock = Sock(app)
    sock.route("/abort", endpoint="abort")(abort_at_once)
    sock.route("/fail", endpoint="fail")(fail_when_open)
    app.add_url_rule("/broken", "broken", lambda: stream(map(int, ["x"])))  # type: ignore[arg-type]
    with serve(app, way=way, expect_errors=True) as site:

        def is_free() -> bool:
            places = site.registry._places
            return (places.taken, places._counts) == (0, {})

        for path in (EVENTS, "/answer"):
            for end in ("leaves", "resets", "is ended"):
                with site.get(path, headers=who) as client:
                    assert client.read()
                    assert site.registry._places._counts
                    if end == "is ended":
                        for each in site.registry.clients():
                            each.end(Revoked("Go."))
                        client.read_all()
                    elif end == "resets":
                        client.reset()
                wait_until(is_free, f"{path} is over: it {end}")
            with site.get(path, method="HEAD", headers=who):
                pass
            wait_until(is_free, f"{path} is over: its head alone")
        with site.get("/broken", headers=who) as client:
            client.read_all()
        wait_until(is_free, "an answer has failed")
        if way.version == "1.1" and not way.tls:
            for path in ("/echo", "/fail"):
                with site.chat(path, header=who) as ws:
                    if path == "/fail":
                        assert ws.recv() == "hi"
                    assert site.registry._places._counts or path == "/fail"
                wait_until(is_free, f"{path} is over")
            refused = handshake(site, "/abort", X_Forwarded_For=ONE, X_User="ada")  # type: ignore[arg-type]
            assert site.raw(refused)[0] == 403
            wait_until(is_free, "a refused handshake")
        assert site.registry.refusals.read() == {}


def test_who_shows_a_ticket_in_a_chat_counts_for_whom_that_names() -> None:
    app = counted(clients=2, clients_per_identity=1, clients_per_address=1)
    app.secret_key = "secret"
    Sock(app).route("/chat", endpoint="chat")(lambda ws: chat(ws, "room"))
    with app.test_request_context():
        ticket = Streaming().ticket("room", actions=["subscribe", "publish"], identity="ada")
    with serve(app) as site:
        places = site.registry._places
        with site.chat(f"/chat?ticket={ticket}", header={"X-Forwarded-For": ONE}) as ws:
            ws.send("hello")
            assert [ws.recv(), ws.recv()] == [WELCOME, "You said: hello"]
            assert places._counts == {("identity", "ada"): 1, ("address", ONE): 1}
            path = f"/chat?ticket={ticket}"
            assert site.raw(handshake(site, path, X_Forwarded_For=OTHER))[0] == 429  # type: ignore[arg-type]
            assert places._counts == {("identity", "ada"): 1, ("address", ONE): 1}
        site.wait_empty()
        assert (places.taken, places._counts) == (0, {})
        assert site.registry.refusals.read() == {"clients_per_identity": 1}


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-For": ONE}])
def test_behind_a_proxy_that_nobody_named_all_the_world_is_not_one_client(
    headers: dict[str, str],
) -> None:
    with serve(make_app(clients_per_address=1)) as site, site.json(headers=headers) as first:
        assert first.ask(type="subscribe", channel="a")["type"] == "ready"
        with site.json(headers=headers) as second:
            assert second.ask(type="subscribe", channel="a")["type"] == "ready"


# how much one may ask in a time

PUBLISH = "/streaming/channels/a"


def stop_filling(site: Site) -> None:
    """From now on no bucket fills, however long the test takes."""
    commands, now = site.state.commands, time.monotonic()
    commands.clock = commands._channels._clock = lambda: now
    site.state.replays._buckets._clock = commands.clock
    if commands._together is not None:
        commands._together._clock = commands.clock


def publish(site: Site, address: str, **headers: str) -> RawClient:
    body = json.dumps({"data": "x"}).encode()
    headers = {"Content-Type": "application/json", "X-Forwarded-For": address, **headers}
    return site.get(PUBLISH, method="POST", headers=headers, body=body)


def test_commands_beyond_the_limit_are_answered_with_an_error_and_then_the_connection_ends() -> (
    None
):
    with serve(counted(commands=0.5)) as site:
        stop_filling(site)
        with site.json(headers={"X-Forwarded-For": ONE}) as ws:
            kinds = ["publish", "subscribe", "unsubscribe", "join", "leave", "nonsense"]
            for n in range(5):
                frame = ws.ask(type=kinds[n], channel="a", data="x", ref=n)
                while frame.get("ref") != n:
                    frame = ws.recv()
                assert frame.get("status") != 429
            frame = ws.ask(type="publish", channel="a", data="lost", ref="too much")
            assert (frame["type"], frame["status"], frame["ref"]) == ("error", 429, "too much")
            assert frame["retry_after"] >= 1
            ws.send(type="publish", channel="a", data="lost")
            frames = iter(lambda: ws.socket.recv_data(), None)
            closing = next(data for code, data in frames if code == websocket.ABNF.OPCODE_CLOSE)
            assert closing[:2] == (1008).to_bytes(2, "big")
        with site.json(headers={"X-Forwarded-For": OTHER}) as other:
            assert other.ask(type="publish", channel="a", data="x")["type"] == "ack"
        assert site.state.hub.log.tail("a").offset == 2
        assert site.registry.refusals.read() == {"commands": 2}


def test_publishing_over_http_is_refused_beyond_what_an_identity_or_an_address_may() -> None:
    with serve(counted(commands=0.02)) as site:  # over all connections two at once
        stop_filling(site)
        for address, who in ((ONE, {}), (ONE, {"X-User": "ada"}), (OTHER, {})):
            for _ in range(2):
                with publish(site, address, **who) as client:
                    assert client.status == 201
            with publish(site, address, **who) as client:
                assert client.status == 429
                assert int(client.headers["retry-after"]) >= 5
                assert client.json()["title"] == "Too much"
            with site.get("/streaming/presence/a", headers={"X-Forwarded-For": address, **who}) as (
                client
            ):
                assert client.status == 429


def test_a_chat_that_is_flooded_ends_for_the_flooder_alone() -> None:
    app = counted(commands=0.5)
    Sock(app).route("/chat", endpoint="chat")(lambda ws: chat(ws, "room"))
    with serve(app) as site, site.chat("/chat", header={"X-Forwarded-For": OTHER}) as other:
        stop_filling(site)
        connection = socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE)
        connection.sendall(handshake(site, "/chat", X_Forwarded_For=ONE))  # type: ignore[arg-type]
        with RawWebSocket.on(connection) as flooder:
            for _ in range(6):
                flooder.send(TEXT, b"x")
            assert flooder.read_close().close_code == 1013
        assert other.recv() == "Welcome to the WebSocket server!"
        for _ in range(5):
            assert other.recv() == "Other client said: x"
        other.send("still here")
        assert other.recv() == "You said: still here"


def test_a_channel_that_others_have_filled_takes_no_more_and_nobody_is_cut_for_asking() -> None:
    app = counted(channel_messages=0.5)
    Sock(app).route("/chat", endpoint="chat")(lambda ws: chat(ws, "a"))
    with serve(app) as site:
        stop_filling(site)
        with site.json(headers={"X-Forwarded-For": ONE}) as ws:
            for n in range(4):
                assert ws.ask(type="publish", channel="a", data="x", ref=n)["type"] == "ack"
        with publish(site, OTHER) as client:
            assert client.status == 201
        with site.json(headers={"X-Forwarded-For": OTHER}) as ws:
            for n in range(150):  # far more than it would be cut for as too many commands
                frame = ws.ask(type="publish", channel="a", data="lost", ref=n)
                assert (frame["type"], frame["status"], frame["ref"]) == ("error", 429, n)
                assert 1 <= frame["retry_after"] <= 10
            assert ws.ask(type="publish", channel="b", data="x")["type"] == "ack"
        with publish(site, OTHER) as client:
            assert client.status == 429
            assert int(client.headers["retry-after"]) >= 1
        with site.chat("/chat", header={"X-Forwarded-For": ONE}) as ws:
            assert ws.recv() == WELCOME
            ws.send("lost")
            frames = iter(lambda: ws.recv_data(), None)
            closing = next(data for code, data in frames if code == websocket.ABNF.OPCODE_CLOSE)
            assert closing[:2] == (1013).to_bytes(2, "big")
        site.state.hub.publish("a", "the application may")
        assert site.state.hub.log.tail("a").offset == 6
        assert site.registry.refusals.read() == {"channel_messages": 152}


def test_what_authorize_forbids_fills_no_channel() -> None:
    app = Flask("closed")
    app.config |= {
        "STREAMING_TRUSTED_PROXIES": ["127.0.0.1"],
        "STREAMING_CHANNEL_MESSAGES": 0.1,
    }
    Streaming(app, authorize=lambda *_: request.headers.get("X-User") == "ada")
    with serve(app) as site:
        for _ in range(3):
            with publish(site, ONE) as client:
                assert client.status == 403
        with publish(site, ONE, **{"X-User": "ada"}) as client:
            assert client.status == 201


def test_a_program_of_this_machine_floods_as_it_likes() -> None:
    with serve(make_app(commands=0.5)) as site, site.json() as ws:
        for n in range(50):
            assert ws.ask(type="publish", channel="a", data="x", ref=n)["type"] == "ack"


# how much of the past one may be sent in a time


def fill(site: Site, bytes: int) -> None:
    """A past of so many bytes in the channel ``a``."""
    for _ in range(bytes // 10_000):
        site.state.hub.publish("a", "x" * 10_000)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_past_is_refused_to_who_has_had_enough_of_it_and_what_is_live_is_not(way: Way) -> None:
    app = counted(replay=1000, **dict(way.settings))  # at once 60,000
    one = {"X-Forwarded-For": ONE}
    with serve(app, way=way) as site:
        stop_filling(site)
        fill(site, 100_000)
        with site.get(EVENTS, headers=one) as live:
            assert live.next_event()
            with site.get(f"{EVENTS}&history=10", headers=one) as client:
                past = [client.next_event() for _ in range(11)]
                assert [len(event.data or "") for event in past[1:] if event] == [10_000] * 10
            for query, header in (("&history=1", {}), ("", {"Last-Event-ID": past[1].id})):  # type: ignore[union-attr]
                with site.get(EVENTS + query, headers=one | header) as client:  # type: ignore[operator]
                    (event,) = client.events()
                    assert event.event == "restart"
                lines = {"Accept": LINES}
                with site.get(EVENTS + query, headers=one | header | lines) as client:  # type: ignore[operator]
                    assert client.status == 429
            with site.get("/streaming/presence/a", headers=one) as client:
                assert client.status == 429
            with site.get(f"{EVENTS}&history=1", headers={"X-Forwarded-For": OTHER}) as client:
                assert [client.next_event() is not None for _ in range(2)] == [True, True]
            for _ in range(20):  # far more than could be sent of the past
                site.state.hub.publish("a", "y" * 10_000)
                event = live.next_event()
                assert event is not None
                assert event.data == "y" * 10_000
        assert site.registry.refusals.read() == {"replay": 5}


def test_a_websocket_that_asks_for_the_past_again_and_again_is_told_when_it_is_too_much() -> None:
    with serve(counted(replay=1000)) as site:
        stop_filling(site)
        fill(site, 100_000)
        with site.json(headers={"X-Forwarded-For": ONE}) as ws:
            assert ws.ask(type="subscribe", channel="a", history=10)["type"] == "ready"
            for _ in range(10):
                assert ws.recv()["type"] == "message"
            assert ws.ask(type="unsubscribe", channel="a")["type"] == "unsubscribed"
            for verb in (
                {"type": "subscribe", "history": 1},
                {"type": "subscribe", "after": "start"},
                {"type": "presence"},
                {"type": "join"},
            ):
                frame = ws.ask(channel="a", **verb)
                assert (frame["type"], frame["status"], frame["title"]) == (
                    "error",
                    429,
                    "Too much",
                )
                assert frame["retry_after"] >= 30
            assert ws.ask(type="subscribe", channel="a")["type"] == "ready"
            site.state.hub.publish("a", "live")
            assert ws.recv()["data"] == "live"


def test_an_answer_that_is_read_again_and_again_is_past_too() -> None:
    app = counted(replay=1000)
    streaming = Streaming()
    app.add_url_rule(
        "/ask", "ask", lambda: streaming.run(lambda: ["x" * 100_000]).response(), methods=["POST"]
    )
    with serve(app) as site:
        stop_filling(site)
        for n, accept in enumerate(("application/json", "text/plain", "text/event-stream")):
            who = {"X-Forwarded-For": f"198.51.100.{n + 10}", "Accept": accept}
            with site.get("/ask", method="POST", headers=who) as client:
                client.read_all()
                url = client.headers["location"]
            with site.get(url, headers=who | {"X-Forwarded-For": ONE, "X-User": str(n)}) as client:
                assert client.status == 200
                assert len(client.read_all()) >= 100_000
            with site.get(url, headers=who | {"X-Forwarded-For": ONE, "X-User": str(n)}) as client:
                refused = client.status, b"restart" in client.read_all()
            assert refused == ((200, True) if n == 2 else (429, False))


# in how many rooms one may be


def test_an_address_is_in_so_many_rooms_with_all_its_connections() -> None:
    app = counted(rooms=3)
    Sock(app).route("/chat", endpoint="chat")(lambda ws: chat(ws, "a"))
    one = {"X-Forwarded-For": ONE}
    with serve(app) as site:
        joined = site.state.joined
        with site.json(headers=one) as first, site.json(headers=one) as second:
            for ws, room in ((first, "a"), (first, "b"), (second, "a"), (second, "a")):
                assert ws.ask(type="join", channel=room)["type"] == "joined"
            for ws, room in ((first, "c"), (second, "b")):
                frame = ws.ask(type="join", channel=room)
                assert (frame["type"], frame["status"]) == ("error", 429)
            assert first.ask(type="join", channel="a", info="x" * 2000)["status"] == 400
            assert len(site.state.presence.members("a")) == 2  # who was there still is
            assert len(site.state.presence.members("c")) == 0
            connection = socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE)
            connection.sendall(handshake(site, "/chat", X_Forwarded_For=ONE))  # type: ignore[arg-type]
            with RawWebSocket.on(connection) as talker:
                assert talker.read_close().close_code == 1013
            assert first.ask(type="leave", channel="b")["type"] == "left"
            assert second.ask(type="join", channel="b")["type"] == "joined"
            with site.json(headers={"X-Forwarded-For": OTHER}) as other:
                assert other.ask(type="join", channel="c")["type"] == "joined"
        site.wait_empty()
        wait_until(lambda: (joined._there, dict(joined._counts)) == ({}, {}), "nobody is counted")
        assert site.registry.refusals.read() == {"rooms": 3}
