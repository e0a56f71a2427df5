"""streaming/hub/subscription.py: a cursor, how it moves, how it ends."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streaming.bell import Bell
from streaming.errors import HubClosed, Lagged
from streaming.hub.hub import Hub
from streaming.hub.subscription import READ_MESSAGES, READ_SIZE, Head, Reading, Subscription
from streaming.logs import MemoryLog, Retention, SqliteLog
from streaming.message import Cursor, Gap, Message
from streaming.names import Patterns
from streaming.settings import Policy
from tests.broken_log import BrokenLog
from tests.greenlets import in_greenlets
from tests.hub.engine import Crew, channel_of, check_nothing_is_left, settle
from tests.hub.renamed_log import RenamedLog
from tests.hub.seats import Client, Lines, NullSink
from tests.polling import PATIENCE, wait_until
from tests.witness import publish_at_last


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub whose channels keep ten messages."""
    hub = Hub(
        MemoryLog(Retention(messages=10)),
        policies={"prices": "latest", "orders": "disconnect"},
    )
    with ExitStack() as stack:
        hub.stack = stack  # type: ignore[attr-defined]
        yield hub
    check_nothing_is_left(hub)


def follow(hub: Hub, *channels: str, **options: object) -> Subscription:
    """A subscription that is closed after the test."""
    subscription = hub.subscribe(channels, **options)  # type: ignore[arg-type]
    return hub.stack.enter_context(subscription)  # type: ignore[attr-defined,no-any-return]


def fill(hub: Hub, channel: str, count: int) -> list[Message]:
    return [hub.publish(channel, str(n)) for n in range(count)]


def texts(items: list[Message | Gap]) -> list[str]:
    return [item.data for item in items if isinstance(item, Message)]


def test_a_read_gives_what_came_since_the_last_one(hub: Hub) -> None:
    sub = follow(hub, "a")
    assert sub.read() == []
    one = hub.publish("a", "one")
    assert sub.read() == [one]
    assert sub.read() == []
    two, three = hub.publish("a", "two"), hub.publish("a", "three")
    assert sub.read() == [two, three]
    assert sub.id == str(three.id)


def test_a_loop_over_it_gives_messages_until_it_is_closed(hub: Hub) -> None:
    sub = follow(hub, "a", history=9)
    fill(hub, "a", 3)
    seen = []
    for item in sub:
        seen.append(item)
        if len(seen) == 2:
            sub.close()
    assert texts(seen) == ["0", "1"]
    assert list(sub) == []


def test_a_loop_over_it_returns_when_the_hub_closes_and_raises_anything_else(hub: Hub) -> None:
    one, two = follow(hub, "a"), follow(hub, "orders")
    (message,) = fill(hub, "a", 1)
    seen: list[Message | Gap] = []

    def close() -> None:
        wait_until(lambda: seen, "the loop has had it")
        hub.close()

    closing = threading.Thread(target=close)
    closing.start()
    for item in one:
        seen.append(item)
    closing.join(PATIENCE)
    assert seen == [message]
    two.reason = Lagged("too slow")
    with pytest.raises(Lagged):
        list(two)


def test_what_the_subscriber_does_not_follow_it_does_not_get(hub: Hub) -> None:
    sub = follow(hub, "a", "b")
    fill(hub, "c", 3)
    assert sub.read() == []
    assert sub.channels == ("a", "b")


def test_one_read_is_bounded_and_the_next_goes_on() -> None:
    hub = Hub(MemoryLog())
    with hub.subscribe("a") as sub:
        for n in range(READ_MESSAGES + 10):
            hub.publish("a", str(n))
        assert len(sub.read()) == READ_MESSAGES
        assert len(sub.read()) == 10
        for _ in range(10):
            hub.publish("a", "x" * (READ_SIZE // 4))
        sizes = [len(sub.read()) for _ in range(3)]
        assert sizes == [4, 4, 2]


def test_a_take_waits_for_the_next_message(hub: Hub) -> None:
    sub = follow(hub, "a")
    taken: list[Message | Gap] = []

    def take() -> None:
        while not taken:
            taken.extend(sub.take(PATIENCE))

    taker = threading.Thread(target=take)
    taker.start()
    message = hub.publish("a", "text")
    taker.join(PATIENCE)
    assert taken == [message]


def test_a_take_gives_nothing_when_its_time_is_over(hub: Hub) -> None:
    sub = follow(hub, "a")
    wait_until(lambda: sub.take(0.001) == [] and not sub.bell.wait(0), "the first ring")
    assert sub.take(0.001) == []


def test_a_ring_of_the_bell_ends_a_take(hub: Hub) -> None:
    bell = Bell()
    sub = follow(hub, "a", bell=bell)
    taker = threading.Thread(target=sub.take)
    taker.start()
    bell.ring()
    taker.join(PATIENCE)
    assert not taker.is_alive()


def test_several_subscriptions_may_share_a_bell(hub: Hub) -> None:
    bell = Bell()
    subs = [follow(hub, name, bell=bell) for name in "abc"]
    for name in "abc":
        while bell.wait(0.01):
            pass
        hub.publish(name, name)
        assert bell.wait(PATIENCE)
    assert [texts(sub.read()) for sub in subs] == [["a"], ["b"], ["c"]]


def test_an_ended_subscription_raises_its_first_reason_at_every_read(hub: Hub) -> None:
    sub = follow(hub, "a")
    first = HubClosed("first")
    hub.publish("a", "text")
    sub.end(first)
    sub.end(Lagged("second"))
    for read in (sub.read, sub.take, sub.take):
        with pytest.raises(HubClosed, match="first"):
            read()


def test_an_end_wakes_a_take_that_waits_without_a_limit(hub: Hub) -> None:
    sub = follow(hub, "a")
    caught: list[Exception] = []

    def take() -> None:
        try:
            while True:
                sub.take()
        except HubClosed as reason:
            caught.append(reason)

    taker = threading.Thread(target=take)
    taker.start()
    sub.end(HubClosed("stop"))
    taker.join(PATIENCE)
    assert [str(reason) for reason in caught] == ["stop"]


def test_a_subscription_may_be_closed_twice_and_keeps_its_cursor(hub: Hub) -> None:
    with hub.subscribe("a") as sub:
        message = hub.publish("a", "text")
        sub.read()
        sub.close()
        assert sub.phase is Reading.CLOSED
    assert sub.id == str(message.id)
    assert hub.subscribers("a") == 0


# The told cursor


def test_the_first_cursor_already_resumes(hub: Hub) -> None:
    for channels in (["a"], ["a", "b"]):
        cursor = follow(hub, *channels).id
        hub.publish("a", "text")
        assert texts(follow(hub, *channels, after=cursor).read()) == ["text"]


def test_every_step_through_several_channels_is_a_cursor_to_resume_from(hub: Hub) -> None:
    sub = follow(hub, "a", "b", "c")
    for n in range(5):
        for channel in "abc":
            hub.publish(channel, f"{channel}{n}")
    items = sub.read()
    assert len(items) == 15
    cursors = [sub.step(item) for item in items]
    assert len(set(cursors)) == 15
    for place, cursor in enumerate(cursors):
        again = follow(hub, "a", "b", "c", after=cursor)
        assert again.id == cursor
        assert sorted(texts(again.read())) == sorted(texts(items[place + 1 :]))


def test_what_was_read_but_not_stepped_over_is_not_in_the_cursor(hub: Hub) -> None:
    sub = follow(hub, "a", "b")
    before = sub.id
    fill(hub, "a", 3)
    items = sub.read()
    assert sub.id == before
    sub.step(items[0])
    assert texts(follow(hub, "a", "b", after=sub.id).read()) == ["1", "2"]


def test_the_rest_of_an_id_follows_what_is_told_of_the_other_channels(hub: Hub) -> None:
    sub = follow(hub, "a", "b")
    fill(hub, "a", 1)
    (one,) = sub.read()
    sub.step(one)
    before = sub.others("a")
    (two,) = fill(hub, "b", 1)
    sub.read()
    sub.step(two)
    assert sub.others("a") != before
    assert str(two.id).encode() in sub.others("a")
    assert sub.others("a") == sub.others("a")


def test_resuming_with_other_channels_keeps_the_places_of_those_that_stay(hub: Hub) -> None:
    sub = follow(hub, "a", "b")
    cursor = sub.id
    for channel in "abc":
        hub.publish(channel, channel)
    assert texts(follow(hub, "b", after=cursor).read()) == ["b"]
    assert texts(follow(hub, "c", "b", after=cursor).read()) == ["b"]
    assert texts(follow(hub, "c", "b", after=cursor, history=5).read()) == ["c", "b"]
    single = follow(hub, "a").id
    hub.publish("a", "more")
    assert texts(follow(hub, "a", "c", after=single).read()) == ["more"]


def test_the_id_of_a_single_channel_nobody_knows_is_a_gap_in_all(hub: Hub) -> None:
    fill(hub, "a", 1)
    sub = follow(hub, "a", "b", after="0123abcd-5")
    assert [item.channel for item in sub.read() if isinstance(item, Gap)] == ["a", "b"]


def test_the_id_of_a_single_channel_counts_for_the_channel_it_belongs_to() -> None:
    """Also if it is of an earlier epoch, which the log can tell; the others begin at the head."""
    log = RenamedLog()
    hub = Hub(log)
    for name in "ab":
        fill(hub, name, 3)
    with hub.subscribe("b") as single:
        earlier = single.id
        log.rename("b")
        hub.publish("b", "more")
        log.rename("b")
        single.read()
        now = single.id
    for cursor, expected in ((earlier, ["more"]), (now, [])):
        with hub.subscribe(["a", "b", "c"], after=cursor) as sub:
            assert texts(sub.read()) == expected
            for name in "ac":
                fill(hub, name, 1)
            assert texts(sub.read()) == ["0", "0"]
    check_nothing_is_left(hub)


def test_a_mark_of_a_single_channel_counts_for_all_that_had_no_message_then(hub: Hub) -> None:
    """It does not say which channel it belongs to; none of them may lose anything."""
    fill(hub, "old", 1)
    cursor = follow(hub, "a").id
    messages = fill(hub, "a", 3)
    fill(hub, "old", 1)
    assert follow(hub, "a", "c", after=cursor).read() == messages
    assert follow(hub, "old", "a", after=cursor).read() == messages
    assert follow(hub, "c", "d", after=cursor).read() == []
    lost = follow(hub, "old", "c", after="nother-1").read()
    assert [type(item) for item in lost] == [Gap, Message, Message, Gap]


# Gaps


@pytest.mark.parametrize("channels", [["a"], ["a", "b"]])
def test_a_gap_comes_before_what_is_still_held(hub: Hub, channels: list[str]) -> None:
    sub = follow(hub, *channels)
    start = Cursor.parse(sub.id).get("a")
    messages = fill(hub, "a", 15)
    gap, *rest = sub.read()
    assert isinstance(gap, Gap)
    assert (gap.requested, gap.oldest, gap.newest) == (start, messages[5].id, messages[14].id)
    assert rest == messages[5:]


@pytest.mark.parametrize("channels", [["a"], ["a", "b"]])
def test_the_cursor_told_with_a_gap_resumes_with_the_first_message_behind_it(
    hub: Hub, channels: list[str]
) -> None:
    sub = follow(hub, *channels)
    messages = fill(hub, "a", 15)
    gap, first, *rest = sub.read()
    assert isinstance(gap, Gap)
    cursor = sub.step(gap)
    assert follow(hub, *channels, after=cursor).read() == messages[5:]
    cursor = sub.step(first)
    assert follow(hub, *channels, after=cursor).read() == rest


@pytest.mark.parametrize("channels", [["a"], ["a", "b"]])
def test_the_cursor_told_with_a_gap_in_nothing_is_the_head(hub: Hub, channels: list[str]) -> None:
    sub = follow(hub, *channels, after="0123abcd-5")
    cursors = [sub.step(gap) for gap in sub.read()]
    assert len(cursors) == len(channels)
    assert follow(hub, *channels, after=cursors[-1]).read() == []
    message = hub.publish("a", "text")
    assert follow(hub, *channels, after=cursors[-1]).read() == [message]


def test_a_gap_in_one_of_several_channels_leaves_the_others_alone(hub: Hub) -> None:
    sub = follow(hub, "a", "b")
    fill(hub, "a", 15)
    kept = fill(hub, "b", 5)
    items = sub.read()
    assert [i for i in items if isinstance(i, Gap) or i.channel == "b"] == [items[0], *kept]


# Policies


def test_the_latest_policy_skips_to_the_newest_message_without_a_word(hub: Hub) -> None:
    sub = follow(hub, "prices")
    assert texts(sub.read()) == []
    fill(hub, "prices", 25)
    assert texts(sub.read()) == ["24"]
    assert sub.read() == []
    hub.publish("prices", "next")
    assert texts(sub.read()) == ["next"]


def test_a_policy_holds_for_all_channels_that_fit_its_pattern() -> None:
    policies: dict[str, Policy] = {"price:*": "latest", "price:all": "replay"}
    hub = Hub(MemoryLog(), policies=policies)
    found = {}
    for channel in ("price:a", "price:all", "price"):
        hub.publish(channel, "first")
        with hub.subscribe(channel) as sub:
            fill(hub, channel, 3)
            found[channel] = texts(sub.read())
    assert found == {"price:a": ["2"], "price:all": ["0", "1", "2"], "price": ["0", "1", "2"]}
    check_nothing_is_left(hub)


def test_the_latest_policy_still_tells_of_a_lost_past(hub: Hub) -> None:
    fill(hub, "prices", 3)
    sub = follow(hub, "prices", after="0123abcd-5")
    assert isinstance(sub.read()[0], Gap)


def test_the_disconnect_policy_ends_whoever_missed_something(hub: Hub) -> None:
    sub = follow(hub, "orders")
    assert sub.read() == []
    fill(hub, "orders", 10)
    assert len(sub.read()) == 10, "late, but nothing is lost"
    fill(hub, "orders", 11)
    for _ in range(2):
        with pytest.raises(Lagged, match="orders"):
            sub.read()


def test_the_cursor_of_a_disconnected_subscriber_still_resumes(hub: Hub) -> None:
    sub = follow(hub, "orders")
    fill(hub, "orders", 3)
    sub.read()
    cursor = sub.id
    fill(hub, "orders", 11)
    with pytest.raises(Lagged):
        sub.read()
    assert sub.id == cursor
    gap, *rest = follow(hub, "orders", after=sub.id).read()
    assert isinstance(gap, Gap)
    assert str(gap.requested) == cursor
    assert len(rest) == 10


@pytest.mark.parametrize("channels", [["orders"], ["a", "orders"], ["orders", "a"]])
def test_whoever_returns_too_late_is_told_of_the_gap_and_not_disconnected(
    hub: Hub, channels: list[str]
) -> None:
    cursor = follow(hub, *channels).id
    fill(hub, "orders", 15)
    items = follow(hub, *channels, after=cursor).read()
    assert isinstance(items[0], Gap)
    assert len(items) == 11


def test_a_log_that_was_away_at_first_makes_nobody_late() -> None:
    """It came with an old cursor, and the log could not be read at once."""
    log = BrokenLog(Retention(messages=10))
    hub = Hub(log, policies={"orders": "disconnect"})
    with hub.subscribe(["a", "orders"]) as sub:
        cursor = sub.id
    fill(hub, "orders", 15)
    with hub.subscribe(["a", "orders"], after=cursor) as sub:
        log.broken = {"read:orders"}
        assert sub.read() == []
        log.broken = set()
        assert isinstance(sub.read()[0], Gap), "it is told, and not disconnected"
    check_nothing_is_left(hub)


@in_greenlets
def test_whoever_was_live_and_missed_something_is_disconnected_too() -> None:
    hub = Hub(MemoryLog(Retention(messages=10)), policies={"orders": "disconnect"})
    client = Client(hub, Lines(), channels="c")  # its socket alone
    client.sub.close()
    with hub.subscribe("orders") as sub:
        assert sub.park(Lines(), client.sink), "it has read nothing before"
        client.sink.fd = -1  # shut
        fill(hub, "orders", 15)
        settle(hub, "orders")
        with pytest.raises(Lagged):
            sub.read_on()
    client.close()
    check_nothing_is_left(hub)


# A log that is away


def test_a_log_that_is_away_costs_time_but_no_message() -> None:
    log = BrokenLog()
    hub = Hub(log)
    with hub.subscribe(["a", "b"]) as sub:
        log.broken = {"read:a"}
        one, two = hub.publish("a", "one"), hub.publish("b", "two")
        assert sub.read() == [two]
        assert sub.read() == []
        log.broken = set()
        assert sub.read() == [one]


# Live


SINK = NullSink(-1)


def test_a_thread_of_another_core_is_never_written_to(hub: Hub) -> None:
    sub = follow(hub, "a")
    hub.publish("a", "text")
    settle(hub)
    sub.read()
    assert sub.is_at_head
    assert not sub.park(Lines(), SINK)
    assert sub.phase is Reading.LAGGING
    assert sub.seat is None


def test_an_ended_subscription_does_not_park(hub: Hub) -> None:
    sub = follow(hub, "a")
    settle(hub)
    assert sub.is_at_head
    sub.end(HubClosed("stop"))
    assert not sub.is_at_head
    assert not sub.park(Lines(), SINK)


def test_what_was_marked_as_sent_is_past(hub: Hub) -> None:
    sub = follow(hub, "a")
    one, two = fill(hub, "a", 2)
    assert not sub.is_past(one.id)
    sub.read()
    assert not sub.is_past(one.id), "read is not sent"
    sub.mark_sent()
    assert sub.is_past(one.id)
    assert sub.is_past(two.id)
    assert not sub.is_past(hub.publish("a", "text").id)
    log = MemoryLog()
    assert sub.is_past(log.append("a", "of another life").id), "it never will be sent"


def test_where_the_dispatcher_stands_reading_on_asks_the_log_nothing() -> None:
    log = BrokenLog()
    hub = Hub(log)
    with hub.subscribe("a") as sub:
        settle(hub)
        log.calls.clear()
        assert sub.read_on() == []
        assert log.calls == []
        message = hub.publish("a", "text")
        assert wait_until(sub.read_on, "the dispatcher sees it too") == [message]
        assert log.calls.count("read:a") == 1


def test_reading_on_asks_only_in_channels_that_have_something_new() -> None:
    log = BrokenLog()
    hub = Hub(log)
    with hub.subscribe(["a", "b", "c"]) as sub:
        settle(hub, "a", "b", "c")
        sub.read_on()
        log.calls.clear()
        message = hub.publish("b", "text")
        assert wait_until(sub.read_on, "the dispatcher sees it too") == [message]
        assert sub.read_on() == []
        assert log.calls == ["read:b"]
        sub.read()
        assert sorted(log.calls[1:]) == ["read:a", "read:b", "read:c"]


def test_reading_on_goes_on_behind_a_page_that_was_not_all(hub: Hub) -> None:
    hub = Hub(MemoryLog())
    with hub.subscribe("a") as sub:
        settle(hub)
        for n in range(READ_MESSAGES * 2 + 10):
            hub.log.append("a", str(n))
        settle(hub)
        assert [len(sub.read_on()) for _ in range(4)] == [READ_MESSAGES, READ_MESSAGES, 10, 0]


# The machine


def test_nothing_else_moves_a_subscription_than_the_table_says(hub: Hub) -> None:
    legal = {
        (Reading.LAGGING, Reading.LIVE),
        (Reading.LIVE, Reading.LAGGING),
        (Reading.LAGGING, Reading.CLOSED),
        (Reading.LIVE, Reading.CLOSED),
    }
    for before in Reading:
        for after in Reading:
            sub = Subscription(hub.log, hub._dispatcher, bell=Bell(), policies=Patterns())
            sub.phase = before
            if (before, after) in legal:
                sub.move(after)
                assert sub.phase is after
            else:
                with pytest.raises(RuntimeError, match=f"from {before} to {after}"):
                    sub.move(after)
                assert sub.phase is before


@in_greenlets
def test_the_story_of_a_subscription_from_its_start_to_its_end() -> None:
    hub, form = Hub(MemoryLog()), Lines()
    sub = hub.subscribe(["a", "b"])
    assert (sub.phase, sub.seat) == (Reading.LAGGING, None)
    client = Client(hub, form, channels="c")
    sink = client.sink

    def park() -> bool:
        sub.read_on()
        return sub.park(form, sink)

    wait_until(park, "it is live")
    seat = sub.seat
    assert seat is not None
    assert (sub.phase, seat.sink) == (Reading.LIVE, sink)
    assert not sub.park(form, sink), "it is parked already"
    assert sub.seat is seat

    sink.fd = -1  # shut
    hub.publish("b", "one")
    settle(hub, "b")
    assert (sub.phase, sub.seat) == (Reading.LAGGING, None)
    hub._dispatcher.stall(sub, seat, channel_of(hub, "a"), hub.log.tail("a"), b"")
    assert sub.phase is Reading.LAGGING, "an old seat moves nobody"

    assert texts(sub.read_on()) == ["one"]
    wait_until(park, "it is live again")
    assert sub.seat is not seat
    hub._dispatcher.stall(sub, seat, channel_of(hub, "a"), hub.log.tail("a"), b"")
    assert sub.phase is Reading.LIVE, "the old seat is not its seat any more"
    sub.close()
    sub.close()
    assert (sub.phase, sub.seat, sub.is_closed) == (Reading.CLOSED, None, True)
    assert not sub.park(form, sink)
    hub._dispatcher.stall(sub, seat, channel_of(hub, "c"), hub.log.tail("c"), b"")
    hub._dispatcher.leave(sub)
    assert sub.phase is Reading.CLOSED
    client.close()
    check_nothing_is_left(hub)


# Marks


def test_an_unknown_channel_has_a_cursor_that_resumes_with_its_first_message(hub: Hub) -> None:
    with hub.subscribe("a") as sub:
        cursor = sub.id
    assert Cursor.parse(cursor).single.is_mark  # type: ignore[union-attr]
    assert len(hub.log) == 0, "nothing is written for reading"  # type: ignore[arg-type]
    fill(hub, "b", 3)
    again = follow(hub, "a", after=cursor)
    assert again.read() == []
    messages = fill(hub, "a", 3)
    assert again.read() == messages
    assert follow(hub, "a", after=cursor).read() == messages


def test_marks_of_different_times_are_all_at_the_head(hub: Hub) -> None:
    first = follow(hub, "a")
    settle(hub)
    fill(hub, "other", 3)
    later = follow(hub, "a")
    assert first.id != later.id
    for sub in (first, later):
        assert sub.read_on() == []
        assert sub.is_at_head
    message = hub.publish("a", "text")
    settle(hub)
    for sub in (first, later):
        assert not sub.is_at_head
        assert sub.read_on() == [message]
        assert sub.is_at_head


def forget(hub: Hub, channel: str) -> None:
    """Have the log forget a channel that nobody follows."""
    names = (f"new{n}" for n in itertools.count())
    log = hub.log
    assert isinstance(log, MemoryLog)
    wait_until(lambda: hub.publish(next(names), "") and channel not in log._channels, "forgotten")


def test_whoever_returns_with_a_mark_is_told_that_its_channel_was_forgotten_since() -> None:
    """Another one follows the channel, whose newer mark does not stand for the same place."""
    log = BrokenLog(Retention(channels=1))
    hub = Hub(log)
    with hub.subscribe("a") as sub:
        cursor = sub.id
    hub.publish("a", "lost")
    forget(hub, "a")
    with hub.subscribe("a"), hub.subscribe("a", after=cursor) as back:
        settle(hub)
        log.broken = {"read"}
        assert back.read_on() == []
        assert not back.is_at_head, "nobody knows yet"
        log.broken = set()
        assert [type(item) for item in back.read_on()] == [Gap]
        assert back.is_at_head
    check_nothing_is_left(hub)


def test_the_same_is_told_though_the_channel_has_messages_again() -> None:
    hub = Hub(MemoryLog(Retention(channels=1)))
    fill(hub, "other", 100)  # the mark's number is larger than those of the new messages
    with hub.subscribe("a") as sub:
        cursor = sub.id
    hub.publish("a", "lost")
    forget(hub, "a")
    with hub.subscribe("a"):
        held = fill(hub, "a", 2)
        settle(hub)
        with hub.subscribe("a", after=cursor) as back:
            lost, *rest = back.read_on()
        assert isinstance(lost, Gap)
        assert str(lost.requested) == cursor
        assert rest == held
    check_nothing_is_left(hub)


def test_whoever_lags_at_a_mark_until_all_has_expired_is_told() -> None:
    now = [0.0]
    hub = Hub(MemoryLog(Retention(age=10), clock=lambda: now[0]))
    with hub.subscribe("a") as sub:
        fill(hub, "a", 3)
        now[0] = 20.0
        settle(hub)
        assert [type(item) for item in sub.read_on()] == [Gap]
        message = hub.publish("a", "next")
        settle(hub)
        assert sub.read_on() == [message]
    check_nothing_is_left(hub)


def lose_memory(log: MemoryLog) -> None:
    log.close()


def remove_files(log: SqliteLog) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(log.path + suffix).unlink(missing_ok=True)


@pytest.mark.parametrize("home", ["memory", "sqlite"])
def test_whoever_lags_at_a_mark_is_told_when_the_log_loses_its_past_with_the_first_message(
    home: str, tmp_path: Path
) -> None:
    """Following keeps a channel from being forgotten, not the log from being lost."""
    log: Any = MemoryLog() if home == "memory" else SqliteLog(tmp_path / "log.db")
    lose: Any = lose_memory if home == "memory" else remove_files
    hub = Hub(log)
    with closing(log), hub.subscribe("a") as sub:
        hub.publish("a", "lost")
        lose(log)
        message = publish_at_last(hub, "first of another life")
        gap, *rest = sub.read()
        assert isinstance(gap, Gap)
        assert (gap.oldest, rest) == (message.id, [message])
        assert sub.read() == []


def test_a_mark_from_before_the_dispatcher_came_costs_one_look_into_the_log() -> None:
    log = BrokenLog()
    hub = Hub(log)
    with hub.subscribe("a") as sub:
        cursor = sub.id
    hub.publish("b", "moves the log on")
    with hub.subscribe("a") as first, hub.subscribe("a", after=cursor) as back:
        settle(hub)
        log.calls.clear()
        for _ in range(3):
            assert back.read_on() == first.read_on() == []
        assert back.is_at_head
        assert log.calls == ["read:a"]
        message = hub.publish("a", "text")
        settle(hub)
        assert back.read_on() == first.read_on() == [message]
    check_nothing_is_left(hub)


# Races


@pytest.mark.usefixtures("hurry")
def test_what_is_told_while_a_subscriber_reads_is_not_lost(hub: Hub) -> None:
    """Channels are told of by the dispatcher in the midst of a read, in each of its steps."""
    names, each, crew = [f"c{n}" for n in range(32)], 200, Crew()
    hub = Hub(MemoryLog(Retention(messages=1000)))
    got: dict[str, list[str]] = {name: [] for name in names}

    def publish(mine: list[str]) -> None:
        for n in range(each):
            for name in mine:
                hub.publish(name, str(n))

    with hub.subscribe(names) as sub:
        for part in range(4):
            crew.start(lambda part=part: publish(names[part::4]))
        while sum(map(len, got.values())) < each * len(names):
            items = sub.read_on()
            for item in items:
                assert isinstance(item, Message)
                got[item.channel].append(item.data)
            if not items:
                assert sub.bell.wait(PATIENCE), "it was not told of all"
        crew.join()
    assert got == {name: [str(n) for n in range(each)] for name in names}
    check_nothing_is_left(hub)


def test_a_subscriber_may_be_told_of_a_channel_while_it_looks_where_to_read(hub: Hub) -> None:
    class Telling(dict[str, Head]):
        def __getitem__(self, name: str) -> Head:
            sub.notice("b")  # as another thread does at this very moment
            return super().__getitem__(name)

    sub = Subscription(hub.log, hub._dispatcher, bell=Bell(), policies=Patterns())
    places = {name: hub.log.tail(name) for name in "ab"}
    sub.heads = {
        n: SimpleNamespace(position=p, written=p, offered=0.0, ended=False)
        for n, p in places.items()
    }
    sub.start(places)
    sub.read()
    one, two = hub.publish("a", "one"), hub.publish("b", "two")
    heads = {
        m.channel: SimpleNamespace(position=m.id, written=m.id, offered=0.0, ended=False)
        for m in (one, two)
    }
    sub.heads = Telling(heads)
    sub.notice("a")
    assert sub.read_on() == [one]
    assert sub.read_on() == [two]
