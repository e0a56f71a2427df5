"""streaming/web/ahead.py; all servers are in tests/live/test_sock_servers.py."""

import io
import socket
import types

import pytest

from streaming.web.ahead import take_ahead
from tests.live.raw_websocket import PING, RawWebSocket, encode, handshake
from tests.polling import PATIENCE
from tests.sites import PLAIN, Way, make_app, serve, trusting


@pytest.mark.parametrize("way", [PLAIN, Way("TLS", tls=True)], ids=str)
def test_frames_in_the_packet_of_the_handshake_are_read(way: Way) -> None:
    with serve(make_app(way=way), way=way) as site:
        connection = socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE)
        if way.tls:
            connection = trusting().wrap_socket(connection)
        with connection:
            request, second = handshake(site, "/streaming/ws"), encode(PING, b"2")  # type: ignore[arg-type]
            connection.sendall(request + encode(PING, b"1") + second[:3])
            ws = RawWebSocket.on(connection)
            assert ws.read_json()["type"] == "welcome"
            assert ws.read().payload == b"1"
            connection.sendall(second[3:])
            assert ws.read().payload == b"2"


def test_the_bytes_in_gunicorns_unreader_are_taken_once() -> None:
    unreader = types.SimpleNamespace(buf=io.BytesIO(b"ahead"))
    body = types.SimpleNamespace(reader=types.SimpleNamespace(unreader=unreader))
    with socket.socket() as sock:
        assert [take_ahead({"wsgi.input": body}, sock) for _ in range(2)] == [b"ahead", b""]


def test_nobody_waits_for_bytes_that_have_not_come() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as file:
        theirs.sendall(b"line\nahead")
        assert file.readline() == b"line\n"
        assert [take_ahead({"wsgi.input": file}, ours) for _ in range(2)] == [b"ahead", b""]
        assert ours.gettimeout() is None
        theirs.sendall(b"later")
        assert ours.recv(9) == b"later"


@pytest.mark.parametrize("source", [None, io.BytesIO(b"a body"), object()])
def test_nothing_is_taken_from_what_is_not_known(source: object) -> None:
    with socket.socket() as sock:
        assert take_ahead({"wsgi.input": source}, sock) == b""
