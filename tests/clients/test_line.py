"""streaming/clients/line.py: whole frames, one writer at a time, deliveries from the log."""

import random
import socket
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from streaming import Gap, Lagged, Message, StreamingError
from streaming.clients.line import Line
from streaming.clients.outlet import Writing
from streaming.errors import ClientGone
from streaming.hub.encodings import Encodings
from streaming.hub.hub import Hub
from streaming.logs import MemoryLog, Page, Retention
from streaming.message import Position
from streaming.web.chat import CHAT
from streaming.web.protocol import JSON
from streaming.wire import frames
from tests.broken_log import BrokenLog
from tests.greenlets import in_greenlets, is_green, run_file
from tests.polling import PATIENCE, wait_until
from tests.sockets import cooperative, fill, read_exactly, tcp_pair


class Numbers:
    """A protocol whose frames are the texts themselves."""

    personal = True

    def encode(self, message: Message, /) -> bytes:
        return frames.encode_text(message.data)

    def encode_own(self, message: Message, /) -> bytes:
        return frames.encode_text(f"own {message.data}")

    def cut(self, messages: Sequence[Message], /) -> list[bytes]:
        raise NotImplementedError

    def frame(self, blocks: bytes, /) -> bytes:
        return blocks

    def escape(self, text: str, /) -> bytes:
        return text.encode()

    def around(self, message: Message, own: bool, others: bytes | None, /) -> tuple[bytes, bytes]:
        return b"own " if own else b"", b""

    def ends(self, size: int, /) -> tuple[bytes, bytes]:
        return frames.announce(frames.Opcode.TEXT, size), b""

    def gap(self, lost: Gap, after: str, /) -> bytes:
        return frames.encode_text(f"gap, then {after}")


NUMBERS = Numbers()
PING = frames.encode(frames.Opcode.PING, b"")


def make(
    sock: socket.socket,
    end: Callable[[StreamingError], None] = lambda reason: None,
    *,
    may: bool = True,
) -> Line:
    return Line(sock, "me", ping=PING, may=may, end=end)


@dataclass
class Ends:
    """A line between a server's socket and its peer."""

    line: Line
    peer: socket.socket
    reasons: list[StreamingError] = field(default_factory=list)
    decoder: frames.Decoder = field(
        default_factory=lambda: frames.Decoder(1 << 30, require_mask=False)
    )
    received: list[frames.Received] = field(default_factory=list)

    def read(self, count: int = 1) -> list[frames.Received]:
        """The next values the peer receives; raises on the first byte that is out of place."""
        while len(self.received) < count:
            data = self.peer.recv(1 << 16)
            assert data, "the connection ended"
            self.received += self.decoder.feed(data)
        taken, self.received = self.received[:count], self.received[count:]
        return taken

    def read_texts(self, count: int) -> list[str]:
        return [value.data for value in self.read(count) if isinstance(value, frames.Text)]


@pytest.fixture(params=["direct", "through the deliverer"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """A started line, once over a socket as under gevent and once without direct writes."""
    with tcp_pair() as (server, peer), cooperative(server) as sock:
        direct = request.param == "direct"
        reasons: list[StreamingError] = []
        line = make(sock, reasons.append, may=direct)
        assert line.is_direct == direct
        line.start()
        yield Ends(line, peer, reasons)
        line.stop()
        line.cut()


def text(data: str) -> bytes:
    return frames.encode_text(data)


def test_frames_arrive_in_the_order_they_were_put(ends: Ends) -> None:
    for n in range(100):
        ends.line.put(text(str(n)))
    assert ends.read_texts(100) == [str(n) for n in range(100)]


def test_what_is_said_soon_goes_between_frames_and_is_never_forgotten(ends: Ends) -> None:
    for n in range(100):
        ends.line.put(text(f"before {n}"))
        ends.line.say_soon(text(f"soon {n}"))
        read = [""]
        while read[-1] != f"soon {n}":
            read += ends.read_texts(1)
        assert set(read[1:]) <= {f"before {n}", f"soon {n}"}


@pytest.mark.parametrize("may", [True, False])
def test_what_is_said_soon_before_the_start_follows_it(may: bool) -> None:
    with tcp_pair() as (server, peer), cooperative(server) as sock:
        ends = Ends(make(sock, may=may), peer)
        ends.line.say_soon(text("first"))
        ends.line.say_soon(text("newest"))
        ends.line.start()
        assert ends.read_texts(1) == ["newest"]
        wait_until(lambda: not may or ends.line.phase is Writing.OPEN, "a line that rests")
        ends.line.stop()
        ends.line.cut()


def test_what_is_said_soon_waits_for_a_client_that_does_not_read(ends: Ends) -> None:
    """Whoever says it does not."""
    filled = fill(ends.line.sock)
    for n in range(3):
        ends.line.say_soon(text(f"{n}"))
    read_exactly(ends.peer, filled)
    read: list[str] = []
    while read[-1:] != ["2"]:  # the newest comes in any case
        read += ends.read_texts(1)
    assert read == sorted(set(read))


def test_frames_of_many_threads_are_never_spliced_and_keep_each_threads_order() -> None:
    sizes = random.Random(7)
    sent = [[f"{who}:{n}:" + "x" * sizes.randrange(300_000) for n in range(10)] for who in range(4)]
    with tcp_pair() as (server, peer):
        ends = Ends(make(server), peer)
        ends.line.start()

        def speak(texts: list[str]) -> None:
            for each in texts:
                ends.line.put(text(each))

        threads = [threading.Thread(target=speak, args=(texts,)) for texts in sent]
        for thread in threads:
            thread.start()
        received = ends.read_texts(40)
        for thread in threads:
            thread.join(PATIENCE)
        ends.line.stop()
    for who, texts in enumerate(sent):
        assert [each for each in received if each.startswith(f"{who}:")] == texts


def test_what_is_put_while_the_line_is_full_follows_what_was_begun(ends: Ends) -> None:
    big = "b" * 20_000_000
    putting = threading.Thread(target=lambda: [ends.line.put(text(t)) for t in (big, "small")])
    putting.start()
    wait_until(lambda: ends.line.progress, "the line to be full")
    assert ends.read_texts(2) == [big, "small"]
    putting.join(PATIENCE)


def test_an_answer_that_is_read_while_a_ping_is_still_being_sent_counts() -> None:
    """Whoever compares ``pinged`` with when it heard the client must find the answer the later."""
    sent: list[float] = []

    class Slow(Line):
        def send(self, data: bytes | memoryview) -> None:
            super().send(data)
            sent.append(time.monotonic())

    with tcp_pair() as (server, peer):
        line = Slow(server, "me", ping=PING, may=False, end=lambda reason: None)
        line.start()
        line.ping()
        assert peer.recv(100) == PING
        wait_until(lambda: line.pinged, "the ping is noted")
        assert line.pinged <= wait_until(lambda: sent, "the send returns")[0]
        line.stop()
        line.cut()


def test_a_ping_goes_out_at_once_or_as_soon_as_the_line_is_free(ends: Ends) -> None:
    ends.line.ping()
    assert ends.read() == [frames.Ping(b"")]
    wait_until(lambda: not ends.line.progress, "it is known to be out")
    big = "b" * 20_000_000
    putting = threading.Thread(target=lambda: ends.line.put(text(big)))
    putting.start()
    wait_until(lambda: ends.line.progress, "the line to be full")
    ends.line.ping()  # does not block
    assert ends.read_texts(1) == [big]
    putting.join(PATIENCE)
    if ends.line.is_direct:
        ends.line.ping()
    assert ends.read()[0] == frames.Ping(b"")


def test_the_close_frame_is_the_last_thing_said(ends: Ends) -> None:
    ends.line.put(text("before"))
    ends.line.say_goodbye(frames.encode_close(1001, "bye"))
    ends.line.say_goodbye(frames.encode_close(1011, "too late"))
    wait_until(lambda: ends.line.phase is Writing.OVER, "the close frame")
    ends.line.put(text("after"))
    ends.line.ping()
    assert ends.read(2) == [frames.Text("before"), frames.Close(1001, "bye")]
    ends.line.stop()
    ends.line.cut()
    assert ends.peer.recv(100) == b""


def test_the_close_frame_waits_for_the_frame_that_was_begun(ends: Ends) -> None:
    big = "b" * 20_000_000
    putting = threading.Thread(target=lambda: ends.line.put(text(big)))
    putting.start()
    wait_until(lambda: ends.line.progress, "the line to be full")
    ends.line.say_goodbye(frames.encode_close(1012, ""))  # does not block
    assert ends.line.phase is Writing.LAST
    assert ends.read(2) == [frames.Text(big), frames.Close(1012, "")]
    putting.join(PATIENCE)
    wait_until(lambda: ends.line.phase is Writing.OVER, "the close frame")


def test_a_subscription_is_delivered_from_its_cursor_over_the_seam_to_live(ends: Ends) -> None:
    hub = Hub(MemoryLog())
    for n in range(300):
        hub.publish("a", str(n))
    with hub.subscribe("a", history=200, bell=ends.line.bell) as sub:
        ends.line.follow(sub, NUMBERS)
        for n in range(300, 600):
            hub.publish("a", str(n))
        assert ends.read_texts(500) == [str(n) for n in range(100, 600)]
        assert ends.line.sent == (500, 3 * 500)


@pytest.mark.parametrize("size", [3_000, 1_000_000], ids=["small", "large"])
@in_greenlets
def test_clients_that_never_read_hold_next_to_nothing(size: int) -> None:
    """Each is in the midst of something else, so that there is nothing that they could share."""
    count, log = 40, MemoryLog(Retention(size=1 << 30, messages=10_000))
    hub = Hub(log)
    hub._dispatcher.encodings = Encodings(log, most=1_000_000)
    for n in range(count):
        for m in range(3_000_000 // size):
            hub.publish(f"c{n}", f"{n}:{m}:".ljust(size, "x"))
    with ExitStack() as stack:
        pairs = [stack.enter_context(tcp_pair()) for _ in range(count)]
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        lines = [make(server) for server, _ in pairs]
        for n, line in enumerate(lines):
            line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
            line.start()
            line.follow(hub.subscribe(f"c{n}", history=10_000, bell=line.bell), NUMBERS)
        wait_until(lambda: all(is_stuck(line) for line in lines), "nothing more is taken")
        held, _ = tracemalloc.get_traced_memory()
        assert held < 2_000_000 + count * 20_000
        decoder = frames.Decoder(1 << 30, require_mask=False)
        for n, (_, peer) in enumerate(pairs[:3]):
            texts: list[str] = []
            while len(texts) < 3_000_000 // size:
                texts += [value.data for value in decoder.feed(peer.recv(1 << 16))]
            assert texts == [f"{n}:{m}:".ljust(size, "x") for m in range(3_000_000 // size)]
        for line in lines:
            line.stop()
            line.cut()


def is_stuck(line: Line) -> bool:
    """Whether it has been waiting for its client for a moment."""
    return 0 < line.progress < time.monotonic() - 0.2


def let_go(hub: Hub) -> None:
    """What is at hand had to go, for others."""
    for owner, *_ in tuple(hub._dispatcher.encodings._kept):  # the deliverer may add to it
        if (encoded := owner()) is not None:
            encoded.spans.clear()


@contextmanager
def in_the_midst(log: MemoryLog, size: int) -> Iterator[tuple[Hub, Ends]]:
    """A client that has begun to read a message of so many letters."""
    hub, reasons = Hub(log, message_size=size), []

    def end(reason: StreamingError) -> None:
        reasons.append(reason)
        line.cut()  # its owner does so

    with tcp_pair() as (server, peer), cooperative(server) as sock:
        line = make(sock, end)
        ends = Ends(line, peer, reasons)
        line.start()
        hub.publish("a", "x" * size)
        sub = hub.subscribe("a", history=1, bell=line.bell)
        line.follow(sub, NUMBERS)
        try:
            wait_until(lambda: is_stuck(line), "it is in the midst of it")
            yield hub, ends
        finally:
            line.stop()
            line.cut()
            sub.close()


def test_a_client_whose_message_is_forgotten_while_it_reads_it_is_cut_and_not_lied_to() -> None:
    with in_the_midst(MemoryLog(Retention(messages=1)), 20_000_000) as (hub, ends):
        hub.publish("a", "y")
        let_go(hub)
        received = b""
        with suppress(ConnectionError):
            while piece := ends.peer.recv(1 << 20):
                received += piece
        assert len(received) < 20_000_000
        assert not received[10:].strip(b"x"), "something else was spliced in"
        assert isinstance(ends.reasons[0], ClientGone)


def test_a_client_goes_on_in_the_midst_of_a_message_once_the_log_is_back() -> None:
    log = BrokenLog()
    with in_the_midst(log, 8_000_000) as (hub, ends):
        log.broken, log.calls = {"read"}, []
        let_go(hub)

        def is_asked() -> bool:
            with suppress(BlockingIOError, TimeoutError):
                ends.received += ends.decoder.feed(ends.peer.recv(1 << 20))
            return bool(log.calls)

        ends.peer.settimeout(0.1)
        wait_until(is_asked, "the log is asked in vain")
        ends.peer.settimeout(PATIENCE)
        log.broken = set()
        assert ends.read_texts(1) == ["x" * 8_000_000]
        assert not ends.reasons


def test_what_a_client_published_itself_looks_so_to_it(ends: Ends) -> None:
    hub = Hub(MemoryLog())
    with hub.subscribe("a", bell=ends.line.bell) as sub:
        ends.line.follow(sub, NUMBERS)
        hub.publish("a", "1", sender="me")
        hub.publish("a", "2", sender="somebody else")
        hub.publish("a", "3")
        assert ends.read_texts(3) == ["own 1", "2", "3"]


def test_several_channels_share_one_line(ends: Ends) -> None:
    hub = Hub(MemoryLog())
    for channel in "abc":
        ends.line.follow(hub.subscribe(channel, bell=ends.line.bell), NUMBERS)
    assert len(ends.line.subscriptions()) == 3
    for n in range(60):
        hub.publish("abc"[n % 3], f"{'abc'[n % 3]}{n}")
    received = ends.read_texts(60)
    for channel in "abc":
        told = [each for each in received if each[0] == channel]
        assert told == [f"{channel}{n}" for n in range(60) if "abc"[n % 3] == channel]
    assert ends.line.sent == (60, 60 * 2 + 50)
    ends.line.stop()
    assert ends.line.sent == (60, 60 * 2 + 50)
    assert ends.line.subscriptions() == []
    assert [hub.subscribers(channel) for channel in "abc"] == [0, 0, 0]


def test_a_slow_reader_gets_every_message_whole_and_in_order(ends: Ends) -> None:
    hub = Hub(MemoryLog())
    with hub.subscribe("a", bell=ends.line.bell) as sub:
        ends.line.follow(sub, NUMBERS)
        sent = [f"{n}:" + "x" * 20_000 for n in range(300)]
        for each in sent:
            hub.publish("a", each)  # never blocks
        wait_until(lambda: ends.line.progress, "the line to be full")
        wait_until(lambda: ends.line.lags, "the dispatcher has told it of more")
        assert ends.read_texts(300) == sent
        wait_until(lambda: not ends.line.lags, "all is taken")
        assert ends.line.sent == (300, sum(map(len, sent)))


def test_a_reader_too_slow_for_the_log_is_told_of_the_gap(ends: Ends) -> None:
    hub = Hub(MemoryLog(Retention(messages=3)))
    with hub.subscribe("a", bell=ends.line.bell) as sub:
        ends.line.follow(sub, NUMBERS)
        stuck = hub.publish("a", "x" * 900_000)
        wait_until(lambda: sub.is_past(stuck.id) or ends.line.progress, "the first message")
        for n in range(100):
            hub.publish("a", f"{n}:" + "x" * 900_000)
        values = ends.read_texts(2)
        while not values[-1].startswith("99:"):
            values += ends.read_texts(1)
        gaps = [value for value in values if value.startswith("gap")]
        assert gaps
        assert [value.split(":")[0] for value in values[-3:]] == ["97", "98", "99"]
        assert len(values) < 100


def test_a_gap_that_the_protocol_has_no_words_for_ends_the_line(ends: Ends) -> None:
    hub = Hub(MemoryLog())
    with hub.subscribe("a", after="gone-7", bell=ends.line.bell) as sub:
        ends.line.follow(sub, CHAT)
        wait_until(lambda: ends.reasons, "the end")
        assert isinstance(ends.reasons[0], Lagged)


def test_an_ended_subscription_ends_the_line_with_its_reason(ends: Ends) -> None:
    hub = Hub(MemoryLog())
    with hub.subscribe("a", bell=ends.line.bell) as sub:
        hub.close()
        ends.line.follow(sub, JSON)
        wait_until(lambda: ends.reasons, "the end")
        assert ends.reasons[0].close_code == 1012


def test_a_format_that_fails_ends_the_line_and_is_logged(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Numbers):
        def encode(self, message: Message, /) -> bytes:
            raise ZeroDivisionError

    hub = Hub(MemoryLog())
    hub.publish("a", "1")
    with hub.subscribe("a", history=1, bell=ends.line.bell) as sub:
        ends.line.follow(sub, Broken())
        wait_until(lambda: ends.reasons, "the end")
        assert ends.reasons[0].close_code == 1011
    assert "ZeroDivisionError" in caplog.text


def test_nothing_is_delivered_of_a_channel_that_was_unfollowed(ends: Ends) -> None:
    hub = Hub(MemoryLog())
    for channel in "ab":
        ends.line.follow(hub.subscribe(channel, bell=ends.line.bell), NUMBERS)
    assert ends.line.unfollow("a")
    assert not ends.line.unfollow("a")
    assert ends.line.subscription("a") is None
    assert hub.subscribers("a") == 0
    hub.publish("a", "unheard")
    hub.publish("b", "heard")
    assert ends.read_texts(1) == ["heard"]


class Asked:
    """A lock that knows whether somebody waits for it."""

    def __init__(self) -> None:
        self.is_asked = False
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.is_asked = True
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def follow_while(line: Line, hub: Hub, channel: str, act: Callable[[], object]) -> None:
    """Follow a channel while another thread acts, until it is done or has to wait for us."""
    guard, acting = Asked(), threading.Thread(target=act)

    class Slow(tuple[Any, ...]):
        def __add__(self, more: tuple[Any, ...]) -> tuple[Any, ...]:  # type: ignore[override]
            acting.start()
            wait_until(lambda: guard.is_asked or not acting.is_alive(), "it is done, or waits")
            return tuple.__add__(self, more)

    line.guard, line._followed = guard, Slow(line._followed)
    line.follow(hub.subscribe(channel, bell=line.bell), NUMBERS)
    acting.join(PATIENCE)


def test_what_is_followed_while_another_thread_follows_and_unfollows_is_delivered() -> None:
    hub = Hub(MemoryLog())
    with tcp_pair() as (server, peer):
        ends = Ends(make(server, may=False), peer)
        line = ends.line
        line.start()
        line.follow(hub.subscribe("a", bell=line.bell), NUMBERS)

        def act() -> None:
            line.unfollow("a")
            line.follow(hub.subscribe("b", bell=line.bell), NUMBERS)

        follow_while(line, hub, "c", act)
        assert line.subscription("a") is None, "it could not be followed again"
        for channel in "abc":
            hub.publish(channel, channel)
        assert sorted(ends.read_texts(2)) == ["b", "c"]
        line.stop()


def test_what_is_followed_while_another_thread_stops_the_line_is_let_go_of() -> None:
    hub = Hub(MemoryLog())
    with tcp_pair() as (server, _):
        line = make(server, may=False)
        line.start()
        line.follow(hub.subscribe("a", bell=line.bell), NUMBERS)
        follow_while(line, hub, "b", line.stop)
        assert [hub.subscribers(channel) for channel in "ab"] == [0, 0]


def test_a_line_whose_client_left_says_so_once_it_writes(ends: Ends) -> None:
    hub = Hub(MemoryLog())
    with hub.subscribe("a", bell=ends.line.bell) as sub:
        ends.line.follow(sub, NUMBERS)
        ends.peer.close()

        def is_noticed() -> bool:
            hub.publish("a", "x")
            return bool(ends.reasons)

        wait_until(is_noticed, "the end")
        assert isinstance(ends.reasons[0], ClientGone)
        wait_until(lambda: ends.line.phase is Writing.OVER, "the end of the line")


def test_a_line_that_was_cut_writes_nothing_more_and_lets_everybody_go(ends: Ends) -> None:
    hub = Hub(MemoryLog())
    with hub.subscribe("a", bell=ends.line.bell) as sub:
        ends.line.follow(sub, NUMBERS)
        putting = threading.Thread(target=_put_or_fail, args=(ends.line, text("b" * 20_000_000)))
        putting.start()
        wait_until(lambda: ends.line.progress, "the line to be full")
        ends.line.cut()
        putting.join(PATIENCE)
        hub.publish("a", "x")
        _put_or_fail(ends.line, text("x"))
        ends.line.ping()
        ends.line.say_goodbye(frames.encode_close(1001, "bye"))
    assert ends.line.phase is Writing.OVER


def _put_or_fail(line: Line, frame: bytes) -> None:
    with suppress(ClientGone):
        line.put(frame)


def test_whoever_waits_for_the_end_of_a_line_is_woken_by_it(ends: Ends) -> None:
    ends.line.wait_over(time.monotonic())  # returns: its time is up
    assert ends.line.phase is not Writing.OVER
    waiting = threading.Thread(target=ends.line.wait_over, args=(time.monotonic() + 60,))
    waiting.start()
    ends.line.say_goodbye(frames.encode_close(1001, "bye"))
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    assert ends.read() == [frames.Close(1001, "bye")]
    ends.line.wait_over(time.monotonic() + 60)


def _start_at(line: Line, gate: threading.Barrier) -> None:
    gate.wait()
    line.start()


def test_a_goodbye_is_said_although_the_line_starts_in_the_same_moment() -> None:
    """A draining server ends connections in its own thread, those too that just come."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(400):
            server, peer = socket.socketpair()
            with server, peer:
                peer.settimeout(PATIENCE)
                line = Line(server, "me", ping=PING, may=False, end=lambda reason: None)
                gate = threading.Barrier(2)
                starting = threading.Thread(target=_start_at, args=(line, gate))
                starting.start()
                gate.wait()
                line.say_goodbye(b"last")
                assert peer.recv(100) == b"last"
                starting.join(PATIENCE)
                line.wait_over(time.monotonic() + PATIENCE)
                assert line.phase is Writing.OVER
    finally:
        sys.setswitchinterval(interval)


@in_greenlets
def test_no_frame_is_torn_when_the_line_opens_while_somebody_waits_for_his_turn() -> None:
    """The deliverer opens the line between two that wait; the second has a frame too big for it."""
    hub = Hub(MemoryLog())
    big, bigger, sent = "b" * 4_000_000, "c" * 8_000_000, 300
    with tcp_pair() as (server, peer):
        ends = Ends(make(server), peer)
        ends.line.start()
        ends.line.follow(hub.subscribe("a", bell=ends.line.bell), NUMBERS)
        wait_until(lambda: ends.line.phase is Writing.OPEN, "the line is open")
        putting = [
            threading.Thread(target=ends.line.put, args=(text(each),)) for each in (big, bigger)
        ]
        for thread in putting:
            thread.start()
            wait_until(lambda: ends.line.progress, "the line is full")
        for n in range(sent):
            peer.settimeout(PATIENCE)
            ends.received += ends.decoder.feed(peer.recv(1 << 16))
            hub.publish("a", str(n))
        received = ends.read_texts(sent + 2)
        assert [each for each in received if len(each) < 10] == [str(n) for n in range(sent)]
        assert [each for each in received if len(each) > 10] == [big, bigger]
        for thread in putting:
            thread.join(PATIENCE)
        ends.line.stop()


@in_greenlets
def test_nobody_writes_in_the_midst_of_a_large_message_on_its_way_to_all() -> None:
    class Pinged(MemoryLog):
        def read(self, channel: str, after: Position, *, limit: int, size: int) -> Page:
            ends.line.ping()  # others have a turn while a log is read
            return super().read(channel, after, limit=limit, size=size)

    class Crowded(Numbers):
        """Others need all the room whenever a part of it is made."""

        def escape(self, text: str, /) -> bytes:
            let_go(hub)
            return super().escape(text)

    hub, big = Hub(Pinged()), "b" * 1_000_000
    with tcp_pair() as (server, peer):
        ends = Ends(make(server), peer)
        ends.line.start()
        ends.line.follow(hub.subscribe("a", bell=ends.line.bell), Crowded())
        wait_until(lambda: ends.line.phase is Writing.OPEN, "the line is open")
        hub.publish("a", big)
        values = ends.read()
        while not isinstance(values[-1], frames.Text):
            values += ends.read()
        assert values[-1] == frames.Text(big)
        ends.line.stop()


def test_a_stopped_line_lets_its_deliverer_go(ends: Ends) -> None:
    hub = Hub(MemoryLog())
    ends.line.follow(hub.subscribe("a", bell=ends.line.bell), NUMBERS)
    ends.line.stop()
    ends.line.stop()
    assert hub.subscribers("a") == 0
    name = f"deliver {ends.line.client}"
    wait_until(
        lambda: name not in {thread.name for thread in threading.enumerate()}, "no deliverer"
    )


def test_a_line_knows_since_when_something_waits_and_that_nothing_does() -> None:
    with tcp_pair() as (server, peer), cooperative(server) as sock:
        line = make(sock)
        line.start()
        assert line.progress == 0.0
        sent = 0

        def is_waiting() -> bool:
            """The peer's kernel may take some more meanwhile."""
            nonlocal sent
            if line.phase is Writing.OPEN:
                sent += fill(sock)
                line.ping()
                sent += len(PING)
            return line.phase is Writing.BUSY and 0 < line.progress < time.monotonic() - 0.2

        wait_until(is_waiting, "something waits, and goes on waiting")
        assert read_exactly(peer, sent).endswith(b"." + PING)
        wait_until(lambda: not line.progress, "progress")
        line.stop()


def test_a_direct_line_has_no_thread_of_its_own_while_its_client_reads() -> None:
    with tcp_pair() as (server, peer), cooperative(server) as sock:
        line = make(sock)
        line.start()
        for n in range(10):
            line.put(text(str(n)))
        assert f"deliver {line.client}" not in {thread.name for thread in threading.enumerate()}
        assert read_exactly(peer, 30) == b"".join(text(str(n)) for n in range(10))
        line.stop()


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
