"""streaming/clients/stream.py: event streams that go on without their request; in greenlets."""

import errno
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import pytest

from streaming import NDJSON, SSE, HubClosed
from streaming.clients import client as clients
from streaming.clients import stream as streams
from streaming.clients.client import TALK
from streaming.clients.formats import EventFormat
from streaming.clients.outlet import Writing
from streaming.clients.registry import Registry
from streaming.clients.stream import EventStream
from streaming.errors import ClientGone
from streaming.hub.hub import Hub
from streaming.hub.subscription import Subscription
from streaming.logs import MemoryLog, Retention
from streaming.settings import Settings
from tests.greenlets import is_green, run_file
from tests.live.clients import Event, SseReader
from tests.polling import PATIENCE, wait_until
from tests.sockets import no_descriptor_left, open_descriptors, read_known


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)


@dataclass
class Stream:
    """A stream whose head and first bytes are out, its client, and the server's socket."""

    hub: Hub
    registry: Registry
    client: EventStream
    server: socket.socket
    peer: socket.socket
    raw: bytes = b""
    reader: SseReader = field(default_factory=SseReader)
    told: list[Event] = field(default_factory=list)

    def follow(self, *channels: str, **where: Any) -> Subscription:
        channels = channels or ("a",)
        sub = self.hub.subscribe(channels, bell=self.client.bell, **where)
        self.client.subscription = sub
        return sub

    def start(self, *channels: str, **where: Any) -> Subscription:
        sub = self.follow(*channels, **where)
        assert self.client.start(sub)
        return sub

    def chunk(self) -> bytes:
        """The next chunk of HTTP, b"" for the last; fails at the first byte out of place."""
        while b"\r\n" not in self.raw:
            self._receive()
        size, _, self.raw = self.raw.partition(b"\r\n")
        length = int(size, 16)
        while len(self.raw) < length + 2:
            self._receive()
        data, end = self.raw[:length], self.raw[length : length + 2]
        assert end == b"\r\n", f"a torn chunk: {data[-50:]!r} {end!r}"
        self.raw = self.raw[length + 2 :]
        return data

    def _receive(self) -> None:
        data = self.peer.recv(1 << 16)
        assert data, f"the connection ended behind {self.raw[-100:]!r}"
        self.raw += data

    def events(self, count: int) -> list[Event]:
        """The next events."""
        while len(self.told) < count:
            self.told += self.reader.feed(self.chunk())
        events, self.told = self.told[:count], self.told[count:]
        return events

    def talk(self) -> None:
        """Talk without end, until the connection is broken."""
        with suppress(OSError):
            for _ in range(1000):
                self.peer.sendall(b"x" * TALK)
            raise AssertionError("the client may talk without end")

    def is_over(self) -> bool:
        return not len(self.registry)

    def reason(self) -> str:
        wait_until(self.is_over, "the stream is over")
        return str(self.registry.snapshot()["ended"][-1]["reason"])


def tcp() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        return listener.accept()[0], peer


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def make(
    stack: ExitStack,
    *,
    form: EventFormat = SSE,
    unix: bool = False,
    hub: Hub | None = None,
    body: int = 0,
    **settings: Any,
) -> Stream:
    hub, registry = hub or Hub(MemoryLog()), Registry()
    server, peer = map(stack.enter_context, socket.socketpair() if unix else tcp())
    peer.settimeout(PATIENCE)
    settings = {"heartbeat": None, "send_timeout": None, **settings}
    client = EventStream(registry, Settings(**settings), server, form, peer="192.0.2.1", body=body)
    registry.add(client)
    stream = Stream(hub, registry, client, server, peer)

    def leave() -> None:
        peer.close()
        if client.line.sock is not server:  # it is on its own
            wait_until(stream.is_over, "the client is forgotten")
            assert client.line.sock.fileno() < 0, "its socket is closed"
            assert client.line.subscriptions() == []

    stack.callback(leave)
    return stream


def deliverers() -> int:
    return sum(thread.name.startswith("deliver ") for thread in threading.enumerate())


# from its first bytes to its last


@pytest.mark.parametrize("unix", [False, True])
def green_a_streams_story(stack: ExitStack, unix: bool) -> None:
    stream = make(stack, unix=unix)
    assert stream.client.describe() == {"peer": "192.0.2.1"}
    assert stream.client.transport == "sse"
    sub = stream.follow()
    assert stream.client.describe() == {
        "peer": "192.0.2.1",
        "channels": ("a",),
        "position": sub.id,
        "state": "lagging",
    }
    assert stream.client.start(sub)
    wait_until(lambda: stream.client.describe()["state"] == "live", "it is live")
    wait_until(lambda: not deliverers(), "nobody is needed for it")
    posted = stream.hub.publish("a", "hello")
    assert stream.chunk() == f"data: hello\nid: {posted.id}\n\n".encode()
    assert stream.client.describe()["position"] == str(posted.id)
    stream.client.end(HubClosed("restart"))
    restart = stream.events(1)[0]
    assert (restart.event, restart.data) == ("restart", "{}")
    assert restart.retry
    assert stream.chunk() == b""
    assert stream.peer.recv(10) == b""
    assert stream.reason() == "restart"


def green_the_servers_socket_is_of_no_use_any_more(stack: ExitStack) -> None:
    stream = make(stack)
    number = stream.server.fileno()
    stream.start()
    assert stream.client.line.sock.fileno() == number
    with pytest.raises(BrokenPipeError):
        stream.server.sendall(b"0\r\n\r\n")
    stream.server.close()
    stream.hub.publish("a", "still there")
    assert stream.events(1)[0].data == "still there"


def green_a_stream_gives_its_request_back_although_it_lags(stack: ExitStack) -> None:
    hub = Hub(MemoryLog())
    for n in range(300):
        hub.publish("a", f"{n}:" + "x" * 20_000)
    stream = make(stack, hub=hub)
    stream.start(history=300)
    assert stream.client.line.phase is Writing.BUSY
    for n in range(300, 350):
        hub.publish("a", f"{n}:" + "x" * 2000)
    told = [str(event.data).split(":")[0] for event in stream.events(350)]
    assert told == [str(n) for n in range(350)]
    wait_until(lambda: stream.client.describe()["state"] == "live", "it is live")
    wait_until(lambda: not deliverers(), "nobody is needed for it any more")


@pytest.mark.parametrize("count", [2, 32])
def green_a_stream_of_several_channels_gives_its_request_back_too(
    stack: ExitStack, count: int
) -> None:
    names = [f"c{n}" for n in range(count)]
    stream = make(stack)
    stream.start(*names)
    wait_until(lambda: stream.client.describe()["state"] == "live", "it is live")
    wait_until(lambda: not deliverers(), "nobody is needed for it")
    for n in range(100):
        stream.hub.publish(names[n % count], str(n))
    events = stream.events(100)
    by_channel = {
        name: [int(str(e.data)) for e in events if int(str(e.data)) % count == k]
        for k, name in enumerate(names)
    }
    for k, name in enumerate(names):
        assert by_channel[name] == list(range(k, 100, count)), name
    with stream.hub.subscribe(names, after=events[49].id) as sub:
        rest = sorted(int(item.data) for item in sub.read())  # type: ignore[union-attr]
    assert rest == sorted(int(str(event.data)) for event in events[50:])


def green_a_slow_client_gets_everything_whole_and_in_order(stack: ExitStack) -> None:
    stream = make(stack)
    stream.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    stream.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    stream.start()
    sizes = random.Random(3)
    sent = [f"{n}:" + "x" * sizes.randrange(20_000) for n in range(200)]
    for text in sent:
        stream.hub.publish("a", text)
    wait_until(lambda: stream.client.line.progress, "the line is full")
    assert [event.data for event in stream.events(200)] == sent


def green_a_client_too_slow_for_the_log_is_told_of_the_gap(stack: ExitStack) -> None:
    stream = make(stack, hub=Hub(MemoryLog(Retention(messages=3))))
    stream.start()
    for n in range(60):
        stream.hub.publish("a", f"{n}:" + "x" * 500_000)
    events = stream.events(2)
    while not str(events[-1].data).startswith("59:"):
        events += stream.events(1)
    assert "gap" in [event.event for event in events]
    assert len(events) < 60


# how it ends


def green_a_client_that_leaves_is_forgotten_and_nothing_stays_open(stack: ExitStack) -> None:
    before = open_descriptors()
    with ExitStack() as mine:
        stream = make(mine)
        sub = stream.start()
        stream.peer.close()
        assert stream.reason() == "The client left."
        assert sub.is_closed
        assert stream.client.line.phase is Writing.OVER
        assert len(stream.registry.deadlines) == 0
        assert stream.hub.subscribers("a") == 0
    wait_until(lambda: open_descriptors() <= before, "all is closed")


def green_a_client_that_breaks_off_is_forgotten(stack: ExitStack) -> None:
    stream = make(stack)
    stream.start()
    stream.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    stream.peer.close()
    assert stream.reason() == "The client left."


def green_a_client_that_leaves_while_it_is_written_to_lets_the_deliverer_go(
    stack: ExitStack,
) -> None:
    stream = make(stack)
    stream.start()
    for _ in range(20):
        stream.hub.publish("a", "x" * 900_000)
    wait_until(lambda: stream.client.line.progress, "the line is full")
    stream.peer.close()
    wait_until(stream.is_over, "it is forgotten")
    wait_until(lambda: not deliverers(), "the deliverer goes")


def green_one_that_is_ended_while_its_first_bytes_are_sent_says_goodbye(stack: ExitStack) -> None:
    """Its request is not over yet: the goodbye is said as soon as the connection is ours."""
    stream = make(stack)
    sub = stream.follow()
    stream.client.end(HubClosed("restart"))
    stream.peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        stream.peer.recv(10)
    stream.peer.settimeout(PATIENCE)
    assert stream.client.start(sub)
    assert [event.event for event in stream.events(1)] == ["restart"]
    assert stream.chunk() == b""
    assert stream.reason() == "restart"


def green_one_that_is_gone_while_its_first_bytes_are_sent_is_forgotten(stack: ExitStack) -> None:
    stream = make(stack)
    sub = stream.follow()
    stream.client.end(ClientGone("The client took nothing."))
    assert stream.client.start(sub)
    assert stream.reason() == "The client took nothing."


def green_the_goodbye_waits_for_what_was_begun_and_not_longer_than_a_while(
    stack: ExitStack,
) -> None:
    stream = make(stack)
    stream.start()
    for n in range(10):
        stream.hub.publish("a", f"{n}:" + "x" * 900_000)
    wait_until(lambda: stream.client.line.progress, "the line is full")
    stream.client.end(HubClosed("restart"))
    events: list[Event] = []
    while not events or events[-1].event != "restart":
        events += stream.events(1)
    assert stream.chunk() == b""

    stuck = make(stack)
    stuck.start()
    for n in range(10):
        stuck.hub.publish("a", f"{n}:" + "x" * 900_000)
    wait_until(lambda: stuck.client.line.progress, "the line is full")
    with mock.patch.object(clients, "FAREWELL", 0.05):
        stuck.client.end(HubClosed("restart"))
        assert stuck.reason() == "restart"
    wait_until(lambda: not deliverers(), "nobody is left")


# what the client says


def green_a_client_may_say_a_little_where_it_has_nothing_to_say(stack: ExitStack) -> None:
    stream = make(stack)
    stream.start()
    for _ in range(16):
        stream.peer.sendall(b"x" * (TALK // 16))
    stream.hub.publish("a", "still there")
    assert stream.events(1)[0].data == "still there"
    wait_until(lambda: stream.client._allowed == 0, "all that was read")
    assert len(stream.registry) == 1
    stream.peer.sendall(b"x")
    assert stream.reason() == "The client talks where it has nothing to say."


@pytest.mark.parametrize("body", [200_000, 5_000_000])
def green_the_rest_of_the_requests_body_is_no_talk(stack: ExitStack, body: int) -> None:
    stream = make(stack, body=body)
    stream.start()
    sending = threading.Thread(target=stream.peer.sendall, args=(b"b" * body,))
    sending.start()
    sending.join(PATIENCE)
    wait_until(lambda: stream.client._allowed == TALK, "the body was passed over")
    stream.hub.publish("a", "still there")
    assert stream.events(1)[0].data == "still there"
    stream.talk()
    assert stream.reason() == "The client talks where it has nothing to say."


def green_no_body_makes_talk_without_end_welcome(stack: ExitStack) -> None:
    stream = make(stack, body=1 << 40)
    stream.start()
    stream.talk()
    assert stream.reason() == "The client talks where it has nothing to say."


# deadlines


class Clock:
    """Time passes for a stream when the test says so."""

    def __init__(self, stack: ExitStack, stream: Stream) -> None:
        self.now = time.monotonic()
        self.client = stream.client
        stream.client.spoke = self.now
        stack.enter_context(mock.patch.object(streams, "time", self))

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> object:
        until = self.now + seconds
        while (again := self.client.due(self.now)) is not None and again <= until:
            self.now = max(again, self.now + 0.25)
        self.now = until
        return self.client.reason


@pytest.mark.parametrize(("form", "beat"), [(SSE, b":\n"), (NDJSON, b"\n")])
def green_an_idle_stream_gets_heartbeats_as_chunks(
    stack: ExitStack, form: EventFormat, beat: bytes
) -> None:
    stream = make(stack, form=form, heartbeat=10.0)
    clock = Clock(stack, stream)
    stream.start()
    wait_until(lambda: stream.client.line.phase is Writing.OPEN, "it is live")
    for _ in range(3):
        clock.wait(10.1)
        assert stream.chunk() == beat
    assert stream.raw == b""


def green_a_stream_that_was_just_written_to_needs_no_heartbeat(stack: ExitStack) -> None:
    stream = make(stack, heartbeat=10.0)
    stream.start()
    wait_until(lambda: stream.client.line.phase is Writing.OPEN, "it is live")
    clock = Clock(stack, stream)
    clock.wait(9.0)
    stream.hub.publish("a", "x")
    stream.events(1)
    wait_until(lambda: stream.client.subscription.offered, "it is noted")  # type: ignore[union-attr]
    clock.wait(0.9)
    stream.hub.publish("a", "y")
    assert stream.events(1)[0].data == "y"
    assert stream.raw == b""


def green_a_client_that_takes_nothing_is_cut_and_one_that_takes_little_is_not(
    stack: ExitStack,
) -> None:
    stream = make(stack, send_timeout=10.0)
    stream.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    stream.start()
    clock = Clock(stack, stream)
    for n in range(8):
        stream.hub.publish("a", f"{n}" + "x" * 900_000)
    wait_until(lambda: stream.client.line.progress, "the line is full")
    for _ in range(10):
        read_known(stream.client.line.sock, stream.peer, 300_000)
        assert clock.wait(9.0) is None
    wait_until(lambda: clock.wait(10.1), "it takes no more")
    assert "took nothing for 10 s" in stream.reason()


def green_a_client_that_does_not_take_its_first_bytes_is_cut(stack: ExitStack) -> None:
    """The server is still writing them."""
    stream = make(stack, send_timeout=10.0)
    sub = stream.follow()
    clock = Clock(stack, stream)
    stream.client.hand(b"the first")
    clock.wait(9.0)
    assert stream.client.reason is None
    clock.wait(11.0)
    assert "took nothing" in str(stream.client.reason)
    with pytest.raises(BrokenPipeError):
        stream.server.sendall(b"x")
    sub.close()
    stream.registry.remove(stream.client, "cut")


# where something is missing


def green_without_a_descriptor_nothing_has_changed(stack: ExitStack) -> None:
    stream = make(stack)
    sub = stream.follow()
    with mock.patch.object(streams.sockets, "_dead", {}), no_descriptor_left():
        assert not stream.client.start(sub)
    assert stream.client.line.phase is Writing.NEW
    stream.server.sendall(b"the server goes on")
    assert stream.peer.recv(100) == b"the server goes on"
    sub.close()
    stream.registry.remove(stream.client, "the test ends")


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("no thread")]
)
def green_a_client_that_nobody_can_listen_to_is_not_kept(
    stack: ExitStack, error: Exception
) -> None:
    stream = make(stack)
    sub = stream.follow()
    with mock.patch.object(stream.registry.poller, "watch", side_effect=error):
        assert stream.client.start(sub)
    assert "Nobody can listen to the client" in stream.reason()
    assert stream.peer.recv(10) == b""
    assert sub.is_closed


def green_a_client_whose_delivery_cannot_start_is_not_kept(stack: ExitStack) -> None:
    hub = Hub(MemoryLog())
    hub.publish("a", "x")
    others = make(stack, hub=hub)  # the threads that all share are there
    others.start()
    stream = make(stack, hub=hub)
    stream.registry = others.registry
    client = EventStream(others.registry, Settings(), stream.server, SSE)
    stream.client = client
    others.registry.add(client)
    sub = stream.follow(history=1)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("deliver"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with mock.patch.object(threading.Thread, "start", refuse):
        assert client.start(sub)
    wait_until(lambda: len(others.registry) == 1, "it is forgotten")
    assert "Delivery could not start" in str(client.reason)
    assert stream.peer.recv(10) == b""
    assert sub.is_closed


def green_hundreds_that_leave_at_once_leave_nothing_behind() -> None:
    hub, registry, before = Hub(MemoryLog()), Registry(), open_descriptors()
    peers, subs = [], []
    for _ in range(300):
        server, peer = socket.socketpair()
        client = EventStream(registry, Settings(), server, SSE)
        registry.add(client)
        client.subscription = hub.subscribe("a", bell=client.bell)
        assert client.start(client.subscription)
        server.close()
        peers.append(peer)
        subs.append(client.subscription)
    wait_until(lambda: all(sub.phase.value == "live" for sub in subs), "all are live")
    assert threading.active_count() < 20
    hub.publish("a", "x")
    for peer in peers:
        with closing(peer):
            assert b"data: x" in peer.recv(1000)
    wait_until(lambda: not len(registry), "all are forgotten")
    assert hub.subscribers("a") == 0
    assert len(registry.deadlines) == 0
    wait_until(lambda: open_descriptors() <= before + 1, "all is closed")  # but the gone peer
