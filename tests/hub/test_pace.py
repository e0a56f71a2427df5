"""streaming/hub/pace.py: how long a publisher waits, and for whom."""

import threading
from collections.abc import Callable, Iterator

import pytest

from streaming.hub import dispatcher, pace
from streaming.hub.hub import Hub
from streaming.hub.pace import MOST, PATIENCE, SHARE
from streaming.hub.subscription import Subscription
from streaming.logs import MemoryLog, Retention
from streaming.message import Gap, Message, Position
from tests import polling
from tests.broken_log import BrokenLog
from tests.greenlets import in_greenlets
from tests.hub.engine import Crew, check_nothing_is_left, settle
from tests.hub.seats import Client, Lines
from tests.polling import wait_until

KEPT = 100
LIMIT = KEPT // SHARE
"""So far ahead a publisher may be."""


class Clock:
    """Time that passes only for whoever sleeps, and lets others do something then."""

    def __init__(self) -> None:
        self.now = self.slept = 0.0
        self.meanwhile: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.meanwhile()
        self.now += seconds
        self.slept += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of publishers."""
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    monkeypatch.setattr(pace, "give_turn", lambda: clock.sleep(0.001))
    return clock


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub(MemoryLog(Retention(messages=KEPT)))
    yield hub
    check_nothing_is_left(hub)


def publish(hub: Hub, count: int, channel: str = "a") -> None:
    for n in range(count):
        hub.publish(channel, str(n))


# Bursts that reach everybody who keeps up


def follow_whole(sub: Subscription, total: int) -> None:
    """Read so many messages; nothing is missing."""
    last = 0
    while last < total:
        for item in sub.take(polling.PATIENCE):
            assert isinstance(item, Message), f"a gap behind {last}: {item}"
            assert item.id.offset == last + 1
            last += 1


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other things is no slow client."""
    monkeypatch.setattr(pace, "PATIENCE", polling.PATIENCE)
    monkeypatch.setattr(pace, "MOST", polling.PATIENCE)


@pytest.mark.usefixtures("patient")
def test_a_burst_of_50000_reaches_a_thread_beside_it_without_a_gap() -> None:
    hub, crew = Hub(MemoryLog()), Crew()
    with hub.subscribe("a") as sub:
        crew.start(lambda: follow_whole(sub, 50_000))
        publish(hub, 50_000)
        crew.join()
    check_nothing_is_left(hub)


@pytest.mark.usefixtures("patient")
def test_bursts_of_several_publishers_reach_several_threads_without_a_gap() -> None:
    hub, crew = Hub(MemoryLog()), Crew()
    with hub.subscribe("a") as one, hub.subscribe("a") as two:
        crew.start(lambda: follow_whole(one, 10_000))
        crew.start(lambda: follow_whole(two, 10_000))
        for _ in range(4):
            crew.start(lambda: publish(hub, 2500))
        crew.join()
    check_nothing_is_left(hub)


@pytest.mark.usefixtures("patient")
def test_a_burst_of_large_messages_is_held_by_the_bytes_that_are_kept() -> None:
    hub, crew = Hub(MemoryLog(Retention(size=1_000_000))), Crew()
    with hub.subscribe("a") as sub:
        crew.start(lambda: follow_whole(sub, 2000))
        for _ in range(2000):
            hub.publish("a", "x" * 20_000)
        crew.join()
    check_nothing_is_left(hub)


@in_greenlets
def test_a_burst_of_5000_reaches_a_greenlet_beside_it_without_a_gap() -> None:
    pace.PATIENCE = pace.MOST = polling.PATIENCE  # as ``patient``
    hub, crew = Hub(MemoryLog()), Crew()
    with hub.subscribe("a") as sub:
        crew.start(lambda: follow_whole(sub, 5000))
        publish(hub, 5000)
        crew.join()
    check_nothing_is_left(hub)


@in_greenlets
def test_a_burst_of_5000_reaches_a_socket_that_is_read_without_a_gap() -> None:
    pace.PATIENCE = pace.MOST = polling.PATIENCE  # as ``patient``
    hub, crew = Hub(MemoryLog()), Crew()
    client = Client(hub, Lines())
    expected = b"".join(b"%d\n" % n for n in range(5000))
    received: list[bytes] = []

    def catch_up() -> None:
        """As the deliverer of a connection does."""
        while not received:
            if client.sub.bell.wait(0.01) and not client.is_live:
                client.park()

    crew.start(catch_up)
    crew.start(lambda: received.append(client.receive(len(expected))))
    publish(hub, 5000)
    crew.join()
    assert received == [expected]
    assert client.arrived() == b""
    client.close()
    check_nothing_is_left(hub)


# Those who do not keep up


def test_whoever_never_reads_delays_a_publisher_once_and_boundedly(hub: Hub, clock: Clock) -> None:
    with hub.subscribe("a"):
        publish(hub, LIMIT - 1)
        assert clock.slept == 0, "it is not far behind"
        publish(hub, 1)
        assert PATIENCE <= clock.slept < PATIENCE + 0.01
        slept = clock.slept
        publish(hub, 10 * KEPT)
        assert clock.slept == slept


@pytest.mark.parametrize(("channel", "limit"), [("job:1", 4 * LIMIT), ("a", LIMIT)])
def test_a_publisher_may_be_ahead_by_a_share_of_what_its_channel_keeps(
    clock: Clock, channel: str, limit: int
) -> None:
    named = {"job:*": Retention(messages=4 * KEPT)}
    hub = Hub(MemoryLog(Retention(messages=KEPT, named=named)))
    with hub.subscribe(channel):
        publish(hub, limit - 1, channel)
        assert clock.slept == 0
        publish(hub, 1, channel)
        assert clock.slept > 0
    check_nothing_is_left(hub)


def test_whoever_was_at_the_head_again_is_waited_for_again(hub: Hub, clock: Clock) -> None:
    with hub.subscribe("a") as sub:
        publish(hub, 10 * KEPT)
        slept = clock.slept
        assert sub.is_slow
        assert len(sub.read()) == KEPT + 1  # the gap too
        publish(hub, KEPT)
        assert clock.slept == slept, "nobody knows whether it was at the head"
        while sub.read():
            pass
        assert not sub.is_slow
        publish(hub, 10 * KEPT)
        assert clock.slept >= slept + PATIENCE


@pytest.mark.parametrize("held", [[PATIENCE * 2, PATIENCE * 2], [MOST * 2]])
def test_whoever_was_held_up_with_the_whole_process_is_given_another_turn(
    hub: Hub, clock: Clock, held: list[float]
) -> None:
    with hub.subscribe("a") as sub:
        publish(hub, LIMIT - 1)
        holds = list(held)

        def come_to() -> None:
            if holds:
                clock.now += holds.pop()
            else:
                sub.read()

        clock.meanwhile = come_to
        hub.publish("a", "text")
        assert not sub.is_slow
        assert clock.slept < 0.01


@in_greenlets
def test_whoever_parks_at_the_head_is_waited_for_again() -> None:
    hub, clock = Hub(MemoryLog(Retention(messages=KEPT))), Clock()
    client = Client(hub, Lines())
    client.fill()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pace, "time", clock)
        publish(hub, 2 * LIMIT)
        assert clock.slept >= PATIENCE
    settle(hub)
    assert client.sub.is_slow
    assert len(client.sub.read_on()) == 2 * LIMIT
    assert client.sub.park(client.form, client.sink), "it knows without another read"
    assert not client.sub.is_slow
    client.close()
    check_nothing_is_left(hub)


def test_many_who_never_read_delay_a_publisher_no_longer_than_one(hub: Hub, clock: Clock) -> None:
    subs = [hub.subscribe("a") for _ in range(100)]
    publish(hub, 10 * KEPT)
    assert clock.slept < PATIENCE + 0.01
    for sub in subs:
        sub.close()


def test_a_crowd_of_which_one_after_the_other_gets_on_is_not_waited_for_for_ever(
    hub: Hub, clock: Clock
) -> None:
    subs = [hub.subscribe("a") for _ in range(2 * int(MOST / 0.001))]
    publish(hub, LIMIT - 1)
    left = iter(subs)
    clock.meanwhile = lambda: next(left).read()
    hub.publish("a", "text")
    assert MOST <= clock.slept <= MOST + PATIENCE
    slept = clock.slept
    publish(hub, LIMIT - 1)
    assert clock.slept == slept, "it is given up for a while"
    for sub in subs:
        sub.close()


def test_whoever_gets_on_but_slowly_costs_publishers_a_second_in_all(
    hub: Hub, clock: Clock
) -> None:
    """Its client takes two or three messages every 40 ms, and they come faster."""
    text, due = "x" * 30_000, [0.04]

    def take_a_page() -> None:
        if clock.now >= due[0]:
            due[0] = clock.now + 0.04
            sub.read()

    with hub.subscribe("a") as sub:
        clock.meanwhile = take_a_page
        for _ in range(5 * KEPT):
            hub.publish("a", text)
        assert MOST <= clock.slept <= MOST + PATIENCE
        assert sub.is_slow
        while sub.read():
            pass
        assert (sub.is_slow, sub.waited) == (False, 0.0), "it was at the head"


def test_where_nobody_follows_a_publisher_is_never_delayed(
    hub: Hub, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub.subscribe("b"):
        publish(hub, LIMIT - 1, "b")
        monkeypatch.setattr(hub._dispatcher, "subscriptions", None)  # not even looked at
        publish(hub, 10_000)
        assert clock.slept == 0


def test_whoever_keeps_up_delays_nobody(hub: Hub, clock: Clock) -> None:
    with hub.subscribe("a") as sub:
        for _ in range(10 * KEPT):
            hub.publish("a", "text")
            assert len(sub.read()) == 1
        assert clock.slept == 0


def test_a_publisher_looks_at_the_subscribers_once_in_a_while_only(hub: Hub, clock: Clock) -> None:
    looks = 0
    pace = hub._engine().pace
    behind = pace._behind

    def counted(*arguments: object) -> object:
        nonlocal looks
        looks += 1
        return behind(*arguments)  # type: ignore[arg-type]

    pace._behind = counted  # type: ignore[assignment,method-assign]
    with hub.subscribe("a") as sub:
        for _ in range(10 * KEPT):
            hub.publish("a", "text")
            sub.read()
    assert looks <= 10 * KEPT // LIMIT + 1


# Those who are not there, and those who cannot help it


def test_whoever_has_left_is_not_waited_for(hub: Hub, clock: Clock) -> None:
    sub = hub.subscribe("a")
    publish(hub, LIMIT - 1)
    clock.meanwhile = sub.close
    publish(hub, 1)
    assert clock.slept <= 0.003


def test_whoever_still_asks_the_log_where_to_begin_is_not_waited_for(clock: Clock) -> None:
    asks, let_go = threading.Event(), threading.Event()

    class SlowLog(MemoryLog):
        def tail(self, channel: str, history: int = 0) -> Position:
            if threading.current_thread().name == "slow":
                asks.set()
                assert let_go.wait(polling.PATIENCE)
            return super().tail(channel, history)

    hub = Hub(SlowLog(Retention(messages=KEPT)))
    slow = threading.Thread(target=lambda: hub.subscribe("a").close(), name="slow")
    slow.start()
    assert asks.wait(polling.PATIENCE)
    publish(hub, 10 * KEPT)
    assert clock.slept == 0
    let_go.set()
    slow.join()
    check_nothing_is_left(hub)


@in_greenlets
def test_a_log_that_cannot_be_read_delays_no_publisher() -> None:
    """Whoever is live cannot help it that the dispatcher does not get on."""
    log, clock = BrokenLog(Retention(messages=KEPT)), Clock()
    hub = Hub(log)
    dispatcher._log.disabled = True
    client = Client(hub, Lines())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pace, "time", clock)
        log.broken = {"read"}
        publish(hub, 4 * KEPT)
        assert client.is_live
        assert clock.slept < PATIENCE
    log.broken = set()
    wait_until(lambda: not client.is_live, "it is told of the gap")
    lost, *held = client.sub.read()
    assert isinstance(lost, Gap)
    assert len(held) == KEPT
    client.close()
    check_nothing_is_left(hub)
