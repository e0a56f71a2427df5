"""streaming/web/sock.py: what is around a function that a handler returns, on every server."""

from collections.abc import Callable

import pytest
from flask import Flask, current_app, g, has_request_context
from websockets.sync.client import connect

from streaming import Connection, Sock, Streaming, chat
from tests.greenlets import is_green, run_file
from tests.polling import PATIENCE, wait_until
from tests.sites import make_app, serve


def around() -> str:
    """What is there now."""
    g.calls = g.get("calls", 0) + 1
    return f"{current_app.name} {g.calls} {has_request_context()}"


def test_each_call_has_an_app_context_of_its_own_and_no_request() -> None:
    app, torn = make_app(), []
    app.teardown_appcontext(lambda error: torn.append(type(error).__name__))

    @Sock(app).route("/socket")
    def greet(ws: Connection) -> Callable[[object], None]:
        def take(message: object) -> None:
            ws.send(around())
            if message == "fail":
                raise ValueError("as asked")

        return take

    with serve(app, expect_errors=True) as site, connect(f"{site.ws_url}/socket") as ws:
        for message in ("a", "b", "fail"):
            ws.send(message)
            assert ws.recv(PATIENCE) == "small 1 False"
        wait_until(
            lambda: "ValueError" in torn and torn.count("NoneType") >= 3,
            "all is torn down: of the handshake, and of each message",
        )


def test_the_function_publishes_as_a_view_does() -> None:
    app = Flask("small")
    streaming = Streaming(app)

    @Sock(app).route("/socket")
    def greet(ws: Connection) -> Callable[[str], None]:
        return lambda text: ws.send(str(streaming.publish("a", text).id))

    with serve(app) as site, connect(f"{site.ws_url}/socket") as ws:
        ws.send("x")
        assert str(ws.recv(PATIENCE)).endswith("-1")


@pytest.mark.parametrize("returns", ["a function", "nothing"])
def test_what_is_called_at_the_end_has_an_app_context_and_no_request(returns: str) -> None:
    app, told = make_app(), []

    @Sock(app).route("/socket")
    def greet(ws: Connection) -> object:
        ws.on_end(lambda: told.append(around()))
        ws.on_end(lambda: told.append(around()))
        assert has_request_context()
        return (lambda message: None) if returns == "a function" else None

    with serve(app) as site, connect(f"{site.ws_url}/socket"):
        pass
    assert told == ["small 1 False"] * 2


def test_the_packages_own_functions_have_nothing_around_them() -> None:
    app, torn = make_app(), []
    app.teardown_appcontext(torn.append)
    Sock(app).route("/chat")(lambda ws: chat(ws, "chat"))
    with serve(app) as site, site.chat("/chat") as ws:
        assert ws.recv() == "Welcome to the WebSocket server!"
        wait_until(lambda: torn, "the handshake is over")
        ws.send("x")
        assert ws.recv() == "You said: x"
        assert len(torn) == 1


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
