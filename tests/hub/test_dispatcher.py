"""streaming/hub/dispatcher.py: all channels of a process, told of by the log. Under threads."""

import itertools
import threading
from collections.abc import Iterator

import pytest

from streaming.errors import LogUnavailable, StreamingError, TooManyClients
from streaming.hub.hub import Hub
from streaming.hub.subscription import Subscription
from streaming.logs import Heard, MemoryLog, Page, Retention
from streaming.logs.followers import Followers
from streaming.message import Gap, Message, Position
from tests.broken_log import BrokenLog
from tests.hub.engine import (
    THREAD,
    Crew,
    channel_of,
    check_nothing_is_left,
    dispatchers,
    head_of,
    settle,
)
from tests.hub.renamed_log import RenamedLog
from tests.hub.seats import Lines, NullSink
from tests.polling import PATIENCE, wait_until


@pytest.fixture
def log() -> BrokenLog:
    return BrokenLog()


@pytest.fixture
def hub(log: BrokenLog) -> Iterator[Hub]:
    hub = Hub(log)
    yield hub
    check_nothing_is_left(hub)


def read_on(sub: Subscription) -> list[Message | Gap]:
    """Everything a subscriber finds before it would wait for its bell."""
    found: list[Message | Gap] = []
    while items := sub.read_on():
        found += items
    return found


def quiet(sub: Subscription) -> None:
    """Read what there is, until no ring is left."""
    while read_on(sub) or sub.bell.wait(0):
        pass


# Ringing


def test_the_dispatcher_rings_everybody_for_what_was_appended(hub: Hub) -> None:
    with hub.subscribe("a") as one, hub.subscribe("a") as two, hub.subscribe("b") as other:
        settle(hub, "a", "b")
        for sub in (one, two, other):
            quiet(sub)
        message = hub.publish("a", "text")
        for sub in (one, two):
            assert sub.bell.wait(PATIENCE)
            assert read_on(sub) == [message]
        settle(hub)
        assert not other.bell.wait(0)


def test_one_message_to_100_subscriptions_of_32_channels_costs_a_read_for_each(
    hub: Hub, log: BrokenLog
) -> None:
    names = [f"c{n}" for n in range(32)]
    subs = [hub.subscribe(names) for _ in range(100)]
    settle(hub, *names)
    for sub in subs:
        quiet(sub)
    log.calls.clear()
    message = hub.publish("c7", "text")
    for sub in subs:
        assert sub.bell.wait(PATIENCE)
        assert read_on(sub) == [message]
    assert log.calls == ["read:c7"] * 100
    for sub in subs:
        sub.close()


def test_what_is_appended_by_others_is_read_once_for_all(hub: Hub, log: BrokenLog) -> None:
    """Where the log does not hand over what was appended, the dispatcher reads it."""
    log._followers = Reticent()
    with hub.subscribe("a") as sub:
        settle(hub)
        quiet(sub)
        log.calls.clear()
        message = log.append("a", "text")
        assert sub.bell.wait(PATIENCE)
        assert read_on(sub) == [message]
        settle(hub)
        assert log.calls.count("read:a") <= 3  # the dispatcher's, the subscriber's, one that ends


class Reticent(Followers):
    """Tells that something was appended, but not what."""

    def tell(self, channel: str, message: Message | None = None) -> None:
        super().tell(channel, None)


def test_what_is_appended_before_the_dispatcher_knows_its_head_is_offered_too() -> None:
    class Busy(MemoryLog):
        def tail(self, channel: str, history: int = 0) -> Position:
            head = super().tail(channel, history)
            if threading.current_thread() is threading.main_thread() and not said:
                said.append(self.append(channel, "in between"))
            return head

    said: list[Message] = []
    hub = Hub(Busy())
    with hub.subscribe("a") as sub:
        wait_until(lambda: head_of(hub) == said[0].id, "the dispatcher has seen it")
        assert read_on(sub) == said
        assert sub.is_at_head
    check_nothing_is_left(hub)


# Coming and going


def test_the_dispatchers_thread_ends_soon_after_the_last_one_has_left(hub: Hub) -> None:
    for _ in range(3):
        with hub.subscribe(["a", "b"]):
            (thread,) = dispatchers(hub)
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_whoever_leaves_at_once_leaves_nothing_behind(hub: Hub) -> None:
    for n in range(200):
        hub.subscribe(f"c{n}").close()
        check_nothing_is_left(hub)


def test_a_channel_that_nobody_follows_any_more_may_be_forgotten() -> None:
    log = MemoryLog(Retention(channels=1))
    hub = Hub(log)
    with hub.subscribe("a"):
        log.append("a", "text")
        log.append("b", "text")
        assert len(log) == 2
    names = (f"c{n}" for n in itertools.count())
    wait_until(lambda: log.append(next(names), "") and len(log) == 1, "it has left its channel")
    check_nothing_is_left(hub)


@pytest.mark.usefixtures("hurry")
def test_coming_and_going_of_many_threads_never_leaves_a_deaf_channel(hub: Hub) -> None:
    """Joining, following and leaving of several threads meet in every order."""
    crew, done, visits = Crew(), threading.Event(), []

    def come_and_go(name: str) -> None:
        while not done.is_set():
            with hub.subscribe("a") as sub:
                quiet(sub)  # up to here it may have been read; from here on it is told of
                message = hub.publish("a", name)
                while message not in read_on(sub):
                    assert sub.bell.wait(PATIENCE), "nobody told it"
            visits.append(name)

    for n in range(6):
        crew.start(lambda n=n: come_and_go(str(n)))
    wait_until(lambda: len(visits) > 2000 or crew.has_faults, "2000 visits", 60)
    done.set()
    crew.join()


def test_who_leaves_while_another_still_asks_the_log_takes_nothing_from_it() -> None:
    """Both ask the log to tell of the channel, because neither knows that the other does."""
    begun, let_go = threading.Semaphore(0), threading.Event()

    class SlowLog(MemoryLog):
        def follow(self, channel: str, heard: Heard) -> None:
            begun.release()
            if threading.current_thread().name == "slow":
                assert let_go.wait(PATIENCE)
            super().follow(channel, heard)

    hub, subs = Hub(SlowLog()), []
    slow = threading.Thread(target=lambda: subs.append(hub.subscribe("a")), name="slow")
    slow.start()
    assert begun.acquire(timeout=PATIENCE)
    with hub.subscribe("a") as sub:
        message = hub.publish("a", "one")
        while not (items := read_on(sub)):
            assert sub.bell.wait(PATIENCE)
        assert items == [message]
    let_go.set()
    slow.join(PATIENCE)
    (sub,) = subs
    quiet(sub)
    message = hub.publish("a", "two")
    assert sub.bell.wait(PATIENCE)
    assert read_on(sub) == [message]
    sub.close()
    check_nothing_is_left(hub)


def test_nothing_more_is_read_for_those_who_have_left() -> None:
    begun, let_go, reads = threading.Event(), threading.Event(), []

    class SlowLog(MemoryLog):
        def read(self, channel: str, after: Position, *, limit: int, size: int) -> Page:
            if channel == "a":
                reads.append(after)
                begun.set()
                assert let_go.wait(PATIENCE)
            return super().read(channel, after, limit=limit, size=size)

    log = SlowLog(Retention(messages=10_000))
    hub = Hub(log)
    with hub.subscribe("b") as other:
        with hub.subscribe("a"):
            for n in range(5000):
                log.append("a", str(n))
            assert begun.wait(PATIENCE)
        let_go.set()
        message = hub.publish("b", "text")
        while not (items := read_on(other)):
            assert other.bell.wait(PATIENCE)
        assert items == [message]
        settle(hub, "b")
        assert len(reads) == 1
    check_nothing_is_left(hub)


# Threads


@pytest.mark.parametrize("reads", [1, 4])
def test_the_threads_are_as_many_as_the_log_gains_from_for_any_number_of_channels(
    reads: int,
) -> None:
    log = BrokenLog()
    log.reads = reads  # type: ignore[misc]
    log._followers = Reticent()
    hub, most = Hub(log), 0
    subs = [hub.subscribe(f"c{n}") for n in range(500)]
    for _ in range(3):
        for n in range(500):
            hub.publish(f"c{n}", "text")
            most = max(most, len(dispatchers(hub)))
    settle(hub, *(f"c{n}" for n in range(500)))
    assert 1 <= most <= reads
    assert all(len(sub.read_on()) == 3 for sub in subs)
    for sub in subs:
        sub.close()
    check_nothing_is_left(hub)


def test_as_many_reads_are_under_way_as_the_log_gains_from_and_no_more() -> None:
    """Where a read waits for a network, the channels wait at the same time."""
    together = threading.Barrier(3)

    class Far(MemoryLog):
        reads = 3

        def read(self, channel: str, after: Position, *, limit: int, size: int) -> Page:
            if threading.current_thread() in dispatchers(hub):
                together.wait(PATIENCE)
            return super().read(channel, after, limit=limit, size=size)

    log = Far()
    log._followers = Reticent()
    hub = Hub(log)
    subs = [hub.subscribe(name) for name in "abcdef"]
    settle(hub, *"abcdef")
    for name in "abcdef":
        log.append(name, "text")
    for sub in subs:
        while not read_on(sub):
            assert sub.bell.wait(PATIENCE)
    settle(hub, *"abcdef")
    assert len(dispatchers(hub)) == 3
    for sub in subs:
        sub.close()
    check_nothing_is_left(hub)


def refuse(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_where_no_thread_can_start_subscribing_is_refused_and_works_again_afterwards(
    hub: Hub, log: BrokenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with pytest.raises(TooManyClients):
                hub.subscribe(["a", "b"])
        assert hub.subscribers("a") == 0
        check_nothing_is_left(hub)
    with hub.subscribe("a") as sub:
        message = hub.publish("a", "text")
        assert sub.take(PATIENCE) == [message]


def test_where_only_the_first_thread_can_start_it_serves_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = BrokenLog()
    log.reads = 4  # type: ignore[misc]
    log._followers = Reticent()
    hub = Hub(log)
    with hub.subscribe("a") as one, hub.subscribe("b") as two, hub.subscribe("c") as three:
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", refuse)
            for _ in range(50):
                for name in "abc":
                    hub.publish(name, "text")
            settle(hub, *"abc")
        assert len(dispatchers(hub)) == 1
        assert [len(read_on(sub)) for sub in (one, two, three)] == [50] * 3
        hub.publish("a", "text")
        assert len(read_on(one)) <= 1
    check_nothing_is_left(hub)


def test_who_joins_while_the_first_thread_fails_to_start_is_not_left_without_one(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, crew, is_tried, fails = threading.Thread.start, Crew(), threading.Event(), []
    let_go = threading.Event()

    def start_the_second(thread: threading.Thread) -> None:
        if thread.name == THREAD and not is_tried.is_set():
            is_tried.set()
            assert let_go.wait(PATIENCE)
            raise RuntimeError("can't start new thread")
        start(thread)

    def fail() -> None:
        with pytest.raises(TooManyClients):
            hub.subscribe("a")
        fails.append(True)

    def follow() -> None:
        with hub.subscribe("a") as sub:
            quiet(sub)
            message = hub.publish("a", "text")
            while not (items := read_on(sub)):
                assert sub.bell.wait(PATIENCE), "nobody serves it"
            assert items == [message]

    monkeypatch.setattr(threading.Thread, "start", start_the_second)
    crew.start(fail)
    assert is_tried.wait(PATIENCE)
    crew.start(follow)
    wait_until(lambda: hub.subscribers("a") == 2, "both have joined")
    let_go.set()
    crew.join()
    assert fails == [True]


def test_a_publisher_starts_no_thread_and_waits_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is called in the midst of an append must not let others run."""
    starters, start = [], threading.Thread.start

    def noting(thread: threading.Thread) -> None:
        starters.append(threading.current_thread())
        start(thread)

    log = BrokenLog()
    log.reads = 4  # type: ignore[misc]
    log._followers = Reticent()
    hub = Hub(log)
    with hub.subscribe(["a", "b", "c"]):
        monkeypatch.setattr(threading.Thread, "start", noting)
        for _ in range(100):
            for name in "abc":
                hub.publish(name, "text")
        settle(hub, *"abc")
    assert 1 <= len(starters) <= 3
    assert threading.current_thread() not in starters
    check_nothing_is_left(hub)


def test_in_threads_nobody_is_written_to(hub: Hub) -> None:
    with hub.subscribe("a") as sub:
        quiet(sub)
        assert sub.is_at_head
        assert not sub.park(Lines(), NullSink(-1))
    check_nothing_is_left(hub)


# A log that is away


def test_the_dispatcher_waits_for_a_log_that_is_away_and_then_goes_on(
    hub: Hub, log: BrokenLog, caplog: pytest.LogCaptureFixture
) -> None:
    start = log.tail("a")
    log._followers = Reticent()
    with hub.subscribe("a", after=str(start)) as sub:
        log.broken = {"read"}
        message = hub.publish("a", "text")
        wait_until(lambda: "waits for the log" in caplog.text, "the dispatcher has noticed")
        assert sub.read() == []
        log.broken = set()
        items: list[Message | Gap] = []
        while not items:
            assert sub.bell.wait(PATIENCE), "nobody said that the log is back"
            items = sub.read_on()
        assert items == [message]
        assert caplog.text.count("waits for the log") == 1


def test_a_subscriber_who_cannot_find_the_head_is_refused_and_the_next_one_begins(
    hub: Hub, log: BrokenLog
) -> None:
    log.append("a", "text")
    log.broken = {"tail"}
    with pytest.raises(LogUnavailable):
        hub.subscribe("a")
    check_nothing_is_left(hub)
    log.broken = set()
    with hub.subscribe("a") as sub:
        assert head_of(hub) == log.tail("a")
        message = hub.publish("a", "more")
        assert sub.take(PATIENCE) == [message]


def test_a_log_that_is_away_is_asked_to_tell_of_one_channel_only(hub: Hub, log: BrokenLog) -> None:
    """It may take a second each time, and a subscriber waits for the refusal."""
    log.broken = {"tail"}
    with pytest.raises(LogUnavailable):
        hub.subscribe([f"c{n}" for n in range(32)])
    assert log.calls == ["follow:c0", "tail:c0", "unfollow:c0"]


def test_whoever_could_not_read_is_rung_though_nothing_new_comes(hub: Hub, log: BrokenLog) -> None:
    with hub.subscribe("a") as sub:
        settle(hub)
        message = hub.publish("a", "text")
        settle(hub)
        sub.bell.wait(0)
        log.broken = {"read"}
        assert sub.read() == []
        log.broken = set()
        assert sub.bell.wait(PATIENCE), "it would sleep until the next message"
        assert read_on(sub) == [message]


def test_a_log_that_is_away_for_long_is_tried_again_and_again(hub: Hub, log: BrokenLog) -> None:
    log._followers = Reticent()
    with hub.subscribe("a") as sub:
        settle(hub)
        quiet(sub)
        log.calls.clear()
        log.broken = {"read"}
        message = hub.publish("a", "text")
        wait_until(lambda: log.calls.count("read:a") >= 3, "it is tried a third time")
        log.broken = set()
        assert sub.bell.wait(PATIENCE), "the dispatcher has given up"
        assert read_on(sub) == [message]


def test_a_channel_that_could_not_be_read_is_tried_again_though_others_are_never_silent(
    hub: Hub, log: BrokenLog
) -> None:
    crew, is_done = Crew(), threading.Event()

    def chat() -> None:
        while not is_done.wait(0.01):
            hub.publish("b", "text")

    with hub.subscribe("a") as sub, hub.subscribe("b"):
        settle(hub, "a", "b")
        log.broken = {"read:a"}
        message = hub.publish("a", "text")
        settle(hub)
        sub.bell.wait(0)
        assert sub.read() == []
        log.broken = set()
        crew.start(chat)
        assert sub.bell.wait(PATIENCE), "it waits for a moment in which nobody speaks"
        assert read_on(sub) == [message]
        is_done.set()
        crew.join()


def test_a_channel_whose_last_subscriber_leaves_is_not_tried_again(
    hub: Hub, log: BrokenLog
) -> None:
    with hub.subscribe("b"):
        with hub.subscribe("a") as sub:
            settle(hub)
            log.broken = {"read"}
            hub.publish("a", "text")
            assert sub.read() == []
            wait_until(lambda: channel_of(hub) in hub._dispatcher._workers._late, "it is put off")
        assert hub._dispatcher._workers._late == {}
        sub.read()  # by a thread that has not noticed
        assert hub._dispatcher._workers._late == {}


def test_a_read_that_fails_after_all_have_left_is_forgotten() -> None:
    begun, let_go = threading.Event(), threading.Event()

    class SlowLog(MemoryLog):
        def read(self, channel: str, after: Position, *, limit: int, size: int) -> Page:
            if channel == "a":
                begun.set()
                assert let_go.wait(PATIENCE)
                raise LogUnavailable("The log is away.")
            return super().read(channel, after, limit=limit, size=size)

    log = SlowLog()
    log._followers = Reticent()
    hub = Hub(log)
    with hub.subscribe("b"):
        with hub.subscribe("a"):
            log.append("a", "text")
            assert begun.wait(PATIENCE)
        let_go.set()
        hub.publish("b", "text")
        settle(hub, "b")
        assert hub._dispatcher._workers._late == {}
    check_nothing_is_left(hub)


# Epochs


def test_the_dispatcher_adopts_an_epoch_in_which_nothing_is_lost_and_so_do_its_subscribers() -> (
    None
):
    log = RenamedLog()
    hub = Hub(log)
    with hub.subscribe("a") as sub:
        hub.publish("a", "one")
        settle(hub)
        assert [item.id.offset for item in read_on(sub) if isinstance(item, Message)] == [1]
        old = sub.id
        quiet(sub)
        log.rename()
        assert sub.bell.wait(PATIENCE), "it must look again, or it never is at the head"
        assert read_on(sub) == []
        wait_until(lambda: sub.is_at_head, "both stand in the new epoch")
        assert (sub.id, head_of(hub)) == ("1abc-1", Position("1abc", 1))
        assert old != sub.id
        message = hub.publish("a", "two")
        settle(hub)
        assert read_on(sub) == [message]
        log.rename()
        again = hub.publish("a", "three")
        settle(hub)
        assert read_on(sub) == [again], "no gap, nothing twice"
        with hub.subscribe("a", after=old) as returned:
            assert [m.data for m in returned.read() if isinstance(m, Message)] == ["two", "three"]
    check_nothing_is_left(hub)


# Faults of our own


class Faulty(BrokenLog):
    """``faults`` names channels in which a read fails in a way that no log should."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: set[str] = set()

    def read(self, channel: str, after: Position, *, limit: int, size: int) -> Page:
        if channel in self.faults:
            raise ZeroDivisionError("a fault of ours")
        return super().read(channel, after, limit=limit, size=size)


def test_a_fault_of_ours_ends_the_channels_subscribers_with_a_reason_and_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Faulty()
    log._followers = Reticent()
    hub = Hub(log)
    with hub.subscribe("a") as a, hub.subscribe(["a", "b"]) as both, hub.subscribe("b") as b:
        settle(hub, "a", "b")
        log.faults = {"a"}
        hub.publish("a", "text")
        for sub in (a, both):
            wait_until(lambda sub=sub: sub.reason, "it is ended")
            with pytest.raises(StreamingError, match="'a' failed"):
                sub.take(PATIENCE)
        assert "Delivery on a failed" in caplog.text
        message = hub.publish("b", "text")
        while not (items := read_on(b)):
            assert b.bell.wait(PATIENCE)
        assert items == [message]
        log.faults = set()
        with hub.subscribe("a") as back:
            message = hub.publish("a", "more")
            while not (items := read_on(back)):
                assert back.bell.wait(PATIENCE), "a is deaf"
            assert items == [message]
            settle(hub)
    check_nothing_is_left(hub)
