"""streaming/clients/client.py: one response that stays open, between its generator, pump and sweep."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from streaming import SSE, ClientGone, Hub, HubClosed, MemoryLog, Settings
from streaming.clients.client import StreamClient, spread_retry
from streaming.clients.formats import EventFormat
from tests.sites import wait_until
from tests.sockets import cooperative, fill, tcp_pair

SETTINGS = Settings(heartbeat=10.0, send_timeout=10.0)
LATER = 11.0
"""Seconds after which both settings are due."""


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection, the server's first."""
    with tcp_pair() as ends:
        yield ends


def make(
    sock: socket.socket | None,
    *,
    form: EventFormat | None = SSE,
    settings: Settings = SETTINGS,
    protocol: str = "HTTP/1.1",
) -> StreamClient:
    environ = {"SERVER_PROTOCOL": protocol, "werkzeug.socket": sock, "REMOTE_ADDR": "192.0.2.1"}
    return StreamClient(environ, settings, form)


def test_a_client_says_who_it_is_and_where_it_stands() -> None:
    hub = Hub(MemoryLog())
    client = make(None)
    assert client.describe() == {"peer": "192.0.2.1"}
    assert client.transport == "sse"
    assert make(None, form=None).transport == "text"
    with hub.subscribe("a", bell=client.bell) as client.subscription:
        assert client.describe() == {
            "peer": "192.0.2.1",
            "channels": ("a",),
            "position": client.subscription.id,
            "state": "lagging",
        }


def test_two_clients_have_two_ids() -> None:
    assert make(None).id != make(None).id


def test_ending_a_client_ends_its_pause_with_the_first_reason() -> None:
    client = make(None)
    raised: list[BaseException] = []

    def pause() -> None:
        with pytest.raises(HubClosed) as caught:
            client.pause(60)
        raised.append(caught.value)

    thread = threading.Thread(target=pause)
    thread.start()
    reason = HubClosed("first")
    client.end(reason)
    client.end(ClientGone("second"))
    thread.join(5)
    assert raised == [reason]
    with pytest.raises(HubClosed):
        client.check()


def test_ending_a_client_ends_its_subscription() -> None:
    client = make(None)
    with Hub(MemoryLog()).subscribe("a", bell=client.bell) as sub:
        client.subscription = sub
        client.end(HubClosed("over"))
        assert client.rest() == b""
        with pytest.raises(HubClosed):
            sub.read()


def test_a_pause_that_nothing_ends_lasts_its_time_and_sends_nothing() -> None:
    client = make(None)
    started = time.monotonic()
    assert client.pause(0.02) == b""
    assert time.monotonic() - started >= 0.02
    client.check()


def test_the_sweep_ends_a_client_that_left(pair: tuple[socket.socket, socket.socket]) -> None:
    server, peer = pair
    client = make(server)
    client.sweep(time.monotonic())
    client.check()
    peer.close()

    def is_ended() -> bool:
        client.sweep(time.monotonic())
        try:
            client.check()
        except ClientGone:
            return True
        return False

    wait_until(is_ended, "the client that left to be noticed")


def test_the_sweep_cuts_a_client_that_takes_nothing(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, peer = pair
    client = make(server)
    client.hand(b"x")  # and the server never comes back from writing it
    client.sweep(time.monotonic())
    client.check()
    client.sweep(time.monotonic() + LATER)
    with pytest.raises(ClientGone, match="took nothing for"):
        client.check()
    assert peer.recv(1) == b""


def test_a_client_that_takes_its_time_is_not_cut_without_a_timeout(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client = make(pair[0], settings=Settings(send_timeout=None))
    client.hand(b"x")
    client.sweep(time.monotonic() + 1e6)
    client.check()


def test_an_idle_client_is_given_its_heartbeat_through_the_generator() -> None:
    client = make(None)
    client.hand(b"x")
    client.lend()
    client.sweep(time.monotonic() + LATER)
    assert client.rest() == SSE.heartbeat
    client.bell.ring()
    assert client.rest() == b""


def test_a_pause_ends_early_for_a_heartbeat() -> None:
    client = make(None)
    client.lend()
    client.sweep(time.monotonic() + LATER)
    assert client.pause(0.01) == SSE.heartbeat


@pytest.mark.parametrize(
    ("form", "settings", "after"),
    [
        (SSE, Settings(heartbeat=None), 1e6),  # switched off
        (SSE, SETTINGS, 5.0),  # not due yet
        (None, Settings(heartbeat=1.0), 1e6),  # plain text has no heartbeat
    ],
)
def test_no_heartbeat_is_sent(form: EventFormat | None, settings: Settings, after: float) -> None:
    client = make(None, form=form, settings=settings)
    client.lend()
    client.sweep(time.monotonic() + after)
    client.bell.ring()
    assert client.rest() == b""


def test_no_heartbeat_interrupts_what_the_server_is_writing(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, peer = pair
    with cooperative(server) as direct:
        client = make(direct, settings=Settings(heartbeat=1.0, send_timeout=None))
        client.hand(b"x")
        client.sweep(time.monotonic() + LATER)
        client.lend()  # only now
        client.sweep(time.monotonic() + LATER)
        direct.shutdown(socket.SHUT_WR)
        assert peer.recv(100) == SSE.frame(SSE.heartbeat)
        assert peer.recv(100) == b""


def test_a_lent_socket_gets_its_heartbeat_as_one_chunk(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, peer = pair
    with cooperative(server) as direct:
        client = make(direct)
        client.lend()
        client.sweep(time.monotonic() + LATER)
        assert peer.recv(100) == b"2\r\n:\n\r\n"


def test_a_full_socket_has_its_heartbeat_finished_by_the_generator(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, peer = pair
    with cooperative(server) as direct:
        client = make(direct)
        client.lend()
        filled = fill(direct)
        client.sweep(time.monotonic() + LATER)
        assert client.outlet.fd == -1
        resting = threading.Thread(target=client.rest)
        resting.start()
        received = b""
        while len(received) < filled + 7:
            received += peer.recv(1 << 20)
        resting.join(5)
        assert received == b"." * filled + b"2\r\n:\n\r\n"


@pytest.mark.parametrize(
    ("protocol", "settings"),
    [("HTTP/1.0", SETTINGS), ("HTTP/1.1", Settings(direct_writes=False))],
)
def test_nothing_is_written_directly_without_chunks_or_against_the_setting(
    pair: tuple[socket.socket, socket.socket], protocol: str, settings: Settings
) -> None:
    with cooperative(pair[0]) as direct:
        assert make(direct).outlet.is_direct
        client = make(direct, protocol=protocol, settings=settings)
        client.lend()
        assert not client.outlet.is_direct
        assert client.outlet.fd == -1


def test_a_blocking_socket_is_never_written_to_directly(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client = make(pair[0])
    client.lend()
    assert client.outlet.fd == -1


def test_clients_of_a_stopping_server_come_back_spread_over_two_seconds() -> None:
    times = {spread_retry() for _ in range(200)}
    assert 1000 <= min(times) < max(times) <= 3000
    assert len(times) > 20
