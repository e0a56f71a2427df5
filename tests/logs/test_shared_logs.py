"""streaming/logs/: one suite for the homes that several processes share; a log object is one."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streaming.logs import Log, Member, Retention
from streaming.logs.contract import LEASE
from streaming.logs.redis import RedisLog
from streaming.message import Message, Position
from tests.homes import SHARED
from tests.polling import PATIENCE, wait_until

MUCH = 1 << 30
SHORT = 0.2
"""A lease that a test can wait out."""

Opener = Callable[..., Log]
"""Opens the store with ``lease`` and fields of ``Retention`` as keywords."""


@pytest.fixture(params=SHARED)
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store once more, as another process would; closes all after the test."""
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
    assert two.tail("a") == place
    first = one.append("a", "text 中文 😀 \0", event="tick", key="k", sender="client-1")
    second = two.append("a", "")
    assert read(one, "a", place) == read(two, "a", place) == [first, second]
    assert one.tail("a") == two.tail("a") == second.id
    assert one.tail("a", 1) == two.tail("a", 1) == first.id


def test_both_know_a_channel_that_only_one_was_asked_for(one: Log, two: Log) -> None:
    page = one.read("a", Position("0123abcd", 7), limit=1, size=1)
    assert two.tail("a") == page.position
    assert two.append("a", "text").id == Position(page.position.epoch, 1)


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


def test_what_one_forgets_is_forgotten_for_both(open_again: Opener) -> None:
    one, two = open_again(channels=3), open_again(channels=3)
    if isinstance(one, RedisLog):
        return  # it does not count channels; see its own tests
    before = one.append("a", "first life").id
    for n in range(20):
        two.append(f"other:{n}", "text")
    page = one.read("a", before, limit=10, size=MUCH)
    assert page.gap is not None
    assert (page.gap.oldest, page.position.offset) == (None, 0)
    assert page.position.epoch != before.epoch
    assert two.append("a", "second life").id == Position(page.position.epoch, 1)


def test_a_channel_that_one_follows_is_not_forgotten_by_the_other(open_again: Opener) -> None:
    one, two = open_again(channels=3), open_again(channels=3)
    follower = one.follow("a")
    head = one.append("a", "text").id
    for n in range(20):
        two.append(f"other:{n}", "text")
    assert two.tail("a") == one.tail("a") == head
    follower.close()


def test_a_reader_beside_the_trimming_of_another_misses_only_what_it_is_told(
    open_again: Opener,
) -> None:
    one, two = open_again(messages=20), open_again(messages=20)
    total, missed, seen = 1000, 0, 0
    place = one.tail("a")
    (writer,) = start(lambda: [one.append("a", str(n)) for n in range(1, total + 1)])
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
    assert log.append("a", "next").id == Position(place.epoch, 4)


def test_closing_one_leaves_the_other_open(one: Log, two: Log) -> None:
    message = one.append("a", "text")
    follower = two.follow("a")
    one.close()
    assert read(two, "a", two.tail("a", 1)) == [message]
    two.append("a", "more")
    assert follower.wait(PATIENCE)
    follower.close()


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


def test_a_follower_is_woken_by_an_append_of_another(one: Log, two: Log) -> None:
    one.append("a", "there already")
    follower, other = two.follow("a"), two.follow("b")
    wait_until(lambda: settled(follower), "the follower is at rest")
    message = one.append("a", "text")
    assert follower.wait(PATIENCE)
    assert read(two, "a", two.tail("a", 1)) == [message]
    assert not other.wait(0.01)
    follower.close()
    other.close()


def settled(follower: object) -> bool:
    """Whether nothing wakes the follower any more: beginning to follow may do so once."""
    return not follower.wait(0.05)  # type: ignore[attr-defined]


def test_the_first_message_of_a_new_channel_wakes_followers_everywhere(one: Log, two: Log) -> None:
    followers = [log.follow("never seen before") for log in (one, two, two)]
    one.append("never seen before", "text")
    for follower in followers:
        assert follower.wait(PATIENCE)
        follower.close()


def test_all_who_read_after_each_wait_miss_nothing_wherever_it_is_appended(
    open_again: Opener,
) -> None:
    logs = [open_again() for _ in range(3)]
    total = 300
    place = logs[0].tail("a")
    followers = [log.follow("a") for log in logs]
    seen: list[list[int]] = [[] for _ in logs]

    def follow(n: int) -> None:
        here = place
        while here.offset < total:
            assert followers[n].wait(PATIENCE), f"asleep at {here}"
            while messages := read(logs[n], "a", here, limit=7):
                seen[n] += [message.id.offset for message in messages]
                here = messages[-1].id

    def write(log: Log) -> None:
        for n in range(total // 3):
            log.append("a", str(n))

    threads = start(*[lambda n=n: follow(n) for n in range(3)])
    threads += start(*[lambda log=log: write(log) for log in logs])
    for thread in threads:
        thread.join()
    assert seen == [list(range(1, total + 1))] * 3
    for follower in followers:
        follower.close()


def test_a_follower_may_come_and_go_while_another_appends(one: Log, two: Log) -> None:
    for n in range(20):
        follower = two.follow(f"a{n % 3}")
        message = one.append(f"a{n % 3}", str(n))
        assert follower.wait(PATIENCE)
        assert read(two, f"a{n % 3}", two.tail(f"a{n % 3}", 1)) == [message]
        follower.close()


# Who is in a room


def test_members_are_seen_by_all_in_the_order_they_came(one: Log, two: Log) -> None:
    assert one.enter("a", Member("ann", "Ann"))
    assert two.enter("a", Member("bob"))
    assert one.enter("a", Member("cid"))
    expected = [Member("ann", "Ann"), Member("bob"), Member("cid")]
    assert one.members("a") == two.members("a") == expected
    assert one.members("b") == two.members("b") == []


def test_a_member_may_be_taken_out_by_another(one: Log, two: Log) -> None:
    one.enter("a", Member("ann"))
    assert two.leave("a", "ann")
    assert not one.leave("a", "ann")
    assert one.members("a") == two.members("a") == []


def test_a_member_that_enters_elsewhere_is_there_once_and_lives_with_the_later(
    one: Log, two: Log
) -> None:
    assert one.enter("a", Member("ann", "phone"))
    assert not two.enter("a", Member("ann", "desk"))
    assert one.members("a") == [Member("ann", "desk")]
    one.close()
    assert two.members("a") == [Member("ann", "desk")]


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
    assert living.enter("a", Member("ann", "back")), "it was not there"
    assert dead.members("a") == [Member("ann", "back")]


def test_a_process_that_beats_keeps_its_members(open_again: Opener) -> None:
    lease = 1.5
    one, two = open_again(lease=lease), open_again(lease=lease)
    one.enter("a", Member("ann"))
    until = time.monotonic() + 2 * lease
    while time.monotonic() < until:
        assert one.beat() == []
        assert two.beat() == []
        assert two.members("a") == [Member("ann")]


def test_a_process_that_was_taken_for_dead_enters_its_members_again(open_again: Opener) -> None:
    slow, living = open_again(lease=SHORT), open_again(lease=SHORT)
    slow.enter("a", Member("ann"))
    assert wait_until(living.beat, "ann is taken out") == [("a", "ann")]
    assert slow.beat() == []
    assert slow.enter("a", Member("ann"))
    assert living.members("a") == [Member("ann")]


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
