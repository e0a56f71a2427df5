"""Channels that end, as their subscribers meet it."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from streaming.bell import Bell
from streaming.errors import ChannelEnded, StreamEnded
from streaming.hub.hub import Hub
from streaming.hub.subscription import Reading, Subscription
from streaming.logs import MemoryLog, Retention
from streaming.message import Gap, Message
from tests.greenlets import in_greenlets
from tests.hub.engine import check_nothing_is_left, settle
from tests.hub.seats import Client, Lines
from tests.polling import PATIENCE, wait_until


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub(MemoryLog(Retention(messages=10)))
    yield hub
    check_nothing_is_left(hub)


def read_all(sub: Subscription) -> list[str]:
    """What it gives until it is over."""
    found: list[str] = []
    until = time.monotonic() + PATIENCE
    with sub:
        while time.monotonic() < until:
            try:
                items = sub.take(1.0)
            except StreamEnded:
                return found
            found += [item.data if isinstance(item, Message) else "gap" for item in items]
    pytest.fail(f"it does not end behind {found}")


def read_next(sub: Subscription) -> list[str]:
    items = wait_until(lambda: sub.take(1.0), "something to read")
    return [item.data for item in items if isinstance(item, Message)]


def test_whoever_follows_a_channel_gets_all_of_it_then_the_end(hub: Hub) -> None:
    subs = [hub.subscribe("a") for _ in range(3)]
    for text in ("one", "two"):
        hub.publish("a", text)
    last = hub.end("a", '{"n":2}')
    assert last.event == "end"
    assert last.id.offset == 3
    for sub in subs:
        assert read_all(sub) == ["one", "two", '{"n":2}']


def test_the_end_wakes_who_waits(hub: Hub) -> None:
    sub, found = hub.subscribe("a"), []
    waiter = threading.Thread(target=lambda: found.extend(read_all(sub)))
    waiter.start()
    wait_until(lambda: hub.subscribers("a") == 1, "it waits")
    hub.end("a")
    waiter.join(PATIENCE)
    assert found == ["{}"]


@pytest.mark.parametrize("others", [0, 1], ids=["the first", "beside another"])
def test_who_comes_after_the_end_gets_what_it_asks_for_then_the_end(hub: Hub, others: int) -> None:
    ids = [str(hub.publish("a", f"{n}").id) for n in range(3)] + [str(hub.end("a").id)]
    with ExitStack() as stack:
        for _ in range(others):
            stack.enter_context(hub.subscribe("a"))
        assert read_all(hub.subscribe("a")) == []
        assert read_all(hub.subscribe("a", history=2)) == ["2", "{}"]
        assert read_all(hub.subscribe("a", after="start")) == ["0", "1", "2", "{}"]
        for n, id in enumerate(ids):
            assert read_all(hub.subscribe("a", after=id)) == ["0", "1", "2", "{}"][n + 1 :]


def test_of_several_channels_the_stream_is_over_with_the_last(hub: Hub) -> None:
    sub = hub.subscribe(["a", "b"])
    hub.end("a")
    assert read_next(sub) == ["{}"]
    hub.publish("b", "more")
    assert read_next(sub) == ["more"]
    hub.end("b", '"b"')
    assert read_all(sub) == ['"b"']


def test_from_the_start_is_a_gap_where_the_first_is_no_longer_held(hub: Hub) -> None:
    for n in range(15):
        hub.publish("a", f"{n}")
    with hub.subscribe("a", after="start") as sub:
        gap, first, *_ = sub.read()
    assert isinstance(gap, Gap)
    assert gap.requested.offset == 0
    assert isinstance(first, Message)
    assert first.data == "5"


def test_from_the_start_of_nothing_is_the_head(hub: Hub) -> None:
    with hub.subscribe(["a", "b"], after="start") as sub:
        assert sub.read() == []
        hub.publish("b", "one")
        assert read_next(sub) == ["one"]


def test_nothing_follows_the_end(hub: Hub) -> None:
    hub.publish("a", "one", key="k")
    hub.end("a")
    for use in (lambda: hub.publish("a", "two"), lambda: hub.end("a")):
        with pytest.raises(ChannelEnded):
            use()
    assert hub.publish("a", "again", key="k").data == "one"


@in_greenlets
def test_the_end_reaches_those_who_are_live() -> None:
    hub = Hub(MemoryLog())
    form = Lines()
    single, both = Client(hub, form), Client(hub, form, channels=["a", "b"])
    hub.publish("a", "one")
    settle(hub, "a")
    hub.end("a")
    for client in (single, both):
        wait_until(lambda client=client: not client.is_live, "it reads itself")
    assert [m.data for m in single.sub.read() if isinstance(m, Message)] == ["{}"]
    with pytest.raises(StreamEnded):
        single.sub.read()
    both.park()
    hub.publish("b", "two")
    settle(hub, "b")
    assert both.is_live
    hub.end("b")
    wait_until(lambda: not both.is_live, "it reads itself")
    assert [m.data for m in both.sub.read() if isinstance(m, Message)] == ["{}"]
    with pytest.raises(StreamEnded):
        both.sub.read()
    for client in (single, both):
        client.sub.close()
        client.ours.close()
        client.theirs.close()


@in_greenlets
def test_who_stands_at_the_end_does_not_go_live() -> None:
    hub = Hub(MemoryLog())
    hub.publish("a", "one")
    hub.end("a")
    with hub.subscribe("a") as first, hub.subscribe("a", bell=Bell()) as second:
        for sub in (first, second):
            assert not sub.is_at_head
            with pytest.raises(StreamEnded):
                sub.read_on()
            assert sub.phase is Reading.LAGGING


def test_a_loop_over_a_subscription_ends_with_its_channel(hub: Hub) -> None:
    hub.publish("a", "one")
    hub.end("a")
    with hub.subscribe("a", after="start") as sub:
        assert [item.data for item in sub if isinstance(item, Message)] == ["one", "{}"]
