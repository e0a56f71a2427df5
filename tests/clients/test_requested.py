"""streaming/clients/requested.py: streams whose request lasts as long as they do."""

import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from streaming import NDJSON, SSE, HubClosed
from streaming.clients import client as clients
from streaming.clients import requested
from streaming.clients.formats import EventFormat, ticket_event
from streaming.clients.registry import Registry
from streaming.clients.requested import Aside, RequestStream
from streaming.errors import ClientGone
from streaming.hub.hub import Hub
from streaming.logs import MemoryLog
from streaming.settings import Settings
from tests.clients.routes import time_is_up
from tests.greenlets import is_green, run_file
from tests.pairs import PAIRS
from tests.polling import PATIENCE, wait_until
from tests.sites import certificate, trusting
from tests.sockets import cooperative, fill, read_exactly, read_known, tcp_pair

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both ends of a connection, the server's first."""
    with tcp_pair() as ends:
        yield ends


def make(
    sock: socket.socket | None, form: EventFormat | None = SSE, **settings: Any
) -> RequestStream:
    settings = {"heartbeat": 10.0, "send_timeout": 10.0, **settings}
    return RequestStream(Registry(), Settings(**settings), sock, form, peer="192.0.2.1")


def later(client: RequestStream, seconds: float = 11.0) -> None:
    """Have it looked at when so much time will have passed."""
    client.due(time.monotonic() + seconds)


def test_a_client_says_who_it_is_and_where_it_stands() -> None:
    hub = Hub(MemoryLog())
    client = make(None)
    assert client.describe() == {"peer": "192.0.2.1"}
    assert client.transport == "sse"
    assert make(None, NDJSON).transport == "ndjson"
    assert make(None, form=None).transport == "text"
    with hub.subscribe("a", bell=client.bell) as client.subscription:
        assert client.describe() == {
            "peer": "192.0.2.1",
            "channels": ("a",),
            "position": client.subscription.id,
            "state": "lagging",
        }


# how it ends


def test_ending_a_client_ends_its_wait_with_the_first_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients, "FAREWELL", 0.1)  # its cut ends the last wait
    client = make(None)
    raised: list[BaseException] = []

    def wait() -> None:
        with pytest.raises(HubClosed) as caught:
            client.wait(60)
        raised.append(caught.value)

    thread = threading.Thread(target=wait)
    thread.start()
    reason = HubClosed("first")
    client.end(reason)
    client.end(ClientGone("second"))
    thread.join(PATIENCE)
    assert raised == [reason]
    for act in (client.check, client.is_taken, client.wait):
        with pytest.raises(HubClosed, match="first"):
            act()
    client.leave()


def test_ending_a_client_ends_its_subscription() -> None:
    client = make(None)
    with Hub(MemoryLog()).subscribe("a", bell=client.bell) as sub:
        client.subscription = sub
        client.end(HubClosed("over"))
        with pytest.raises(HubClosed, match="over"):
            sub.read()
    client.leave()


def test_a_wait_that_nothing_ends_lasts_its_time_and_sends_nothing() -> None:
    client = make(None)
    started = time.monotonic()
    assert client.wait(0.02) == b""
    assert time.monotonic() - started >= 0.02
    client.check()


def test_a_client_that_left_is_noticed_when_it_is_looked_at(pair: Pair) -> None:
    server, peer = pair
    client = make(server)
    later(client, 0.0)
    client.check()
    peer.sendall(b"what it said before, and nobody reads")
    peer.close()

    def is_ended() -> bool:
        later(client, 0.0)
        return client.reason is not None

    wait_until(is_ended, "the client that left to be noticed")
    assert isinstance(client.reason, ClientGone)
    with pytest.raises(ClientGone):
        client.wait(60)
    client.leave()


def test_a_client_that_left_is_not_listed_any_more_although_nobody_else_has_noticed(
    pair: Pair,
) -> None:
    registry = Registry()
    client = RequestStream(registry, Settings(), pair[0], SSE)
    registry.add(client)
    pair[1].close()
    wait_until(lambda: not len(registry), "it is forgotten")
    assert [row["reason"] for row in registry.snapshot()["ended"]] == ["The client left."]
    assert len(registry.deadlines) == 0


def test_a_client_that_does_not_take_its_goodbye_is_not_listed_any_more(pair: Pair) -> None:
    registry = Registry()
    client = RequestStream(registry, Settings(), pair[0], SSE)
    registry.add(client)
    registry.close(HubClosed("restart"))
    assert len(registry) == 1, "its generator may say it"
    time_is_up(registry)
    wait_until(lambda: not len(registry), "it is cut")
    assert pair[1].recv(1) == b""


def test_it_is_looked_at_often_where_its_socket_is_known_and_by_its_deadlines_elsewhere(
    pair: Pair,
) -> None:
    now = time.monotonic()
    assert make(pair[0]).due(now) == pytest.approx(now + requested.LOOK)
    assert make(None).due(now) == pytest.approx(now + 10.0, abs=1.0)


def test_a_client_that_takes_nothing_is_cut(pair: Pair) -> None:
    server, peer = pair
    client = make(server)
    client.hand(b"x")  # and the server never comes back from writing it
    later(client, 9.0)
    client.check()
    later(client, 21.0)
    with pytest.raises(ClientGone, match="took nothing for"):
        client.check()
    assert peer.recv(1) == b""
    client.leave()


def test_a_client_that_takes_little_of_what_the_server_writes_is_slow_and_not_stuck(
    pair: Pair,
) -> None:
    server, peer = pair
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client = make(server, heartbeat=None)
    piece = client.hand(b"x" * 5_000_000)
    writing = threading.Thread(target=_write, args=(server, piece))
    writing.start()
    now = time.monotonic()
    for _ in range(10):
        read_known(server, peer, 200_000)
        now += 9.0
        client.due(now)
        assert client.reason is None

    def is_stuck() -> bool:
        nonlocal now
        now += 11.0
        client.due(now)
        return client.reason is not None

    wait_until(is_stuck, "it takes no more")
    writing.join(PATIENCE)
    client.leave()


def _write(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
    except OSError:
        return


def test_a_client_that_takes_its_time_is_not_cut_without_a_timeout(pair: Pair) -> None:
    client = make(pair[0], send_timeout=None)
    client.hand(b"x")
    later(client, 1e6)
    client.check()


# heartbeats through the generator


def test_an_idle_client_is_given_its_heartbeat_through_the_generator() -> None:
    client = make(None)
    client.hand(b"x")
    client.is_taken()
    later(client)
    assert client.wait() == SSE.heartbeat
    client.bell.ring()
    assert client.wait() == b""


def test_a_ticket_that_comes_before_anything_is_followed_is_sent_once_something_is() -> None:
    """The log may take longer to begin than a ticket that is used up waits to be renewed."""
    hub, client = Hub(MemoryLog()), make(None)
    client.hand_ticket({"ticket": "t"})
    assert client.take_soon() == b""
    with hub.subscribe("a", bell=client.bell) as client.subscription:
        assert client.wait(0.0) == ticket_event(SSE, {"ticket": "t"})
        assert client.take_soon() == b""


def test_a_stream_that_resumes_nothing_is_sent_no_ticket() -> None:
    client = make(None)
    client.hand_ticket({"ticket": "t"})
    assert client.wait(0.0) == b""


def test_a_wait_for_a_time_ends_early_for_a_heartbeat() -> None:
    client = make(None)
    later(client)
    assert client.wait(60) == SSE.heartbeat


@pytest.mark.parametrize(
    ("form", "heartbeat", "after"),
    [
        (SSE, None, 1e6),  # switched off
        (SSE, 10.0, 5.0),  # not due yet
        (None, 1.0, 1e6),  # plain text has no heartbeat
    ],
)
def test_no_heartbeat_is_sent(
    form: EventFormat | None, heartbeat: float | None, after: float
) -> None:
    client = make(None, form, heartbeat=heartbeat)
    later(client, after)
    client.bell.ring()
    assert client.wait() == b""


def test_no_heartbeat_interrupts_what_the_server_is_writing() -> None:
    client = make(None, send_timeout=None)
    client.hand(b"x")
    later(client)
    client.is_taken()  # only now
    client.bell.ring()
    assert client.wait() == b""


# beside the generator


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


BEAT = chunk(SSE.heartbeat)


class Server:
    """What a WSGI server has for an application: notes what it was asked to write."""

    def __init__(
        self, sock: socket.socket | None = None, failing: BaseException | None = None
    ) -> None:
        self.said: list[bytes | str] = []
        self.sock = sock
        self.failing = failing

    def start(self) -> Callable[[bytes], object]:
        self.said.append("head")
        return self.write

    def write(self, data: bytes) -> None:
        if self.failing is not None:
            raise self.failing
        self.said.append(data)
        if self.sock is not None:
            self.sock.sendall(chunk(data))


def aside_of(client: RequestStream, server: Server, *, at: float = 0.0) -> Aside:
    """What is beside a client that is known to get what is written."""
    assert client._sock is not None
    client.aside = Aside(client._sock, server.start, at=at, beat=SSE.heartbeat)
    client.aside.may_beat = True
    return client.aside


@pytest.fixture(params=["blocking", "with a time-out", "of a greenlet server", "Unix", "TLS"])
def lent(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A server's socket in each of the ways servers have it, and the client's."""
    if request.param == "Unix":
        server, peer = PAIRS["unix"]()
        with server, peer:
            yield server, peer
        return
    with tcp_pair() as (server, peer):
        if request.param == "TLS":
            yield from _over_tls(server, peer)
            return
        if request.param == "with a time-out":
            server.settimeout(PATIENCE)
        if request.param == "of a greenlet server":
            server = cooperative(server)
        with server:
            yield server, peer


def _over_tls(server: socket.socket, peer: socket.socket) -> Iterator[Pair]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate())
    peers: list[ssl.SSLSocket] = []
    thread = threading.Thread(target=lambda: peers.append(trusting().wrap_socket(peer)))
    thread.start()
    with context.wrap_socket(server, server_side=True) as ours:
        thread.join(PATIENCE)
        with peers[0] as theirs:
            yield ours, theirs


def receive(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += peer.recv(size - len(data))
    return data


def test_while_the_generator_waits_heartbeats_are_written_beside_it(lent: Pair) -> None:
    server, peer = lent
    client = make(server)
    aside = aside_of(client, Server(server))
    aside.begin()
    aside.lend()
    for seconds in (11.0, 22.0):
        later(client, seconds)
        assert receive(peer, len(BEAT)) == BEAT
    aside.recall()
    server.sendall(b"piece")
    assert receive(peer, 5) == b"piece"


def test_while_the_generator_is_at_work_it_has_to_send_the_heartbeat_itself(pair: Pair) -> None:
    client, server = make(pair[0]), Server()
    aside = aside_of(client, server)
    aside.begin()
    later(client)
    assert client.wait() == SSE.heartbeat
    aside.lend()
    aside.recall()
    later(client, 22.0)
    assert client.wait() == SSE.heartbeat
    assert server.said == ["head"]


def test_no_heartbeat_is_written_where_it_might_not_reach_the_client_as_it_is(pair: Pair) -> None:
    client, server = make(pair[0]), Server()
    aside = aside_of(client, server)
    aside.may_beat = False
    aside.begin()
    aside.lend()
    later(client)
    assert server.said == ["head"]


def test_no_heartbeat_is_begun_that_would_have_to_wait() -> None:
    with tcp_pair() as (server, peer), cooperative(server) as sock:
        client = make(sock, send_timeout=None)
        answer = Server(sock)
        aside = aside_of(client, answer)
        aside.begin()
        filled = fill(sock)
        aside.lend()
        for seconds in (11.0, 22.0):
            later(client, seconds)
        assert answer.said == ["head"]
        read_exactly(peer, filled)
        wait_until(lambda: requested.sockets.is_writable(sock), "there is space again")
        later(client, 33.0)
        assert receive(peer, len(BEAT)) == BEAT
        assert aside.since == 0.0


def test_a_client_that_takes_no_heartbeat_is_cut_although_the_producer_is_silent() -> None:
    with tcp_pair() as (server, _), cooperative(server) as sock:
        client = make(sock)
        aside = aside_of(client, Server(sock))
        aside.begin()
        fill(sock)
        aside.lend()
        later(client, 11.0)
        client.check()
        now = time.monotonic()

        def is_stuck() -> bool:  # once its kernel has said all that it has
            nonlocal now
            now += 12.0
            client.due(now)
            return client.reason is not None

        wait_until(is_stuck, "it takes nothing")
        assert "took nothing" in str(client.reason)
        aside.recall()  # nothing was begun: it does not wait
        client.leave()


@pytest.mark.parametrize("kind", PAIRS)
def test_a_client_that_took_no_heartbeat_once_and_all_there_was_since_is_not_cut(kind: str) -> None:
    """While pieces come no other heartbeat is due, which would find out that it takes them."""
    ours, theirs = PAIRS[kind]()
    with ours, theirs:
        client = make(ours, heartbeat=None)
        aside = aside_of(client, Server(ours))
        aside.begin()
        aside.lend()
        with mock.patch.object(requested.sockets, "is_writable", return_value=False):
            assert aside.beat()
        assert aside.since
        for seconds in (1.0, 12.0, 24.0):
            later(client, seconds)
            client.check()
        client.leave()


def test_a_heartbeat_to_a_client_that_broke_off_ends_it(lent: Pair) -> None:
    server, peer = lent
    client = make(server)
    aside = aside_of(client, Server(server))
    aside.begin()
    aside.lend()
    peer.close()

    def is_ended() -> bool:
        client.spoke = 0.0
        later(client)
        return client.reason is not None

    with mock.patch.object(requested.sockets, "is_gone", return_value=False):
        wait_until(is_ended, "the lost connection is noticed by a write")
    assert isinstance(client.reason, ClientGone)
    client.leave()


def test_heartbeats_and_pieces_are_never_torn_into_each_other() -> None:
    """With both sides as fast as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with tcp_pair() as (server, peer):
            client, pieces = make(server), 0
            aside = aside_of(client, Server(server))
            aside.begin()
            over, beats = threading.Event(), list[bool]()

            def beat() -> None:
                while not over.is_set():
                    if aside.beat():
                        beats.append(True)
                    time.sleep(0)

            def give() -> None:
                nonlocal pieces
                while pieces < 300 or not beats:  # whoever beats may be late
                    aside.lend()
                    time.sleep(0)
                    aside.recall()
                    for part in (b"%04d|" % pieces, b"x" * 1000, b"|%04d\n" % pieces):
                        server.sendall(part)
                    pieces += 1
                over.set()
                server.shutdown(socket.SHUT_WR)

            threads = [threading.Thread(target=act) for act in (beat, give)]
            for thread in threads:
                thread.start()
            received = b""
            while data := peer.recv(1 << 16):
                received += data
            for thread in threads:
                thread.join(PATIENCE)
        rest = received.replace(BEAT, b"")
        assert len(rest) < len(received)
        assert rest == b"".join(b"%04d|%b|%04d\n" % (n, b"x" * 1000, n) for n in range(pieces))
    finally:
        sys.setswitchinterval(interval)


# the head of the answer


def test_a_head_leaves_when_it_is_time_and_not_before_and_once(pair: Pair) -> None:
    client, server = make(pair[0], heartbeat=None), Server()
    now = time.monotonic()
    aside = aside_of(client, server, at=now + 1.0)
    aside.lend()
    client.due(now + 0.9)
    assert server.said == []
    for seconds in (1.0, 2.0):
        client.due(now + seconds)
    assert server.said == ["head", b""]
    aside.recall()
    assert aside.is_begun, "it is said already which head it is"
    aside.begin()
    assert server.said == ["head", b""]


def test_heartbeats_begin_behind_the_head_although_the_producer_has_said_nothing(
    pair: Pair,
) -> None:
    client, server = make(pair[0]), Server()
    aside = aside_of(client, server, at=time.monotonic() + 20.0)
    aside.lend()
    later(client, 11.0)
    assert server.said == []
    for seconds in (22.0, 33.0):
        later(client, seconds)
    assert server.said == ["head", b"", SSE.heartbeat, SSE.heartbeat]


def test_a_head_that_the_generator_has_is_sent_by_the_generator(pair: Pair) -> None:
    client, server = make(pair[0]), Server()
    aside = aside_of(client, server)
    later(client)
    assert server.said == []
    assert not aside.is_begun
    aside.begin()
    assert server.said == ["head"]


def test_middleware_may_have_no_write_at_all(pair: Pair) -> None:
    client, started = make(pair[0]), []
    aside = Aside(
        pair[0],
        lambda: started.append(1),  # type: ignore[func-returns-value]
        at=0.0,
        beat=b":",
    )
    aside.may_beat, client.aside = True, aside
    aside.lend()
    later(client, 0.0)
    later(client)
    assert started == [1]
    aside.recall()
    assert aside.is_begun


def test_a_head_that_cannot_be_sent_is_tried_once_and_its_fault_is_the_generators(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[int] = []

    def fail() -> None:
        faults.append(1)
        raise AssertionError("Headers already set")

    aside = Aside(pair[0], fail, at=0.0, beat=b":")
    aside.lend()
    for _ in range(3):
        try:
            aside.send_head(1.0)
        except AssertionError:
            assert faults == [1]
    aside.recall()
    assert not aside.is_begun
    with pytest.raises(AssertionError):
        aside.begin()


def test_a_head_waits_while_the_client_takes_nothing() -> None:
    with tcp_pair() as (server, _), cooperative(server) as sock:
        fill(sock)
        client, answer = make(sock), Server()
        aside = aside_of(client, answer)
        aside.lend()
        later(client, 0.0)
        assert answer.said == []


def test_one_of_two_that_race_sends_the_head(pair: Pair) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(200):
            server = Server()
            aside = aside_of(make(pair[0]), server)
            gate = threading.Barrier(2)

            def produce(aside: Aside = aside, gate: Any = gate) -> None:
                aside.lend()
                gate.wait()
                aside.recall()
                aside.begin()

            producing = threading.Thread(target=produce)
            producing.start()
            gate.wait()
            aside.send_head(1.0)
            producing.join(PATIENCE)
            assert server.said in (["head"], ["head", b""])
    finally:
        sys.setswitchinterval(interval)


def test_a_client_that_left_before_the_head_is_nobodys_error(pair: Pair) -> None:
    client, server = make(pair[0]), Server()
    aside_of(client, server).lend()
    broken, answer = make(pair[0]), Server(failing=BrokenPipeError(32, "Broken pipe"))
    aside_of(broken, answer).lend()
    with mock.patch.object(requested.sockets, "is_gone", return_value=False):
        later(broken, 0.0)
    assert isinstance(broken.reason, ClientGone)
    broken.leave()
    pair[1].close()

    def is_gone() -> bool:
        later(client, -1e6)
        return client.reason is not None

    wait_until(is_gone, "it is noticed")
    assert server.said == []
    client.leave()


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
