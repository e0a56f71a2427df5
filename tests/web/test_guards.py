"""streaming/web/handshake.py and outcomes.py: until the 101 a handler may answer as a view does."""

import json
import re
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, abort, jsonify, redirect, request, session
from websockets.exceptions import ConnectionClosed as Closed
from websockets.sync.client import connect
from werkzeug.exceptions import Forbidden as HttpForbidden
from werkzeug.exceptions import HTTPException, Unauthorized
from werkzeug.wrappers import Response

from streaming import Connection, ConnectionClosed, Forbidden, HubClosed, Sock, Streaming
from streaming.clients import life
from streaming.errors import LogUnavailable
from tests.live.clients import read_head
from tests.live.raw_websocket import TEXT, RawWebSocket, encode, handshake
from tests.polling import PATIENCE, wait_until
from tests.sites import Site, make_app, serve

Handler = Callable[[Connection], object]


def app_of(handler: Handler) -> Flask:
    app = make_app()
    app.secret_key = "not secret"
    Sock(app).route("/socket")(handler)
    return app


def answer(site: Site) -> tuple[int, dict[str, str], bytes]:
    """What a handshake is answered with, whole."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
        connection.sendall(handshake(site, "/socket"))  # type: ignore[arg-type]
        status, headers, body = read_head(connection)
        while len(body) < int(headers["content-length"]):
            body += connection.recv(65536)
        return status, headers, body


def close_of(site: Site) -> tuple[int | None, str | None]:
    """Code and reason of the close frame behind the first message."""
    with connect(f"{site.ws_url}/socket") as ws:
        ws.recv(PATIENCE)
        with pytest.raises(Closed):
            ws.recv(PATIENCE)
        return ws.close_code, ws.close_reason


def throw(error: Exception) -> Handler:
    def handler(ws: Connection) -> None:
        raise error

    return handler


ANSWERS: list[tuple[Callable[[], object], int]] = [
    (lambda: redirect("/login"), 302),
    (lambda: Response("no", 401), 401),
    (lambda: ("no", 403), 403),
    (lambda: ({"error": "no"}, 403), 403),
    (lambda: (jsonify(error="no"), 418), 418),
    (lambda: "a page", 200),
    (lambda: HttpForbidden("no"), 403),
]


@pytest.mark.parametrize(("make", "status"), ANSWERS)
def test_what_flask_takes_from_a_view_is_the_answer_until_the_101(
    make: Callable[[], object], status: int
) -> None:
    with serve(app_of(lambda ws: make())) as site:
        assert answer(site)[0] == status
        assert site.registry.snapshot() == {"clients": [], "ended": [], "refused": []}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unauthorized(), 401),
        (HttpForbidden(), 403),
        (HTTPException(response=Response("no", 402)), 402),
        (Forbidden("no"), 403),
        (HubClosed("no"), 503),
        (LogUnavailable("no"), 503),
    ],
)
def test_an_error_is_answered_as_a_views_until_the_101(error: Exception, status: int) -> None:
    with serve(app_of(throw(error))) as site:
        assert answer(site)[0] == status


def test_an_error_of_ours_is_a_problem_until_the_101() -> None:
    with serve(app_of(throw(Forbidden("Members only.")))) as site:
        status, headers, body = answer(site)
        assert headers["content-type"] == "application/problem+json"
        assert (status, json.loads(body)["detail"]) == (403, "Members only.")


def test_any_other_error_is_a_views_failure_until_the_101() -> None:
    app = app_of(throw(ZeroDivisionError("secret")))
    with serve(app, expect_errors=True) as site:
        status, _, body = answer(site)
        assert (status, b"secret" in body) == (500, False)
    assert "ZeroDivisionError: secret" in "\n".join(site.errors)


def test_the_applications_own_error_pages_and_cookies_are_sent_with_a_refusal() -> None:
    def refuse(ws: Connection) -> None:
        session["next"] = "/socket"
        abort(401)

    app = app_of(refuse)
    app.register_error_handler(401, lambda error: ("Log in first.", 401))
    with serve(app) as site:
        status, headers, body = answer(site)
        assert (status, body) == (401, b"Log in first.")
        assert headers["set-cookie"].startswith("session=")


def test_what_is_no_answer_of_a_view_is_its_failure_until_the_101() -> None:
    with serve(app_of(lambda ws: 7), expect_errors=True) as site:
        assert answer(site)[0] == 500


def test_what_needs_no_peer_answers_nothing() -> None:
    def look(ws: Connection) -> object:
        known = ws.environ["PATH_INFO"], ws.subprotocol, len(ws.id), ws.peer
        return jsonify([*known, ws.close_reason, ws.close_message])

    with serve(app_of(look)) as site:
        status, _, body = answer(site)
        assert (status, json.loads(body)) == (
            200,
            ["/socket", None, 16, "127.0.0.1", 1005, None],
        )


USES: dict[str, Handler] = {
    "send": lambda ws: ws.send("x"),
    "receive": lambda ws: ws.receive(0),
    "iterate": lambda ws: next(iter(ws)),
    "close": lambda ws: ws.close(),
    "connected": lambda ws: ws.connected,
    "open": lambda ws: ws.open(),
}


@pytest.mark.parametrize("use", USES)
def test_what_needs_the_peer_answers_the_handshake_first(use: str) -> None:
    def handler(ws: Connection) -> object:
        USES[use](ws)
        return Response("too late", 403)

    with serve(app_of(handler)) as site, site.chat("/socket") as ws:
        if use == "iterate":
            ws.send("x")
        if use == "send":
            assert ws.recv() == "x"
        opcode, frame = ws.recv_data()
        code = int.from_bytes(frame[:2], "big")
        assert (opcode, code) == (8, 1000 if use == "close" else 1008)


BEHIND: list[tuple[Callable[[], object], int, str]] = [
    (lambda: redirect("/login"), 1008, "Found"),
    (lambda: Response("no", 401), 1008, "Unauthorized"),
    (lambda: ("no", 403), 1008, "Forbidden"),
    (lambda: Response("no", 799), 1011, "799"),
    (lambda: Response("no", 429), 1013, "Too Many Requests"),
    (lambda: Response("no", 503), 1013, "Service Unavailable"),
    (lambda: Response("no", 500), 1011, "Internal Server Error"),
    (lambda: Response("bye"), 1000, ""),
    (lambda: "bye", 1000, ""),
    (lambda: 7, 1000, ""),
    (lambda: abort(401), 1008, "Unauthorized"),
    (lambda: abort(403, "Members only."), 1008, "Members only."),
    (lambda: abort(redirect("/login")), 1008, "Found"),
    (lambda: abort(404), 1008, "Not Found"),
    (lambda: abort(429), 1013, "Too Many Requests"),
    (lambda: abort(503), 1013, "Service Unavailable"),
    (lambda: abort(500), 1011, "Internal Server Error"),
    (lambda: HttpForbidden("no"), 1008, "Forbidden"),
]


@pytest.mark.parametrize(("make", "code", "reason"), BEHIND)
def test_behind_the_101_an_answer_is_a_close_code(
    make: Callable[[], object], code: int, reason: str
) -> None:
    def handler(ws: Connection) -> object:
        ws.send("hello")
        return make()

    with serve(app_of(handler)) as site:
        assert close_of(site) == (code, reason)


def test_a_message_that_is_refused_ends_the_connection_with_1008() -> None:
    def take(message: object) -> None:
        abort(403, "Not that.")

    with serve(app_of(lambda ws: take)) as site, connect(f"{site.ws_url}/socket") as ws:
        ws.send("x")
        with pytest.raises(Closed):
            ws.recv(PATIENCE)
        assert (ws.close_code, ws.close_reason) == (1008, "Not that.")


class Taker:
    def __init__(self, ws: Connection) -> None:
        self._ws = ws

    def __call__(self, message: str) -> None:
        self._ws.send(f"took {message}")

    take = __call__


TAKES: list[Handler] = [
    lambda ws: lambda message: ws.send(f"took {message}"),
    Taker,
    lambda ws: Taker(ws).take,
    lambda ws: partial(Taker.take, Taker(ws)),
    lambda ws: life.Bare(Taker(ws).take),
]


@pytest.mark.parametrize("handler", TAKES)
def test_whatever_else_can_be_called_takes_messages(handler: Handler) -> None:
    with serve(app_of(handler)) as site, connect(f"{site.ws_url}/socket") as ws:
        ws.send("x")
        assert ws.recv(PATIENCE) == "took x"


def test_a_handler_that_swallows_a_refused_opening_is_answered_with_503() -> None:
    def stubborn(ws: Connection) -> None:
        site.registry.close(HubClosed())
        for _ in range(2):
            with pytest.raises((HubClosed, ConnectionClosed)):
                ws.send("x")

    with serve(app_of(stubborn)) as site:
        status, headers, _ = answer(site)
        assert (status, headers["retry-after"]) == (503, "2")
        assert len(site.registry) == 0


def test_who_finds_the_worker_full_at_the_first_use_is_answered_with_503() -> None:
    go_on = threading.Event()

    def handler(ws: Connection) -> None:
        if request.args:
            assert go_on.wait(PATIENCE)
        ws.send("hello")
        ws.receive()

    app = make_app(clients=1)
    Sock(app).route("/socket")(handler)
    with serve(app) as site, socket.create_connection(("127.0.0.1", site.port)) as slow:
        slow.sendall(handshake(site, "/socket?slow=1"))  # type: ignore[arg-type]
        with connect(f"{site.ws_url}/socket") as ws:
            assert ws.recv(PATIENCE) == "hello"
            go_on.set()
            assert read_head(slow)[0] == 503


def test_what_a_refused_connection_was_to_do_at_its_end_is_done() -> None:
    ended = threading.Event()

    def handler(ws: Connection) -> object:
        ws.on_end(ended.set)
        return "no", 403

    with serve(app_of(handler)) as site:
        assert answer(site)[0] == 403
        assert ended.wait(PATIENCE)


def test_a_refused_connection_can_be_used_by_nobody() -> None:
    kept: list[Connection] = []

    def handler(ws: Connection) -> object:
        kept.append(ws)
        return "no", 403

    with serve(app_of(handler)) as site:
        assert answer(site)[0] == 403
        uses: list[Callable[[Connection], Any]] = [lambda ws: ws.send("x"), Connection.receive]
        for use in uses:
            with pytest.raises(ConnectionClosed, match="refused"):
                use(kept[0])
        assert not kept[0].connected
        assert list(kept[0]) == []
        kept[0].close()


def test_a_handler_that_waits_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "PATIENCE", 0.0)
    go_on = threading.Event()

    def handler(ws: Connection) -> object:
        assert go_on.wait(PATIENCE)
        return "too late", 403

    with serve(app_of(handler)) as site, connect(f"{site.ws_url}/socket") as ws:
        go_on.set()
        with pytest.raises(Closed):
            ws.recv(PATIENCE)
        assert ws.close_code == 1008


def test_frames_in_the_packet_of_the_handshake_wait_for_the_first_use() -> None:
    def handler(ws: Connection) -> None:
        ws.send(f"{ws.receive()} {ws.receive()}")

    with serve(app_of(handler)) as site:
        request = handshake(site, "/socket")  # type: ignore[arg-type]
        with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
            connection.sendall(request + encode(TEXT, b"x") + encode(TEXT, b"y"))
            assert RawWebSocket.on(connection).read_text() == "x y"


def test_the_pages_example_lets_no_stranger_in() -> None:
    page = (Path(__file__).parents[2] / "docs" / "quickstart.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (source,) = [block for block in blocks if "login_required" in block]
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(compile(source, "quickstart.md", "exec"), namespace)
    with serve(namespace["app"]) as site:
        for path in ("/members", "/members?topic=a"):
            assert site.raw(handshake(site, path))[0] == 401  # type: ignore[arg-type]
        namespace["app"].config["LOGIN_DISABLED"] = True
        assert site.raw(handshake(site, "/members"))[0] == 400  # type: ignore[arg-type]
        with connect(f"{site.ws_url}/members?topic=a") as ws:
            ws.send("x")
            assert ws.recv(PATIENCE) == "x"


def test_who_is_let_go_of_while_its_handler_begins_does_not_stay() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def handler(ws: Connection) -> object:
        begun.set()
        assert go_on.wait(PATIENCE)
        return ws.send

    app = Flask("small")
    streaming = Streaming(app, identify=lambda: "ada")
    Sock(app).route("/socket")(handler)
    with (
        serve(app) as site,
        socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection,
    ):
        connection.sendall(handshake(site, "/socket"))  # type: ignore[arg-type]
        assert begun.wait(PATIENCE)
        with app.app_context():
            streaming.revoke(identity="ada")
        wait_until(lambda: site.state.orders.since(0.0), "an order that was heard")
        go_on.set()
        assert RawWebSocket.on(connection).read_close().close_code == 1008
        assert site.errors == []


def test_who_it_is_needs_no_peer() -> None:
    app = Flask("small")
    Streaming(app, identify=lambda: "ada")

    @Sock(app).route("/socket")
    def handler(ws: Connection) -> tuple[str, int]:
        return (ws.identity.id if ws.identity else ""), 403

    with serve(app) as site:
        status, _, body = answer(site)
        assert (status, body) == (403, b"ada")
