"""streaming/clients/outlet.py: who may write to a client's socket now, and how."""

import itertools
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from streaming.clients import outlet as outlets
from streaming.clients.formats import SSE
from streaming.clients.outlet import _MOVES, PIECE, Outlet, Writing
from streaming.errors import ClientGone
from streaming.hub.encodings import Encodings
from streaming.hub.remainder import begin
from streaming.logs import MemoryLog, Page
from streaming.message import Position
from tests import sockets
from tests.pairs import PAIRS, Pair
from tests.polling import PATIENCE, wait_until


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Our end as greenlets have it, with a small buffer, and theirs."""
    ours, theirs = PAIRS[request.param]()
    with ours, theirs:
        yield ours, theirs


def opened(sock: socket.socket) -> Outlet:
    outlet = Outlet(sock, "client", may=True)
    outlet.move(Writing.OPEN)
    return outlet


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

WAY_TO: dict[Writing, tuple[Writing, ...]] = {
    Writing.NEW: (),
    Writing.OPEN: (Writing.OPEN,),
    Writing.BUSY: (Writing.OPEN, Writing.BUSY),
    Writing.LAST: (Writing.OPEN, Writing.BUSY, Writing.LAST),
    Writing.OVER: (Writing.OPEN, Writing.BUSY, Writing.LAST, Writing.OVER),
}


# who may write when


def test_an_outlets_story(pair: Pair) -> None:
    outlet, number = Outlet(pair[0], "client", may=True), pair[0].fileno()
    story = [(outlet.phase, outlet.fd)]
    for phase in (
        Writing.OPEN,
        Writing.BUSY,
        Writing.OPEN,
        Writing.BUSY,
        Writing.LAST,
        Writing.OVER,
    ):
        outlet.move(phase)
        story.append((outlet.phase, outlet.fd))
    assert story == [
        (Writing.NEW, -1),
        (Writing.OPEN, number),
        (Writing.BUSY, -1),
        (Writing.OPEN, number),
        (Writing.BUSY, -1),
        (Writing.LAST, -1),
        (Writing.OVER, -1),
    ]


@pytest.mark.parametrize(("before", "after"), list(itertools.product(Writing, Writing)))
def test_an_outlet_makes_the_moves_of_the_table_and_no_others(
    before: Writing, after: Writing
) -> None:
    ours, theirs = PAIRS["unix"]()
    with ours, theirs:
        outlet = Outlet(ours, "client", may=True)
        for phase in WAY_TO[before]:
            outlet.move(phase)
        if before is Writing.OVER:
            outlet.move(after)
            assert outlet.phase is Writing.OVER, "what is over stays so, whoever comes late"
        elif after in _MOVES[before]:
            outlet.move(after)
            assert outlet.phase is after
        else:
            with pytest.raises(RuntimeError, match=f"from {before} to {after}"):
                outlet.move(after)
            assert outlet.phase is before
        assert outlet.fd == (ours.fileno() if outlet.phase is Writing.OPEN else -1)


def test_the_table_in_the_docstring_is_the_one_in_the_code() -> None:
    told: set[tuple[Writing, Writing]] = set()
    names = "|".join(phase.name for phase in Writing)
    for row in re.finditer(rf"^ +((?:(?:{names}|any) )+) *({names})\b", str(outlets.__doc__), re.M):
        sources, target = row.group(1).split(), Writing[row.group(2)]
        for source in Writing if sources == ["any"] else map(Writing.__getitem__, sources):
            told.add((source, target))
    assert told == {(source, target) for source, targets in _MOVES.items() for target in targets}


def test_the_docstring_says_of_every_phase_who_writes() -> None:
    table = str(outlets.__doc__).partition("from ")[0]
    said = re.findall(r"^ +([A-Z]+) .*?(-1|>= 0)$", table, re.M)
    assert said == [(phase.name, ">= 0" if phase is Writing.OPEN else "-1") for phase in Writing]


# direct writes


def test_an_open_outlet_is_written_to_at_once(pair: Pair) -> None:
    outlet = opened(pair[0])
    assert outlet.is_direct
    assert outlet.write(b"hello")
    assert read(pair[1], 5) == b"hello"
    assert outlet.phase is Writing.OPEN


@pytest.mark.parametrize("phase", [phase for phase in Writing if phase is not Writing.OPEN])
def test_an_outlet_that_is_not_open_cannot_be_written_to(pair: Pair, phase: Writing) -> None:
    outlet = Outlet(pair[0], "client", may=True)
    for step in WAY_TO[phase]:
        outlet.move(step)
    with pytest.raises(ClientGone):
        outlet.write(b"not yours")
    pair[0].shutdown(socket.SHUT_WR)
    assert pair[1].recv(10) == b""


def test_what_the_kernel_does_not_take_makes_it_busy_until_it_is_finished(pair: Pair) -> None:
    outlet = opened(pair[0])
    given = fill(outlet)
    assert outlet.phase is Writing.BUSY
    assert outlet.rest
    received = read_in_thread(pair[1], len(given))
    outlet.finish()
    assert received() == given
    assert (bytes(outlet.rest), outlet.progress) == (b"", 0.0)
    outlet.move(Writing.OPEN)
    assert outlet.fd >= 0


def test_the_rest_that_was_left_is_sent_before_anything_else(pair: Pair) -> None:
    outlet = opened(pair[0])
    outlet.keep(memoryview(b"half a frame")[5:])
    assert outlet.phase is Writing.BUSY
    assert outlet.progress
    outlet.finish()
    outlet.send(b", more")
    assert read(pair[1], 13) == b"a frame, more"


def test_one_that_could_write_nothing_leaves_nothing(pair: Pair) -> None:
    outlet = opened(pair[0])
    outlet.keep(b"")
    assert (outlet.phase, outlet.rest, outlet.progress) == (Writing.BUSY, b"", 0.0)
    outlet.finish()
    outlet.move(Writing.OPEN)
    assert outlet.write(b"whole")
    assert read(pair[1], 5) == b"whole"


def test_a_write_to_a_lost_connection_says_so(pair: Pair) -> None:
    outlet = opened(pair[0])
    pair[1].close()

    def is_lost() -> bool:
        try:
            outlet.write(b"anybody there?")
        except ClientGone:
            return True
        return False

    wait_until(is_lost, "the kernel knows that the peer has gone")


def test_sockets_that_cannot_be_written_to_directly_never_are() -> None:
    timed, blocking = socket.socketpair()
    with timed, blocking:
        timed.settimeout(PATIENCE)  # non-blocking for the kernel, but nobody's greenlet
        for sock in (timed, blocking):
            assert not Outlet(sock, "client", may=True).is_direct


def test_what_is_switched_off_is_not_done(pair: Pair) -> None:
    assert not Outlet(pair[0], "client", may=False).is_direct


# blocking writes


def test_a_large_piece_reaches_a_slow_reader_whole(pair: Pair) -> None:
    for may in (True, False):
        outlet = Outlet(pair[0], "client", may=may)
        received = read_in_thread(pair[1], len(BIG))
        outlet.send(BIG)
        outlet.finish()
        assert received() == BIG
        assert outlet.progress == 0.0


def test_while_something_waits_to_be_sent_it_is_known_since_when(pair: Pair) -> None:
    outlet, before = opened(pair[0]), time.monotonic()
    assert outlet.progress == 0.0
    given = fill(outlet)
    since = outlet.progress
    assert before <= since <= time.monotonic()
    received = read_in_thread(pair[1], len(given) + len(BIG))
    outlet.finish()
    outlet.send(BIG)
    received()
    assert outlet.progress == 0.0


class Impatient(socket.socket):
    """A socket that waits only a moment, and notes how often that was too short."""

    late = 0

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:  # type: ignore[override]
        try:
            return super().send(data, flags)
        except TimeoutError:
            self.late += 1
            raise


def test_a_read_that_has_a_time_limit_does_not_limit_a_write(pair: Pair) -> None:
    """Both are of one socket: a handler may wait for a message while others send."""
    with Impatient(fileno=pair[0].detach()) as sock:
        sock.settimeout(0.005)
        outlet = Outlet(sock, "client", may=False)
        sending = threading.Thread(target=outlet.send, args=(BIG,))
        sending.start()
        wait_until(lambda: sock.late > 2, "it has waited in vain several times")
        assert outlet.progress
        assert read(pair[1], len(BIG)) == BIG
        sending.join(PATIENCE)
        assert outlet.progress == 0.0


def test_a_cut_lets_whoever_is_stuck_in_a_send_go(pair: Pair) -> None:
    outlet = opened(pair[0])
    faults: list[ClientGone] = []

    def send() -> None:
        try:
            outlet.send(BIG * 8)
        except ClientGone as fault:
            faults.append(fault)

    sender = threading.Thread(target=send)
    sender.start()
    wait_until(lambda: outlet.progress, "the send has begun")
    outlet.cut()
    sender.join(PATIENCE)
    assert faults
    outlet.cut()
    assert outlet.phase is Writing.OVER


def test_nothing_is_written_by_whoever_comes_after_a_cut(pair: Pair) -> None:
    outlet = opened(pair[0])
    outlet.cut()
    with pytest.raises(ClientGone):
        outlet.write(b"x")
    outlet.keep(b"rest")
    with pytest.raises(ClientGone):
        outlet.finish()
    assert pair[1].recv(10) == b""


class Slow(MemoryLog):
    """Others have a turn while it is read."""

    meanwhile: Callable[[], object]

    def read(self, channel: str, after: Position, *, limit: int, size: int) -> Page:
        self.meanwhile()
        return super().read(channel, after, limit=limit, size=size)


def test_what_was_read_for_a_client_that_left_meanwhile_reaches_nobody_else(pair: Pair) -> None:
    """The next connection has the number of the one that was closed."""
    log, ours = Slow(), pair[0]
    rest = begin(Encodings(log), [log.append("a", "x" * 300_000)], SSE, "", None)
    rest.encoded.spans.clear()  # others needed the room
    next_ours, next_theirs = socket.socketpair()
    outlet, number = opened(ours), ours.fileno()
    outlet.keep(rest)

    def leave() -> None:
        ours.close()
        next_ours.setblocking(False)
        os.dup2(next_ours.fileno(), number)

    log.meanwhile = leave
    with next_ours, next_theirs:
        try:
            with pytest.raises(ClientGone):
                outlet.finish()
        finally:
            os.close(number)
        next_ours.shutdown(socket.SHUT_WR)
        assert next_theirs.recv(1 << 20) == b""


# packets


@pytest.mark.skipif(not hasattr(socket, "TCP_CORK"), reason="Linux collects packets, others do not")
def test_what_is_corked_leaves_as_one_packet() -> None:
    def is_corked(sock: socket.socket) -> int:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK)

    with sockets.tcp_pair() as (server, peer), sockets.cooperative(server) as sock:
        outlet = Outlet(sock, "me", may=True)

        def write() -> None:
            outlet.cork()
            assert is_corked(sock)
            outlet.send(b"head ")
            outlet.send(b"piece")
            outlet.uncork()
            outlet.uncork()

        assert sockets.first_received(peer, write, 10) == b"head piece"
        assert not is_corked(sock)


def test_a_socket_that_cannot_be_corked_is_written_to_as_ever() -> None:
    server, peer = socket.socketpair()
    with sockets.cooperative(server) as sock, peer:
        outlet = Outlet(sock, "me", may=True)
        outlet.cork()
        outlet.send(b"text")
        assert peer.recv(100) == b"text"
        outlet.uncork()
