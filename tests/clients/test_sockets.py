"""streaming/clients/sockets.py: what can be asked of a client's socket, and done with it."""

import _socket
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from streaming.clients import sockets
from tests.greenlets import in_greenlets
from tests.pairs import PAIRS, Pair, tcp_pair, unix_pair
from tests.polling import PATIENCE, wait_until
from tests.sockets import (
    cooperative,
    fill,
    first_received,
    no_descriptor_left,
    open_descriptors,
    read_exactly,
    settled_descriptors,
)
from tests.sockets import tcp_pair as plain_pair


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Our end as greenlets have it, with a small buffer, and theirs."""
    ours, theirs = PAIRS[request.param]()
    with ours, theirs:
        yield ours, theirs


# the server's socket


def test_the_clients_socket_is_where_the_server_tells_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert sockets.client_socket({"gunicorn.socket": ours}, None) is ours
        assert sockets.client_socket({"werkzeug.socket": theirs}, None) is theirs
        sockets.client_socket({"gunicorn.socket": ours}, 20_000)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) in (20_000, 40_000)
    assert sockets.client_socket({"gunicorn.socket": ours}, 20_000) is ours, "it left already"
    assert sockets.client_socket({}, None) is None
    assert sockets.client_socket({"gunicorn.socket": "not a socket"}, None) is None


def test_a_greenlet_servers_socket_can_be_written_to_directly(pair: Pair) -> None:
    assert sockets.is_direct(pair[0])


def test_no_other_socket_can_be_written_to_directly() -> None:
    timed, blocking = socket.socketpair()
    with timed, blocking:
        timed.settimeout(PATIENCE)  # non-blocking for the kernel, but nobody's greenlet
        assert not sockets.is_direct(timed)
        assert not sockets.is_direct(blocking)
    with cooperative(socket.socket()) as closed:
        closed.close()
        assert not sockets.is_direct(closed)
    context = ssl.create_default_context()
    plain, other = socket.socketpair()
    with plain, other:
        plain.setblocking(False)
        with context.wrap_socket(
            plain, server_hostname="example.org", do_handshake_on_connect=False
        ) as tls:
            assert not sockets.is_direct(tls)


# whether the peer is there


def test_a_peer_that_is_there_is_not_gone_whatever_it_sent(pair: Pair) -> None:
    assert not sockets.is_gone(pair[0])
    pair[1].sendall(b"input that nobody reads")
    assert not sockets.is_gone(pair[0])
    assert pair[0].recv(5) == b"input", "looking takes nothing away"


@pytest.mark.parametrize("leave", [socket.socket.close, lambda s: s.shutdown(socket.SHUT_WR)])
def test_a_peer_that_left_is_noticed_without_reading_or_writing(
    pair: Pair, leave: Callable[[socket.socket], None]
) -> None:
    leave(pair[1])
    wait_until(lambda: sockets.is_gone(pair[0]), "the end of file is here")


def test_a_tcp_peer_that_left_is_noticed_behind_what_it_said_before() -> None:
    ours, theirs = tcp_pair()
    with ours, theirs:
        theirs.sendall(b"input that nobody reads")
        theirs.close()
        wait_until(lambda: sockets.is_gone(ours), "the end of file is here")


def test_a_socket_that_we_closed_ourselves_is_gone(pair: Pair) -> None:
    pair[0].close()
    assert sockets.is_gone(pair[0])


def test_a_reset_connection_is_gone() -> None:
    ours, theirs = tcp_pair()
    with ours:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        wait_until(lambda: sockets.is_gone(ours), "the reset is here")


# how many bytes


def test_what_the_peer_has_taken_is_counted_by_its_kernel() -> None:
    ours, theirs = tcp_pair()
    with ours, theirs:
        before = sockets.taken(ours)
        assert before is not None
        ours.sendall(b"x" * 3000)
        wait_until(lambda: sockets.taken(ours) == before + 3000, "all is acknowledged")


def test_what_was_written_is_counted_whether_the_peer_has_it_or_not() -> None:
    with plain_pair() as (server, peer), cooperative(server) as ours:
        before = sockets.written(ours)
        assert before is not None
        filled = fill(ours)
        assert sockets.written(ours) == before + filled
        read_exactly(peer, filled)
        assert sockets.written(ours) == before + filled


def test_a_count_is_right_although_the_peer_acknowledges_while_it_is_taken() -> None:
    """Two questions to the kernel, and what the peer took in between would be counted never."""
    with plain_pair() as (server, _):
        answers = [100, 150, 150]
        pending = [20, 20]
        with (
            mock.patch.object(sockets, "taken", side_effect=answers),
            mock.patch.object(sockets, "_count", side_effect=pending),
        ):
            assert sockets.written(server) == 170


def test_a_unix_socket_cannot_tell_what_its_peer_took() -> None:
    ours, theirs = unix_pair()
    with ours, theirs:
        ours.sendall(b"x")
        assert sockets.taken(ours) is None
        assert sockets.written(ours) is None


def test_what_the_peer_said_and_nobody_read_is_counted(pair: Pair) -> None:
    assert sockets.unread(pair[0]) == 0
    pair[1].sendall(b"12345")
    wait_until(lambda: sockets.unread(pair[0]) == 5, "five bytes")
    assert pair[0].recv(2) == b"12"
    assert sockets.unread(pair[0]) == 3


def test_a_closed_socket_can_be_asked_anything(pair: Pair) -> None:
    pair[0].close()
    assert sockets.taken(pair[0]) is None
    assert sockets.written(pair[0]) is None
    assert sockets.unread(pair[0]) == 0
    assert not sockets.is_writable(pair[0])
    sockets.shut(pair[0])
    sockets.cork(pair[0], True)


# writing


def test_a_socket_is_writable_while_a_good_part_of_its_buffer_is_free(pair: Pair) -> None:
    assert sockets.is_writable(pair[0])
    filled = 0
    with cooperative(pair[0].dup()) as direct:

        def is_full() -> bool:  # its peer's kernel may take some meanwhile
            nonlocal filled
            filled += fill(direct)
            return not sockets.is_writable(pair[0])

        wait_until(is_full, "most of its buffer is taken")
    read_exactly(pair[1], filled)
    wait_until(lambda: sockets.is_writable(pair[0]), "there is space again")


def test_to_ask_whether_a_socket_takes_more_needs_no_file_descriptor(pair: Pair) -> None:
    with no_descriptor_left():
        assert sockets.is_writable(pair[0])


def test_whoever_reads_or_writes_a_connection_that_is_shut_gets_its_end(pair: Pair) -> None:
    sockets.shut(pair[0])
    sockets.shut(pair[0])
    assert pair[1].recv(1) == b""
    assert pair[0].recv(1) == b""
    with pytest.raises(OSError, match="Broken pipe"):
        pair[0].send(b"x")


def test_a_socket_that_another_thread_closes_can_be_shut_and_asked() -> None:
    """Its server closes it when the answer is out, while somebody looks whether it has left."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for make in PAIRS.values():
            for _ in range(300):
                ours, theirs = make()
                closing_it = threading.Thread(target=ours.close)
                closing_it.start()
                sockets.is_gone(ours)
                sockets.shut(ours)
                closing_it.join()
                theirs.close()
    finally:
        sys.setswitchinterval(interval)


def test_what_is_discarded_is_never_another_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server closes it meanwhile, and the next client's gets its number."""

    class Interrupted(_socket.socket):
        __slots__ = ()

        def recv(self, *args: Any) -> bytes:
            data = _socket.socket.recv(self, *args)
            if ours.fileno() == number:
                ours.close()
                os.dup2(other.fileno(), number)
            return data

    class Ours(socket.socket, Interrupted):
        pass

    with plain_pair() as (server, talker), plain_pair() as (other, theirs):
        ours = Ours(fileno=server.detach())
        number = ours.fileno()
        talker.sendall(b"talk")
        theirs.sendall(b"the next request")
        wait_until(lambda: sockets.unread(ours) == 4, "the talk has come")
        wait_until(lambda: sockets.unread(other) == 16, "the request has come")
        monkeypatch.setattr(sockets, "_socket", SimpleNamespace(socket=Interrupted))
        sockets.discard(ours)
        os.close(number)
        assert ours.fileno() == -1
        assert sockets.unread(other) == 16


@pytest.mark.skipif(not hasattr(socket, "TCP_CORK"), reason="Linux collects packets, others do not")
def test_what_is_corked_leaves_as_one_packet(pair: Pair) -> None:
    def write() -> None:
        sockets.cork(pair[0], True)
        pair[0].send(b"head ")
        pair[0].send(b"piece")
        sockets.cork(pair[0], False)

    assert first_received(pair[1], write, 10) == b"head piece"


# a connection of our own


def exchange_and_talk(server: socket.socket, peer: socket.socket) -> None:
    """Ours is the connection; the server's object meets a peer that is gone, and nobody else."""
    number, timeout = server.fileno(), server.gettimeout()
    is_blocking = os.get_blocking(number)
    with closing(sockets.exchange(server)) as ours:
        assert ours.fileno() == number, "moved, not duplicated"
        assert server.fileno() not in (-1, number)
        assert (ours.gettimeout(), os.get_blocking(number)) == (timeout, is_blocking)
        ours.sendall(b"from us")
        assert peer.recv(100) == b"from us"
        peer.sendall(b"to us")
        assert ours.recv(100) == b"to us"
        for _ in range(2):
            with pytest.raises(BrokenPipeError):
                server.sendall(b"what the server still says")
        assert server.recv(100) == b"", "the server finds the end, and not another request"
        server.close()
        ours.sendall(b"still there")
        assert peer.recv(100) == b"still there"
    assert peer.recv(100) == b""


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("timeout", [None, 60.0])
def test_an_exchanged_connection_is_ours_and_the_servers_peer_is_gone(
    kind: str, timeout: float | None
) -> None:
    if kind == "unix":
        server, peer = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peer = socket.create_connection(listener.getsockname())
            server = listener.accept()[0]
    peer.settimeout(PATIENCE)
    server.settimeout(timeout)
    with server, peer:
        exchange_and_talk(server, peer)


@in_greenlets
def test_an_exchanged_connection_is_ours_under_greenlets_too() -> None:
    for family in (socket.AF_UNIX, socket.AF_INET):
        if family == socket.AF_UNIX:
            server, peer = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                peer = socket.create_connection(listener.getsockname())
                server = listener.accept()[0]
        peer.settimeout(PATIENCE)
        assert sockets.is_direct(server)
        with server, peer:
            exchange_and_talk(server, peer)
            assert not sockets.is_direct(server), "it was closed"


def test_files_that_were_made_of_the_servers_socket_meet_the_end_too(pair: Pair) -> None:
    reading, writing = pair[0].makefile("rb"), pair[0].makefile("wb")
    with closing(sockets.exchange(pair[0])):
        assert reading.read(10) == b""
        writing.write(b"x")
        for end in (writing.flush, writing.flush, writing.close):
            with pytest.raises(BrokenPipeError):
                end()
    reading.close()
    assert pair[1].recv(10) == b""


def test_an_exchange_costs_one_descriptor_that_goes_with_the_servers_socket() -> None:
    for make in PAIRS.values():
        ours, theirs = make()
        with ours, theirs, closing(sockets.exchange(ours)):
            pass
        before = settled_descriptors()
        for _ in range(20):
            ours, theirs = make()
            with ours, theirs, closing(sockets.exchange(ours)):
                pass
        assert open_descriptors() == before


@pytest.mark.parametrize("is_first", [True, False])
def test_without_a_descriptor_to_spare_nothing_is_exchanged(pair: Pair, is_first: bool) -> None:
    os.close(sockets._gone_peer())  # this process has one
    number, before = pair[0].fileno(), settled_descriptors()
    with (
        mock.patch.object(sockets, "_dead", {} if is_first else sockets._dead),
        no_descriptor_left(),
        pytest.raises(OSError, match="Too many open files"),
    ):
        sockets.exchange(pair[0])
    assert pair[0].fileno() == number
    assert open_descriptors() == before
    pair[0].send(b"the server answers")
    assert pair[1].recv(100) == b"the server answers"


def test_a_socket_that_the_server_has_closed_is_not_exchanged(pair: Pair) -> None:
    pair[0].close()
    before = settled_descriptors()
    with pytest.raises(OSError, match="closed"):
        sockets.exchange(pair[0])
    assert open_descriptors() == before


def test_many_threads_that_exchange_at_once_share_one_peer_that_is_gone() -> None:
    pairs = [unix_pair() for _ in range(8)]
    gate = threading.Barrier(len(pairs))
    mine: list[socket.socket] = []

    def exchange(server: socket.socket) -> None:
        gate.wait()
        mine.append(sockets.exchange(server))

    before = settled_descriptors()
    dead: dict[int, int] = {}
    with mock.patch.object(sockets, "_dead", dead):
        threads = [threading.Thread(target=exchange, args=(server,)) for server, _ in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert open_descriptors() == before + len(pairs) + 1
    for sock in [*mine, *(end for each in pairs for end in each)]:
        sock.close()
    os.close(dead.popitem()[1])


def test_a_child_process_has_a_gone_peer_of_its_own() -> None:
    code = """
import os, socket, sys
from streaming.clients import sockets
def try_it():
    server, peer = socket.socketpair()
    ours = sockets.exchange(server)
    ours.sendall(b"x")
    assert peer.recv(1) == b"x" and server.recv(1) == b""
    for each in (ours, peer, server): each.close()
try_it()
if not (child := os.fork()):
    try_it()
    os._exit(0 if len(sockets._dead) == 2 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=3 * PATIENCE)
