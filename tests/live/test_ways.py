"""What is promised on every way, behind the real gunicorn: greenlets, threads, Unix sockets."""

import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.clients import RawClient, SseReader
from tests.live.harness import gunicorn
from tests.live.raw_websocket import CLOSE, TEXT, RawWebSocket
from tests.live.server import Server
from tests.polling import PATIENCE, wait_until

GTHREAD = ("--worker-class", "gthread", "--threads", "16")


@pytest.fixture(scope="module", params=["gevent", "gthread"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    args = GTHREAD if request.param == "gthread" else ()
    with gunicorn("tests.live.ways_app:app", extra_args=args) as running:
        running.name = request.param
        yield running


def state(server: Server) -> Any:
    with RawClient(server.url + "/") as client:
        return client.json()


def publish(server: Server, text: str, times: int = 1) -> None:
    with RawClient(f"{server.url}/publish/{text}?times={times}") as client:
        assert client.status == 200


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_silent_producer_has_a_head_soon_and_heartbeats_behind_it(
    server: Server, version: str
) -> None:
    with RawClient(f"{server.url}/waiting", version=version) as client:
        assert client.status == 200, "it has come before the first piece"
        before = read_silence(client, b"")
        tell(server)
        between = read_silence(client, b"data: 0\n\n")
        tell(server)
        behind = client.read_all()
        assert client.ending == "whole"
    body = (before + between + behind).replace(b":\n", b"")
    assert body.startswith(b"data: 0\n\ndata: 1\n\nevent")


def read_silence(client: RawClient, piece: bytes) -> bytes:
    """Up to the second heartbeat behind this piece."""
    body = b""
    while body.partition(piece)[2].count(b":\n") < 2 if piece else body.count(b":\n") < 2:
        more = client.read()
        assert more, body
        body += more
    return body


def tell(server: Server) -> None:
    """Have the producer go on."""
    with RawClient(f"{server.url}/tell") as client:
        assert client.status == 200


def test_a_producer_that_fails_at_once_is_an_error_of_http(server: Server) -> None:
    server.expect_trouble = True  # it is logged
    with RawClient(f"{server.url}/failing") as client:
        assert client.status == 500
        assert client.headers["content-type"] == "application/problem+json"
        assert b"secret" not in client.read_all()
    assert "LookupError: secret" in server.log_text()
    server.check_log()
    server.expect_trouble = False


def test_a_client_that_leaves_a_silent_producer_is_forgotten(server: Server) -> None:
    wait_until(lambda: state(server)["clients"] == [], "nobody is there")
    with RawClient(f"{server.url}/waiting") as client:
        assert client.status == 200
        assert state(server)["clients"] == ["RequestStream"]
    try:
        wait_until(lambda: state(server)["clients"] == [], "it is forgotten, in the silence")
    finally:
        tell(server)


@pytest.mark.parametrize("size", [200_000, 5_000_000, None])
def test_a_body_that_nobody_reads_ends_no_stream(server: Server, size: int | None) -> None:
    headers = {"Content-Length": str(size)} if size else {"Transfer-Encoding": "chunked"}
    with RawClient(f"{server.url}/body", method="POST", headers=headers) as client:
        assert client.next_event().event == "ready"  # type: ignore[union-attr]
        sending = threading.Thread(target=client.send_body, args=(size,))
        sending.start()
        for n in range(3):
            publish(server, str(n))
            assert client.next_event().data == str(n)  # type: ignore[union-attr]
        if server.name == "gevent":
            sending.join(PATIENCE)
            assert not sending.is_alive()
        assert len(state(server)["clients"]) == 1
        client.socket.shutdown(socket.SHUT_RDWR)  # which ends the sending, too
    sending.join(PATIENCE)
    wait_until(lambda: state(server)["clients"] == [], "it is forgotten")


@pytest.mark.parametrize("worker", ["gevent", "gthread"])
def test_a_stream_that_ends_as_it_should_is_nobodys_error(worker: str) -> None:
    """And nothing is in the log: that is checked for every server."""
    args = GTHREAD if worker == "gthread" else ()
    with gunicorn("tests.live.ways_app:watched", extra_args=args) as server:
        events = f"{server.url}/streaming/events?channel=a"
        with RawClient(events) as client:
            assert client.next_event().event == "ready"  # type: ignore[union-attr]
            kind = "EventStream" if worker == "gevent" else "RequestStream"
            assert state(server)["clients"] == [kind], "middleware that hides nothing costs nothing"
            publish(server, "x")
            assert client.next_event().data == "x"  # type: ignore[union-attr]
        with RawClient(f"{server.url}/silent") as client:
            client.read_all()
            assert client.ending == "whole"
        for leave in (True, False):
            with RawWebSocket(server, "/rest", subprotocol=None) as ws:
                ws.send(TEXT, b"x")
                assert ws.read_text() == "x"
                if leave:
                    ws.send(CLOSE, b"\x03\xe8")
                    assert ws.read_close().close_code == 1000
                    assert ws.is_ended()
        wait_until(lambda: state(server)["clients"] == [], "all are forgotten")
        assert state(server)["seen"] == []
        with RawClient(events) as client:
            assert client.next_event().event == "ready"  # type: ignore[union-attr]
            server.terminate()
            assert [event.event for event in client.events()] == ["restart"]
            assert client.ending == "whole"
        assert "[ERROR]" not in server.log_text()


@pytest.mark.parametrize("app", ["collected", "compressed"])
def test_what_middleware_holds_back_comes_whole_and_behind_the_head(app: str) -> None:
    with gunicorn(f"tests.live.ways_app:{app}") as server:
        with RawClient(f"{server.url}/silent") as client:
            assert client.status == 200
            events = client.reader.feed(client.read_all())
            assert [event.data for event in events] == ["0", "1", "{}"]
            assert client.ending == "whole"
        publish(server, "x", 20_000)
        with RawClient(f"{server.url}/streaming/events?channel=a&history=1") as client:
            assert client.status == 200
            body = client.read()
            publish(server, "y", 20_000)
            while b"y" * 20_000 not in body:
                body += client.read()
            with RawClient(f"{server.url}/") as other:
                assert b"RequestStream" in other.read_all()
        told = [event.data for event in SseReader().feed(body) if event.event == "message"]
        assert told == ["x" * 20_000, "y" * 20_000]


def test_a_unix_socket_has_direct_writes_and_heartbeats_too() -> None:
    with tempfile.TemporaryDirectory(prefix="streaming-unix-") as folder:
        path = str(Path(folder) / "server")
        with (
            gunicorn("tests.live.ways_app:app", extra_args=("--bind", f"unix:{path}")) as server,
            ask(path, "/streaming/events?channel=a") as events,
            ask(path, "/waiting") as silent,
        ):
            body = read_until(events, b"\n\n")
            assert b"event: ready" in body
            wait_until(
                lambda: sorted(state(server)["clients"]) == ["EventStream", "RequestStream"],
                "one that went on, and one with its request",
            )
            publish(server, "hello")
            body += read_until(events, b"hello")
            assert body.startswith(b"HTTP/1.1 200 OK\r\n")
            beat = b"\r\n2\r\n:\n\r\n"
            body = read_until(silent, beat)
            assert body.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"data: " not in body
            tell(server)
            read_until(silent, b"data: 0\n\n")
            read_until(silent, beat + beat[2:])
            tell(server)
            assert b"data: 1\n\n" in read_until(silent, b"\r\n0\r\n\r\n")


def ask(path: str, target: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    client.connect(path)
    client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client


def read_until(client: socket.socket, end: bytes) -> bytes:
    body = b""
    while end not in body:
        piece = client.recv(65536)
        assert piece, body
        body += piece
    return body
