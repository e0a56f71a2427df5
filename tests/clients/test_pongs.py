"""streaming/clients/pongs.py: pings, signs of life, and who is cut for giving none."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any
from unittest import mock

import pytest

from streaming import Connection, ConnectionClosed, StreamingError
from streaming.clients import inlet, line, outlet, sockets, websocket, websocket_client
from streaming.clients.registry import Registry
from streaming.settings import Settings
from tests.clients.routes import app_of, echo, raw
from tests.greenlets import is_green, run_file
from tests.live.raw_websocket import PING, PONG, TEXT, encode
from tests.polling import PATIENCE, wait_until
from tests.sites import serve
from tests.sockets import cooperative, read_known, tcp_pair


def test_an_idle_client_is_pinged_and_stays_if_it_answers() -> None:
    with serve(app_of(echo, heartbeat=0.03, pong_timeout=60)) as site, raw(site) as ws:
        for _ in range(3):
            ping = ws.read()
            assert ping.opcode == PING
            ws.send(PONG, ping.payload)
        ws.send(TEXT, b"x")
        assert ws.read_text() == "x"


def test_a_client_that_answers_no_ping_is_cut_after_its_deadline() -> None:
    with serve(app_of(echo, heartbeat=0.03, pong_timeout=0.1)) as site, raw(site) as ws:
        assert ws.read().opcode == PING
        while not ws.is_ended():
            pass
        site.wait_empty()
        site.wait_reason("No pong within 0.1 s.")


def test_anything_the_client_says_counts_as_a_sign_of_life() -> None:
    with serve(app_of(echo, heartbeat=0.03, pong_timeout=60)) as site, raw(site) as ws:
        assert ws.read().opcode == PING
        ws.send(TEXT, b"x")
        frames = [ws.read()]
        while frames[-1].opcode != TEXT:
            frames.append(ws.read())
        while ws.read().opcode != PING:  # it was heard: it is asked again
            pass


def test_a_client_is_not_pinged_where_the_heartbeat_is_off() -> None:
    with serve(app_of(echo, heartbeat=None)) as site, raw(site) as ws:
        (connection,) = wait_until(site.registry.clients, "the client")
        wait_until(lambda: not connection.line.progress, "the handshake's answer is out")
        connection.due(1e12)
        ws.send(TEXT, b"x")
        assert ws.read().opcode == TEXT


def test_a_client_that_takes_nothing_is_cut() -> None:
    def speak(ws: Connection) -> None:
        while True:
            ws.send(b"x" * 1_000_000)

    with serve(app_of(speak, send_timeout=0.1)) as site, raw(site, receive_buffer=4096):
        site.wait_reason("took nothing")
        site.wait_empty()


def test_a_client_that_answers_no_ping_is_asked_only_so_often() -> None:
    """The patience counts from the first ping that was not answered, not from the last."""
    with serve(app_of(echo, heartbeat=0.03, pong_timeout=0.3)) as site, raw(site) as ws:
        pings = 0
        with suppress(ConnectionError):
            while pings < 500 and ws.read().opcode == PING:
                pings += 1
        assert 1 <= pings < 500
        site.wait_reason("No pong within 0.3 s.")


@pytest.mark.parametrize("where", ["the handler", "the function it returns"])
def test_a_handler_that_does_not_read_keeps_a_client_whose_pong_lies_unread(where: str) -> None:
    go_on = threading.Event()

    def busy(message: object) -> None:
        go_on.wait(PATIENCE)

    def greet(ws: Connection) -> object:
        ws.send("busy now")
        if where == "the handler":
            busy(ws.receive())
            for message in ws:
                ws.send(f"took {message!r}")
            return None
        return lambda message: busy(message) if message == "busy" else ws.send(f"took {message!r}")

    with (
        serve(app_of(greet, heartbeat=0.02, pong_timeout=60, send_timeout=None)) as site,
        raw(site) as ws,
    ):
        while ws.read().opcode != TEXT:
            pass
        (connection,) = site.registry.clients()
        since = connection.inlet.heard
        ws.send(TEXT, b"busy")
        wait_until(lambda: connection.inlet.heard > since, "somebody is busy with it")
        since = connection.line.pinged
        wait_until(lambda: connection.line.pinged > since, "it is asked")
        ws.send(PONG)
        wait_until(lambda: sockets.unread(connection.line.sock), "the answer is there")
        wait_until(lambda: not connection.line.progress, "nothing else excuses it")
        connection.due(time.monotonic() + 1000)
        assert connection.reason is None
        go_on.set()
        ws.send(TEXT, b"still here")
        assert ws.read_text() == "took 'still here'"


class Bare:
    """A connection on a socket of a greenlet server; time passes for it when the test says so."""

    def __init__(self, stack: ExitStack, server: socket.socket, **settings: Any) -> None:
        for module in (inlet, line, outlet, websocket, websocket_client):
            stack.enter_context(mock.patch.object(module, "time", self))
        self.now = time.monotonic()
        settings = {"heartbeat": 10.0, "pong_timeout": 15.0, "send_timeout": 100.0, **settings}
        self.connection = Connection(Registry().deadlines, Settings(**settings), server)
        stack.callback(self.connection.leave)
        self.connection.line.start()
        self.connection.inlet.heard = self.connection.spoke = self.now

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return time.thread_time()

    def wait(self, seconds: float) -> StreamingError | None:
        """Why it is over after so many seconds, in which it is looked at when it asks for it."""
        until = self.now + seconds
        while (again := self.connection.due(self.now)) is not None and again <= until:
            self.now = max(again, self.now + 0.25)
        self.now = until
        return self.connection.reason


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_client_that_vanishes_is_gone_in_time_although_pings_go_on(stack: ExitStack) -> None:
    """Its kernel is away, too, and acknowledges nothing."""
    with tcp_pair() as (server, _), cooperative(server) as sock:
        bare = Bare(stack, sock)
        stack.enter_context(mock.patch.object(sockets, "pending", return_value=6))
        stack.enter_context(mock.patch.object(sockets, "taken", return_value=1000))
        assert bare.wait(24.9) is None
        assert "No pong" in str(bare.wait(0.6))


def test_a_client_that_has_taken_everything_has_to_answer(stack: ExitStack) -> None:
    with tcp_pair() as (server, peer), cooperative(server) as sock:
        bare = Bare(stack, sock)
        bare.wait(10.1)
        assert peer.recv(100) == encode(PING, mask=False)
        wait_until(lambda: not sockets.pending(sock), "the ping is acknowledged")
        assert bare.wait(14.8) is None
        assert "No pong" in str(bare.wait(0.6))


def test_a_client_that_takes_its_time_for_what_lies_before_the_ping_is_only_slow(
    stack: ExitStack,
) -> None:
    with tcp_pair() as (server, peer), cooperative(server) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        bare = Bare(stack, sock)
        bare.connection.line.put(b"x" * 900_000)
        assert bare.connection.line.progress == 0.0, "the kernel has it all"
        for _ in range(8):  # nearly two minutes
            read_known(sock, peer, 100_000)
            assert bare.wait(14.0) is None
        wait_until(lambda: bare.wait(15.5), "it takes no more")
        assert "No pong" in str(bare.connection.reason)


def test_a_big_message_to_a_slow_reader_is_not_stuck_and_to_one_that_takes_nothing_is(
    stack: ExitStack,
) -> None:
    with tcp_pair() as (server, peer), cooperative(server) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        bare = Bare(stack, sock, send_timeout=5.0, heartbeat=None)
        putting = threading.Thread(target=_put, args=(bare.connection, "x" * 5_000_000))
        putting.start()
        wait_until(lambda: bare.connection.line.progress, "the line is full")
        for _ in range(10):
            read_known(sock, peer, 200_000)
            assert bare.wait(4.9) is None

        wait_until(lambda: bare.wait(5.1), "it takes no more")
        assert "took nothing" in str(bare.connection.reason)
        putting.join(PATIENCE)


def _put(connection: Connection, text: str) -> None:
    with suppress(ConnectionClosed):
        connection.send(text)


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
