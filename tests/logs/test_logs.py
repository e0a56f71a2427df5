"""streaming/logs/: one suite for every log, and what is special about memory."""

import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streaming.errors import ConfigurationError
from streaming.logs import Log, Member, MemoryLog, Retention, open_log
from streaming.logs.contract import MAX_KEYS
from streaming.message import MARK, Message, Position
from tests.clock import Clock
from tests.homes import COUNTING, HOMES, Open
from tests.listener import Listener, follow
from tests.polling import PATIENCE

MUCH = 1 << 30

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(params=HOMES)
def open_empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens an empty log with the given retention; closes it after the test."""
    with HOMES[request.param](tmp_path) as open_log:
        yield lambda **retention: open_log(Retention(**retention))


@pytest.fixture(params=COUNTING)
def open_counting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """The same where channels are counted."""
    with HOMES[request.param](tmp_path) as open_log:
        yield lambda **retention: open_log(Retention(**retention))


@pytest.fixture
def log(open_empty: Open) -> Log:
    return open_empty()


def fill(log: Log, channel: str, count: int, *, size: int = 1) -> list[Message]:
    return [log.append(channel, f"{n}".ljust(size, ".")) for n in range(1, count + 1)]


def read(log: Log, channel: str, after: Position, limit: int = 1000) -> list[Message]:
    """Everything behind ``after``; there must be no gap."""
    page = log.read(channel, after, limit=limit, size=MUCH)
    assert page.gap is None
    return list(page.messages)


def offsets(messages: list[Message]) -> list[int]:
    return [message.id.offset for message in messages]


def start(*targets: Callable[[], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    return threads


# Appending and reading


def test_offsets_count_from_one_in_each_channel(log: Log) -> None:
    assert offsets(fill(log, "a", 3)) == [1, 2, 3]
    assert offsets(fill(log, "b", 2)) == [1, 2]
    assert offsets(fill(log, "a", 1)) == [4]


def test_all_messages_of_a_channel_share_its_epoch(log: Log) -> None:
    (epoch,) = {m.id.epoch for m in fill(log, "a", 5)}
    assert log.tail("a").epoch == epoch
    assert log.append("b", "text").id.epoch != epoch


def test_an_epoch_can_be_printed_in_a_cursor(log: Log) -> None:
    position = log.append("a", "text").id
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "data", ["", "text", " \r\n\t\n", "中文 😀 e\u0301", "\u2028\x85\v", "NUL \0", "x" * 100_000]
)
def test_a_message_is_read_as_it_was_appended(log: Log, data: str) -> None:
    start = log.tail("a")
    written = log.append("a", data, event="tick 价格", key="k", sender="client-1")
    assert (written.channel, written.data, written.event) == ("a", data, "tick 价格")
    assert written.sender == "client-1"
    assert read(log, "a", start) == [written]


def test_the_trace_that_a_message_was_published_in_is_kept_with_it(log: Log) -> None:
    start = log.tail("a")
    written = [
        log.append("a", text, event=event, key=key, traceparent=trace)
        for text, event, key in (("text", "message", None), ("x" * 5000, "tick", "k"))
        for trace in (TRACE, None, None)
    ]
    assert [message.traceparent for message in written] == [TRACE, None, None, TRACE, TRACE, TRACE]
    assert read(log, "a", start) == written[:4]
    assert read(log, "a", start)[3].traceparent == TRACE
    assert log.append("a", "again", key="k", traceparent=OTHER).traceparent == TRACE
    last = log.append("a", "{}", event="end", last=True, traceparent=OTHER)
    assert read(log, "a", written[3].id) == [last]
    assert last.traceparent == OTHER


def test_the_size_of_a_message_is_its_text_in_utf_8(log: Log) -> None:
    start = log.tail("a")
    for data in ("abc", "", "é", "中文", "😀"):
        log.append("a", data)
    assert [m.size for m in read(log, "a", start)] == [3, 0, 2, 6, 4]


def test_a_read_gives_what_is_behind_the_position_in_order(log: Log) -> None:
    messages = fill(log, "a", 5)
    for place in range(5):
        assert read(log, "a", messages[place].id) == messages[place + 1 :]


def test_a_read_at_the_head_gives_nothing_and_stays(log: Log) -> None:
    head = fill(log, "a", 3)[-1].id
    page = log.read("a", head, limit=10, size=MUCH)
    assert (list(page.messages), page.position, page.gap) == ([], head, None)


def test_a_walk_with_any_limit_meets_every_message_once(log: Log) -> None:
    place = log.tail("a")
    messages = fill(log, "a", 20)
    for limit in (1, 3, 7, 20, 50):
        walked, here = [], place
        while page := log.read("a", here, limit=limit, size=MUCH).messages:
            assert len(page) <= limit
            walked += page
            here = walked[-1].id
            assert log.read("a", walked[0].id, limit=1, size=MUCH).position == messages[1].id
        assert walked == messages


def test_a_page_ends_where_the_next_read_begins(log: Log) -> None:
    place = log.tail("a")
    fill(log, "a", 5)
    page = log.read("a", place, limit=2, size=MUCH)
    assert page.position == page.messages[-1].id
    assert offsets(list(log.read("a", page.position, limit=2, size=MUCH).messages)) == [3, 4]


def test_a_page_stays_within_its_bytes_but_is_never_empty(log: Log) -> None:
    place = log.tail("a")
    epoch = fill(log, "a", 6, size=100)[0].id.epoch
    log.append("a", "x" * 1000)
    for size, count in ((350, 3), (300, 3), (99, 1), (0, 1)):
        page = log.read("a", place, limit=10, size=size)
        assert offsets(list(page.messages)) == list(range(1, count + 1))
        assert page.position.offset == count
    behind = log.read("a", Position(epoch, 6), limit=10, size=10)
    assert offsets(list(behind.messages)) == [7]


def test_channels_do_not_see_each_other(log: Log) -> None:
    a, b = log.tail("a"), log.tail("b")
    log.append("a", "one")
    log.append("b", "two")
    assert [m.data for m in read(log, "a", a)] == ["one"]
    assert [m.data for m in read(log, "b", b)] == ["two"]


def test_the_tail_is_the_head_or_so_many_messages_before_it(log: Log) -> None:
    fill(log, "a", 10)
    assert [log.tail("a", n).offset for n in (0, 1, 3, 10, 50)] == [10, 9, 7, 0, 0]
    assert offsets(read(log, "a", log.tail("a", 3))) == [8, 9, 10]


def test_a_history_longer_than_what_is_held_begins_without_a_gap(open_empty: Open) -> None:
    log = open_empty(messages=4)
    fill(log, "a", 10)
    assert offsets(read(log, "a", log.tail("a", 50))) == [7, 8, 9, 10]


def test_concurrent_appends_get_every_offset_once_and_are_read_in_order(log: Log) -> None:
    place = log.tail("a")
    written: list[list[Message]] = [[] for _ in range(6)]

    def write(n: int) -> None:
        for i in range(100):
            written[n].append(log.append("a", f"{n}:{i}"))

    for thread in start(*[lambda n=n: write(n) for n in range(6)]):
        thread.join()
    messages = read(log, "a", place)
    assert offsets(messages) == list(range(1, 601))
    assert sorted(messages, key=str) == sorted([m for ms in written for m in ms], key=str)
    for n, mine in enumerate(written):  # an appender's own messages are in its own order
        assert [m for m in messages if m.data.startswith(f"{n}:")] == mine


# What is no longer there


def test_the_oldest_go_first_and_whoever_needed_them_is_told(open_empty: Open) -> None:
    log = open_empty(messages=3)
    place = log.tail("a")
    messages = fill(log, "a", 10)
    page = log.read("a", place, limit=10, size=MUCH)
    assert page.gap is not None
    assert page.gap.channel == "a"
    assert page.gap.requested == place
    assert page.gap.oldest == messages[7].id
    assert page.gap.newest == messages[9].id
    assert list(page.messages) == messages[7:]
    assert page.position == messages[9].id


def test_whoever_stands_right_before_the_oldest_misses_nothing(open_empty: Open) -> None:
    log = open_empty(messages=3)
    messages = fill(log, "a", 10)
    assert read(log, "a", messages[6].id) == messages[7:]
    assert log.read("a", messages[5].id, limit=10, size=MUCH).gap is not None


def test_a_gap_is_told_even_to_a_read_with_the_smallest_limits(open_empty: Open) -> None:
    log = open_empty(messages=3)
    place = log.tail("a")
    messages = fill(log, "a", 10)
    page = log.read("a", place, limit=1, size=0)
    assert page.gap is not None
    assert page.gap.newest == messages[9].id
    assert list(page.messages) == messages[7:8]
    assert log.read("a", page.position, limit=10, size=MUCH).gap is None


def test_a_channel_keeps_no_more_bytes_than_allowed(open_empty: Open) -> None:
    log = open_empty(size=1000)
    place = log.tail("a")
    fill(log, "a", 50, size=90)
    page = log.read("a", place, limit=1000, size=MUCH)
    assert page.gap is not None
    assert offsets(list(page.messages)) == list(range(40, 51))
    log.append("a", "中" * 300)  # 900 bytes
    assert sum(m.size for m in read(log, "a", log.tail("a", 1000))) <= 1000


def test_the_newest_message_stays_even_if_it_is_larger_than_the_channel(open_empty: Open) -> None:
    log = open_empty(size=1000)
    fill(log, "a", 3)
    large = log.append("a", "x" * 5000)
    assert read(log, "a", log.tail("a", 1000)) == [large]
    small = log.append("a", "y")
    assert read(log, "a", log.tail("a", 1000)) == [small]


def test_a_position_of_another_epoch_is_a_gap_from_the_oldest_held(log: Log) -> None:
    messages = fill(log, "a", 3)
    for offset in (0, 2, 3, 1000):
        stranger = Position("0123abcd", offset)
        page = log.read("a", stranger, limit=10, size=MUCH)
        assert page.gap is not None
        assert page.gap.requested == stranger
        assert (page.gap.oldest, page.gap.newest) == (messages[0].id, messages[2].id)
        assert list(page.messages) == messages
        assert page.position == messages[2].id


def test_a_gap_in_an_empty_channel_says_that_nothing_is_held(log: Log) -> None:
    head = log.tail("a")
    page = log.read("a", Position("0123abcd", 7), limit=10, size=MUCH)
    assert page.gap is not None
    assert (page.gap.oldest, page.gap.newest) == (None, None)
    assert list(page.messages) == []
    assert page.position.is_same(head)
    assert read(log, "a", page.position) == []


def test_a_position_ahead_of_the_head_is_a_gap(log: Log) -> None:
    messages = fill(log, "a", 3)
    ahead = Position(messages[0].id.epoch, 4)
    page = log.read("a", ahead, limit=10, size=MUCH)
    assert page.gap is not None
    assert page.gap.requested == ahead
    assert list(page.messages) == messages


def test_a_reader_beside_trimming_appenders_is_told_of_exactly_what_it_missed(
    open_empty: Open,
) -> None:
    log = open_empty(messages=20)
    total = 4000
    place = log.append("a", "1").id
    (writer,) = start(lambda: [log.append("a", str(n)) for n in range(2, total + 1)] and None)
    seen, missed, gaps = 0, 0, 0
    while place.offset < total:
        page = log.read("a", place, limit=7, size=MUCH)
        if page.gap is not None:
            gaps += 1
            assert page.gap.requested == place
            assert page.gap.oldest is not None
            assert page.gap.oldest.offset > place.offset + 1, "a gap in which nothing is missing"
            assert page.messages[0].id == page.gap.oldest
            missed += page.gap.oldest.offset - place.offset - 1
            place = Position(place.epoch, page.gap.oldest.offset - 1)
        for message in page.messages:
            assert message.id.offset == place.offset + 1
            assert message.data == str(message.id.offset)
            place = message.id
            seen += 1
        assert page.position == place
    writer.join()
    assert 1 + seen + missed == total


# Idempotency keys


def test_a_repeated_key_gives_the_first_message_and_appends_nothing(log: Log) -> None:
    place = log.tail("a")
    first = log.append("a", "one", key="k")
    again = log.append("a", "two", key="k")
    assert again.id == first.id
    assert read(log, "a", place) == [first]
    assert log.append("a", "three").id.offset == 2


def test_a_key_counts_in_its_own_channel_only(log: Log) -> None:
    log.append("a", "one", key="k")
    assert log.append("b", "one", key="k").channel == "b"
    assert log.append("a", "two", key="l").id.offset == 2
    assert log.append("a", "three").id.offset == 3
    assert log.append("a", "three").id.offset == 4


def test_a_key_is_remembered_longer_than_its_message(open_empty: Open) -> None:
    log = open_empty(messages=2)
    first = log.append("a", "one", key="k")
    fill(log, "a", 5)
    assert log.append("a", "one", key="k").id == first.id
    assert log.tail("a").offset == 6


def test_a_repetition_is_not_heard_of(log: Log) -> None:
    first = log.append("a", "one", key="k")
    listener = follow(log, "a")
    second = log.append("a", "two")
    hear(listener, second)  # a cluster may tell late, and of the first; from here on it does not
    listener.calls.clear()
    log.append("a", "one", key="k")
    third = log.append("a", "three")
    hear(listener, third)
    assert not {first, second} & set(listener.messages)


def test_one_key_from_many_threads_at_once_is_one_message(log: Log) -> None:
    ids: set[Position] = set()
    gate = threading.Barrier(8)

    def write() -> None:
        for n in range(50):
            gate.wait(PATIENCE)
            ids.add(log.append("a", "text", key=f"k{n}").id)

    for thread in start(*[write] * 8):
        thread.join()
    assert len(ids) == 50
    assert log.tail("a").offset == 50


# Marks: places in channels that nobody has published to


def test_an_unknown_channel_has_no_head_but_a_mark(log: Log) -> None:
    for mark in (log.tail("a"), log.tail("a", 50)):
        assert mark.is_mark
        assert Position.parse(str(mark)) == mark
        assert mark.is_same(log.tail("b"))
        page = log.read("a", mark, limit=10, size=MUCH)
        assert (list(page.messages), page.gap) == ([], None)
        assert page.position.is_same(mark)
    assert not log.append("a", "text").id.is_mark
    assert not log.tail("a", 50).is_mark


def test_a_mark_is_good_across_the_first_message_whatever_else_happens(log: Log) -> None:
    fill(log, "before", 3)
    mark = log.tail("a")
    fill(log, "between", 3)
    later = log.tail("a")
    messages = fill(log, "a", 2)
    fill(log, "behind", 3)
    assert read(log, "a", mark) == read(log, "a", later) == messages
    assert log.read("a", mark, limit=1, size=0).position == messages[0].id


def test_a_mark_before_what_is_no_longer_held_is_a_gap(open_empty: Open) -> None:
    log = open_empty(messages=3)
    mark = log.tail("a")
    messages = fill(log, "a", 3)
    assert read(log, "a", mark) == messages
    messages += fill(log, "a", 1)
    page = log.read("a", mark, limit=10, size=MUCH)
    assert page.gap is not None
    assert (page.gap.requested, page.gap.oldest) == (mark, messages[1].id)
    assert list(page.messages) == messages[1:]


@pytest.mark.parametrize("is_there", [False, True])
def test_a_mark_that_was_never_given_is_a_gap(log: Log, is_there: bool) -> None:
    fill(log, "other", 3)
    mark = log.tail("a")
    messages = fill(log, "a", 2) if is_there else []
    for forged in (
        Position(mark.epoch, mark.offset + 10**6),
        Position(mark.epoch, 10**18 - 1),
        Position(MARK + "0123abcd", mark.offset),
        Position(MARK, mark.offset),
    ):
        page = log.read("a", forged, limit=10, size=MUCH)
        assert page.gap is not None
        assert page.gap.requested == forged
        assert page.is_sure or forged.epoch == mark.epoch
        assert list(page.messages) == messages
        assert read(log, "a", page.position) == []


def test_a_mark_given_behind_the_first_message_does_not_hide_it(log: Log) -> None:
    message = log.append("a", "text")
    mark = log.tail("b")
    page = log.read("a", mark, limit=10, size=MUCH)
    assert list(page.messages) == [message]


def test_a_mark_before_a_forgetting_of_its_channel_is_a_gap(open_counting: Open) -> None:
    log = open_counting(channels=2)
    mark = log.tail("a")
    log.append("a", "first life")
    fill_each(log, [f"other{n}" for n in range(5)])
    page = log.read("a", mark, limit=10, size=MUCH)
    assert page.gap is not None
    assert (page.gap.requested, page.gap.oldest, list(page.messages)) == (mark, None, [])
    assert not page.is_sure, "it may have been another channel"
    fresh = page.position
    assert fresh.is_mark
    second = log.append("a", "second life")
    page = log.read("a", mark, limit=10, size=MUCH)
    assert page.gap is not None
    assert (page.gap.oldest, list(page.messages)) == (second.id, [second])
    assert not page.is_sure
    assert read(log, "a", fresh) == [second], "this one was given after the forgetting"


def test_a_mark_before_a_forgetting_of_longer_unused_channels_is_good(open_counting: Open) -> None:
    log = open_counting(channels=5)
    fill_each(log, [f"old{n}" for n in range(5)])
    mark = log.tail("a")
    fill_each(log, [f"new{n}" for n in range(5)])
    assert log.tail("old4").is_mark, "it was forgotten"
    assert read(log, "a", mark) == []
    message = log.append("a", "text")
    assert log.tail("new0").is_mark, "it was forgotten for the new one"
    assert read(log, "a", mark) == [message]


# Nothing is written for reading


MADE_UP = [f"made-up{n}" for n in range(1000)]


def fill_each(log: Log, channels: list[str]) -> dict[str, Message]:
    return {channel: log.append(channel, channel, key="k") for channel in channels}


def test_asking_for_made_up_channels_makes_the_log_forget_nothing(open_empty: Open) -> None:
    log = open_empty(channels=20)
    first = fill_each(log, [f"a{n}" for n in range(20)])
    second = {channel: log.append(channel, "second") for channel in first}
    listener = Listener()
    for name in MADE_UP:
        mark = log.tail(name)
        assert mark.is_mark
        assert log.tail(name, 50).is_mark
        assert log.read(name, mark, limit=10, size=MUCH).gap is None
        assert log.read(name, Position("0123abcd", 1), limit=10, size=MUCH).gap is not None
        log.follow(name, listener)
        log.unfollow(name, listener)
        assert log.members(name) == []
        assert not log.leave(name, "ann")
    for channel, message in first.items():
        assert log.tail(channel) == second[channel].id
        assert read(log, channel, log.tail(channel, 9)) == [message, second[channel]]
        assert log.append(channel, "again", key="k") == message


def test_following_made_up_channels_makes_the_log_forget_nothing(open_empty: Open) -> None:
    log = open_empty(channels=20)
    first = fill_each(log, [f"a{n}" for n in range(20)])
    listener = follow(log, *MADE_UP)
    for channel, message in first.items():
        assert read(log, channel, message.id) == []
        assert log.append(channel, "again", key="k") == message
    message = log.append(MADE_UP[500], "text")
    assert listener.wait()
    assert listener.channels == {MADE_UP[500]}
    assert read(log, MADE_UP[500], log.tail(MADE_UP[500], 9)) == [message]
    for name in MADE_UP:
        log.unfollow(name, listener)


# Following


def hear(listener: Listener, message: Message) -> None:
    """Wait until the listener was given this one, or called without any."""
    while not any(m is None or m == message for _, m in listener.calls):
        assert listener.wait(), f"did not hear of {message}"


def test_each_append_is_heard_of_with_the_message_or_without(log: Log) -> None:
    listener = follow(log, "a")
    appended: list[Message] = []
    for n in range(20):
        listener.calls.clear()
        appended.append(log.append("a", str(n)))
        hear(listener, appended[-1])
        assert listener.channels == {"a"}
        assert all(message in appended for message in listener.messages)
    log.unfollow("a", listener)


def test_the_first_message_of_a_channel_is_heard_of(log: Log) -> None:
    listeners = [follow(log, "never-seen-before") for _ in range(3)]
    log.append("never-seen-before", "text")
    for listener in listeners:
        assert listener.wait()
        log.unfollow("never-seen-before", listener)


def test_each_hears_of_its_own_channels_only(log: Log) -> None:
    one, two, both = follow(log, "a"), follow(log, "b"), follow(log, "a", "b")
    for channel in "cab":
        fill(log, channel, 5)
    for listener, channels in ((one, "a"), (two, "b"), (both, "ab")):
        while listener.channels != set(channels):
            assert listener.wait()
        assert {m.channel for m in listener.messages} <= set(channels)
        for channel in channels:
            log.unfollow(channel, listener)


def test_who_follows_twice_has_to_unfollow_twice(log: Log) -> None:
    listener, other = Listener(), follow(log, "a")
    log.follow("a", listener)
    log.follow("a", listener)
    log.unfollow("a", listener)
    log.append("a", "once more")
    assert listener.wait()
    log.unfollow("a", listener)
    silent_from_now(log, listener, other)
    log.unfollow("a", listener)
    log.unfollow("never-followed", listener)
    log.follow("a", listener)
    log.append("a", "and again")
    assert listener.wait()
    log.unfollow("a", listener)
    log.unfollow("a", other)


def silent_from_now(log: Log, listener: Listener, other: Listener) -> None:
    """``listener`` hears nothing of what ``other`` hears."""
    before = 0
    for n in range(4):
        other.calls.clear()
        hear(other, log.append("a", str(n)))
        if n == 0:  # what was on its way has arrived
            before = len(listener.calls)
    assert len(listener.calls) == before


def test_one_that_stays_misses_nothing_while_others_come_and_go(log: Log) -> None:
    place = log.append("a", "first").id
    is_over = threading.Event()
    errors: list[Exception] = []

    def come_and_go() -> None:
        passing = Listener()
        try:
            while not is_over.is_set():
                log.follow("a", passing)
                log.unfollow("a", passing)
        except Exception as error:
            errors.append(error)

    listener = follow(log, "a")
    threads = start(come_and_go, come_and_go, lambda: fill(log, "a", 300) and None)
    try:
        while place.offset < 301:
            assert listener.wait(), f"asleep at {place}"
            for message in read(log, "a", place):
                assert message.id.offset == place.offset + 1
                place = message.id
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert not errors
    log.unfollow("a", listener)


def test_who_reads_whenever_it_hears_misses_nothing(log: Log) -> None:
    total, readers = 500, 4
    mark = log.tail("a")
    seen: list[list[int]] = [[] for _ in range(readers)]
    listeners = [follow(log, "a") for _ in range(readers)]

    def listen(n: int) -> None:
        here = mark
        while len(seen[n]) < total:
            assert listeners[n].wait(), f"asleep at {here}"
            while messages := read(log, "a", here, limit=3):
                seen[n] += offsets(messages)
                here = messages[-1].id

    threads = start(
        *[lambda n=n: listen(n) for n in range(readers)],
        *[lambda: fill(log, "a", total // 2) and None] * 2,
    )
    for thread in threads:
        thread.join()
    assert seen == [list(range(1, total + 1))] * readers
    for listener in listeners:
        log.unfollow("a", listener)


def test_each_message_that_is_heard_is_one_that_was_appended(log: Log) -> None:
    listener = follow(log, "a")
    written: list[Message] = []
    for thread in start(*[lambda: written.extend(fill(log, "a", 50))] * 3):
        thread.join()
    assert listener.wait()
    by_id = {message.id: message for message in written}
    assert all(by_id[message.id] == message for message in listener.messages)
    log.unfollow("a", listener)


def test_what_is_followed_is_not_forgotten_and_does_not_count(open_counting: Open) -> None:
    log = open_counting(channels=10)
    others = fill_each(log, [f"other{n}" for n in range(10)])
    names = [f"followed{n}" for n in range(20)]
    listener = follow(log, *names[:10])
    heads = fill_each(log, names[:10])  # they come to be while they are followed
    assert {c: log.tail(c) for c in others} == {c: m.id for c, m in others.items()}
    for name in names[10:]:
        heads |= fill_each(log, [name])
        log.follow(name, listener)  # these were there
    for n in range(300):
        log.append(f"run:{n}", "text")
    assert {name: log.tail(name) for name in names} == {c: m.id for c, m in heads.items()}
    held = [n for n in range(300) if not log.tail(f"run:{n}").is_mark]
    assert held == list(range(290, 300)), "the longest unused go first"
    for name in names:
        log.unfollow(name, listener)
    for n in range(300):
        log.append(f"more:{n}", "text")
    assert all(log.tail(name).is_mark for name in names)
    assert sum(not log.tail(f"more:{n}").is_mark for n in range(300)) == 10


# Who is in a room


def test_a_member_is_in_the_room_until_it_leaves(log: Log) -> None:
    assert log.enter("a", Member("ann", "Ann")) is None
    assert log.enter("a", Member("bob")) is None
    assert log.members("a") == [Member("ann", "Ann"), Member("bob")]
    assert log.leave("a", "ann")
    assert log.members("a") == [Member("bob")]


def test_entering_twice_says_so_and_keeps_the_place_and_the_newer_info(log: Log) -> None:
    log.enter("a", Member("ann", "typing"))
    log.enter("a", Member("bob"))
    assert log.enter("a", Member("ann", "idle")) == Member("ann", "typing")
    assert log.members("a") == [Member("ann", "idle"), Member("bob")]


def test_a_member_has_a_name_and_as_many_connections_as_were_said_last(log: Log) -> None:
    log.enter("a", Member("ann", "here", "Ann 安", 3))
    assert log.members("a") == [Member("ann", "here", "Ann 安", 3)]
    assert log.enter("a", Member("ann", "", "", 2), says=False)
    assert log.members("a") == [Member("ann", "here", "Ann 安", 2)]
    assert log.find("a", "ann") == log.find("a", "ann", own=True) == log.members("a")[0]
    log.enter("a", Member("ann"))
    assert log.members("a") == [Member("ann")]
    assert log.leave("a", "ann")
    assert log.find("a", "ann") is log.find("a", "ann", own=True) is None


def test_leaving_a_room_one_is_not_in_says_so(log: Log) -> None:
    assert not log.leave("a", "ann")
    log.enter("b", Member("ann"))
    assert not log.leave("a", "ann")
    assert log.leave("b", "ann")
    assert not log.leave("b", "ann")
    assert log.members("b") == []


def test_rooms_and_channels_of_one_name_are_two_things(log: Log) -> None:
    head = log.append("a", "text").id
    log.enter("a", Member("ann", '{"name": "安 \U0001f600"}'))
    assert log.tail("a") == head
    assert log.members("a") == [Member("ann", '{"name": "安 \U0001f600"}')]
    assert log.members("b") == []


def test_many_enter_and_leave_at_once_and_none_is_lost(log: Log) -> None:
    def come(n: int) -> None:
        for i in range(20):
            log.enter("a", Member(f"{n}:{i}"))
            if i % 2:
                log.leave("a", f"{n}:{i}")

    for thread in start(*[lambda n=n: come(n) for n in range(5)]):
        thread.join()
    expected = {f"{n}:{i}" for n in range(5) for i in range(0, 20, 2)}
    assert {member.id for member in log.members("a")} == expected


def test_a_process_that_beats_keeps_its_members(log: Log) -> None:
    log.enter("a", Member("ann"))
    assert log.beat() == []
    assert log.members("a") == [Member("ann")]


def test_a_log_that_can_be_reached_passes_its_check(log: Log) -> None:
    log.check()


def test_a_log_may_be_closed_twice(log: Log) -> None:
    log.append("a", "text")
    log.close()
    log.close()


# memory:


@pytest.fixture
def clock() -> Clock:
    return Clock()


def aged(clock: Clock, **retention: object) -> MemoryLog:
    return MemoryLog(Retention(**retention), clock=clock)  # type: ignore[arg-type]


def test_a_url_opens_a_memory_log_with_its_retention() -> None:
    log = open_log("memory:", Retention(messages=2))
    fill(log, "a", 5)
    assert offsets(read(log, "a", log.tail("a", 10))) == [4, 5]
    assert isinstance(open_log("memory:"), MemoryLog)


@pytest.mark.parametrize("url", ["", "memory", "postgres://host/db", "/tmp/file"])
def test_a_url_that_is_no_log_is_refused_with_those_that_are(url: str) -> None:
    with pytest.raises(ConfigurationError, match="memory:"):
        open_log(url)


def test_a_message_is_held_for_its_age_and_no_longer(clock: Clock) -> None:
    log = aged(clock, age=60.0)
    place = log.tail("a")
    log.append("a", "old")
    clock.now += 30
    young = log.append("a", "young")
    clock.now += 30
    assert offsets(read(log, "a", place)) == [1, 2]
    clock.now += 1
    page = log.read("a", place, limit=10, size=MUCH)
    assert page.gap is not None
    assert list(page.messages) == [young]
    clock.now += 60
    page = log.read("a", place, limit=10, size=MUCH)
    assert page.gap is not None
    assert (page.gap.oldest, page.gap.newest, list(page.messages)) == (None, None, [])
    assert page.position == log.tail("a", 50) == young.id
    assert log.append("a", "next").id.offset == 3


def test_whoever_read_all_that_has_aged_away_misses_nothing(clock: Clock) -> None:
    log = aged(clock, age=60.0)
    head = fill(log, "a", 3)[-1].id
    clock.now += 1000
    assert read(log, "a", head) == []
    message = log.append("a", "next")
    assert read(log, "a", head) == [message]


def test_without_an_age_nothing_grows_old(clock: Clock) -> None:
    log = aged(clock, age=None)
    place = log.tail("a")
    fill(log, "a", 3)
    clock.now += 1e9
    assert len(read(log, "a", place)) == 3
    log.append("b", "text")
    assert len(log) == 2


def test_a_key_is_forgotten_when_its_window_has_passed(clock: Clock) -> None:
    log = aged(clock, key_window=120.0)
    first = log.append("a", "one", key="k")
    clock.now += 60
    log.append("a", "two", key="l")
    clock.now += 60
    assert log.append("a", "one", key="k").id == first.id, "still in its window"
    clock.now += 1
    assert log.append("a", "one", key="k").id.offset == 3
    assert log.append("a", "two", key="l").id.offset == 2


def test_a_repetition_does_not_prolong_the_window(clock: Clock) -> None:
    log = aged(clock, key_window=120.0)
    for _ in range(4):
        assert log.append("a", "one", key="k").id.offset == 1
        clock.now += 40
    assert log.append("a", "one", key="k").id.offset == 2


def test_a_channel_remembers_a_bounded_number_of_keys(clock: Clock) -> None:
    log = aged(clock, messages=1)
    for n in range(MAX_KEYS + 10):
        log.append("a", "", key=str(n))
    head = log.tail("a").offset
    assert log.append("a", "", key=str(MAX_KEYS + 9)).id.offset == head
    assert log.append("a", "", key="0").id.offset == head + 1


class Text(str):
    """Text that says when it is let go."""


def held(texts: "list[weakref.ref[Text]]") -> int:
    return sum(text() is not None for text in texts)


@pytest.mark.parametrize("key", [None, "k{}"])
def test_the_text_of_what_is_no_longer_held_is_let_go(key: str | None) -> None:
    log = MemoryLog(Retention(messages=10))
    texts = []
    for n in range(1000):
        text = Text(n)
        texts.append(weakref.ref(text))
        log.append("a", text, key=key and key.format(n))
        del text
        assert held(texts) <= 10
    assert held(texts) == 10


def test_channels_that_nobody_follows_are_forgotten_beyond_their_number() -> None:
    log = MemoryLog(Retention(channels=50))
    texts = []
    for n in range(2000):
        text = Text(n)
        texts.append(weakref.ref(text))
        log.append(f"run:{n}", text)
        del text
        assert len(log) <= 50
    assert held(texts) <= 50
    assert [m.data for m in read(log, "run:1999", log.tail("run:1999", 9))] == ["1999"]


def test_asking_for_channels_leaves_no_trace() -> None:
    log = MemoryLog()
    listener = follow(log, *MADE_UP)
    for name in MADE_UP:
        log.read(name, log.tail(name), limit=1, size=1)
    assert len(log) == 0
    for name in MADE_UP:
        log.unfollow(name, listener)


def test_appends_are_told_at_once_with_the_message_and_repetitions_are_not() -> None:
    log = MemoryLog()
    listener = follow(log, "a")
    message = log.append("a", "text", key="k")
    assert listener.calls == [("a", message)]
    log.append("a", "text", key="k")
    assert len(listener.calls) == 1


def test_the_longest_unused_channel_is_forgotten_first() -> None:
    log = MemoryLog(Retention(channels=3))
    epochs = {name: log.append(name, "text").id.epoch for name in "abc"}
    log.append("a", "again")
    log.append("d", "new")
    assert {name: log.tail(name).epoch == epochs[name] for name in "ac"} == {"a": True, "c": True}
    assert log.tail("b").epoch != epochs["b"]


def test_an_idle_channel_is_forgotten_when_all_of_it_has_aged(clock: Clock) -> None:
    log = aged(clock, age=60.0)
    fill(log, "a", 3)
    clock.now += 61
    for n in range(3):
        log.append(f"new{n}", "text")
    assert len(log) == 3


def test_a_followed_channel_is_never_forgotten(clock: Clock) -> None:
    log = aged(clock, channels=10, age=60.0)
    names = [f"followed{n}" for n in range(20)]
    listener = follow(log, *names)
    heads = [log.append(name, "text").id for name in names]
    clock.now += 1000
    for n in range(500):
        log.append(f"run:{n}", "text")
    assert len(log) <= 20 + 10
    assert [log.tail(name) for name in names] == heads
    for name in names:
        log.unfollow(name, listener)
    for n in range(500):
        log.append(f"more:{n}", "text")
    assert len(log) <= 10


def test_a_forgotten_channel_comes_back_with_another_epoch_and_tells_of_the_gap() -> None:
    log = MemoryLog(Retention(channels=2))
    before = log.append("a", "first life")
    for name in "bcd":
        log.append(name, "text")
    after = log.append("a", "second life")
    assert after.id.offset == before.id.offset
    assert after.id.epoch != before.id.epoch
    page = log.read("a", before.id, limit=10, size=MUCH)
    assert page.gap is not None
    assert (page.gap.requested, page.gap.oldest) == (before.id, after.id)
    assert list(page.messages) == [after]


def test_two_lives_of_a_process_have_different_epochs() -> None:
    assert len({MemoryLog().tail("a").epoch for _ in range(100)}) == 100
