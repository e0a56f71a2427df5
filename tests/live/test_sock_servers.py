"""What ``Sock`` promises is so under gunicorn's workers and under ``flask run``."""

import socket
from collections.abc import Iterator

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.live.clients import RawClient, read_head
from tests.live.harness import flask_run, gunicorn
from tests.live.raw_websocket import CLOSE, PING, TEXT, RawWebSocket, encode, handshake
from tests.live.server import Server
from tests.polling import PATIENCE

APP = "tests.live.sock_app"
WAYS = {
    "gunicorn": lambda: gunicorn(f"{APP}:app"),
    "gevent": lambda: gunicorn(f"{APP}:app", extra_args=["-k", "gevent"]),
    "gthread": lambda: gunicorn(f"{APP}:app", extra_args=["-k", "gthread", "--threads", "9"]),
    "flask run": lambda: flask_run(APP),
}


@pytest.fixture(scope="module", params=WAYS)
def site(request: pytest.FixtureRequest) -> Iterator[Server]:
    with WAYS[request.param]() as running:
        yield running


def ws_url(site: Server, path: str) -> str:
    return f"ws://127.0.0.1:{site.port}{path}"


def test_what_a_handler_returns_and_its_end_publish_in_an_app_context(site: Server) -> None:
    with RawClient(f"{site.url}/streaming/events?channel=told") as told:
        assert told.next_event()
        with connect(ws_url(site, "/returns")) as ws:
            for _ in range(2):
                ws.send("x")
                assert ws.recv(PATIENCE) == f"{APP} False"
        events = [told.next_event() for _ in range(3)]
        assert [event and event.data for event in events] == [f"{APP} False"] * 3


def test_a_handler_that_only_sends_ends_when_its_client_closes(site: Server) -> None:
    with RawClient(f"{site.url}/streaming/events?channel=told") as told:
        assert told.next_event()
        with connect(ws_url(site, "/pushes"), max_queue=None) as ws:
            assert ws.recv(PATIENCE) == "tick"
            assert ws.ping().wait(PATIENCE)
            ws.close(4001, "enough")
            assert ws.close_code == 4001
        event = told.next_event()
        assert event is not None
        assert event.data == "the push is over"


def test_a_stranger_does_not_get_into_a_private_room(site: Server) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        connect(ws_url(site, "/rooms/private-1"))
    with connect(ws_url(site, "/rooms/open")) as ws:
        assert ws.recv(PATIENCE) == "Welcome to the WebSocket server!"
        ws.send("x")
        assert ws.recv(PATIENCE) == "You said: x"


PINGS = encode(PING, b"1") + encode(PING, b"2")
LONG = {f"X_{n}": "long" * 1000 for n in range(3)}


@pytest.mark.parametrize("more", [{}, LONG], ids=["plain", "long head"])
@pytest.mark.parametrize("cut", [0, 1, 9, len(PINGS)])
def test_frames_in_the_packet_of_the_handshake_are_read(
    site: Server, cut: int, more: dict[str, str]
) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
        connection.sendall(handshake(site, "/rooms/open", **more) + PINGS[:cut])
        ws = RawWebSocket.on(connection)
        assert ws.read_text() == "Welcome to the WebSocket server!"
        connection.sendall(PINGS[cut:] + encode(TEXT, b"x"))
        assert [ws.read().payload for _ in range(3)] == [b"1", b"2", b"You said: x"]


@pytest.mark.parametrize("path", ["/returns", "/pushes"])
def test_a_close_frame_in_the_packet_of_the_handshake_is_answered(site: Server, path: str) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
        last = encode(CLOSE, (4001).to_bytes(2, "big"))
        connection.sendall(handshake(site, path) + last)
        ws = RawWebSocket.on(connection)
        assert ws.read_close().close_code == 4001
        assert ws.is_ended()


def test_a_handshake_with_a_body_is_refused(site: Server) -> None:
    for more in ({"Content_Length": "2"}, {"Transfer_Encoding": "chunked"}):
        with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
            connection.sendall(handshake(site, "/returns", **more) + b"0\r\n\r\n")
            assert read_head(connection)[0] == 400
