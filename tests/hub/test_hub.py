"""streaming/hub/hub.py: the guarantees of delivery, under real threads that try to break them."""

import random
import threading
import weakref
from collections.abc import Iterator

import pytest

from streaming.errors import (
    HubClosed,
    InvalidCursor,
    InvalidMessage,
    InvalidRequest,
    LogUnavailable,
    TooLarge,
)
from streaming.hub.hub import MAX_CHANNELS, Hub, check_channels
from streaming.hub.subscription import Subscription
from streaming.logs import Heard, MemoryLog, Retention
from streaming.message import Gap, Message, Position, print_place
from streaming.names import channel_tag
from tests.broken_log import BrokenLog
from tests.hub.engine import Crew, check_nothing_is_left, dispatchers
from tests.polling import PATIENCE, wait_until

END = "the end"


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub(MemoryLog(Retention(messages=100_000)), message_size=1000)
    yield hub
    check_nothing_is_left(hub)


def read_to_the_end(sub: Subscription, ends: int = 1) -> list[Message]:
    """Everything up to the last of so many ends; there must be no gap."""
    messages: list[Message] = []
    while sum(m.data == END for m in messages) < ends:
        items = sub.take(PATIENCE)
        for item in items:
            assert isinstance(item, Message), f"a gap: {item}"
            messages.append(item)
    return messages


def check_seamless(messages: list[Message], after: Position, log: list[Message]) -> None:
    """``messages`` is ``log`` behind ``after``: nothing lost, doubled, changed or reordered."""
    assert [m.id.offset for m in messages] == list(range(after.offset + 1, log[-1].id.offset + 1))
    assert messages == log[after.offset :]


@pytest.mark.parametrize("at_head", [True, False])
def test_a_cursor_of_several_begins_with_the_channels_as_they_were_named(
    hub: Hub, at_head: bool
) -> None:
    """Clients learn the tags from it: in the id of a message its own channel comes first."""
    with hub.subscribe(["a", "b"]) as sub:
        hub.publish("b", "x")
        (item,) = sub.take(PATIENCE)
        sub.step(item)
        cursor = print_place("b", Position.parse(str(item.id))) + sub.others("b").decode()
    if not at_head:
        hub.publish("b", "y")
    with hub.subscribe(["a", "b"], after=cursor) as again:
        tags = [place.partition("_")[0] for place in again.id.split(".")]
    assert tags == [channel_tag("a"), channel_tag("b")]


# Publishing


def test_a_publisher_gets_the_message_with_its_id(hub: Hub) -> None:
    message = hub.publish("a", "text", event="tick", key="k", sender="client")
    assert (message.channel, message.data, message.event) == ("a", "text", "tick")
    assert (message.sender, message.id.offset) == ("client", 1)


def test_a_key_seen_before_gives_the_first_id_and_delivers_nothing(hub: Hub) -> None:
    with hub.subscribe("a") as sub:
        first = hub.publish("a", "one", key="k")
        assert hub.publish("a", "one", key="k").id == first.id
        hub.publish("a", END)
        assert [m.data for m in read_to_the_end(sub)] == ["one", END]


def test_a_key_is_its_owners_alone(hub: Hub) -> None:
    owners = (None, "ada", "bob", "a", "da")
    first = {owner: hub.publish("a", f"of {owner}", key="k", owner=owner).id for owner in owners}
    assert len(set(first.values())) == len(owners)
    for owner in owners:
        assert hub.publish("a", "again", key="k", owner=owner).id == first[owner]


@pytest.mark.parametrize(("one", "two"), [(("a", "bc"), ("ab", "c")), (("a:", "b"), ("a", ":b"))])
def test_owner_and_key_are_not_mixed_up(
    hub: Hub, one: tuple[str, str], two: tuple[str, str]
) -> None:
    first, second = (hub.publish("a", "x", owner=owner, key=key) for owner, key in (one, two))
    assert first.id != second.id


def test_the_applications_keys_cannot_be_taken_for_those_of_others(hub: Hub) -> None:
    theirs = hub.publish("a", "x", key="k", owner="Lovelace").key
    assert theirs is not None
    assert "Lovelace" not in theirs
    with pytest.raises(InvalidMessage, match="begin with"):
        hub.publish("a", "x", key=theirs)


@pytest.mark.parametrize(
    ("channel", "options"),
    [
        ("", {}),
        ("a b", {}),
        ("a", {"event": ""}),
        ("a", {"event": "a\nb"}),
        ("a", {"event": "ready"}),
        ("a", {"data": b"bytes"}),
        ("a", {"data": None}),
        ("a", {"data": {"n": 1}}),
        ("a", {"data": "\ud83d"}),
        ("a", {"data": "x" * 1001}),
        ("a", {"data": "中" * 334}),
        ("a", {"key": ""}),
        ("a", {"key": "k" * 129}),
        ("a", {"key": 7}),
        ("a", {"key": "\ud83d"}),
    ],
)
def test_what_cannot_be_sent_is_refused_to_its_publisher(
    hub: Hub, channel: str, options: dict[str, object]
) -> None:
    head = hub.log.tail("a")
    with pytest.raises((InvalidMessage, TooLarge)):
        hub.publish(channel, **{"data": "text", **options})  # type: ignore[arg-type]
    assert hub.log.tail("a") == head


def test_a_message_may_be_as_large_as_the_limit(hub: Hub) -> None:
    assert hub.publish("a", "x" * 1000).size == 1000
    assert hub.publish("a", "中" * 333).size == 999


# Subscribing


def test_channels_are_named_once_each_and_in_order() -> None:
    assert check_channels("news") == ("news",)
    assert check_channels(iter(["b", "a", "b"])) == ("b", "a")
    assert len(check_channels(f"c{n}" for n in range(MAX_CHANNELS))) == MAX_CHANNELS


@pytest.mark.parametrize("channels", [[], [f"c{n}" for n in range(MAX_CHANNELS + 1)]])
def test_no_channels_or_too_many_are_refused(hub: Hub, channels: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        hub.subscribe(channels)


@pytest.mark.parametrize("channels", ["", "a b", ["a", "ä"]])
def test_a_channel_that_cannot_exist_is_not_followed(hub: Hub, channels: str | list[str]) -> None:
    with pytest.raises(InvalidMessage):
        hub.subscribe(channels)


def test_a_cursor_that_no_log_gave_out_is_refused_before_anything_starts(hub: Hub) -> None:
    with pytest.raises(InvalidCursor):
        hub.subscribe("a", after="nonsense")
    assert hub.subscribers("a") == 0


def test_history_is_for_those_who_bring_no_cursor(hub: Hub) -> None:
    messages = [hub.publish("a", str(n)) for n in range(10)]
    with hub.subscribe("a", history=3) as new, hub.subscribe("a") as head:
        assert new.read() == messages[7:]
        assert head.read() == []
    with hub.subscribe("a", history=3, after=str(messages[4].id)) as back:
        assert back.read() == messages[5:]


def test_the_hub_counts_the_subscribers_of_each_channel(hub: Hub) -> None:
    with hub.subscribe("a"), hub.subscribe(["a", "b"]):
        assert (hub.subscribers("a"), hub.subscribers("b"), hub.subscribers("c")) == (2, 1, 0)
    assert (hub.subscribers("a"), hub.subscribers("b")) == (0, 0)


def test_one_thread_serves_all_channels_while_somebody_follows_them_and_none_after(
    hub: Hub,
) -> None:
    subs = [hub.subscribe(["a", "b"]) for _ in range(10)]
    assert len(dispatchers(hub)) == 1
    for sub in subs:
        sub.close()
    wait_until(lambda: not dispatchers(hub), "the dispatcher has ended")
    with hub.subscribe("a") as sub:
        message = hub.publish("a", "text")
        assert sub.take(PATIENCE) == [message]


@pytest.mark.usefixtures("hurry")
def test_followers_that_come_and_go_all_the_time_keep_getting_messages(hub: Hub) -> None:
    """The last one leaves, the dispatcher ends, the next one comes: no message falls in between."""
    crew, done = Crew(), threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            with hub.subscribe("a") as sub:
                message = hub.publish("a", "mine")
                while message not in sub.take(PATIENCE):
                    pass

    for _ in range(3):
        crew.start(come_and_go)
    wait_until(lambda: hub.log.tail("a").offset > 500, "500 visits", 60)
    done.set()
    crew.join()


def test_a_channel_that_is_slow_to_follow_keeps_nobody_else_waiting() -> None:
    gate, begun = threading.Event(), threading.Event()

    class SlowLog(MemoryLog):
        def follow(self, channel: str, heard: Heard) -> None:
            if channel == "slow":
                begun.set()
                assert gate.wait(PATIENCE)
            super().follow(channel, heard)

    hub, crew = Hub(SlowLog()), Crew()

    def wait_for_one() -> None:
        with hub.subscribe("slow") as slow:
            met.set()
            while not (items := slow.take(PATIENCE)):
                pass
            seen.extend(items)

    met, seen = threading.Event(), []
    crew.start(wait_for_one)
    assert begun.wait(PATIENCE)
    with hub.subscribe("a") as other:
        message = hub.publish("a", "text")
        assert read_until(other, message) == [message]
        assert not met.is_set()
        gate.set()
        assert met.wait(PATIENCE)
        message = hub.publish("slow", "text")
        crew.join()
        assert seen == [message]
    check_nothing_is_left(hub)


def test_a_subscription_that_fails_half_way_leaves_nothing_behind() -> None:
    log = BrokenLog()
    hub = Hub(log)
    log.broken = {"tail:b"}
    with pytest.raises(LogUnavailable):
        hub.subscribe(["a", "b"])
    log.broken = set()
    assert (hub.subscribers("a"), hub.subscribers("b")) == (0, 0)
    check_nothing_is_left(hub)


# Closing


def test_a_closed_hub_ends_everybody_and_refuses_newcomers(hub: Hub) -> None:
    subs = [hub.subscribe("a"), hub.subscribe(["a", "b"])]
    hub.close()
    hub.close()
    assert hub.closed.is_set()
    for sub in subs:
        with sub, pytest.raises(HubClosed):
            sub.take(PATIENCE)
    with pytest.raises(HubClosed):
        hub.subscribe("a")


def test_a_closed_hub_still_takes_messages_for_those_who_resume(hub: Hub) -> None:
    with hub.subscribe("a") as sub:
        cursor = sub.id
        hub.close()
        message = hub.publish("a", "while it drains")
    with Hub(hub.log).subscribe("a", after=cursor) as back:
        assert back.read() == [message]


def test_who_joins_while_the_hub_looks_whom_to_end_is_ended_as_well(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    join = hub._dispatcher.join

    def close_before(*arguments: object) -> object:
        hub.close()
        return join(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(hub._dispatcher, "join", close_before)
    with hub.subscribe("a") as sub, pytest.raises(HubClosed):
        sub.take(PATIENCE)


@pytest.mark.usefixtures("hurry")
def test_nobody_slips_through_while_the_hub_closes(hub: Hub) -> None:
    crew, gate = Crew(), threading.Barrier(9)

    def live() -> None:
        gate.wait(PATIENCE)
        with pytest.raises(HubClosed):
            live_on()

    def live_on() -> None:
        while True:
            with hub.subscribe("a") as sub:
                while sub.take():
                    pass

    def feed() -> None:
        gate.wait(PATIENCE)
        for n in range(200):
            hub.publish("a", str(n))
        hub.close()

    for _ in range(8):
        crew.start(live)
    crew.start(feed)
    crew.join()


# The guarantees


@pytest.mark.usefixtures("hurry")
def test_everybody_gets_every_message_once_and_in_order_whatever_they_do(hub: Hub) -> None:
    """Publishers, joiners, resumers and laggards in threads: everyone sees the log itself."""
    publishers, each, crew = 4, 300, Crew()
    joiners = (0, 0, 1, 100, 300, 700)
    origin = hub.log.tail("a")
    seen: list[tuple[Position, list[Message]]] = []
    finished = threading.Semaphore(0)

    def wait_for_message(at: int) -> None:
        wait_until(lambda: hub.log.tail("a").offset >= at, f"message {at}", 60)

    def publish(name: int) -> None:
        for n in range(each):
            hub.publish("a", f"{name}:{n}")
        finished.release()

    def end() -> None:
        for _ in range(publishers + len(joiners)):
            assert finished.acquire(timeout=60)
        hub.publish("a", END)

    def follow(at: int) -> None:
        """Join once ``at`` messages were published, and stay."""
        wait_for_message(at)
        with hub.subscribe("a") as sub:
            start = Position.parse(sub.id)
            finished.release()  # who joins behind the end waits for it for ever
            seen.append((start, read_to_the_end(sub)))

    def lag() -> None:
        """Read only when there is much to read."""
        messages: list[Message] = []
        with hub.subscribe("a", after=str(origin)) as sub:
            while not messages or messages[-1].data != END:
                wait_for_message(min(len(messages) + 100, total))
                items = sub.take(PATIENCE)
                assert not [i for i in items if isinstance(i, Gap)]
                messages += [i for i in items if isinstance(i, Message)]
        seen.append((origin, messages))

    def resume(seed: int) -> None:
        """Lose the connection every few messages, in the middle of what was read, and return."""
        dice = random.Random(seed)
        messages: list[Message] = []
        cursor = str(origin)
        while not messages or messages[-1].data != END:
            left = dice.randrange(1, 40)
            with hub.subscribe("a", after=cursor) as sub:
                while left > 0 and (not messages or messages[-1].data != END):
                    for item in sub.take(PATIENCE)[:left]:
                        assert isinstance(item, Message)
                        cursor = sub.step(item)
                        messages.append(item)
                        left -= 1
        seen.append((origin, messages))

    total = publishers * each + 1
    for at in joiners:
        crew.start(lambda at=at: follow(at))
    for seed in range(4):
        crew.start(lambda seed=seed: resume(seed))
    crew.start(lag)
    crew.start(lag)
    for name in range(publishers):
        crew.start(lambda name=name: publish(name))
    crew.start(end)
    crew.join()

    log = list(hub.log.read("a", origin, limit=total, size=1 << 30).messages)
    assert len(log) == total
    assert len(seen) == 12
    for start, messages in seen:
        check_seamless(messages, start, log)


@pytest.mark.usefixtures("hurry")
def test_nothing_is_lost_or_doubled_where_the_past_meets_the_present(hub: Hub) -> None:
    """Hundreds of joiners with history, each at another moment of a busy channel."""
    crew, origin, done = Crew(), hub.log.tail("a"), threading.Event()
    seen: list[tuple[Position, list[Message]]] = []

    def publish() -> None:
        while not done.is_set():
            hub.publish("a", "text")
        hub.publish("a", END)

    def join(history: int) -> None:
        with hub.subscribe("a", history=history) as sub:
            start = Position.parse(sub.id)
            messages: list[Message] = []
            while len(messages) < history + 30:
                messages += [m for m in sub.take(PATIENCE) if isinstance(m, Message)]
        seen.append((start, messages))

    crew.start(publish)
    wait_until(lambda: hub.log.tail("a").offset > 100, "a past to join with")
    joiners = Crew()
    for n in range(200):
        joiners.start(lambda n=n: join(n % 60))
    joiners.join()
    done.set()
    crew.join()
    log = list(hub.log.read("a", origin, limit=1 << 30, size=1 << 40).messages)
    assert len(seen) == 200
    for start, messages in seen:
        assert messages == log[start.offset : start.offset + len(messages)]


@pytest.mark.usefixtures("hurry")
def test_composite_cursors_resume_every_channel_exactly(hub: Hub) -> None:
    """Several publishers on several channels; the reader breaks off in the middle of pages."""
    channels, each, crew = ["a", "b", "c", "d"], 150, Crew()

    def publish(channel: str) -> None:
        for n in range(each):
            hub.publish(channel, f"{channel}{n}")
        hub.publish(channel, END)

    def resume(seed: int) -> None:
        dice = random.Random(seed)
        cursor, names, ends = start, list(channels), 0
        messages: dict[str, list[str]] = {name: [] for name in names}
        while ends < len(channels):
            dice.shuffle(names)  # the order of the channels is not part of the cursor
            left = dice.randrange(1, 25)
            with hub.subscribe(names, after=cursor) as sub:
                while left > 0 and ends < len(channels):
                    for item in sub.take(PATIENCE)[:left]:
                        assert isinstance(item, Message)
                        cursor = sub.step(item)
                        messages[item.channel].append(item.data)
                        ends += item.data == END
                        left -= 1
        seen.append(messages)

    seen: list[dict[str, list[str]]] = []
    with hub.subscribe(channels) as sub:
        start = sub.id
    assert start.count(".") == 3
    assert all(channel_tag(channel) in start for channel in channels)
    for seed in range(4):
        crew.start(lambda seed=seed: resume(seed))
    for channel in channels:
        crew.start(lambda channel=channel: publish(channel))
    crew.join()
    expected = {c: [*(f"{c}{n}" for n in range(each)), END] for c in channels}
    assert seen == [expected] * 4


class Text(str):
    """Text that says when it is let go."""


@pytest.mark.usefixtures("hurry")
def test_a_slow_subscriber_costs_nobody_else_anything() -> None:
    """One never reads: publishers go on, others get all, and what is held stays the log's."""
    hub, total, crew = Hub(MemoryLog(Retention(messages=50))), 3000, Crew()
    texts: list[weakref.ref[Text]] = []
    taken = [0]

    def follow() -> None:
        with hub.subscribe("a", after=cursor) as sub:
            while taken[0] < total:
                for item in sub.take(PATIENCE):
                    assert isinstance(item, Message)
                    assert item.id.offset == taken[0] + 1
                    taken[0] += 1

    with hub.subscribe("a") as slow:
        cursor = slow.id
        crew.start(follow)
        for n in range(1, total + 1):
            wait_until(lambda: n - taken[0] < 40, "the other one keeps up")  # noqa: B023
            text = Text(n)
            texts.append(weakref.ref(text))
            hub.publish("a", text)
        del text
        crew.join()
        wait_until(
            lambda: sum(text() is not None for text in texts) <= 50, "only the log holds messages"
        )
        gap, *rest = slow.read()
        assert isinstance(gap, Gap)
        assert str(gap.requested) == cursor
        assert [m.id.offset for m in rest if isinstance(m, Message)] == list(range(2951, 3001))


@pytest.mark.usefixtures("hurry")
def test_a_gap_is_always_told_and_says_exactly_what_is_missing() -> None:
    """A reader that is far too slow for a small log, and that loses its connection as well.

    The publisher is another process, which cannot be waited for."""
    hub, total, crew = Hub(MemoryLog(Retention(messages=20))), 5000, Crew()
    with hub.subscribe("a") as sub:
        cursor = sub.id
    crew.start(lambda: [hub.log.append("a", str(n)) for n in range(1, total + 1)])
    dice, last, missed, gaps, got = random.Random(7), 0, 0, 0, 0
    while last < total:
        with hub.subscribe("a", after=cursor) as sub:
            for item in sub.take(PATIENCE)[: dice.randrange(1, 30)]:
                cursor = sub.step(item)
                if isinstance(item, Gap):
                    assert item.requested.offset == last
                    assert item.oldest is not None
                    assert item.oldest.offset > last + 1, "a gap in which nothing is missing"
                    missed += item.oldest.offset - last - 1
                    last = item.oldest.offset - 1
                    gaps += 1
                else:
                    assert item.id.offset == last + 1, "lost without a word"
                    last, got = item.id.offset, got + 1
    crew.join()
    assert got + missed == total
    assert gaps > 0


@pytest.mark.usefixtures("hurry")
def test_a_new_channel_is_not_silent_for_its_first_follower(hub: Hub) -> None:
    for n in range(300):
        with hub.subscribe(f"new{n}") as sub:
            message = hub.publish(f"new{n}", "first")
            items: list[Message | Gap] = []
            while not items:
                items = sub.take(PATIENCE)
            assert items == [message]


def test_two_hubs_on_one_log_deliver_each_others_messages() -> None:
    log = MemoryLog()
    one, other = Hub(log), Hub(log)
    with one.subscribe("a") as here, other.subscribe("a") as there:
        message = one.publish("a", "text")
        assert read_until(here, message) == read_until(there, message) == [message]
        cursor = here.id
    message = one.publish("a", "more")
    with other.subscribe("a", after=cursor) as there:
        assert there.read() == [message]


def read_until(sub: Subscription, message: Message) -> list[Message | Gap]:
    items: list[Message | Gap] = []
    while message not in items:
        items += sub.take(PATIENCE)
    return items
