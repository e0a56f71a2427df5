"""streaming/logs/: one suite for the homes that several processes share; a log object is one."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streaming.errors import TooManyClients
from streaming.logs import Log, Member, Retention
from streaming.logs.contract import LEASE
from streaming.message import Message, Position
from tests.homes import COUNTING, SHARED
from tests.listener import Listener, follow
from tests.polling import PATIENCE, wait_until
from tests.shortage import no_thread

MUCH = 1 << 30
SHORT = 0.2
"""A lease that a test can wait out."""

STEADY = 3.0
"""The same where others are to live on: longer than a machine that is busy stops one of them."""

Opener = Callable[..., Log]
"""Opens the store with ``lease`` and fields of ``Retention`` as keywords."""


@pytest.fixture(params=SHARED)
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store once more, as another process would; closes all after the test."""
    with SHARED[request.param](tmp_path) as again:
        yield lambda lease=LEASE, **retention: again(Retention(**retention), lease=lease)


@pytest.fixture(params=[home for home in SHARED if home in COUNTING])
def open_counting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """The same where channels are counted."""
    with SHARED[request.param](tmp_path) as again:
        yield lambda lease=LEASE, **retention: again(Retention(**retention), lease=lease)


@pytest.fixture
def one(open_again: Opener) -> Log:
    return open_again()


@pytest.fixture
def two(open_again: Opener) -> Log:
    return open_again()


def read(log: Log, channel: str, after: Position, limit: int = 5000) -> list[Message]:
    """Everything behind ``after``; there must be no gap."""
    page = log.read(channel, after, limit=limit, size=MUCH)
    assert page.gap is None
    return list(page.messages)


def start(*targets: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    return threads


# Messages


def test_what_one_appends_the_other_reads_with_the_same_ids(one: Log, two: Log) -> None:
    place = one.tail("a")
    assert two.tail("a").is_same(place)
    first = one.append("a", "text 中文 😀 \0", event="tick", key="k", sender="client-1")
    second = two.append("a", "")
    assert read(one, "a", place) == read(two, "a", place) == [first, second]
    assert one.tail("a") == two.tail("a") == second.id
    assert one.tail("a", 1) == two.tail("a", 1) == first.id


def test_a_mark_of_one_is_good_at_both_across_the_first_message_of_either(
    open_again: Opener,
) -> None:
    one, two = open_again(), open_again()
    for first, second in ((one, two), (two, one)):
        channel = f"a{first is one}"
        marks = [one.tail(channel), two.tail(channel)]
        assert marks[0].is_same(marks[1])
        marks += [two.read(channel, marks[0], limit=9, size=MUCH).position]
        messages = [first.append(channel, "first"), second.append(channel, "second")]
        for log in (one, two):
            for mark in marks:
                assert read(log, channel, mark) == messages


def test_a_position_of_another_log_in_an_unknown_channel_gives_both_one_mark(
    one: Log, two: Log
) -> None:
    page = one.read("a", Position("0123abcd", 7), limit=1, size=1)
    assert page.gap is not None
    assert two.tail("a").is_same(page.position)
    message = two.append("a", "text")
    assert read(one, "a", page.position) == [message]


def test_concurrent_appends_through_both_keep_one_order_with_every_offset_once(
    one: Log, two: Log
) -> None:
    place = one.tail("a")
    written: dict[str, list[Message]] = {}

    def write(log: Log, name: str) -> None:
        written[name] = [log.append("a", f"{name}:{n}") for n in range(100)]

    writers = [(one, "one"), (one, "uno"), (two, "two"), (two, "due")]
    for thread in start(*[lambda log=log, n=n: write(log, n) for log, n in writers]):
        thread.join()
    messages = read(one, "a", place)
    assert [m.id.offset for m in messages] == list(range(1, 401))
    assert messages == read(two, "a", place)
    for name, mine in written.items():
        assert [m for m in messages if m.data.startswith(f"{name}:")] == mine


def test_both_agree_on_what_is_no_longer_held(open_again: Opener) -> None:
    one, two = open_again(messages=3), open_again(messages=3)
    place = one.tail("a")
    messages = [log.append("a", str(n)) for n in range(5) for log in (one, two)]
    for log in (one, two):
        page = log.read("a", place, limit=10, size=MUCH)
        assert page.gap is not None
        assert (page.gap.oldest, page.gap.newest) == (messages[7].id, messages[9].id)
        assert list(page.messages) == messages[7:]
        assert log.tail("a", 50) == messages[6].id


def test_both_count_the_bytes_that_the_other_has_appended(open_again: Opener) -> None:
    one, two = open_again(size=1000), open_again(size=1000)
    for _ in range(10):
        one.append("a", "x" * 90)
        two.append("a", "y" * 90)
    assert len(read(one, "a", one.tail("a", 100))) == 11
    large = two.append("a", "z" * 5000)
    assert read(one, "a", one.tail("a", 100)) == [large]


def test_what_one_forgets_is_forgotten_for_both(open_counting: Opener) -> None:
    one, two = open_counting(channels=3), open_counting(channels=3)
    mark = one.tail("a")
    before = one.append("a", "first life").id
    for n in range(20):
        two.append(f"other:{n}", "text")
    for place in (before, mark):
        page = one.read("a", place, limit=10, size=MUCH)
        assert page.gap is not None
        assert (page.gap.oldest, page.position.is_mark) == (None, True)
    again = two.append("a", "second life")
    assert again.id.epoch != before.epoch
    assert read(one, "a", page.position) == [again]
    assert one.read("a", mark, limit=10, size=MUCH).gap is not None


def test_a_channel_that_one_follows_is_not_forgotten_by_the_other(open_counting: Opener) -> None:
    one, two = open_counting(channels=3), open_counting(channels=3)
    listener = follow(one, "a")
    head = one.append("a", "text").id
    for n in range(20):
        two.append(f"other:{n}", "text")
    assert two.tail("a") == one.tail("a") == head
    one.unfollow("a", listener)
    one.append("b", "text")
    for n in range(20):
        two.append(f"more:{n}", "text")
    assert two.tail("a").is_mark
    assert one.tail("a").is_mark


def test_asking_one_for_made_up_channels_makes_the_other_forget_nothing(
    open_again: Opener,
) -> None:
    one, two = open_again(channels=5), open_again(channels=5)
    first = {name: one.append(name, "text", key="k") for name in "abcde"}
    listener = follow(two, *[f"made-up{n}" for n in range(200)])
    for n in range(200):
        two.tail(f"another{n}")
        two.unfollow(f"made-up{n}", listener)
    for name, message in first.items():
        assert read(one, name, one.tail(name, 9)) == [message]
        assert two.append(name, "again", key="k") == message


def test_a_reader_beside_the_trimming_of_another_misses_only_what_it_is_told(
    open_again: Opener,
) -> None:
    one, two = open_again(messages=20), open_again(messages=20)
    total, missed, seen = 1000, 0, 1
    place = one.append("a", "1").id
    (writer,) = start(lambda: [one.append("a", str(n)) for n in range(2, total + 1)])
    while place.offset < total:
        page = two.read("a", place, limit=7, size=MUCH)
        if page.gap is not None:
            assert page.gap.requested == place
            assert page.gap.oldest is not None
            assert page.gap.oldest == page.messages[0].id
            missed += page.gap.oldest.offset - place.offset - 1
            place = Position(place.epoch, page.gap.oldest.offset - 1)
        for message in page.messages:
            assert (message.id.offset, message.data) == (place.offset + 1, str(place.offset + 1))
            place = message.id
            seen += 1
        assert page.position == place
    writer.join()
    assert seen + missed == total


# What outlives a process


def test_closed_and_opened_again_it_goes_on_where_it_was(open_again: Opener) -> None:
    log = open_again()
    place = log.tail("a")
    messages = [log.append("a", str(n), key=f"k{n}") for n in range(3)]
    log.close()
    log = open_again()
    assert read(log, "a", place) == messages
    assert log.append("a", "again", key="k1").id == messages[1].id
    assert log.append("a", "next").id == Position(messages[0].id.epoch, 4)


def test_a_mark_outlives_a_process(open_again: Opener) -> None:
    log = open_again()
    mark = log.tail("a")
    log.close()
    log = open_again()
    assert log.tail("a").is_same(mark)
    assert read(log, "a", mark) == []
    log.append("b", "text")
    message = log.append("a", "text")
    log.close()
    assert read(open_again(), "a", mark) == [message]


def test_closing_one_leaves_the_other_open(one: Log, two: Log) -> None:
    message = one.append("a", "text")
    listener = follow(two, "a")
    one.close()
    assert read(two, "a", two.tail("a", 1)) == [message]
    two.append("a", "more")
    assert listener.wait()


# Keys


def test_a_key_holds_for_both(one: Log, two: Log) -> None:
    first = one.append("a", "one", key="k")
    assert two.append("a", "two", key="k") == first
    assert one.append("a", "one", key="k") == first
    assert two.tail("a") == first.id
    assert two.append("b", "two", key="k").data == "two"


def test_a_key_used_by_both_at_once_is_one_message(one: Log, two: Log) -> None:
    ids: list[Position] = []
    gate = threading.Barrier(4)

    def write(log: Log) -> None:
        for n in range(25):
            gate.wait(PATIENCE)
            ids.append(log.append("a", "text", key=f"k{n}").id)

    for thread in start(*[lambda log=log: write(log) for log in (one, two, one, two)]):
        thread.join()
    assert (len(ids), len(set(ids))) == (100, 25)
    assert one.tail("a").offset == 25


# Following


def test_an_append_of_another_is_heard_of(one: Log, two: Log) -> None:
    before = one.append("a", "there already")
    listener, other = follow(two, "a"), follow(two, "b")
    messages = {"a": one.append("a", "text"), "b": one.append("b", "text")}
    for channel, heard in (("a", listener), ("b", other)):
        news = {None, messages[channel]}

        def is_heard(heard: Listener = heard, news: set[Message | None] = news) -> bool:
            return any(message in news for _, message in heard.calls)

        wait_until(is_heard, "it is heard of")
        assert heard.channels == {channel}
        assert set(heard.messages) <= {*news, before}  # a cluster may tell late
        assert read(two, channel, two.tail(channel, 1)) == [messages[channel]]


def test_the_first_message_of_a_channel_is_heard_of_everywhere(one: Log, two: Log) -> None:
    listeners = [follow(log, "never-seen-before") for log in (one, two, two)]
    one.append("never-seen-before", "text")
    for listener in listeners:
        assert listener.wait()


LISTENERS = "streaming announcements", "sqlite log watch"
"""The threads that hear of what others append."""


def test_without_a_thread_to_listen_nothing_is_followed_and_with_one_all_is_heard(
    one: Log, two: Log
) -> None:
    with no_thread(*LISTENERS) as refused:
        for _ in range(2):
            with pytest.raises(TooManyClients):
                follow(two, "a")
        assert len(refused) == 2
    listener, other = follow(two, "a"), follow(two, "b")
    for channel, heard in (("a", listener), ("b", other)):
        one.append(channel, "text")
        assert heard.wait()


def test_who_follows_while_the_first_thread_fails_to_start_is_heard_for(
    one: Log, two: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_thread, listener, comes = threading.Thread.start, Listener(), threading.Event()
    others: list[threading.Thread] = []

    def come() -> None:
        comes.set()
        two.follow("b", listener)

    def fail_once(thread: threading.Thread) -> None:
        if thread.name in LISTENERS and not others:
            others.append(threading.Thread(target=come))
            start_thread(others[0])
            assert comes.wait(PATIENCE)
            others[0].join(0.1)  # it must not come through, or trusts in what fails
            raise RuntimeError("can't start new thread")
        start_thread(thread)

    monkeypatch.setattr(threading.Thread, "start", fail_once)
    with pytest.raises(TooManyClients):
        follow(two, "a")
    others[0].join(PATIENCE)
    one.append("b", "text")
    assert listener.wait()


def test_all_who_read_whenever_they_hear_miss_nothing_wherever_it_is_appended(
    open_again: Opener,
) -> None:
    logs = [open_again() for _ in range(3)]
    total = 300
    mark = logs[0].tail("a")
    listeners = [follow(log, "a") for log in logs]
    seen: list[list[int]] = [[] for _ in logs]

    def listen(n: int) -> None:
        here = mark
        while len(seen[n]) < total:
            assert listeners[n].wait(), f"asleep at {here}"
            while messages := read(logs[n], "a", here, limit=7):
                seen[n] += [message.id.offset for message in messages]
                here = messages[-1].id

    def write(log: Log) -> None:
        for n in range(total // 3):
            log.append("a", str(n))

    threads = start(*[lambda n=n: listen(n) for n in range(3)])
    threads += start(*[lambda log=log: write(log) for log in logs])
    for thread in threads:
        thread.join()
    assert seen == [list(range(1, total + 1))] * 3


def test_who_comes_and_goes_hears_of_what_another_appends_meanwhile(one: Log, two: Log) -> None:
    for n in range(20):
        channel = f"a{n % 3}"
        listener = follow(two, channel)
        message = one.append(channel, str(n))
        assert listener.wait()
        assert read(two, channel, two.tail(channel, 1)) == [message]
        two.unfollow(channel, listener)


# Who is in a room


def test_members_are_seen_by_all_in_the_order_they_came(one: Log, two: Log) -> None:
    assert one.enter("a", Member("ann", "Ann")) is None
    assert two.enter("a", Member("bob")) is None
    assert one.enter("a", Member("cid")) is None
    expected = [Member("ann", "Ann"), Member("bob"), Member("cid")]
    assert one.members("a") == two.members("a") == expected
    assert one.members("b") == two.members("b") == []


def test_a_process_takes_out_what_it_has_itself_and_nothing_of_others(one: Log, two: Log) -> None:
    one.enter("a", Member("ann"))
    assert not two.leave("a", "ann")
    assert one.members("a") == two.members("a") == [Member("ann")]
    assert one.leave("a", "ann")
    assert not one.leave("a", "ann")
    assert one.members("a") == two.members("a") == []


def test_a_member_of_two_processes_is_listed_once_and_is_gone_with_the_last(
    one: Log, two: Log
) -> None:
    assert one.enter("a", Member("ann", "phone", "Ann", 2)) is None
    two.enter("a", Member("bob"))
    assert two.enter("a", Member("ann", "desk", "Ann")) == Member("ann", "phone", "Ann", 2)
    both = [Member("ann", "desk", "Ann", 3), Member("bob")]
    assert one.members("a") == two.members("a") == both
    assert not one.leave("a", "ann")
    assert not one.leave("a", "ann")
    assert one.members("a") == two.members("a") == [Member("ann", "desk", "Ann"), Member("bob")]
    assert two.leave("a", "ann")
    assert one.members("a") == two.members("a") == [Member("bob")]


def test_a_member_is_found_as_it_is_listed_or_as_this_process_has_it(one: Log, two: Log) -> None:
    assert one.find("a", "ann") is None
    one.enter("a", Member("ann", "phone", "Ann", 2))
    two.enter("a", Member("ann", "desk", "Ann", 3))
    for log, connections in ((one, 2), (two, 3)):
        assert log.find("a", "ann") == Member("ann", "desk", "Ann", 5)
        assert log.find("a", "ann", own=True) == Member("ann", "desk", "Ann", connections)
        assert log.find("b", "ann") is log.find("a", "bob") is log.find("a", "", own=True) is None
    one.leave("a", "ann")
    assert one.find("a", "ann", own=True) is None
    assert one.find("a", "ann") == Member("ann", "desk", "Ann", 3)


def test_a_process_that_only_counts_anew_takes_back_nothing_that_was_said_elsewhere(
    one: Log, two: Log
) -> None:
    one.enter("a", Member("ann", "phone", "Ann", 2))
    two.enter("a", Member("ann", "desk", "Anna"))
    assert one.enter("a", Member("ann", "phone", "Ann", 1), says=False)
    assert two.members("a") == [Member("ann", "desk", "Anna", 2)]
    two.leave("a", "ann")
    assert one.members("a") == [Member("ann", "desk", "Anna")]
    one.leave("a", "ann")
    assert one.enter("a", Member("ann", "phone", "Ann"), says=False) is None
    assert two.members("a") == [Member("ann", "phone", "Ann")], "there is nothing to keep"


def test_two_who_enter_and_leave_the_same_member_at_once_are_the_first_and_the_last_once(
    one: Log, two: Log
) -> None:
    first: list[str] = []
    last: list[str] = []

    def come_and_go(log: Log) -> None:
        for n in range(20):
            if log.enter("a", Member(f"m{n}")) is None:
                first.append(f"m{n}")
        together.wait()
        for n in range(20):
            if log.leave("a", f"m{n}"):
                last.append(f"m{n}")

    together = threading.Barrier(2, timeout=PATIENCE)
    for thread in start(lambda: come_and_go(one), lambda: come_and_go(two)):
        thread.join()
    names = sorted(f"m{n}" for n in range(20))
    assert (sorted(first), sorted(last)) == (names, names)
    assert one.members("a") == []


def test_closing_leaves_members_to_the_other_that_has_them(one: Log, two: Log) -> None:
    one.enter("a", Member("ann", "phone"))
    two.enter("a", Member("ann", "desk"))
    one.close()
    assert two.members("a") == [Member("ann", "desk")]
    assert two.beat() == []
    assert two.leave("a", "ann") or two.beat() == [("a", "ann")]


def test_of_two_processes_with_one_member_the_death_of_the_last_is_told_and_once(
    open_again: Opener,
) -> None:
    first, second, living = [open_again(lease=STEADY) for _ in range(3)]
    first.enter("a", Member("ann", "phone", "Ann"))
    second.enter("a", Member("ann", "desk", "Ann", 2))

    def is_cleared_away() -> bool:
        assert second.beat() == []
        assert living.beat() == []
        return first.find("a", "ann", own=True) is None

    wait_until(is_cleared_away, "what the first had is taken out")
    assert living.members("a") == [Member("ann", "desk", "Ann", 2)]
    assert second.find("a", "ann", own=True)
    assert wait_until(living.beat, "ann is taken out") == [("a", "ann")]
    assert living.beat() == []
    assert living.members("a") == []


def test_who_leaves_beside_a_dead_process_leaves_the_telling_to_the_beat(
    open_again: Opener,
) -> None:
    dead, living = open_again(lease=STEADY), open_again(lease=STEADY)
    dead.enter("a", Member("ann"))
    assert living.enter("a", Member("ann"))
    assert not living.leave("a", "ann")
    assert wait_until(living.beat, "ann is taken out") == [("a", "ann")]


def test_closing_takes_the_own_members_out_and_no_others(one: Log, two: Log) -> None:
    one.enter("a", Member("ann"))
    two.enter("a", Member("bob"))
    one.close()
    assert two.members("a") == [Member("bob")]


def test_members_of_a_process_that_stopped_beating_are_taken_out_once(open_again: Opener) -> None:
    dead, *living = [open_again(lease=SHORT) for _ in range(3)]
    dead.enter("a", Member("ann"))
    dead.enter("b", Member("ann"))
    dead.enter("b", Member("bob"))
    reaped: list[tuple[str, str]] = []

    def beat(log: Log) -> None:
        until = time.monotonic() + PATIENCE
        while len(reaped) < 3 and time.monotonic() < until:
            reaped.extend(log.beat())
        reaped.extend(log.beat())

    for thread in start(*[lambda log=log: beat(log) for log in living]):
        thread.join()
    assert sorted(reaped) == [("a", "ann"), ("b", "ann"), ("b", "bob")]
    assert living[0].members("a") == living[1].members("b") == []


def test_members_of_a_process_that_stopped_beating_are_not_listed(open_again: Opener) -> None:
    dead, living = open_again(lease=SHORT), open_again(lease=SHORT)
    dead.enter("a", Member("ann"))
    wait_until(lambda: living.members("a") == [], "nobody is listed")
    assert living.enter("a", Member("ann", "back")) is None, "it was not there"
    # whoever looks decides who is dead, and these two would take each other for it
    assert open_again().members("a") == [Member("ann", "back")]


def test_a_process_that_beats_keeps_its_members(open_again: Opener) -> None:
    one, two = open_again(lease=STEADY), open_again(lease=STEADY)
    one.enter("a", Member("ann"))
    until = time.monotonic() + 1.5 * STEADY
    while time.monotonic() < until:
        assert one.beat() == []
        assert two.beat() == []
        assert two.members("a") == [Member("ann")]


def test_a_process_that_was_taken_for_dead_enters_its_members_again(open_again: Opener) -> None:
    slow, living = open_again(lease=SHORT), open_again(lease=SHORT)
    slow.enter("a", Member("ann"))
    assert wait_until(living.beat, "ann is taken out") == [("a", "ann")]
    assert slow.beat() == []
    assert slow.enter("a", Member("ann")) is None
    assert open_again().members("a") == [Member("ann")]


def test_both_pass_their_check_at_once(one: Log, two: Log) -> None:
    errors: list[Exception] = []

    def check(log: Log) -> None:
        try:
            for _ in range(20):
                log.check()
        except Exception as error:
            errors.append(error)

    for thread in start(lambda: check(one), lambda: check(two)):
        thread.join()
    assert errors == []
