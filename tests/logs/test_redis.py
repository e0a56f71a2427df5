"""streaming/logs/redis/ on a real server: what is special about this home."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from streaming.errors import ConfigurationError, LogUnavailable
from streaming.hub.hub import Hub
from streaming.logs import Member, Retention, open_log
from streaming.logs.redis import RedisLog, commands, rooms
from streaming.logs.redis.commands import CONNECTIONS
from streaming.logs.redis.scripts import MAX_KEYS, PAST
from streaming.message import Position
from tests.greenlets import in_greenlets
from tests.polling import PATIENCE, wait_until
from tests.redis_server import RedisServer, shared_server
from tests.witness import seen_by, watching

MUCH = 1 << 30


@pytest.fixture
def server() -> RedisServer:
    return shared_server()


@pytest.fixture
def url(server: RedisServer) -> str:
    return server.url()


@pytest.fixture
def log(url: str) -> Iterator[RedisLog]:
    with closing(RedisLog(url)) as log:
        yield log


def name(log: RedisLog, kind: str, channel: str = "a") -> str:
    return f"{log._prefix}{{{channel}}}:{kind}"


def names(server: RedisServer, log: RedisLog) -> list[str]:
    return sorted(n.removeprefix(log._prefix) for n in server.ask("KEYS", f"{log._prefix}*"))


def new_run(server: RedisServer, log: RedisLog) -> None:
    """What a restart looks like to the scripts."""
    server.ask("HSET", name(log, "meta"), "run", "another run")


def test_without_redis_py_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [m for m in sys.modules if m.startswith("streaming.logs.redis")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'flask-streaming\[redis\]'"):
        open_log("redis://127.0.0.1/0")


# What is kept, and how long


def test_the_names_of_a_channel_share_a_hash_tag_and_begin_with_the_prefix(
    server: RedisServer, log: RedisLog
) -> None:
    log.append("a", "text", key="k")
    assert names(server, log) == ["{a}:keys", "{a}:log", "{a}:meta", "{a}:order"]


def test_a_message_is_held_for_its_age_and_no_longer(url: str) -> None:
    with closing(RedisLog(url, Retention(age=0.3))) as log:
        place = log.tail("a")
        log.append("a", "old")
        page = wait_until(
            lambda: (p := log.read("a", place, limit=9, size=MUCH)).gap and p, "it has aged away"
        )
        assert page.gap is not None
        assert (page.gap.oldest, page.gap.newest, list(page.messages)) == (None, None, [])
        assert page.position == log.tail("a", 50) == Position(place.epoch, 1)
        assert log.append("a", "next").id == Position(place.epoch, 2)


def test_a_key_is_forgotten_when_its_window_has_passed(url: str) -> None:
    with closing(RedisLog(url, Retention(key_window=0.3))) as log:
        first = log.append("a", "one", key="k").id
        later = wait_until(
            lambda: (m := log.append("a", "one", key="k")).id != first and m, "it is forgotten"
        )
        assert later.id.offset == 2


def test_a_channel_remembers_a_bounded_number_of_keys(server: RedisServer, log: RedisLog) -> None:
    log.append("a", "", key="first")
    place = name(log, "keys"), name(log, "order")
    fill = (
        "for n = 2, tonumber(ARGV[1]) do redis.call('HSET', KEYS[1], n, '1:9999999999999') "
        "redis.call('ZADD', KEYS[2], 9999999999999, n) end"
    )
    server.ask("EVAL", fill, 2, *place, MAX_KEYS)
    assert log.append("a", "", key="last").id.offset == 2
    assert server.ask("HLEN", place[0]) == server.ask("ZCARD", place[1]) == MAX_KEYS
    assert log.append("a", "", key="last").id.offset == 2
    assert log.append("a", "", key="first").id.offset == 3, "the oldest is forgotten"


def test_what_nobody_uses_any_more_is_forgotten_by_redis(
    server: RedisServer, log: RedisLog
) -> None:
    log.append("a", "text", key="k")
    log.tail("empty")
    log.enter("a", Member("ann"))
    log.check()
    prefix = log._prefix
    ttls = {n: server.ask("PTTL", prefix + n) for n in names(server, log)}
    assert all(ttl > 0 for ttl in ttls.values()), ttls
    assert ttls["{a}:log"] == pytest.approx((3600 + 120) * 1000, abs=60_000)
    assert ttls["{empty}:meta"] == pytest.approx(600_000, abs=60_000)


def test_without_an_age_nothing_is_forgotten_but_what_never_had_a_message(
    server: RedisServer, url: str
) -> None:
    with closing(RedisLog(url, Retention(age=None))) as log:
        log.tail("a")
        assert server.ask("PTTL", name(log, "meta")) > 0
        log.append("a", "text")
        assert server.ask("PTTL", name(log, "meta")) == server.ask("PTTL", name(log, "log")) == -1


def test_a_channel_that_is_followed_is_kept(
    server: RedisServer, log: RedisLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming.logs.redis.announcements.LOOK", 0.05)
    log.append("a", "text")
    follower = log.follow("a")
    for kind in ("log", "meta"):
        server.ask("PEXPIRE", name(log, kind), 30_000)
    for kind in ("log", "meta"):
        wait_until(lambda k=kind: server.ask("PTTL", name(log, k)) > 60_000, "it is kept")
    follower.close()


def test_a_channel_that_vanishes_under_its_followers_is_noticed(
    server: RedisServer, log: RedisLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming.logs.redis.announcements.LOOK", 0.05)
    with watching(Hub(log)) as witness:
        first = witness.hub.publish("a", "text")
        seen_by(witness, "text")
        server.ask("DEL", name(log, "meta"))
        wait_until(lambda: witness.gaps, "the gap is told")
        assert witness.gaps[0].requested == first.id


def test_what_was_not_announced_arrives_all_the_same(
    server: RedisServer, log: RedisLog, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming.logs.redis.announcements.LOOK", 0.05)
    with closing(RedisLog(url)) as deaf, watching(Hub(log)) as witness:
        monkeypatch.setattr(log._announcements, "_announced", lambda name: None)
        deaf.append("a", "text")
        seen_by(witness, "text")


# What others, or memory that runs short, do to our keys


def test_a_log_that_was_evicted_is_a_gap_with_nothing_held(
    server: RedisServer, log: RedisLog
) -> None:
    place = log.tail("a")
    head = [log.append("a", str(n)).id for n in range(3)][-1]
    server.ask("DEL", name(log, "log"))
    page = log.read("a", place, limit=9, size=MUCH)
    assert page.gap is not None
    assert (page.gap.oldest, page.position) == (None, head)
    assert log.read("a", head, limit=9, size=MUCH).gap is None
    assert log.append("a", "next").id == Position(head.epoch, 4)
    assert server.ask("PTTL", name(log, "log")) > 0


def test_leftovers_of_a_channel_whose_head_was_evicted_are_not_taken_for_its_past(
    server: RedisServer, log: RedisLog
) -> None:
    first = log.append("a", "old", key="k").id
    server.ask("DEL", name(log, "meta"))
    message = log.append("a", "new", key="k")
    assert message.id.offset == 1
    assert message.id.epoch != first.epoch
    assert list(log.read("a", first, limit=9, size=MUCH).messages) == [message]


def test_entries_that_somebody_else_deleted_do_not_stop_the_log(
    server: RedisServer, url: str
) -> None:
    with closing(RedisLog(url, Retention(messages=3))) as log:
        for n in range(3):
            log.append("a", str(n))
        server.ask("XDEL", name(log, "log"), "1-0", "3-0")
        for n in range(3, 9):
            log.append("a", str(n))
        page = log.read("a", log.tail("a", 9), limit=9, size=MUCH)
        assert [m.data for m in page.messages] == ["6", "7", "8"]


def test_something_else_under_our_name_is_an_unavailable_log(
    server: RedisServer, log: RedisLog
) -> None:
    server.ask("SET", name(log, "meta"), "not ours")
    for act in (lambda: log.append("a", "text"), lambda: log.tail("a")):
        with pytest.raises(LogUnavailable, match="WRONGTYPE"):
            act()


# Lineage


def test_a_new_run_begins_an_epoch_in_which_old_positions_are_good(
    server: RedisServer, log: RedisLog
) -> None:
    places = [log.tail("a"), *(log.append("a", str(n)).id for n in range(3))]
    new_run(server, log)
    last = log.append("a", "3")
    assert last.id.offset == 4
    assert last.id.epoch != places[0].epoch
    for place in places:
        page = log.read("a", place, limit=9, size=MUCH)
        assert page.gap is None
        assert {m.id.epoch for m in page.messages} == {last.id.epoch}
        assert len(page.messages) == 4 - place.offset


def test_at_the_head_a_new_run_only_renames_the_place(server: RedisServer, log: RedisLog) -> None:
    head = log.append("a", "text").id
    new_run(server, log)
    page = log.read("a", head, limit=9, size=MUCH)
    assert (page.gap, list(page.messages), page.position.offset) == (None, [], 1)
    assert page.position.epoch != head.epoch
    assert log.tail("a") == page.position


def test_what_an_old_epoch_had_beyond_its_end_is_a_gap_that_repeats_nothing(
    server: RedisServer, log: RedisLog
) -> None:
    head = [log.append("a", str(n)).id for n in range(3)][-1]
    new_run(server, log)
    beyond = Position(head.epoch, 5)
    page = log.read("a", beyond, limit=9, size=MUCH)
    assert page.gap is not None
    assert (page.gap.oldest, list(page.messages), page.position.offset) == (None, [], 3)
    new = log.append("a", "new")
    page = log.read("a", beyond, limit=9, size=MUCH)
    assert page.gap is not None
    assert (page.gap.requested, page.gap.oldest, page.gap.newest) == (beyond, new.id, new.id)
    assert list(page.messages) == [new]


def test_a_bounded_number_of_epochs_is_remembered(server: RedisServer, log: RedisLog) -> None:
    places = []
    for n in range(PAST + 3):
        places.append(log.append("a", str(n)).id)
        new_run(server, log)
    log.tail("a")
    gaps = [log.read("a", place, limit=99, size=MUCH).gap is not None for place in places]
    assert gaps == [True] * 3 + [False] * PAST


def test_a_key_holds_across_runs(server: RedisServer, log: RedisLog) -> None:
    first = log.append("a", "one", key="k")
    new_run(server, log)
    again = log.append("a", "two", key="k")
    assert (again.data, again.id.offset) == ("one", first.id.offset)
    assert again.id.epoch == log.tail("a").epoch


# Connections


def test_nothing_connects_before_it_is_used(server: RedisServer, url: str) -> None:
    with closing(RedisLog(url.replace(str(server.port), "1"))) as log:
        assert log._commands._client is None


def test_scripts_that_the_server_has_forgotten_are_sent_again(
    server: RedisServer, log: RedisLog
) -> None:
    log.append("a", "one")
    server.ask("SCRIPT", "FLUSH")
    assert log.append("a", "two").id.offset == 2


def test_only_what_does_no_harm_twice_is_sent_again_when_a_connection_breaks(
    log: RedisLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = log.append("a", "text").id
    client = log._commands._client
    execute = client.execute_command
    breaks: list[bool] = []

    def break_off(*words: object) -> object:
        answer = execute(*words)
        if breaks:
            breaks.pop()
            raise redis.ConnectionError("Connection closed by server.")
        return answer

    monkeypatch.setattr(client, "execute_command", break_off)
    breaks.append(True)
    assert log.tail("a") == head
    breaks.append(True)
    assert log.append("a", "once", key="k").id.offset == 2
    assert log.tail("a").offset == 2
    breaks.append(True)
    with pytest.raises(LogUnavailable, match="may be stored all the same"):
        log.append("a", "maybe")
    wait_until(lambda: reaches(log), "it is tried again")
    assert log.tail("a").offset == 3, "it was stored, and once"


def reaches(log: RedisLog) -> bool:
    try:
        log.check()
    except LogUnavailable:
        return False
    return True


def test_a_process_needs_few_connections_however_many_follow_and_publish(
    server: RedisServer, log: RedisLog
) -> None:
    def ours() -> int:
        return str(server.ask("CLIENT", "LIST", "TYPE", "pubsub")).count("id=")

    wait_until(lambda: ours() == 0, "the tests before have let go")
    followers = [log.follow(f"c{n}") for n in range(300)]
    assert ours() == 1
    before = server.ask("INFO", "clients")["connected_clients"]

    def publish() -> None:
        for n in range(20):
            log.append(f"c{n}", "text")

    threads = [threading.Thread(target=publish) for _ in range(4 * CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.ask("INFO", "clients")["connected_clients"] <= before + CONNECTIONS
    assert all(follower.wait(PATIENCE) for follower in followers[:20])
    for follower in followers:
        follower.close()


def test_whoever_waits_too_long_for_a_turn_is_told(
    log: RedisLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "TIMEOUT", 0.05)
    log.append("a", "text")
    for _ in range(CONNECTIONS):
        log._commands._turns.acquire()
    with pytest.raises(LogUnavailable, match="slower than we ask it"):
        log.append("a", "text")
    log._commands._turns.release(CONNECTIONS)
    log.append("a", "text")


def test_a_child_of_a_process_that_follows_has_its_own_connections(log: RedisLog) -> None:
    follower = log.follow("a")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            mine = log.follow("a")
            log.append("a", "from the child")
            os.write(writer, b"woken" if mine.wait(PATIENCE) else b"asleep")
        finally:
            os._exit(0)
    os.close(writer)
    assert os.read(reader, 10) == b"woken"
    os.close(reader)
    os.waitpid(child, 0)
    assert follower.wait(PATIENCE)
    message = log.append("a", "from the parent")
    assert message.id.offset == 2
    assert follower.wait(PATIENCE)
    follower.close()


@in_greenlets
def test_a_hub_on_redis_works_in_greenlets() -> None:
    url = shared_server().url()
    with closing(RedisLog(url)) as log, watching(Hub(log)) as witness:
        threads = [
            threading.Thread(target=lambda: [witness.hub.publish("a", "x") for _ in range(20)])
            for _ in range(50)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: len(witness.messages) == 1000, "all have arrived")
        assert witness.gaps == []


# Rooms


def test_a_room_outlives_what_is_kept_as_long_as_its_members_beat(
    server: RedisServer, log: RedisLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.enter("a", Member("ann"))
    server.ask("PEXPIRE", name(log, "members"), 10_000)
    log.beat()
    assert server.ask("PTTL", name(log, "members")) <= 10_000
    monkeypatch.setattr(log._rooms, "_renewed", log._rooms._renewed - rooms.KEPT)
    log.beat()
    assert server.ask("PTTL", name(log, "members")) > 60_000


def test_a_flushed_server_knows_the_rooms_again_after_a_beat_and_an_enter(
    server: RedisServer, url: str
) -> None:
    lease = 0.2
    with closing(RedisLog(url, lease=lease)) as dead, closing(RedisLog(url, lease=lease)) as one:
        dead.enter("a", Member("ann"))
        for key in server.ask("KEYS", f"{one._prefix}*"):
            server.ask("DEL", key)
        assert dead.beat() == []
        assert dead.enter("a", Member("ann"))
        assert wait_until(one.beat, "ann is taken out") == [("a", "ann")]


def test_rooms_that_all_own_members_have_left_are_not_kept_in_mind(
    server: RedisServer, log: RedisLog
) -> None:
    for n in range(50):
        log.enter(f"room{n}", Member("ann"))
        log.enter(f"room{n}", Member("bob"))
        log.leave(f"room{n}", "ann")
        assert log.members(f"room{n}") == [Member("bob")]
        log.leave(f"room{n}", "bob")
    log.beat()
    assert log._rooms._own == {}
    assert not [each for each in names(server, log) if each.startswith("worker:")]


def test_closing_a_log_that_is_away_ends_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    log = RedisLog("redis://127.0.0.1:1/0")
    with pytest.raises(LogUnavailable, match="cannot be reached"):
        log.enter("a", Member("ann"))
    log.close()
    assert "until their lease is over" in caplog.text
