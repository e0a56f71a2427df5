"""A WebSocket's guard refuses as a view's does, under gunicorn's workers and ``flask run``."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.live.clients import post_json, read_head
from tests.live.harness import flask_run, gunicorn
from tests.live.raw_websocket import CLOSE, TEXT, RawWebSocket, encode, handshake
from tests.live.server import ROOT, Server
from tests.polling import PATIENCE

APP = "tests.live.guarded_app"
KEPT = ["--keep-alive", "60"]  # a second request may come late
WAYS = {
    "gunicorn": lambda: gunicorn(f"{APP}:app", extra_args=KEPT),
    "gevent": lambda: gunicorn(f"{APP}:app", extra_args=[*KEPT, "-k", "gevent"]),
    "gthread": lambda: gunicorn(
        f"{APP}:app", extra_args=[*KEPT, "-k", "gthread", "--threads", "9"]
    ),
    "flask run": lambda: flask_run(APP),
}


@pytest.fixture(scope="module", params=WAYS)
def site(request: pytest.FixtureRequest) -> Iterator[Server]:
    with WAYS[request.param]() as running:
        yield running


def ws_url(site: Server, path: str) -> str:
    return f"ws://127.0.0.1:{site.port}{path}"


REFUSALS = [("/members", 401), ("/redirects", 302), ("/rooms/private-1", 403), ("/plain", 200)]


@pytest.mark.parametrize(("path", "status"), REFUSALS)
def test_a_stranger_is_refused_as_by_a_view_on_a_connection_that_lives_on(
    site: Server, path: str, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
        connection.sendall(handshake(site, path))
        given, headers, body = read_head(connection)
        assert given == status
        assert "sec-websocket-accept" not in headers
        if status == 302:
            assert headers["location"] == "/login"
        if status == 403:
            assert headers["content-type"] == "application/problem+json"
        if headers["connection"] == "close":  # flask run always says so
            return
        while len(body) < int(headers["content-length"]):
            body += connection.recv(65536)
        connection.sendall(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
        given, headers, body = read_head(connection)
        while len(body) < int(headers["content-length"]):
            body += connection.recv(65536)
        assert (given, body) == (200, b"a page")


def test_refusals_leave_nobody_behind(site: Server) -> None:
    for path, status in REFUSALS * 5:
        with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
            connection.sendall(handshake(site, path))
            assert read_head(connection)[0] == status
    with connect(ws_url(site, "/members?user=ada")) as ws:
        ws.send("x")
        assert ws.recv(PATIENCE) == "x"


@pytest.mark.parametrize("path", ["/members", "/redirects", "/rooms/open"])
def test_a_user_is_let_in_with_what_came_in_the_packet_of_the_handshake(
    site: Server, path: str
) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
        connection.sendall(handshake(site, f"{path}?user=ada") + encode(TEXT, b"x"))
        ws = RawWebSocket.on(connection)
        if path == "/rooms/open":
            assert ws.read_text() == "Welcome to the WebSocket server!"
            assert ws.read_text() == "You said: x"
        else:
            assert ws.read_text() == "x"


@pytest.mark.parametrize("path", ["/aborts/", "/answers/"])
@pytest.mark.parametrize(
    ("status", "code"), [(401, 1008), (403, 1008), (429, 1013), (500, 1011), (503, 1013)]
)
def test_behind_the_first_message_the_same_is_a_close_code(
    site: Server, path: str, status: int, code: int
) -> None:
    with connect(ws_url(site, f"{path}{status}")) as ws:
        assert ws.recv(PATIENCE) == "hello"
        with pytest.raises(ConnectionClosed):
            ws.recv(PATIENCE)
        assert ws.close_code == code


def test_a_redirect_behind_the_first_message_is_1008(site: Server) -> None:
    with connect(ws_url(site, "/answers/302")) as ws:
        assert ws.recv(PATIENCE) == "hello"
        with pytest.raises(ConnectionClosed):
            ws.recv(PATIENCE)
        assert (ws.close_code, ws.close_reason) == (1008, "Found")


def test_a_handler_that_never_touches_its_connection_ends_it_with_1000(site: Server) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
        connection.sendall(handshake(site, "/silent"))
        ws = RawWebSocket.on(connection)
        frame = ws.read_close()
        assert frame.close_code == 1000
        connection.sendall(encode(CLOSE, frame.payload[:2]))
        assert ws.is_ended()


def test_a_handler_that_waits_for_something_else_keeps_no_client_waiting(site: Server) -> None:
    with connect(ws_url(site, "/busy")) as ws:
        assert post_json(f"{site.url}/go-on", {})[0] == 200
        with pytest.raises(ConnectionClosed):
            ws.recv(PATIENCE)
        assert ws.close_code == 1000


def test_an_application_with_a_guard_above_its_route_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "above.py").write_text(
        "from flask import Flask\n"
        "from flask_login import LoginManager, login_required\n"
        "from streaming import Sock, Streaming\n"
        "app = Flask(__name__)\n"
        "Streaming(app), LoginManager(app)\n"
        "@login_required\n"
        "@Sock(app).route('/members')\n"
        "def members(ws): ...\n"
    )
    command = [sys.executable, "-m", "gunicorn", "--config", str(ROOT / "gunicorn.conf.py")]
    command += ["--chdir", str(tmp_path), "--check-config", "above:app"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "Put @sock.route above it" in done.stderr
