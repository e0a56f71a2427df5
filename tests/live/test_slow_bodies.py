"""Clients that have a worker wait for a body, a head, a TLS handshake; nobody beside them waits."""

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.harness import gunicorn
from tests.live.server import ROOT, Server
from tests.live.victim import Victim
from tests.polling import PATIENCE, wait_until

APP = "tests.live.attacked_app:app"
GTHREAD = ["-k", "gthread", "--threads", "100"]
HURRIED = """
exec(open({base!r}).read())
keepalive = {keepalive}
from streaming.clients import intake
from streaming.web.server import intakes
intake.GRACE = intakes.HEAD = {seconds}
"""

Start = Callable[..., contextlib.AbstractContextManager[Server]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a server that waits three seconds instead of twenty; six where a victim has to make
    a handshake in them, and may be stopped meanwhile."""

    def start(*args: str, keepalive: int = 1, tls: bool = False) -> Server:
        config = tmp_path / "gunicorn.conf.py"
        base = str(ROOT / "gunicorn.conf.py")
        config.write_text(
            HURRIED.format(base=base, keepalive=keepalive, seconds=6.0 if tls else 3.0)
        )
        return gunicorn(APP, config=config, extra_args=args, tls=tls)

    return start


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def begin_body(server: Server, path: str) -> socket.socket:
    """A connection with a request whose body does not come."""
    connection = connect(server)
    if server.tls:
        connection = server.tls.wrap_socket(connection)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: 5000\r\n\r\n{{".encode())
    return connection


def read_all(connection: socket.socket) -> bytes:
    """Up to the end of the connection, whatever the end is."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(4096):
            received += piece
    return received


@pytest.mark.parametrize(
    ("args", "path"),
    [
        ((), "/upload"),
        ((), "/streaming/channels/a"),
        (("-k", "gevent"), "/streaming/channels/a"),
        (GTHREAD, "/streaming/channels/a"),
    ],
    ids=["a view of the application", "our worker", "gevent", "gthread"],
)
def test_bodies_that_do_not_come_are_given_up(
    start: Start, args: tuple[str, ...], path: str
) -> None:
    with start(*args) as server, contextlib.ExitStack() as stack:
        victim = Victim(server)
        before = descriptors(server)
        slow = [stack.enter_context(begin_body(server, path)) for _ in range(60)]
        victim.ask(30)
        victim.report("beside")
        assert {read_all(connection)[:13] for connection in slow} == {b"HTTP/1.1 408 "}
        stack.close()
        wait_until(lambda: descriptors(server) <= before + 2, "the descriptors are back")


def test_a_full_worker_lets_go_of_who_has_it_wait(start: Start) -> None:
    """Twice as many as there are places: new ones would wait for the time that bodies have."""
    with start("--worker-connections", "50") as server, contextlib.ExitStack() as stack:
        victim = Victim(server)
        for _ in range(3):
            for _ in range(100):
                stack.enter_context(begin_body(server, "/upload"))
            victim.ask(10)
        victim.report("beside")


@pytest.mark.parametrize("keepalive", [0, 1, 75])
def test_heads_that_do_not_come_are_given_up(start: Start, keepalive: int) -> None:
    with start(keepalive=keepalive) as server, contextlib.ExitStack() as stack:
        victim = Victim(server)
        starts = [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nX: "] * 10
        slow = []
        for said in starts if keepalive < 10 else filter(None, starts):
            slow.append(stack.enter_context(connect(server)))
            slow[-1].sendall(said)
        victim.ask(30)
        victim.report("beside")
        assert {read_all(connection) for connection in slow} == {b""}


def test_a_head_that_comes_in_drops_is_given_up(start: Start) -> None:
    with start(keepalive=75) as server, connect(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        connection.settimeout(0.1)
        assert drip(connection) == b""


def test_a_second_head_that_does_not_come_is_given_up_and_an_idle_connection_is_not(
    start: Start,
) -> None:
    with start(keepalive=75) as server, connect(server) as idle, connect(server) as slow:
        for connection in (idle, slow):
            connection.sendall(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
            answer = b""
            while not answer.endswith(b"\r\n\r\n2"):
                answer += connection.recv(4096)
        slow.sendall(b"GET / HT")
        assert read_all(slow) == b""
        idle.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(4096).startswith(b"HTTP/1.1 200 OK")


def drip(connection: socket.socket) -> bytes:
    """Send a byte now and then until there is an answer, or the end."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            connection.sendall(b"x")
            return connection.recv(4096)
        except TimeoutError:
            continue
        except ConnectionError:
            return b""
    raise AssertionError("the server listens on")


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n"])
def test_tls_handshakes_that_do_not_come_are_given_up(start: Start, said: bytes) -> None:
    with start(tls=True) as server, contextlib.ExitStack() as stack:
        victim = Victim(server)
        slow = [stack.enter_context(connect(server)) for _ in range(30)]
        for connection in slow:
            connection.sendall(said)
        victim.ask(30)
        victim.report("beside")
        for connection in slow:
            read_all(connection)


def descriptors(server: Server) -> int:
    """How many files the only worker has open."""
    (pid,) = server.worker_pids()
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
