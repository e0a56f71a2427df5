"""streaming/hub/pump.py: from the log to everybody at its head; the live set in greenlets."""

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from streaming.clients.outlet import Outlet
from streaming.hub import pump as pump_module
from streaming.hub.hub import Hub
from streaming.hub.pump import LOOK, Pump
from streaming.hub.subscription import Subscription
from streaming.logs import Follower, MemoryLog, Page, Retention
from streaming.message import Gap, Message, Position
from tests.broken_log import BrokenLog
from tests.greenlets import in_greenlets
from tests.polling import PATIENCE, wait_until

# Under threads: the pump rings, and everybody reads the log


def pump_of(hub: Hub, channel: str = "a") -> Pump:
    return hub._pumps[channel]


def settle(hub: Hub, sub: Subscription) -> None:
    """Until the pump has offered everything and rung for it."""
    wait_until(lambda: pump_of(hub).written == hub.log.tail("a"), "the pump is at the head")
    wait_until(lambda: not sub.bell.wait(0.05), "no ring is on its way")


def test_the_pump_rings_everybody_for_what_was_appended() -> None:
    hub = Hub(MemoryLog())
    with hub.subscribe("a") as one, hub.subscribe("a") as two, hub.subscribe("b") as other:
        for sub in (one, two):
            settle(hub, sub)
        wait_until(lambda: not other.bell.wait(0.05), "the pump of b has begun")
        message = hub.publish("a", "text")
        for sub in (one, two):
            assert sub.bell.wait(PATIENCE)
            assert sub.read() == [message]
        assert not other.bell.wait(0)


def test_the_pumps_thread_ends_soon_after_it_is_stopped() -> None:
    pump = Pump("a", MemoryLog())
    pump.start()
    (thread,) = [t for t in threading.enumerate() if t.name == "pump a"]
    pump.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_pump_that_is_stopped_before_it_starts_ends_as_well() -> None:
    pump = Pump("a", MemoryLog())
    pump.stop()
    pump.start()


def test_a_stopped_pump_lets_its_channel_go() -> None:
    log = MemoryLog(Retention(channels=1))
    hub = Hub(log)
    with hub.subscribe("a"):
        log.append("b", "text")
        assert len(log) == 2
    names = (f"c{n}" for n in itertools.count())
    wait_until(lambda: log.append(next(names), "") and len(log) == 1, "it has left its channel")


def test_a_pump_waits_for_a_log_that_is_away_and_then_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = BrokenLog()
    hub = Hub(log)
    start = log.tail("a")
    message = hub.publish("a", "text")
    log.broken = {"read"}
    with hub.subscribe("a", after=str(start)) as sub:
        wait_until(lambda: "waits for its log" in caplog.text, "the pump has noticed")
        assert sub.read() == []
        log.broken = set()
        items: list[Message | Gap] = []
        while not items:
            assert sub.bell.wait(PATIENCE), "nobody said that the log is back"
            items = sub.read()
        assert items == [message]


@pytest.mark.parametrize("verb", ["follow", "tail"])
def test_a_pump_that_cannot_even_find_the_head_begins_later(
    caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    log = BrokenLog()
    head = log.append("a", "text").id
    log.broken = {verb}
    pump = Pump("a", log)
    pump.start()
    wait_until(lambda: "waits for its log" in caplog.text, "the pump has noticed")
    assert pump.position is None
    log.broken = set()
    wait_until(lambda: pump.position == head, "the pump stands at the head")
    pump.stop()


def test_whoever_could_not_read_is_rung_though_nothing_new_comes() -> None:
    log = BrokenLog()
    hub = Hub(log)
    with hub.subscribe("a") as sub:
        message = hub.publish("a", "text")
        settle(hub, sub)
        log.broken = {"read"}
        assert sub.read() == []
        log.broken = set()
        assert sub.bell.wait(PATIENCE), "it would sleep until the next message"
        assert sub.read() == [message]


class Renamed(MemoryLog):
    """A log that goes on in a new epoch without having lost anything, as after a restart."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[str] = []

    def rename(self) -> None:
        place = self._channels["a"]
        self.epochs.append(place.epoch)
        place.epoch = f"{len(self.epochs)}abc"
        place.held = [
            replace(m, id=Position(place.epoch, m.id.offset)) if m else m for m in place.held
        ]
        for bell in place.followers:
            bell.ring()

    def read(self, channel: str, after: Position, *, limit: int, size: int) -> Page:
        if after.epoch in self.epochs:
            after = Position(self._channels[channel].epoch, after.offset)
        return super().read(channel, after, limit=limit, size=size)


def test_a_pump_adopts_a_new_epoch_in_which_nothing_is_lost_and_so_do_its_subscribers() -> None:
    log = Renamed()
    hub = Hub(log)
    with hub.subscribe("a") as sub:
        hub.publish("a", "one")
        settle(hub, sub)
        assert [item.id.offset for item in sub.read() if isinstance(item, Message)] == [1]
        old = sub.id
        log.rename()
        assert sub.bell.wait(PATIENCE), "it must look again, or it never is at the head"
        assert sub.read() == []
        wait_until(lambda: sub.is_at_head, "both stand in the new epoch")
        assert (sub.id, pump_of(hub).position) == ("1abc-1", Position("1abc", 1))
        assert old != sub.id
        message = hub.publish("a", "two")
        settle(hub, sub)
        assert sub.read() == [message]
        log.rename()
        again = hub.publish("a", "three")
        settle(hub, sub)
        assert sub.read() == [again], "no gap, nothing twice"
        with hub.subscribe("a", after=old) as returned:
            assert [m.data for m in returned.read() if isinstance(m, Message)] == ["two", "three"]


# In greenlets: the pump writes to sockets itself


class Lines:
    """Each message a line; the publisher's own is marked."""

    personal = True

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, message: Message, /) -> bytes:
        self.encoded += 1
        return f"{message.data}\n".encode()

    def encode_own(self, message: Message, /) -> bytes:
        return f"own {message.data}\n".encode()

    def frame(self, blocks: bytes, /) -> bytes:
        return blocks


class Seat:
    """A subscriber at the head whose socket the pump writes to."""

    def __init__(self, hub: Hub, form: Lines, client: str = "client") -> None:
        self.hub, self.form = hub, form
        self.ours, self.theirs = socket.socketpair()
        self.theirs.settimeout(PATIENCE)
        self.outlet = Outlet(self.ours, client)
        assert self.outlet.is_direct
        self.sub = hub.subscribe("a")
        self.park()

    def park(self) -> None:
        """Send what the log holds, and wait for the rest."""

        def is_live() -> bool:
            for item in self.sub.read():
                assert isinstance(item, Message)
                self.outlet.send(item.encoded(self.form))
            return self.sub.park(self.form, self.outlet)

        self.outlet.finish()
        wait_until(is_live, "it is live")
        self.outlet.open()

    def return_from(self, cursor: str) -> None:
        """Unsubscribe and subscribe again on the same connection."""
        self.sub.close()
        self.outlet.finish()
        self.sub = self.hub.subscribe("a", after=cursor)
        self.park()

    def fill(self) -> int:
        """Stuff the socket until nothing more goes in; how many bytes that were."""
        size = 0
        while True:
            try:
                size += os.write(self.ours.fileno(), b"." * 1000)
            except BlockingIOError:
                return size

    def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.theirs.recv(size - len(data))
            assert piece, f"ended after {data!r}"
            data += piece
        return data

    def rest(self) -> bytes:
        """What came and was not received, up to now."""
        try:
            return os.read(self.theirs.fileno(), 1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.sub.close()
        self.ours.close()
        self.theirs.close()


def settle_pump(hub: Hub) -> None:
    wait_until(lambda: pump_of(hub).written == hub.log.tail("a"), "all is written")


@in_greenlets
def test_whoever_is_at_the_head_is_written_to_at_once_and_encoded_for_once() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    seats = [Seat(hub, form) for _ in range(LOOK * 2 + 10)]
    for text in ("one", "two", "three"):
        hub.publish("a", text)
        settle_pump(hub)
    for seat in seats:
        assert seat.rest() == b"one\ntwo\nthree\n"
        assert seat.sub.state == "live"
        assert seat.sub.id == str(hub.log.tail("a"))
    assert form.encoded == 3
    held = hub.log.read("a", Position(hub.log.tail("a").epoch, 0), limit=10, size=100).messages
    assert [message._encoded for message in held] == [{}] * 3, "bytes nobody needs any more"
    assert hub.subscribers("a") == len(seats)
    for seat in seats:
        seat.close()
    assert hub.subscribers("a") == 0


@in_greenlets
def test_what_waits_is_written_as_one_piece() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    seat = Seat(hub, form)
    for n in range(100):
        hub.publish("a", str(n))
    settle_pump(hub)
    assert seat.rest() == b"".join(b"%d\n" % n for n in range(100))
    seat.close()


@in_greenlets
def test_the_publisher_sees_its_own_messages_in_its_own_way_and_in_the_same_order() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    ann, bob, eve = (Seat(hub, form, name) for name in ("ann", "bob", "eve"))
    for sender in ("ann", "bob", None, "gone", "ann"):
        hub.publish("a", str(sender), sender=sender)
    settle_pump(hub)
    assert ann.rest() == b"own ann\nbob\nNone\ngone\nown ann\n"
    assert bob.rest() == b"ann\nown bob\nNone\ngone\nann\n"
    assert eve.rest() == b"ann\nbob\nNone\ngone\nann\n"
    for seat in (ann, bob, eve):
        seat.close()


@in_greenlets
def test_formats_do_not_mix() -> None:
    class Loud(Lines):
        def encode(self, message: Message, /) -> bytes:
            return super().encode(message).upper()

    hub = Hub(MemoryLog())
    quiet, loud = Seat(hub, Lines()), Seat(hub, Loud())
    hub.publish("a", "text")
    settle_pump(hub)
    assert (quiet.rest(), loud.rest()) == (b"text\n", b"TEXT\n")
    quiet.close()
    loud.close()


@in_greenlets
def test_a_client_that_never_reads_stops_neither_the_pump_nor_anybody_else() -> None:
    hub, form = Hub(MemoryLog(Retention(messages=100))), Lines()
    seats = [Seat(hub, form) for _ in range(20)]
    slow = seats[7]
    stuffed = slow.fill()
    wait_until(lambda: not slow.sub.bell.wait(0), "no older ring is left")
    hub.publish("a", "0")
    settle_pump(hub)
    assert slow.sub.bell.wait(0), "its own greenlet has to know, though no more may come"
    for n in range(1, 1000):
        hub.publish("a", str(n))
        if n % 50 == 49:
            settle_pump(hub)
    for seat in seats:
        if seat is not slow:
            assert seat.rest() == b"".join(b"%d\n" % n for n in range(1000))
            assert seat.sub.state == "live"
    assert slow.sub.state == "lagging"
    assert slow.receive(stuffed) == b"." * stuffed
    assert slow.rest() == b"", "the kernel took nothing of it"
    lost, *held = slow.sub.read()
    assert isinstance(lost, Gap)
    assert lost.requested.offset == 0
    assert [m.data for m in held if isinstance(m, Message)] == [str(n) for n in range(900, 1000)]
    for seat in seats:
        seat.close()


@in_greenlets
def test_a_frame_that_went_half_way_is_finished_and_not_repeated() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    seat = Seat(hub, form)
    large = "0123456789" * 100_000
    hub.publish("a", large)
    settle_pump(hub)
    hub.publish("a", "next")
    settle_pump(hub)
    assert seat.sub.state == "lagging"
    assert 0 < len(seat.outlet.rest) < len(large), "the test needs a part of it in the kernel"
    threading.Thread(target=seat.park).start()
    assert seat.receive(len(large) + 6) == f"{large}\nnext\n".encode()
    wait_until(lambda: seat.sub.state == "live" and seat.outlet.fd >= 0, "it has caught up")
    hub.publish("a", "live again")
    assert seat.receive(11) == b"live again\n"
    assert seat.rest() == b""
    seat.close()


@in_greenlets
def test_nothing_is_written_to_a_client_that_closed_its_subscription() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    stays, leaves = Seat(hub, form), Seat(hub, form)
    leaves.sub.close()
    assert leaves.sub.state == "closed"
    hub.publish("a", "text")
    settle_pump(hub)
    assert (stays.rest(), leaves.rest()) == (b"text\n", b"")
    stays.close()
    leaves.close()


@in_greenlets
def test_a_pump_that_comes_too_late_itself_lets_everybody_be_told() -> None:
    hub, form = Hub(MemoryLog(Retention(messages=10))), Lines()
    seat = Seat(hub, form)
    head = hub.log.tail("a")
    for n in range(50):
        hub.publish("a", str(n))
    settle_pump(hub)
    assert seat.sub.state == "lagging"
    assert seat.rest() == b""
    lost, *held = seat.sub.read()
    assert isinstance(lost, Gap)
    assert lost.requested == head
    assert [m.data for m in held if isinstance(m, Message)] == [str(n) for n in range(40, 50)]
    seat.close()


@in_greenlets
def test_whoever_is_live_stays_so_when_the_log_goes_on_in_a_new_epoch() -> None:
    log, form = Renamed(), Lines()
    hub = Hub(log)
    seat = Seat(hub, form)
    hub.publish("a", "one")
    settle_pump(hub)
    log.rename()
    wait_until(lambda: seat.sub.id == "1abc-1", "it is told the new place")
    log.rename()
    hub.publish("a", "two")
    settle_pump(hub)
    assert seat.rest() == b"one\ntwo\n"
    assert (seat.sub.state, seat.sub.id) == ("live", "2abc-2")
    seat.close()


@in_greenlets
def test_several_channels_are_never_live() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    seat = Seat(hub, form)
    with hub.subscribe(["a", "b"]) as sub:
        assert not sub.park(form, seat.outlet)
    seat.close()


def in_the_middle_of_a_batch(hub: Hub, act: Callable[[], None]) -> None:
    """Publish to the seats of ``hub`` and ``act`` while the pump writes."""
    pump_module.TURN = 0.0  # a turn for the others at every look
    pump, before = pump_of(hub), pump_of(hub).position
    wrote = []

    def watch() -> None:
        while pump.position == before:
            time.sleep(0)
        act()
        wrote.append(pump.written)

    watcher = threading.Thread(target=watch)
    watcher.start()
    hub.publish("a", "text")
    watcher.join(PATIENCE)
    assert wrote == [before], "it was not in the middle of the batch"
    settle_pump(hub)


@in_greenlets
def test_whoever_leaves_in_the_middle_of_a_batch_gets_nothing_of_it() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    seats = [Seat(hub, form) for _ in range(LOOK * 2)]
    last = seats[-1]
    in_the_middle_of_a_batch(hub, last.sub.close)
    assert [seat.rest() for seat in seats] == [b"text\n"] * (LOOK * 2 - 1) + [b""]
    for seat in seats:
        seat.close()
    assert hub.subscribers("a") == 0


@in_greenlets
def test_whoever_returns_in_the_middle_of_a_batch_gets_it_once() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    seats = [Seat(hub, form) for _ in range(LOOK * 2)]
    last, cursor = seats[-1], seats[-1].sub.id
    in_the_middle_of_a_batch(hub, lambda: last.return_from(cursor))
    assert last.rest() == b"text\n"
    hub.publish("a", "more")
    settle_pump(hub)
    assert last.rest() == b"more\n"
    for seat in seats:
        seat.close()
    assert hub.subscribers("a") == 0


@in_greenlets
def test_whoever_returns_in_the_middle_of_a_batch_with_a_full_socket_misses_nothing() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    seats = [Seat(hub, form) for _ in range(LOOK * 2)]
    last, cursor = seats[-1], seats[-1].sub.id

    def return_and_fill() -> None:
        last.return_from(cursor)
        stuffed.append(last.fill())

    stuffed: list[int] = []
    in_the_middle_of_a_batch(hub, return_and_fill)
    assert last.receive(5 + stuffed[0]) == b"text\n" + b"." * stuffed[0]
    if last.sub.state == "lagging":
        last.park()
    hub.publish("a", "more")
    settle_pump(hub)
    assert last.rest() == b"more\n"
    for seat in seats:
        seat.close()
    assert hub.subscribers("a") == 0


def test_a_pump_that_is_stopped_while_it_begins_to_follow_ends_as_well() -> None:
    begun, let_go = threading.Event(), threading.Event()

    class Slow(MemoryLog):
        def follow(self, channel: str) -> Follower:
            begun.set()
            let_go.wait(PATIENCE)
            return super().follow(channel)

    pump = Pump("a", Slow())
    pump.start()
    assert begun.wait(PATIENCE)
    pump.stop()
    let_go.set()
    wait_until(lambda: "pump a" not in {t.name for t in threading.enumerate()}, "it has ended")
