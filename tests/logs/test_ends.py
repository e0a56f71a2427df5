"""Channels that end: one suite for every log."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from streaming.errors import ChannelEnded
from streaming.logs import Log, MemoryLog, Retention, SqliteLog
from streaming.message import Message, Position
from tests.homes import HOMES, SHARED, Open
from tests.listener import follow
from tests.polling import PATIENCE, wait_until

MUCH = 1 << 30


@pytest.fixture(params=HOMES)
def open_empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens an empty log with the given retention; closes it after the test."""
    with HOMES[request.param](tmp_path) as open_log:
        yield lambda **retention: open_log(Retention(**retention))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis forgets an ended channel soon after its time, and not two minutes later."""
    if "redis" in sys.modules:
        monkeypatch.setattr("streaming.logs.redis.bounds.MARGIN", 4000)
        monkeypatch.setattr("streaming.logs.redis.announcements.LOOK", 0.05)  # below it, as ever


@pytest.fixture(params=SHARED)
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store once more, as another process would; closes all after the test."""
    with SHARED[request.param](tmp_path) as again:
        yield lambda **retention: again(Retention(**retention))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
def open_aged(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Open]:
    """Opens a log of a home that counts channels, and goes by ``clock``."""
    opened: list[Log] = []

    def open_log(**retention: object) -> Log:
        keep = Retention(**retention)  # type: ignore[arg-type]
        if request.param == "memory":
            opened.append(MemoryLog(keep, clock=clock))
        else:
            opened.append(SqliteLog(tmp_path / "log.db", keep, clock=clock))
        return opened[-1]

    yield open_log
    for log in opened:
        log.close()


@pytest.fixture
def log(open_empty: Open) -> Log:
    return open_empty()


def fill(log: Log, channel: str, count: int) -> list[Message]:
    return [log.append(channel, f"{n}") for n in range(1, count + 1)]


def end(log: Log, channel: str, data: str = "{}", key: str | None = None) -> Message:
    return log.append(channel, data, event="end", key=key, last=True)


# The end


def test_an_ended_channel_takes_no_more_messages(log: Log) -> None:
    place = log.tail("a")
    messages = [*fill(log, "a", 3), end(log, "a", '{"state": "done"}')]
    for last in (False, True):
        with pytest.raises(ChannelEnded, match="'a'"):
            log.append("a", "late", last=last)
    page = log.read("a", place, limit=10, size=MUCH)
    assert list(page.messages) == messages
    assert (messages[-1].event, messages[-1].data) == ("end", '{"state": "done"}')
    assert log.tail("a") == page.position == messages[-1].id
    assert log.append("b", "others go on").id.offset == 1


def test_a_channel_may_end_with_its_first_message(log: Log) -> None:
    mark = log.tail("a")
    message = end(log, "a")
    assert message.id.offset == 1
    with pytest.raises(ChannelEnded):
        log.append("a", "late")
    page = log.read("a", mark, limit=10, size=MUCH)
    assert (list(page.messages), page.gap, page.ended) == ([message], None, True)


def test_a_page_says_that_its_channel_has_ended_only_where_nothing_follows(log: Log) -> None:
    place = log.tail("a")
    fill(log, "a", 3)
    assert not log.read("a", place, limit=10, size=MUCH).ended
    assert not log.read("a", log.tail("a"), limit=10, size=MUCH).ended
    last = end(log, "a")
    walked = []
    for is_last in (False, True):
        page = log.read("a", place, limit=2, size=MUCH)
        walked += page.messages
        assert (page.ended, page.more) == (is_last, not is_last)
        place = page.position
    assert [m.id.offset for m in walked] == [1, 2, 3, 4]
    assert place == last.id
    page = log.read("a", place, limit=2, size=MUCH)
    assert (list(page.messages), page.gap, page.ended) == ([], None, True)
    assert page.position == place


def test_a_page_cut_by_its_bytes_does_not_say_that_the_channel_has_ended(log: Log) -> None:
    first = log.append("a", "x" * 100)
    last = end(log, "a")
    before = Position(first.id.epoch, 0)
    page = log.read("a", before, limit=10, size=1)
    assert (list(page.messages), page.ended) == ([first], False)
    page = log.read("a", first.id, limit=10, size=1)
    assert (list(page.messages), page.ended) == ([last], True)


def test_the_history_of_an_ended_channel_is_read_like_any_other(log: Log) -> None:
    messages = [*fill(log, "a", 5), end(log, "a")]
    for history in (0, 1, 3, 6, 50):
        page = log.read("a", log.tail("a", history), limit=10, size=MUCH)
        assert list(page.messages) == (messages[-history:] if history else [])
        assert (page.gap, page.ended) == (None, True)


def test_a_gap_in_an_ended_channel_goes_on_to_its_end(open_empty: Open) -> None:
    log = open_empty(messages=3)
    start = fill(log, "a", 1)[0].id
    fill(log, "a", 5)
    last = end(log, "a")
    page = log.read("a", start, limit=10, size=MUCH)
    assert page.gap is not None
    assert page.gap.newest == last.id
    assert ([m.id.offset for m in page.messages], page.ended) == ([5, 6, 7], True)
    stranger = log.read("a", Position("0123abcd", 7), limit=1, size=MUCH)
    assert stranger.gap is not None
    assert not stranger.ended


def test_the_last_message_is_held_however_little_a_channel_may_hold(open_empty: Open) -> None:
    log = open_empty(messages=1, size=100)
    place = fill(log, "a", 3)[-1].id
    last = end(log, "a", "x" * 1000)
    page = log.read("a", place, limit=10, size=MUCH)
    assert (list(page.messages), page.gap, page.ended) == ([last], None, True)
    assert log.tail("a", 50) == place


# Keys, followers, and several at once


def test_a_repeated_key_gives_the_first_message_behind_the_end_too(log: Log) -> None:
    first = log.append("a", "one", key="k")
    last = end(log, "a", key="end")
    assert log.append("a", "again", key="k") == first
    assert log.append("a", "again", key="k", last=True) == first
    assert end(log, "a", "again", key="end") == last
    with pytest.raises(ChannelEnded):
        log.append("a", "two", key="l")
    with pytest.raises(ChannelEnded):
        log.append("a", "two", key="l")
    assert log.tail("a") == last.id


def test_a_repeated_key_ends_nothing(log: Log) -> None:
    first = log.append("a", "one", key="k")
    assert end(log, "a", key="k") == first
    assert log.append("a", "two").id.offset == 2
    assert not log.read("a", log.tail("a"), limit=10, size=MUCH).ended


def test_the_last_message_is_heard_of_and_what_is_refused_is_not(log: Log) -> None:
    log.append("a", "first")
    listener, other = follow(log, "a"), follow(log, "b")
    last = end(log, "a")
    wait_until(lambda: any(m in (None, last) for _, m in listener.calls), "hear of the end")
    before = len(listener.calls)
    for _ in range(3):
        with pytest.raises(ChannelEnded):
            log.append("a", "late")
    appended = log.append("b", "text")
    wait_until(lambda: any(m in (None, appended) for _, m in other.calls), "hear of the other")
    assert all(m is None or m == last for _, m in listener.calls[before:])
    log.unfollow("a", listener)
    log.unfollow("b", other)


def test_one_of_many_that_end_a_channel_at_once_does(log: Log) -> None:
    won: list[Message] = []
    lost: list[ChannelEnded] = []
    gate = threading.Barrier(6)

    def finish(n: int) -> None:
        gate.wait(PATIENCE)
        try:
            for i in range(20):
                log.append("a", f"{n}:{i}")
            won.append(end(log, "a", str(n)))
        except ChannelEnded as error:
            lost.append(error)

    threads = [threading.Thread(target=finish, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (last,) = won
    assert len(lost) == 5
    page = log.read("a", Position(last.id.epoch, 0), limit=1000, size=MUCH)
    assert page.messages[-1] == last
    assert [m.id.offset for m in page.messages] == list(range(1, last.id.offset + 1))
    assert page.ended


# Several processes


def test_what_one_process_ends_has_ended_for_all(open_again: Open) -> None:
    one, two = open_again(), open_again()
    message = one.append("a", "text")
    last = end(two, "a")
    with pytest.raises(ChannelEnded):
        one.append("a", "late")
    for log in (one, two):
        page = log.read("a", message.id, limit=10, size=MUCH)
        assert (list(page.messages), page.ended) == ([last], True)
        assert log.channels() == ["a"]


def test_of_two_processes_that_end_a_channel_at_once_one_does(open_again: Open) -> None:
    logs = [open_again(), open_again()]
    gate = threading.Barrier(2)
    outcomes: list[list[str]] = [[], []]

    def finish(n: int) -> None:
        for i in range(30):
            gate.wait(PATIENCE)
            try:
                outcomes[n].append(end(logs[n], f"a{i}", str(n)).data)
            except ChannelEnded:
                outcomes[n].append("")

    threads = [threading.Thread(target=finish, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(a, b) for a, b in zip(*outcomes, strict=True)} <= {("0", ""), ("", "1")}
    assert len(outcomes[0]) == 30


def test_an_end_is_there_when_the_log_is_opened_again(open_again: Open) -> None:
    log = open_again()
    last = end(log, "a")
    log.close()
    again = open_again()
    assert again.read("a", last.id, limit=1, size=MUCH).ended
    with pytest.raises(ChannelEnded):
        again.append("a", "late")


def test_the_end_is_heard_of_in_other_processes(open_again: Open) -> None:
    one, two = open_again(), open_again()
    place = one.append("a", "text").id
    listener = follow(two, "a")
    last = end(one, "a")
    wait_until(lambda: two.read("a", place, limit=10, size=MUCH).ended, "the end is there")
    wait_until(lambda: any(m in (None, last) for _, m in listener.calls), "hear of the end")
    two.unfollow("a", listener)


# Which channels there are


def test_channels_are_listed_by_the_beginning_of_their_names(log: Log) -> None:
    assert log.channels() == []
    for name in ("run:1", "run:2", "room", "run:3", "ru"):
        log.append(name, "text")
    end(log, "run:2")
    log.tail("run:4")
    assert sorted(log.channels("run:")) == ["run:1", "run:2", "run:3"]
    assert sorted(log.channels()) == ["room", "ru", "run:1", "run:2", "run:3"]
    assert log.channels("nothing") == []
    assert log.channels("run:1x") == []
    assert len(log.channels("run:", 2)) == 2
    assert log.channels("run:", 0) == []


def test_a_long_list_of_channels_is_cut(log: Log) -> None:
    for n in range(120):
        log.append(f"run:{n}", "text")
    assert len(log.channels("run:")) == 120
    assert len(set(log.channels("run:", 100))) == 100


@pytest.mark.parametrize("prefix", ["*", "%", "_", "a[", "a\\", "a?", "a*", "{a"])
def test_the_beginning_of_a_name_is_taken_as_it_is_written(log: Log, prefix: str) -> None:
    for name in ("aa", "ab", "a_"):
        log.append(name, "text")
    wanted = [name for name in ("aa", "ab", "a_") if name.startswith(prefix)]
    assert sorted(log.channels(prefix)) == wanted


def test_the_last_used_channels_are_listed_first_where_the_log_knows(open_aged: Open) -> None:
    log = open_aged()
    for name in ("a", "b", "c", "a"):
        log.append(name, "text")
    assert log.channels() == ["a", "c", "b"]
    assert log.channels(limit=2) == ["a", "c"]
    end(log, "b")
    assert log.channels() == ["b", "a", "c"]


# How long it is kept


@pytest.mark.usefixtures("hasty")
def test_a_channel_is_forgotten_some_time_after_its_end_and_begins_anew(open_empty: Open) -> None:
    log = open_empty(after_end=0.2, age=60.0)
    first = fill(log, "a", 3)[0]
    last = end(log, "a")
    wait_until(lambda: begins_anew(log, "a"), "forgotten")
    assert log.tail("a").epoch != last.id.epoch
    page = log.read("a", first.id, limit=10, size=MUCH)
    assert page.gap is not None
    assert [m.data for m in page.messages] == ["anew"]
    assert not page.ended


def begins_anew(log: Log, channel: str) -> bool:
    try:
        log.append(channel, "anew")
    except ChannelEnded:
        return False
    return True


def test_what_is_held_at_the_end_does_not_grow_old_before_its_time(open_empty: Open) -> None:
    log = open_empty(age=2.5, after_end=60.0)  # more than the machine stops us for before the end
    messages = fill(log, "a", 3)
    last = end(log, "a")
    old = log.append("b", "text")
    wait_until(lambda: log.tail("b", 9).offset == old.id.offset, "the other has grown old")
    page = log.read("a", Position(last.id.epoch, 0), limit=10, size=MUCH)
    assert (list(page.messages), page.gap, page.ended) == ([*messages, last], None, True)


@pytest.mark.usefixtures("hasty")
def test_an_end_is_known_for_as_long_as_the_channel_is_followed(open_empty: Open) -> None:
    log = open_empty(after_end=0.2)
    start = fill(log, "a", 3)[0].id
    listener = follow(log, "a")
    last = end(log, "a")
    wait_until(lambda: not log.read("a", start, limit=10, size=MUCH).messages, "grown old")
    page = log.read("a", start, limit=10, size=MUCH)
    assert page.gap is not None
    assert (page.gap.oldest, page.position, page.ended) == (None, last.id, True)
    assert log.read("a", last.id, limit=10, size=MUCH).ended
    assert log.tail("a", 9) == last.id
    with pytest.raises(ChannelEnded):
        log.append("a", "late")
    log.unfollow("a", listener)
    wait_until(lambda: begins_anew(log, "a"), "forgotten")


@pytest.mark.usefixtures("hasty")
def test_an_ended_channel_that_has_grown_old_is_not_listed(open_empty: Open) -> None:
    log = open_empty(after_end=0.2)
    end(log, "a")
    log.append("b", "text")
    wait_until(lambda: log.channels() == ["b"], "grown old")


def test_what_is_held_at_the_end_goes_together_when_its_time_is_over(
    open_aged: Open, clock: Clock
) -> None:
    log = open_aged(age=60.0, after_end=100.0)
    old = log.append("a", "old")
    clock.now += 61
    young = log.append("a", "young")
    clock.now += 30
    last = end(log, "a")
    clock.now += 100
    page = log.read("a", old.id, limit=10, size=MUCH)
    assert (list(page.messages), page.gap) == ([young, last], None)
    clock.now += 1
    page = log.read("a", old.id, limit=10, size=MUCH)
    assert page.gap is not None
    assert (list(page.messages), page.gap.oldest, page.ended) == ([], None, True)
    assert page.position == last.id


def test_what_nobody_has_read_since_it_grew_old_does_not_come_back_with_the_end(
    open_empty: Open,
) -> None:
    log = open_empty(age=0.3)
    first = fill(log, "a", 5)[0]
    later = log.append("b", "text")
    wait_until(lambda: log.tail("b", 9).offset == later.id.offset, "all has grown old")
    last = end(log, "a")
    page = log.read("a", first.id, limit=10, size=MUCH)
    assert page.gap is not None
    assert (list(page.messages), page.gap.oldest, page.ended) == ([last], last.id, True)


def test_what_had_grown_old_at_the_end_does_not_come_back(open_aged: Open, clock: Clock) -> None:
    log = open_aged(age=60.0, messages=2000)
    first = fill(log, "a", 1500)[0]
    clock.now += 61
    last = end(log, "a")
    page = log.read("a", first.id, limit=10, size=MUCH)
    assert page.gap is not None
    assert (list(page.messages), page.ended) == ([last], True)
    assert log.tail("a", 9).offset == last.id.offset - 1


def test_without_a_limit_an_ended_channel_is_kept(open_aged: Open, clock: Clock) -> None:
    log = open_aged(after_end=None)
    last = end(log, "a")
    clock.now += 1e7
    fill_each(log, [f"other{n}" for n in range(20)])
    assert log.tail("a") == last.id
    with pytest.raises(ChannelEnded):
        log.append("a", "late")


def fill_each(log: Log, channels: list[str]) -> None:
    for channel in channels:
        log.append(channel, "text")


def are_held(log: Log, channels: list[str]) -> int:
    return sum(not log.tail(channel).is_mark for channel in channels)


def names(what: str, count: int) -> list[str]:
    return [f"{what}:{n}" for n in range(count)]


def test_ended_channels_are_forgotten_in_their_time_whatever_else_is_kept(
    open_aged: Open, clock: Clock
) -> None:
    log = open_aged(age=None, after_end=60.0)
    fill_each(log, names("kept", 50))
    for name in names("run", 50):
        log.append(name, "text")
        end(log, name)
    clock.now += 61
    fill_each(log, names("new", 60))
    assert are_held(log, names("run", 50)) == 0
    assert are_held(log, names("kept", 50)) == 50


def test_ended_channels_count_among_those_that_are_too_many(open_aged: Open) -> None:
    log = open_aged(channels=10)
    for name in names("run", 30):
        end(log, name)
    assert are_held(log, names("run", 30)) == 10
    fill_each(log, names("new", 5))
    assert (are_held(log, names("run", 30)), are_held(log, names("new", 5))) == (5, 5)
    assert are_held(log, names("run", 30)[-5:]) == 5, "the longest unused go first"


# How much is kept, by channel


def test_each_channel_keeps_what_is_said_for_its_name_or_pattern(open_empty: Open) -> None:
    named = {
        "job:*": Retention(messages=2),
        "job:long:*": Retention(messages=4),
        "job:a": Retention(size=30),
    }
    log = open_empty(messages=3, named=named)
    held = {}
    for channel in ("x", "job:b", "job:long:b", "job:a", "job:", "job"):
        place = log.append(channel, "." * 10).id
        for _ in range(9):
            log.append(channel, "." * 10)
        page = log.read(channel, place, limit=100, size=MUCH)
        held[channel] = len(page.messages)
        assert log.tail(channel, 100).offset == 10 - len(page.messages)
    assert held == {"x": 3, "job:b": 2, "job:long:b": 4, "job:a": 3, "job:": 2, "job": 3}


def test_messages_grow_old_in_the_time_of_their_channel(open_aged: Open, clock: Clock) -> None:
    named = {"long:*": Retention(age=1000.0), "ever": Retention(age=None)}
    log = open_aged(age=10.0, named=named)
    for channel in ("a", "long:a", "ever"):
        log.append(channel, "text")

    def held() -> list[str]:
        return [n for n in ("a", "long:a", "ever") if log.tail(n, 9) != log.tail(n)]

    assert held() == ["a", "long:a", "ever"]
    clock.now += 11
    assert held() == log.channels()[::-1] == ["long:a", "ever"]
    clock.now += 1000
    assert held() == log.channels() == ["ever"]


def test_what_is_kept_longer_does_not_keep_others_from_being_forgotten(
    open_aged: Open, clock: Clock
) -> None:
    log = open_aged(age=10.0, named={"long:*": Retention(age=1e5), "ever:*": Retention(age=None)})
    fill_each(log, names("ever", 100))
    fill_each(log, names("long", 100))
    fill_each(log, names("a", 100))
    clock.now += 11
    fill_each(log, names("new", 110))
    assert are_held(log, names("a", 100)) == 0
    assert are_held(log, names("long", 100)) == are_held(log, names("ever", 100)) == 100
    clock.now += 1e5
    fill_each(log, names("newer", 120))
    assert are_held(log, names("long", 100)) == are_held(log, names("new", 110)) == 0
    assert are_held(log, names("ever", 100)) == 100


def test_what_is_used_again_and_again_does_not_keep_others_from_being_forgotten(
    open_aged: Open, clock: Clock
) -> None:
    log = open_aged(age=10.0, named={"busy:*": Retention(age=1.0)})
    fill_each(log, names("a", 20))
    for n in range(40):
        fill_each(log, names("busy", 40))
        log.append(f"new:{n}", "text")
        clock.now += 0.9
    assert are_held(log, names("a", 20)) == 0
    assert are_held(log, names("busy", 40)) == 40


def test_what_is_followed_does_not_keep_others_from_being_forgotten(
    open_aged: Open, clock: Clock
) -> None:
    log = open_aged(age=10.0, channels=50, named={"run:*": Retention(after_end=5.0)})
    followed = [*names("followed", 100), *names("run", 100)]
    listener = follow(log, *followed)
    fill_each(log, names("followed", 100))
    for name in names("run", 100):
        end(log, name)
    for n in range(10):
        fill_each(log, names(f"new{n}", 40))
        clock.now += 11
        log.beat()  # else this process would count as dead
    held = [len(log.channels(f"new{n}:")) + are_held(log, names(f"new{n}", 40)) for n in range(10)]
    assert held[:-1] == [0] * 9
    assert are_held(log, followed) == 200
    for name in followed:
        log.unfollow(name, listener)
    for n in range(20):
        fill_each(log, names(f"newer{n}", 40))
        clock.now += 3600
    assert are_held(log, followed) == 0


def test_more_channels_than_may_be_are_forgotten_the_longest_unused_first_whatever_their_time(
    open_aged: Open,
) -> None:
    log = open_aged(channels=6, age=10.0, named={"long:*": Retention(age=1e5)})
    for n in range(10):
        log.append(f"long:{n}", "text")
        log.append(f"a:{n}", "text")
    expected = [f"{what}:{n}" for n in (9, 8, 7) for what in ("a", "long")]
    assert log.channels() == expected
    log.append("long:7", "again")
    log.append("new", "text")
    assert log.channels() == ["new", "long:7", *expected[:4]]
