"""Peers that break the rules of WebSocket get the right answer, and nobody else notices.

That no handler dies of it is checked too: a traceback in the server's log fails a live test.
"""

import contextlib
import itertools
import json
import os
import random
import socket
import time
from collections.abc import Iterator

import pytest

from tests.breaches import BREACHES
from tests.live.clients import read_head
from tests.live.harness import gunicorn
from tests.live.raw_websocket import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawWebSocket,
    encode,
    handshake,
)
from tests.live.server import Server
from tests.polling import PATIENCE

SPOKEN = {"/streaming/ws": "streaming.v1.json", "/ws": None, "/": None}
PATHS = list(SPOKEN)


@pytest.fixture
def bystander(server: Server) -> Iterator[RawWebSocket]:
    """Somebody in the chat who must not notice anything."""
    with RawWebSocket(server) as connection:
        assert connection.read_json()["type"] == "welcome"
        yield connection
        connection.send(PING, b"still there?")
        while (frame := connection.read()).opcode == PING:  # it may be asked itself, meanwhile
            connection.send(PONG, frame.payload)
        assert (frame.opcode, frame.payload) == (PONG, b"still there?")


def shut(connection: socket.socket) -> None:
    """Say no more; the server may have hung up before, over what was said."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def answer(server: Server, request: bytes) -> tuple[int, dict[str, str]]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        status, headers, _ = read_head(connection)
        return status, headers


@pytest.mark.parametrize("path", ["/streaming/ws", "/ws"])
def test_faulty_handshakes_are_refused(server: Server, path: str) -> None:
    for changes in (
        {"Sec_WebSocket_Key": None},
        {"Sec_WebSocket_Key": "too short"},
        {"Sec_WebSocket_Key": "AAAA"},
        {"Connection": "close"},
        {"Upgrade": "h2c"},
    ):
        status, _ = answer(server, handshake(server, path, **changes))
        assert status in {400, 426}, changes
    for version in (None, "8", "14", "x"):
        status, headers = answer(server, handshake(server, path, Sec_WebSocket_Version=version))
        assert status in {400, 426}, version
        if status == 426:
            assert headers["sec-websocket-version"] == "13"
    old = handshake(server, path).replace(b"HTTP/1.1", b"HTTP/1.0")
    assert answer(server, old)[0] in {400, 426, 505}
    plain = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode()
    assert answer(server, plain)[0] in {400, 426}


@pytest.mark.parametrize("path", PATHS)
def test_a_foreign_origin_is_refused(server: Server, path: str) -> None:
    assert answer(server, handshake(server, path, Origin="https://evil.example"))[0] == 403
    assert answer(server, handshake(server, path, Origin="null"))[0] == 403
    assert answer(server, handshake(server, path, Origin=server.url))[0] == 101


@pytest.mark.parametrize("path", PATHS)
def test_no_extension_is_agreed_on_by_default(server: Server, path: str) -> None:
    offer = handshake(server, path, Sec_WebSocket_Extensions="permessage-deflate")
    status, headers = answer(server, offer)
    assert status == 101
    assert "sec-websocket-extensions" not in headers


@pytest.mark.parametrize("path", ["/streaming/ws", "/ws"])
def test_a_breach_is_answered_with_its_close_code(
    server: Server, bystander: RawWebSocket, path: str
) -> None:
    with contextlib.ExitStack() as stack:
        breaking = {}
        for name, (sent, _) in BREACHES.items():
            connection = RawWebSocket(server, path, subprotocol=SPOKEN[path])
            breaking[name] = stack.enter_context(connection)
            connection.socket.sendall(sent)
        codes = {name: connection.read_close().close_code for name, connection in breaking.items()}
        assert codes == {name: code for name, (_, code) in BREACHES.items()}
        assert all(connection.is_ended() for connection in breaking.values())


def test_many_fragments_together_over_the_limit_are_refused(server: Server) -> None:
    with RawWebSocket(server) as connection:
        piece = b"x" * 30_000
        connection.send(TEXT, piece, first_bits=0)
        connection.send(CONTINUATION, piece, first_bits=0)
        connection.send(CONTINUATION, piece, first_bits=0)
        assert connection.read_close().close_code == 1009


def test_a_ping_between_fragments_is_answered_and_the_message_is_whole(server: Server) -> None:
    with RawWebSocket(server, "/ws", subprotocol=None) as connection:
        assert connection.read_text()
        connection.send(TEXT, "ä".encode()[:1], first_bits=0)
        connection.send(PING, b"now")
        connection.send(CONTINUATION, "ä".encode()[1:])
        pong = connection.read()
        assert (pong.opcode, pong.payload) == (PONG, b"now")
        assert connection.read_text() == "You said: ä"


@pytest.mark.parametrize(
    "text",
    [
        "not JSON",
        "[]",
        "7",
        "{}",
        '{"type": "dance"}',
        '{"type": "subscribe"}',
        '{"type": "subscribe", "channel": "a b"}',
        '{"type": "subscribe", "channel": 7}',
        '{"type": "subscribe", "channel": "news", "after": "nonsense"}',
        '{"type": "subscribe", "channel": "news", "history": -1}',
        '{"type": "subscribe", "channel": "news", "history": "many"}',
        '{"type": "unsubscribe", "channel": "never-subscribed"}',
        '{"type": "publish", "channel": "chat"}',
        '{"type": "publish", "channel": "chat", "data": 7}',
        '{"type": "publish", "channel": "chat", "data": "x", "event": "a\\nb"}',
        '{"type": "publish", "channel": "private", "data": "x"}',
        '{"type": "publish", "channel": "chat", "data": "\\ud800"}',
        "[" * 60_000,
    ],
)
def test_a_frame_that_makes_no_sense_gets_an_error_and_the_connection_goes_on(
    server: Server, text: str
) -> None:
    with RawWebSocket(server) as connection:
        assert connection.read_json()["type"] == "welcome"
        connection.send(TEXT, text.encode())
        error = connection.read_json()
        assert error["type"] == "error", error
        assert 400 <= error["status"] < 500
        assert error["title"]
        assert error["detail"]
        connection.send_json(type="subscribe", channel="news", ref="after")
        ready = connection.read_json()
        assert (ready["type"], ready["ref"]) == ("ready", "after")


def test_a_binary_frame_is_refused_where_json_is_spoken(server: Server) -> None:
    with RawWebSocket(server) as connection:
        assert connection.read_json()["type"] == "welcome"
        connection.send(BINARY, json.dumps({"type": "subscribe", "channel": "news"}).encode())
        assert connection.read_close().close_code == 1003


@pytest.mark.parametrize("path", PATHS)
def test_noise_never_reaches_the_log_as_a_traceback(
    server: Server, bystander: RawWebSocket, path: str
) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    noise = random.Random(seed)
    for _ in range(40):
        with RawWebSocket(server, path, subprotocol=SPOKEN[path]) as connection:
            connection.socket.sendall(noise.randbytes(noise.randrange(1, 200)))
            if noise.random() < 0.5:
                shut(connection.socket)
                while not connection.is_ended():
                    pass


def test_a_client_at_rest_that_answers_its_pings_stays_however_its_pongs_come() -> None:
    often = {"STREAMING_HEARTBEAT": "0.3", "STREAMING_PONG_TIMEOUT": "5"}
    with gunicorn(extra_env=often) as server, RawWebSocket(server, "/ws", subprotocol=None) as ws:
        assert ws.read_text().startswith("Welcome")
        time.sleep(1.5)  # it goes to rest
        until = time.monotonic() + 6  # longer than it may owe an answer
        for cut in itertools.cycle((0, 1, 5, 0, 2, 0)):
            if time.monotonic() > until:
                break
            ping = ws.read()
            while ping.opcode != PING:
                ping = ws.read()
            pong = encode(PONG, ping.payload)
            for piece in filter(None, (pong[:cut], pong[cut:])):
                ws.socket.sendall(piece)
                time.sleep(0.05)
        ws.send(TEXT, b"still here")
        frame = ws.read()
        while frame.opcode == PING:
            frame = ws.read()
        assert frame.payload == b"You said: still here"


@pytest.mark.parametrize("rest", [b"zz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}XX0\r\n\r\n", b"50\r\n{}"])
def test_a_body_in_chunks_that_are_none_is_the_clients_fault(server: Server, rest: bytes) -> None:
    head = b"POST /streaming/channels/chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(head + b"Content-Type: application/json\r\n\r\n" + rest)
        shut(connection)
        assert read_head(connection)[0] == 400
