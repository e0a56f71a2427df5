"""streaming/web/sock.py beside flask-sock: one handler, both implementations, the same answers.

Where ours differs on purpose, the table in ``docs/quickstart.md`` says so; a test below shows it.
"""

import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import flask_sock
import pytest
import simple_websocket
from flask import Blueprint, Flask, request
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import streaming
from streaming import Connection
from streaming.clients import life, websocket
from streaming.settings import Settings
from streaming.web import sock_options
from tests.greenlets import is_green, run_file
from tests.live.raw_websocket import PING, RawWebSocket
from tests.polling import PATIENCE, wait_until
from tests.sites import make_app, serve

BOTH = pytest.mark.parametrize(
    "make_sock", [flask_sock.Sock, streaming.Sock], ids=["theirs", "ours"]
)

Handler = Callable[[Any], object]


def app_of(make_sock: Any, handler: Handler, **options: object) -> Flask:
    app = make_app()
    if options:
        app.config["SOCK_SERVER_OPTIONS"] = options
    make_sock(app).route("/socket")(handler)
    return app


@contextmanager
def talk(app: Flask, **how: Any) -> Iterator[ClientConnection]:
    how |= {
        "max_size": None,
        "max_queue": None,
        "close_timeout": 0.3,
    }  # theirs leaves the socket open when its handler returns
    with serve(app) as site, connect(f"{site.ws_url}/socket", **how) as ws:
        yield ws


def hear_all(ws: ClientConnection) -> list[str | bytes]:
    """What comes until the server's close frame, whatever its code."""
    wait_until(lambda: ws.protocol.close_rcvd, "a close frame")
    ws.close()  # behind it all that came before that frame is at hand
    told: list[str | bytes] = []
    with suppress(ConnectionClosed):
        while True:
            told.append(ws.recv(0))
    return told


def hang_up(ws: ClientConnection, *how: Any) -> None:
    """Close it, and leave the socket only when the server has heard of it: theirs may not."""
    ws.close_timeout = PATIENCE
    closing = threading.Thread(target=ws.close, args=how)
    closing.start()
    wait_until(lambda: ws.protocol.close_rcvd or not closing.is_alive(), "an answer, or the end")
    with suppress(OSError):
        ws.socket.shutdown(socket.SHUT_RDWR)
    closing.join(PATIENCE)


def closed_with(ws: ClientConnection) -> tuple[int, str]:
    """Code and text of the server's close frame."""
    assert ws.protocol.close_rcvd is not None
    return ws.protocol.close_rcvd.code, ws.protocol.close_rcvd.reason


def tell(handler: Handler) -> Handler:
    """Sends what a handler returns or raises."""

    def telling(ws: Any) -> None:
        try:
            ws.send(repr(handler(ws)))
        except Exception as error:
            ws.send(f"{type(error).__name__}: {error}")

    return telling


# the documented examples


@BOTH
def test_the_echo_of_the_quick_start(make_sock: Any) -> None:
    def echo(ws: Any) -> None:
        while True:
            data = ws.receive()
            ws.send(data)

    with talk(app_of(make_sock, echo)) as ws:
        for data in ("x", b"\x00", "你好", ""):
            ws.send(data)
            assert ws.recv(PATIENCE) == data


@BOTH
@pytest.mark.parametrize("where", ["app", "init_app", "blueprint"])
def test_a_route_is_on_the_app_or_a_blueprint_or_waits_for_init_app(
    make_sock: Any, where: str
) -> None:
    def greet(ws: Any, name: str) -> None:
        ws.send(f"{name} {request.args['q']}")

    app = make_app()
    blueprint = Blueprint("b", __name__)
    sock = make_sock(app) if where == "app" else make_sock()
    sock.route("/rooms/<name>", **({"bp": blueprint} if where == "blueprint" else {}))(greet)
    if where == "blueprint":
        app.register_blueprint(blueprint)
    if where == "init_app":
        sock.init_app(app)
    address = "/rooms/a?q=x"
    with serve(app) as site, connect(site.ws_url + address, close_timeout=0.3) as ws:
        assert ws.recv(PATIENCE) == "a x"


@BOTH
def test_the_connection_ends_with_1000_when_the_handler_returns(make_sock: Any) -> None:
    with talk(app_of(make_sock, lambda ws: ws.send("bye"))) as ws:
        assert hear_all(ws) == ["bye"]
        assert closed_with(ws) == (1000, "")


@BOTH
@pytest.mark.parametrize(
    ("given", "code", "text"),
    [
        ({}, 1000, ""),
        ({"reason": 4000, "message": "enough"}, 4000, "enough"),
        ({"reason": 1001}, 1001, ""),
        ({"message": "bye"}, 1000, "bye"),
        ({"reason": 0}, 1000, ""),
    ],
)
def test_close_takes_a_code_and_a_text(
    make_sock: Any, given: dict[str, Any], code: int, text: str
) -> None:
    with talk(app_of(make_sock, lambda ws: ws.close(**given))) as ws:
        hear_all(ws)
        assert closed_with(ws) == (code, text)


@BOTH
@pytest.mark.parametrize("caught", [flask_sock.ConnectionClosed, simple_websocket.ConnectionClosed])
@pytest.mark.parametrize("after", ["receive", "send"])
def test_the_documented_except_catches_the_end(
    make_sock: Any, caught: type[Exception], after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "PATIENCE", 0.0)  # the handshake does not wait for the handler
    told: list[object] = []
    is_closed = threading.Event()

    def handler(ws: Any) -> None:
        try:
            if after == "send":
                is_closed.wait(PATIENCE)
                until = time.monotonic() + PATIENCE
                while time.monotonic() < until:
                    ws.send("x")
                    time.sleep(0.01)
            ws.receive()
        except caught as closed:
            told.extend([closed.reason, closed.message])  # type: ignore[attr-defined]

    with talk(app_of(make_sock, handler)) as ws:
        closing = threading.Thread(target=hang_up, args=[ws, 4001, "enough"])
        closing.start()
        is_closed.set()
        wait_until(lambda: told, "the end is told")
        closing.join()
    assert told == [4001, "enough"]


@BOTH
def test_a_handler_that_does_not_catch_the_end_has_not_failed(make_sock: Any) -> None:
    done = threading.Event()

    def handler(ws: Any) -> None:
        try:
            while True:
                ws.receive()
        finally:
            done.set()

    with talk(app_of(make_sock, handler)) as ws:
        hang_up(ws)
        assert done.wait(PATIENCE)


# receive


@BOTH
@pytest.mark.parametrize("timeout", [0, 0.0, -1, 0.01])
def test_receive_gives_none_if_nothing_came_in_time_and_the_connection_goes_on(
    make_sock: Any, timeout: float
) -> None:
    def handler(ws: Any) -> None:
        ws.send(repr(ws.receive(timeout=timeout)))
        while (data := ws.receive(timeout=timeout)) is None:
            time.sleep(0.001)
        ws.send(f"got {data}")
        ws.send(ws.receive(PATIENCE))

    with talk(app_of(make_sock, handler)) as ws:
        assert ws.recv(PATIENCE) == "None"
        ws.send("one")
        assert ws.recv(PATIENCE) == "got one"
        ws.send("two")
        assert ws.recv(PATIENCE) == "two"


@BOTH
def test_a_timeout_is_for_the_message_whatever_else_the_client_sends(make_sock: Any) -> None:
    def handler(ws: Any) -> None:
        ws.send("go")
        ws.send(repr(ws.receive(timeout=0.2)))

    with talk(app_of(make_sock, handler)) as ws:
        assert ws.recv(PATIENCE) == "go"
        stop = threading.Event()

        def ping() -> None:
            with suppress(ConnectionClosed):  # the handler has returned
                while not stop.wait(0.02):
                    ws.ping()

        pinging = threading.Thread(target=ping)
        pinging.start()
        try:
            assert ws.recv(PATIENCE) == "None"
        finally:
            stop.set()
            pinging.join()


@BOTH
def test_what_came_before_the_end_is_received_before_it(make_sock: Any) -> None:
    told: list[object] = []

    def handler(ws: Any) -> None:
        while True:
            told.append(ws.receive())

    with talk(app_of(make_sock, handler)) as ws:
        for text in "abc":
            ws.send(text)
        hang_up(ws)
        wait_until(lambda: len(told) == 3, "all three are received")
    assert told == ["a", "b", "c"]


# a handler that only sends


@BOTH
@pytest.mark.parametrize("first", [[], ["one message is not read"]])
def test_a_handler_that_only_sends_ends_when_the_client_closes(
    make_sock: Any, first: list[str]
) -> None:
    ended = threading.Event()

    def handler(ws: Any) -> None:
        try:
            while True:
                ws.send("tick")
                time.sleep(0.01)
        finally:
            ended.set()

    with talk(app_of(make_sock, handler)) as ws:
        assert ws.recv(PATIENCE) == "tick"
        if not first:
            hang_up(ws)
            assert ended.wait(PATIENCE)
        for text in first:
            ws.send(text)


@BOTH
def test_a_handler_that_only_sends_answers_pings(make_sock: Any) -> None:
    done = threading.Event()

    def handler(ws: Any) -> None:
        while not done.is_set():
            ws.send("tick")
            time.sleep(0.01)
        ws.send(f"last {ws.receive()}")

    with talk(app_of(make_sock, handler)) as ws:
        ws.send("kept")
        assert ws.ping().wait(PATIENCE)
        done.set()
        assert hear_all(ws)[-1] == "last kept"


@pytest.mark.parametrize("many", [1, 30])
def test_what_a_look_ahead_has_found_is_received_in_order(many: int) -> None:
    """Also by the function that a handler returns, whoever waits for the client then."""

    def handler(ws: Connection) -> object:
        ws.send("looks")
        until = time.monotonic() + PATIENCE
        while not ws.inlet.kept and time.monotonic() < until:
            assert ws.connected
            time.sleep(0.005)
        assert ws.connected
        assert 0 < len(ws.inlet.kept) <= websocket.KEPT
        ws.send(ws.receive() or "")
        return ws.send

    with talk(app_of(streaming.Sock, handler)) as ws:
        assert ws.recv(PATIENCE) == "looks"
        for n in range(many):
            ws.send(str(n))
        assert [ws.recv(PATIENCE) for n in range(many)] == [str(n) for n in range(many)]
        ws.send("on")
        assert ws.recv(PATIENCE) == "on"


# connected, environ, subprotocol


@BOTH
def test_connected_says_whether_it_is(make_sock: Any) -> None:
    told: list[bool] = []

    def handler(ws: Any) -> None:
        told.append(ws.connected)
        ws.close()
        told.append(ws.connected)

    with talk(app_of(make_sock, handler)) as ws:
        hear_all(ws)
        wait_until(lambda: len(told) == 2, "the handler has asked twice")
    assert told == [True, False]


@BOTH
def test_a_loop_while_connected_ends_when_the_client_closes(make_sock: Any) -> None:
    ended = threading.Event()

    def handler(ws: Any) -> None:
        while ws.connected:
            time.sleep(0.01)
        ended.set()

    with talk(app_of(make_sock, handler)) as ws:
        hang_up(ws)
        assert ended.wait(PATIENCE)


@BOTH
def test_environ_is_the_handshakes(make_sock: Any) -> None:
    handler = tell(lambda ws: [ws.environ["PATH_INFO"], ws.environ["HTTP_X_SAID"]])
    with talk(app_of(make_sock, handler), additional_headers={"X-Said": "hi"}) as ws:
        assert ws.recv(PATIENCE) == "['/socket', 'hi']"


@BOTH
@pytest.mark.parametrize(
    ("known", "agreed"), [(["b", "a"], "a"), ("a", "a"), (("c",), None), (None, None)]
)
def test_subprotocols_are_an_option(make_sock: Any, known: object, agreed: str | None) -> None:
    app = app_of(make_sock, lambda ws: ws.send(repr(ws.subprotocol)), subprotocols=known)
    with talk(app, subprotocols=["a", "b"]) as ws:
        assert ws.recv(PATIENCE) == repr(agreed)
        assert ws.subprotocol == agreed


@BOTH
def test_a_message_over_max_message_size_ends_with_1009(make_sock: Any) -> None:
    is_over = threading.Event()

    def handler(ws: Any) -> None:
        while not is_over.is_set():  # theirs is not told
            ws.receive(0.02)

    with talk(app_of(make_sock, handler, max_message_size=10)) as ws:
        try:
            ws.send("x" * 11)
            hear_all(ws)
        finally:
            is_over.set()
        assert closed_with(ws)[0] == 1009


@BOTH
def test_a_ping_interval_pings(make_sock: Any) -> None:
    app = app_of(make_sock, lambda ws: ws.receive(), ping_interval=0.05)
    with serve(app) as site, RawWebSocket(site, "/socket", subprotocol=None) as ws:  # type: ignore[arg-type]
        assert ws.read().opcode == PING


# what is refused here, and what flask-sock does not have


@pytest.mark.parametrize("data", [5, 20_000_000, 2.5, True, None, {"a": 1}, [1], ("x",)], ids=repr)
def test_what_is_neither_text_nor_bytes_is_refused_with_what_to_do(data: object) -> None:
    with talk(app_of(streaming.Sock, tell(lambda ws: ws.send(data)))) as ws:
        (told,) = hear_all(ws)
        assert str(told).startswith(
            f"TypeError: ws.send takes str or bytes, not {type(data).__name__}"
        )
        assert "json.dumps" in str(told)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_all_kinds_of_bytes_are_binary_messages(make: Callable[[bytes], Any]) -> None:
    with talk(app_of(streaming.Sock, lambda ws: ws.send(make(b"\x00x")))) as ws:
        assert hear_all(ws) == [b"\x00x"]


def test_closing_twice_is_closing_once() -> None:
    def handler(ws: Connection) -> None:
        ws.close(4000, "first")
        ws.close(4001, "second")

    with talk(app_of(streaming.Sock, handler)) as ws:
        hear_all(ws)
        assert closed_with(ws) == (4000, "first")


@pytest.mark.parametrize(
    ("code", "error"),
    [(999, "InvalidMessage: 999"), ("bye", "TypeError: A close code is a number")],
)
def test_a_close_code_that_cannot_be_sent_is_refused(code: Any, error: str) -> None:
    with talk(app_of(streaming.Sock, tell(lambda ws: ws.close(code)))) as ws:
        (told,) = hear_all(ws)
        assert str(told).startswith(error)


def test_environ_is_gone_with_the_request() -> None:
    def handler(ws: Connection) -> object:
        assert ws.environ["PATH_INFO"] == "/socket"
        return answer(ws)

    def answer(ws: Connection) -> Callable[[object], None]:
        def take(message: object) -> None:
            try:
                ws.send(str(ws.environ))
            except RuntimeError as error:
                ws.send(str(error))

        return take

    with talk(app_of(streaming.Sock, handler)) as ws:
        ws.send("x")
        assert "before you return a function" in str(ws.recv(PATIENCE))


@pytest.mark.parametrize("key", ["receive_bytes", "thread_class", "event_class", "selector_class"])
def test_an_option_that_means_nothing_here_is_named_once(
    caplog: pytest.LogCaptureFixture, key: str
) -> None:
    app = app_of(streaming.Sock, lambda ws: None, **{key: None})
    with serve(app) as site:
        for _ in range(2):
            with connect(f"{site.ws_url}/socket") as ws:
                hear_all(ws)
    (line,) = [r for r in caplog.records if r.levelno == logging.WARNING and key in r.message]
    assert "SOCK_SERVER_OPTIONS" in line.message


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"max_size": 5}, "max_message_size"),
        ({"max_message_size": "5"}, "max_message_size"),
        ({"max_message_size": -1}, "max_message_size"),
        ({"ping_interval": "5"}, "ping_interval"),
        ({"ping_interval": -1}, "ping_interval"),
        ({"subprotocols": [1]}, "subprotocols"),
        ([("subprotocols", ["a"])], "SOCK_SERVER_OPTIONS"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_by_its_name(options: Any, word: str) -> None:
    with pytest.raises(streaming.ConfigurationError, match=word):
        sock_options.read_options({"SOCK_SERVER_OPTIONS": options}, Settings())


@pytest.mark.parametrize("nothing", [None, 0])
def test_no_limit_is_not_to_be_had_and_no_pings_are(
    caplog: pytest.LogCaptureFixture, nothing: int | None
) -> None:
    given = {"max_message_size": nothing, "ping_interval": nothing}
    settings = sock_options.read_options({"SOCK_SERVER_OPTIONS": given}, Settings()).settings
    assert (settings.frame_size, settings.heartbeat) == (Settings().frame_size, None)
    assert "STREAMING_FRAME_SIZE" in caplog.text


def test_the_packages_own_socket_and_routes_with_subprotocols_do_not_use_the_options() -> None:
    app = make_app()
    app.config["SOCK_SERVER_OPTIONS"] = {"subprotocols": ["a"], "max_message_size": 1}
    streaming.Sock(app).route("/socket", subprotocols=["b"])(
        lambda ws: ws.send(str(ws.subprotocol))
    )
    with serve(app) as site:
        with connect(f"{site.ws_url}/socket", subprotocols=["a", "b"]) as ws:  # type: ignore[list-item]
            assert ws.recv(PATIENCE) == "b"
        with site.json() as client:
            assert client.ask(type="subscribe", channel="a")["type"] == "ready"


# the table


def table() -> dict[str, str]:
    """What the page says of each name of flask-sock's."""
    page = (Path(__file__).parents[2] / "docs" / "quickstart.md").read_text("utf-8")
    text = page.partition("| flask-sock | here |")[2].partition("\n\n")[0]
    rows: dict[str, str] = {}
    for line in text.splitlines()[2:]:
        left, right = line.strip("|").split("|", 1)
        rows |= dict.fromkeys(re.findall(r"`(\w+)`", left), right.strip(" |"))
    return rows


def surface() -> set[str]:
    """All public names of flask-sock's connection, its exception, its options and its route."""
    server = simple_websocket.Server
    names = {name for name in dir(server) if not name.startswith("_")}
    options = set(server.__init__.__code__.co_varnames[: server.__init__.__code__.co_argcount])
    assigned = {
        name
        for each in (server.__init__, simple_websocket.ws.Base.__init__)
        for name in each.__code__.co_names
        if name in ATTRIBUTES
    }
    return names | (options - {"self"}) | assigned | {"ConnectionClosed", "SOCK_SERVER_OPTIONS"}


ATTRIBUTES = {
    *("subprotocol", "connected", "close_reason", "close_message", "environ", "mode", "sock")
}


def test_the_table_names_all_of_it() -> None:
    assert surface() <= table().keys()


def test_what_the_table_calls_the_same_is_there() -> None:
    same = {name for name, here in table().items() if here.startswith("the same")}
    assert same >= {"send", "receive", "close", "connected", "environ", "subprotocol"}
    elsewhere = {"Sock", "bp", "ConnectionClosed", "SOCK_SERVER_OPTIONS"}
    for name in same - elsewhere - {"subprotocols", "max_message_size"}:
        assert hasattr(Connection, name) or hasattr(streaming.Sock, name), name


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__, "-k", "ours or look_ahead or environ_is_gone")
