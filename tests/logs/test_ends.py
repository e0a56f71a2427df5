"""Channels that end: one suite for every log."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from streaming.errors import ChannelEnded
from streaming.logs import Log, Retention
from streaming.message import Message, Position
from tests.homes import HOMES, Open
from tests.listener import follow
from tests.polling import PATIENCE, wait_until

MUCH = 1 << 30

ENDING = ("memory",)
"""Homes whose channels end."""


@pytest.fixture(params=ENDING)
def open_empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens an empty log with the given retention; closes it after the test."""
    with HOMES[request.param](tmp_path) as open_log:
        yield lambda **retention: open_log(Retention(**retention))


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


@pytest.mark.parametrize("prefix", ["*", "%", "_", "a[", "a\\", "a?", "a*", "{a"])
def test_the_beginning_of_a_name_is_taken_as_it_is_written(log: Log, prefix: str) -> None:
    for name in ("aa", "ab", "a_"):
        log.append(name, "text")
    wanted = [name for name in ("aa", "ab", "a_") if name.startswith(prefix)]
    assert sorted(log.channels(prefix)) == wanted


def test_the_last_used_channels_are_listed_first_where_the_log_knows(log: Log) -> None:
    for name in ("a", "b", "c", "a"):
        log.append(name, "text")
    assert log.channels() == ["a", "c", "b"]
    assert log.channels(limit=2) == ["a", "c"]
    end(log, "b")
    assert log.channels() == ["b", "a", "c"]


# How long it is kept


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
    log = open_empty(age=0.5, after_end=60.0)
    messages = fill(log, "a", 3)
    last = end(log, "a")
    old = log.append("b", "text")
    wait_until(lambda: log.tail("b", 9).offset == old.id.offset, "the other has grown old")
    page = log.read("a", Position(last.id.epoch, 0), limit=10, size=MUCH)
    assert (list(page.messages), page.gap, page.ended) == ([*messages, last], None, True)


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


def test_an_ended_channel_that_has_grown_old_is_not_listed(open_empty: Open) -> None:
    log = open_empty(after_end=0.2)
    end(log, "a")
    log.append("b", "text")
    wait_until(lambda: log.channels() == ["b"], "grown old")
