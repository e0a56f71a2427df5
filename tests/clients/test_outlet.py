"""streaming/clients/outlet.py: direct writes to a socket, and what happens when it would block."""

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from streaming.clients.outlet import PIECE, Outlet, client_socket, is_gone
from tests import sockets
from tests.pairs import PAIRS, Pair, tcp_pair
from tests.polling import PATIENCE, wait_until


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Our end as greenlets have it, with a small buffer, and theirs."""
    ours, theirs = PAIRS[request.param]()
    with ours, theirs:
        yield ours, theirs


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, f"ended after {len(data)} of {size} bytes"
        data += piece
    return data


def read_in_thread(sock: socket.socket, size: int) -> Callable[[], bytes]:
    pieces: list[bytes] = []
    thread = threading.Thread(target=lambda: pieces.append(read(sock, size)))
    thread.start()

    def result() -> bytes:
        thread.join(PATIENCE)
        return pieces[0]

    return result


def fill(outlet: Outlet) -> bytes:
    """Write until the kernel takes no more; what was given to the outlet."""
    given = b""
    for n in range(100_000):
        piece = (b"%d," % n) * 300
        given += piece
        if not outlet.write(piece):
            return given
    raise AssertionError("the kernel takes everything")


BIG = os.urandom(PIECE * 3 + 7)


def test_a_lent_socket_is_written_to_at_once(pair: Pair) -> None:
    outlet = Outlet(pair[0], "client")
    assert outlet.is_direct
    outlet.open()
    assert outlet.fd == pair[0].fileno()
    assert outlet.write(b"hello")
    assert read(pair[1], 5) == b"hello"
    assert outlet.fd >= 0


def test_a_socket_that_was_not_lent_cannot_be_written_to(pair: Pair) -> None:
    outlet = Outlet(pair[0], "client")
    for take_back in (lambda: None, outlet.finish, lambda: outlet.hold(b"")):
        take_back()
        assert outlet.fd == -1
        with pytest.raises(OSError, match="Bad file descriptor"):
            outlet.write(b"not yours")
        outlet.open()


def test_what_the_kernel_does_not_take_shuts_the_outlet_until_it_is_finished(pair: Pair) -> None:
    outlet = Outlet(pair[0], "client")
    outlet.open()
    given = fill(outlet)
    assert outlet.fd == -1
    assert outlet.rest
    outlet.open()
    assert outlet.fd == -1, "nothing may be written into a frame that was begun"
    received = read_in_thread(pair[1], len(given))
    outlet.finish()
    assert received() == given
    assert (bytes(outlet.rest), outlet.progress) == (b"", 0.0)
    outlet.open()
    assert outlet.fd >= 0


def test_the_rest_that_the_pump_leaves_is_sent_before_anything_else(pair: Pair) -> None:
    outlet = Outlet(pair[0], "client")
    outlet.open()
    outlet.hold(memoryview(b"half a frame")[5:])
    assert outlet.fd == -1
    assert outlet.progress
    outlet.finish()
    outlet.send(b", more")
    assert read(pair[1], 13) == b"a frame, more"


def test_a_pump_that_could_write_nothing_leaves_nothing(pair: Pair) -> None:
    outlet = Outlet(pair[0], "client")
    outlet.open()
    outlet.hold(b"")
    assert (outlet.fd, outlet.rest, outlet.progress) == (-1, b"", 0.0)
    outlet.finish()
    outlet.open()
    assert outlet.write(b"whole")
    assert read(pair[1], 5) == b"whole"


def test_a_large_piece_reaches_a_slow_reader_whole(pair: Pair) -> None:
    outlet = Outlet(pair[0], "client")
    received = read_in_thread(pair[1], len(BIG))
    outlet.send(BIG)
    assert received() == BIG
    assert outlet.progress == 0.0


def test_what_makes_no_progress_is_stuck_after_its_time_and_not_before(pair: Pair) -> None:
    outlet = Outlet(pair[0], "client")
    outlet.open()
    assert not outlet.is_stuck(time.monotonic() + 1e6, 1.0), "nothing waits to be sent"
    fill(outlet)
    since = outlet.progress
    assert not outlet.is_stuck(since + 0.9, 1.0)
    assert outlet.is_stuck(since + 1.1, 1.0)
    assert not outlet.is_stuck(since + 1e6, None)


def test_a_cut_lets_whoever_is_stuck_in_a_send_go(pair: Pair) -> None:
    outlet = Outlet(pair[0], "client")
    faults: list[OSError] = []

    def send() -> None:
        try:
            outlet.send(BIG * 8)
        except OSError as fault:
            faults.append(fault)

    sender = threading.Thread(target=send)
    sender.start()
    wait_until(lambda: outlet.progress, "the send has begun")
    outlet.cut()
    sender.join(PATIENCE)
    assert faults
    outlet.cut()


def test_a_write_to_a_lost_connection_says_so(pair: Pair) -> None:
    outlet = Outlet(pair[0], "client")
    outlet.open()
    pair[1].close()

    def is_lost() -> bool:
        try:
            outlet.write(b"anybody there?")
        except OSError:
            return True
        return False

    wait_until(is_lost, "the kernel knows that the peer has gone")


def test_sockets_that_cannot_be_written_to_directly_are_never_lent() -> None:
    timed, blocking = socket.socketpair()
    with timed, blocking:
        timed.settimeout(PATIENCE)  # non-blocking for the kernel, but nobody's greenlet
        for outlet in (Outlet(blocking, "a"), Outlet(timed, "b"), Outlet(None, "c")):
            assert not outlet.is_direct
            outlet.open()
            assert outlet.fd == -1
            outlet.finish()
            outlet.cut()


def test_a_tls_socket_and_one_that_is_switched_off_are_never_lent(pair: Pair) -> None:
    off = Outlet(pair[0], "client", may=False)
    context = ssl.create_default_context()
    plain, other = socket.socketpair()
    with plain, other:
        plain.setblocking(False)
        with context.wrap_socket(
            plain, server_hostname="example.org", do_handshake_on_connect=False
        ) as tls:
            for outlet in (off, Outlet(tls, "tls")):
                outlet.open()
                assert (outlet.is_direct, outlet.fd) == (False, -1)


def test_without_a_direct_write_everything_is_still_sent(pair: Pair) -> None:
    outlet = Outlet(pair[0], "client", may=False)
    received = read_in_thread(pair[1], len(BIG))
    outlet.send(BIG)
    outlet.finish()
    assert received() == BIG


# Whether the peer is there


def test_a_peer_that_is_there_is_not_gone_whatever_it_sent(pair: Pair) -> None:
    assert not is_gone(pair[0])
    pair[1].sendall(b"input that nobody reads")
    assert not is_gone(pair[0])
    assert pair[0].recv(5) == b"input", "looking takes nothing away"


@pytest.mark.parametrize("leave", [socket.socket.close, lambda s: s.shutdown(socket.SHUT_WR)])
def test_a_peer_that_left_is_noticed_without_reading_or_writing(
    pair: Pair, leave: Callable[[socket.socket], None]
) -> None:
    leave(pair[1])
    wait_until(lambda: is_gone(pair[0]), "the end of file is here")


def test_a_socket_that_we_closed_ourselves_is_gone(pair: Pair) -> None:
    pair[0].close()
    assert is_gone(pair[0])


def test_a_reset_connection_is_gone() -> None:
    ours, theirs = tcp_pair()
    with ours:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        wait_until(lambda: is_gone(ours), "the reset is here")


def test_the_clients_socket_is_where_the_server_tells_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert client_socket({"gunicorn.socket": ours}, None) is ours
        assert client_socket({"werkzeug.socket": theirs}, None) is theirs
        client_socket({"gunicorn.socket": ours}, 20_000)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) in (20_000, 40_000)
    assert client_socket({}, None) is None
    assert client_socket({"gunicorn.socket": "not a socket"}, None) is None


@pytest.mark.skipif(not hasattr(socket, "TCP_CORK"), reason="Linux collects packets, others do not")
def test_what_is_corked_leaves_as_one_packet() -> None:
    def is_corked(sock: socket.socket) -> int:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK)

    with sockets.tcp_pair() as (server, peer), sockets.cooperative(server) as sock:
        outlet = Outlet(sock, "me")
        outlet.cork()
        assert is_corked(sock)
        outlet.send(b"head ")
        outlet.send(b"piece")
        outlet.uncork()
        outlet.uncork()
        assert not is_corked(sock)
        assert peer.recv(100) == b"head piece"


def test_a_socket_that_cannot_be_corked_is_written_to_as_ever() -> None:
    server, peer = socket.socketpair()
    with sockets.cooperative(server) as sock, peer:
        outlet = Outlet(sock, "me")
        outlet.cork()
        outlet.send(b"text")
        assert peer.recv(100) == b"text"
        outlet.uncork()
