"""streaming/web/sock.py: flask-sock's route, the handshake and what refuses it."""

import errno
import gc
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from unittest import mock

import pytest
from flask import Blueprint, Flask, Request, Response, request
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect
from werkzeug.test import EnvironBuilder

from streaming import Connection, Forbidden, HubClosed, Sock, Streaming
from streaming.clients import sockets
from streaming.hub.hub import Hub
from streaming.logs import MemoryLog
from streaming.settings import Settings
from streaming.web.handshake import prepare
from streaming.web.state import State
from tests.greenlets import in_greenlets, is_green, run_file
from tests.live.raw_websocket import handshake
from tests.polling import PATIENCE, wait_until
from tests.sites import Site, make_app, serve

HEADERS = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def hello(ws: Connection) -> None:
    ws.send(f"hello {ws.subprotocol}")


@pytest.fixture
def site() -> Iterator[Site]:
    app = make_app(origins=["https://listed.example"])
    Sock(app).route("/socket", subprotocols=["one", "two"])(hello)
    with serve(app) as site:
        yield site


def answer(site: Site, **changes: str | None) -> tuple[int, dict[str, str]]:
    status, headers, _ = site.raw(handshake(site, "/socket", **changes))  # type: ignore[arg-type]
    return status, headers


def test_url_variables_and_the_request_are_at_the_handlers_hand() -> None:
    app = make_app()

    @Sock(app).route("/rooms/<int:number>")
    def speak(ws: Connection, number: int) -> None:
        ws.send(f"{number} {request.args['q']}")

    with serve(app) as site, connect(f"{site.ws_url}/rooms/7?q=x") as ws:
        assert ws.recv(PATIENCE) == "7 x"


def test_a_function_that_the_handler_returns_is_called_with_each_message() -> None:
    app = make_app()

    @Sock(app).route("/rooms/<name>")
    def greet(ws: Connection, name: str) -> object:
        ws.send(f"welcome to {name}")
        return lambda message: ws.send(f"{name}: {message!r}")

    with serve(app) as site, connect(f"{site.ws_url}/rooms/a") as ws:
        assert ws.recv(PATIENCE) == "welcome to a"
        for message, answer in (("x", "a: 'x'"), (b"y", "a: b'y'")):
            ws.send(message)
            assert ws.recv(PATIENCE) == answer


def test_an_error_in_that_function_ends_the_connection_with_its_code() -> None:
    app = make_app()

    def refuse(message: object) -> None:
        raise Forbidden("Not here.")

    Sock(app).route("/socket")(lambda ws: refuse)
    with serve(app) as site, connect(f"{site.ws_url}/socket") as ws:
        ws.send("x")
        assert list(_rest(ws)) == []
        assert (ws.close_code, ws.close_reason) == (1008, "Not here.")


def _rest(ws: ClientConnection) -> Iterator[object]:
    with suppress(ConnectionClosedError):
        yield from ws


def test_a_route_may_be_on_a_blueprint_or_wait_for_init_app() -> None:
    blueprint, waiting = Blueprint("b", __name__), Sock()
    Sock().route("/on", blueprint)(hello)
    waiting.route("/late")(hello)
    app = make_app()
    app.register_blueprint(blueprint, url_prefix="/blueprint")
    waiting.init_app(app)
    with serve(app) as site:
        for path in ("/blueprint/on", "/late"):
            with connect(f"{site.ws_url}{path}") as ws:
                assert ws.recv(PATIENCE) == "hello None"


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [("two", "two"), ("two, one", "two"), ("three,one", "one"), ("three", None), ("ONE", None)],
)
def test_the_clients_favourite_of_the_known_subprotocols_is_agreed_on(
    site: Site, offered: str, agreed: str | None
) -> None:
    status, headers = answer(site, Sec_WebSocket_Protocol=offered)
    assert status == 101
    assert headers.get("sec-websocket-protocol") == agreed


def test_a_good_handshake_is_answered_with_101_and_nothing_else(site: Site) -> None:
    status, headers = answer(site, Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==")
    assert status == 101
    assert headers == {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    }


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Sec_WebSocket_Key": None}, 400),
        ({"Sec_WebSocket_Key": "AAAA"}, 400),
        ({"Sec_WebSocket_Key": "\xff" * 24}, 400),
        ({"Sec_WebSocket_Version": None}, 426),
        ({"Sec_WebSocket_Version": "8"}, 426),
        ({"Sec_WebSocket_Version": "x"}, 426),
        ({"Upgrade": "h2c"}, 400),
        ({"Upgrade": None}, 400),
        ({"Connection": "close"}, 400),
        ({"Connection": None}, 400),
    ],
)
def test_a_fault_in_the_handshake_is_answered_with_400_or_426(
    site: Site, changes: dict[str, str | None], status: int
) -> None:
    given, headers = answer(site, **changes)
    assert given == status
    if status == 426:
        assert headers["sec-websocket-version"] == "13"
        assert headers["upgrade"] == "websocket"
        assert headers["content-type"] == "application/problem+json"


def test_http_1_0_is_refused(site: Site) -> None:
    request = handshake(site, "/socket").replace(b"HTTP/1.1", b"HTTP/1.0")  # type: ignore[arg-type]
    assert site.raw(request)[0] == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_handshake_with_another_method_is_refused(site: Site, method: str) -> None:
    request = handshake(site, "/socket").replace(b"GET", method.encode())  # type: ignore[arg-type]
    assert site.raw(request)[0] == 405


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1:1", 403),
        ("nonsense", 403),
        ("http://[::1", 403),
        ("", 403),
        ("https://listed.example", 101),
        ("HTTPS://LISTED.example", 101),
        (None, 101),
    ],
)
def test_a_foreign_origin_is_refused_with_403(site: Site, origin: str | None, status: int) -> None:
    assert answer(site, Origin=origin)[0] == status


def test_the_own_origin_is_welcome(site: Site) -> None:
    assert answer(site, Origin=site.url)[0] == 101


def test_a_refused_client_is_not_in_the_registry_and_its_handler_is_not_called() -> None:
    app, called = make_app(), []
    Sock(app).route("/socket")(called.append)
    with serve(app) as site:
        assert answer(site, Origin="https://evil.example")[0] == 403
        assert answer(site, Sec_WebSocket_Version="8")[0] == 426
        assert len(site.registry) == 0
        assert site.registry.snapshot()["ended"] == []
    assert called == []


def test_a_server_that_keeps_its_sockets_to_itself_is_told_so() -> None:
    app = make_app()
    Sock(app).route("/socket")(hello)
    answer = app.test_client().get("/socket", headers=HEADERS)
    assert answer.status_code == 400
    assert "does not hand out its sockets" in answer.get_json(force=True)["detail"]


def test_an_app_without_the_extension_is_told_what_to_do() -> None:
    app = Flask("bare")
    app.testing = True
    Sock(app).route("/socket")(hello)
    with pytest.raises(Exception, match=r"Call Streaming\(app\)"):
        app.test_client().get("/socket", headers=HEADERS)


def test_a_client_that_leaves_in_the_handshake_is_forgotten(site: Site) -> None:
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", site.port)) as connection:
            connection.sendall(handshake(site, "/socket"))  # type: ignore[arg-type]
    site.wait_empty()


def test_no_handshake_of_any_peer_is_an_unhandled_exception(site: Site) -> None:
    chance = random.Random(1_789)
    good = handshake(site, "/socket")  # type: ignore[arg-type]
    words = [b"\r\n", b":", b",", b"\0", b"\xff", b"websocket", b"Upgrade", b"13", b"GET", b" "]
    words += [b'"', b";", b"=", b"permessage-deflate", b"Sec-WebSocket-Extensions: ", b"Origin: "]
    for _ in range(200):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 8)):
            at = chance.randrange(len(data))
            end = at + chance.randrange(12)
            data[at:end] = chance.choice([*words, chance.randbytes(3)])
        with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
            connection.sendall(data)
            received = b""
            with suppress(OSError):  # it may have hung up on the rest
                connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                while piece := connection.recv(65536):
                    received += piece
            assert b" 500 " not in received[:20]
    with connect(f"{site.ws_url}/socket") as ws:
        assert ws.recv(PATIENCE) == "hello None"
    site.wait_empty()
    assert site.errors == []


def test_the_class_is_used_as_flask_socks_own() -> None:
    app = Flask("x")
    Streaming(app)
    sock = Sock(app)

    @sock.route("/echo")
    def echo(ws: Connection) -> None:
        while True:
            ws.send(ws.receive())  # type: ignore[arg-type]

    with serve(app) as site, connect(f"{site.ws_url}/echo") as ws:
        ws.send("x")
        assert ws.recv(PATIENCE) == "x"


@in_greenlets
def test_a_handshake_while_the_server_drains_leaves_the_server_its_socket_to_answer_on() -> None:
    state = State(Settings(), Hub(MemoryLog()))
    state.close()
    ours, theirs = socket.socketpair()
    environ = EnvironBuilder(headers=HEADERS).get_environ()
    environ |= {"gunicorn.socket": ours, "SERVER_PROTOCOL": "HTTP/1.1"}
    with ours, theirs:
        with pytest.raises(HubClosed):
            prepare(Request(environ), state, [], state.settings)
        ours.sendall(b"503")
        assert theirs.recv(3) == b"503"
    assert len(state.registry) == 0


def test_without_a_file_descriptor_a_handshake_is_answered_with_503(site: Site) -> None:
    error = OSError(errno.EMFILE, "Too many open files")
    with mock.patch.object(sockets, "exchange", side_effect=error):
        status, headers = answer(site)
    assert status == 503
    assert headers["retry-after"]
    assert len(site.registry) == 0
    assert answer(site)[0] == 101


def test_without_a_thread_to_look_after_it_a_handshake_is_answered_with_503(site: Site) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "streaming deadlines":
            raise RuntimeError("can't start new thread")
        start(thread)

    with mock.patch.object(threading.Thread, "start", refuse):
        assert answer(site)[0] == 503
    assert len(site.registry) == 0
    assert answer(site)[0] == 101


@pytest.mark.parametrize("does_it_fail", [False, True])
def test_a_connection_goes_on_although_an_extension_has_replaced_the_response(
    does_it_fail: bool,
) -> None:
    app = make_app()
    app.logger.disabled = True  # or a record of it would refer to the exception's frames
    Sock(app).route("/socket")(lambda ws: lambda message: ws.send(f"took {message}"))

    @app.after_request
    def replace(response: Response) -> Response:
        if does_it_fail:
            raise ZeroDivisionError("in an extension")
        return app.response_class("another")

    def took() -> str | bytes | None:
        gc.collect()  # the exception's frames hold the response until they are collected
        try:
            return ws.recv(0.05)
        except TimeoutError:
            return None

    with serve(app) as site, connect(f"{site.ws_url}/socket") as ws:
        ws.send("x")
        assert wait_until(took, "the answer") == "took x"
    app.logger.disabled = False


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
