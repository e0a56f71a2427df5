"""streaming/logs/redis/ on a real server: what is special about this home."""

import gc
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from streaming.errors import ChannelEnded, ConfigurationError, LogUnavailable
from streaming.logs import Member, Retention, open_log
from streaming.logs.contract import MAX_KEYS
from streaming.logs.redis import RedisLog, commands, rooms
from streaming.logs.redis.commands import CONNECTIONS
from streaming.logs.redis.messages import announced, stored
from streaming.logs.redis.scripts import CARRIED, NONE, PAST, SLACK
from streaming.message import Position
from tests.greenlets import in_greenlets
from tests.listener import Listener
from tests.polling import PATIENCE, wait_until
from tests.redis_server import RedisServer, redis_server, shared_server
from tests.witness import passes

MUCH = 1 << 30

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


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
    return log._url.key(channel, kind)


@contextmanager
def following(log: RedisLog, channel: str) -> Iterator[Listener]:
    listener = Listener()
    log.follow(channel, listener)
    yield listener
    log.unfollow(channel, listener)


def names(server: RedisServer, log: RedisLog) -> list[str]:
    return sorted(
        n.removeprefix(log._url.prefix) for n in server.ask("KEYS", f"{log._url.prefix}*")
    )


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
        mark = log.tail("a")
        head = log.append("a", "old").id
        page = wait_until(
            lambda: (p := log.read("a", mark, limit=9, size=MUCH)).gap and p, "it has aged away"
        )
        assert page.gap is not None
        assert (page.gap.oldest, page.gap.newest, list(page.messages)) == (None, None, [])
        assert page.position == log.tail("a", 50) == head
        assert log.append("a", "next").id == Position(head.epoch, 2)


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
    log.enter("a", Member("ann"))
    log.check()
    prefix = log._url.prefix
    ttls = {n: server.ask("PTTL", prefix + n) for n in names(server, log)}
    assert all(ttl > 0 for ttl in ttls.values()), ttls
    assert ttls["{a}:log"] == pytest.approx((3600 + 120) * 1000, abs=60_000)


def test_without_an_age_nothing_is_forgotten(server: RedisServer, url: str) -> None:
    with closing(RedisLog(url, Retention(age=None))) as log:
        log.append("a", "text")
        assert server.ask("PTTL", name(log, "meta")) == server.ask("PTTL", name(log, "log")) == -1


def test_a_channel_that_is_followed_is_kept(
    server: RedisServer, log: RedisLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming.logs.redis.announcements.LOOK", 0.05)
    log.append("a", "text")
    with following(log, "a"):
        for kind in ("log", "meta"):
            server.ask("PEXPIRE", name(log, kind), 30_000)
        for kind in ("log", "meta"):
            wait_until(lambda k=kind: server.ask("PTTL", name(log, k)) > 60_000, "it is kept")


def test_a_channel_that_vanishes_under_its_followers_is_told(
    server: RedisServer, log: RedisLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming.logs.redis.announcements.LOOK", 0.05)
    with following(log, "a") as listener:
        head = log.append("a", "text").id
        assert listener.wait(PATIENCE)
        server.ask("DEL", name(log, "meta"))
        assert listener.wait(PATIENCE)
        assert log.read("a", head, limit=9, size=MUCH).gap is not None


def test_what_was_not_announced_is_told_all_the_same(
    log: RedisLog, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming.logs.redis.announcements.LOOK", 0.05)
    monkeypatch.setattr(log.process.announcements, "_announced", lambda channel, said: None)
    with closing(RedisLog(url)) as other, following(log, "a") as listener:
        for n in range(3):
            other.append("a", str(n))
            assert listener.wait(PATIENCE)


def test_an_ended_channel_is_forgotten_in_its_own_time(server: RedisServer, url: str) -> None:
    keep = Retention(age=None, named={"run:*": Retention(after_end=600.0, age=86400.0)})
    with closing(RedisLog(url, keep)) as log:
        for channel, ended, going in (("a", 3600, None), ("run:1", 600, 86400)):
            log.append(channel, "text")
            for is_ended, seconds in ((False, going), (True, ended)):
                if is_ended:
                    log.append(channel, "{}", event="end", last=True)
                for kind in ("log", "meta"):
                    ttl = server.ask("PTTL", name(log, kind, channel))
                    wanted = -1 if seconds is None else (seconds + 120) * 1000
                    assert ttl == pytest.approx(wanted, abs=60_000)


def test_without_a_limit_an_ended_channel_is_not_forgotten(server: RedisServer, url: str) -> None:
    with closing(RedisLog(url, Retention(after_end=None))) as log:
        last = log.append("a", "{}", event="end", last=True).id
        for _ in range(2):
            log._look("a")
            for kind in ("log", "meta"):
                assert server.ask("PTTL", name(log, kind)) == -1
        new_run(server, log)
        assert log.read("a", last, limit=9, size=MUCH).ended
        assert server.ask("PTTL", name(log, "meta")) == -1


def test_an_ended_channel_that_is_followed_is_kept(
    server: RedisServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming.logs.redis.announcements.LOOK", 0.05)
    with closing(RedisLog(url, Retention(age=None, after_end=1.0))) as log, following(log, "a"):
        log.append("a", "{}", event="end", last=True)
        for kind in ("log", "meta"):
            server.ask("PEXPIRE", name(log, kind), 30_000)
        for kind in ("log", "meta"):
            wait_until(lambda k=kind: server.ask("PTTL", name(log, k)) > 60_000, "it is kept")
        server.ask("PEXPIRE", name(log, "meta"), 3_000_000)
        log._look("a")
        assert server.ask("PTTL", name(log, "meta")) > 2_000_000, "no shorter than it is anyway"


@pytest.mark.parametrize("is_known", [False, True])
def test_what_the_last_message_of_a_channel_says_is_heard_or_read(
    log: RedisLog, url: str, is_known: bool
) -> None:
    data = "x" * (CARRIED if is_known else CARRIED + 1)
    with closing(RedisLog(url)) as other, following(other, "a") as listener:
        last = log.append("a", data, event="end", last=True)
        assert listener.wait(PATIENCE)
        assert listener.calls == [("a", last if is_known else None)]


def test_only_own_channels_are_listed_whatever_the_prefix_of_names(server: RedisServer) -> None:
    prefixes = ["shop*:", "shop?:", "shop[a-z]:", "shop\\:", "shopa:", "shop"]
    for n, prefix in enumerate(prefixes):
        with closing(RedisLog(server.url(quote(prefix)))) as log:
            log.append(f"a{n}", "text")
            log.enter("room", Member("ann"))
    for n, prefix in enumerate(prefixes):
        with closing(RedisLog(server.url(quote(prefix)))) as log:
            assert log.channels() == [f"a{n}"]


def test_channels_of_a_server_that_is_away_are_unavailable() -> None:
    with closing(RedisLog("redis://127.0.0.1:1/0")) as log, pytest.raises(LogUnavailable):
        log.channels()


# Marks, and what is not written


def test_nothing_is_written_for_reading(server: RedisServer, log: RedisLog) -> None:
    log.append("there", "text")
    before = names(server, log)
    listener = Listener()
    for n in range(500):
        channel = f"made-up:{n}"
        mark = log.tail(channel, n % 3)
        for after in (mark, Position("0123abcd", 7), Position(NONE, 10**17)):
            log.read(channel, after, limit=9, size=MUCH)
        log.follow(channel, listener)
        log._look(channel)
        log.unfollow(channel, listener)
        assert log.members(channel) == []
        assert not log.leave(channel, "ann")
    assert names(server, log) == before


def test_reading_lets_nobody_live_longer(server: RedisServer, log: RedisLog) -> None:
    head = log.append("a", "text").id
    for kind in ("log", "meta"):
        server.ask("PEXPIRE", name(log, kind), 30_000)
    log.read("a", head, limit=9, size=MUCH)
    log.read("a", Position(head.epoch, 0), limit=9, size=MUCH)
    log.tail("a", 9)
    for kind in ("log", "meta"):
        assert server.ask("PTTL", name(log, kind)) <= 30_000


def test_a_mark_is_good_until_the_first_message_and_behind_it(log: RedisLog, url: str) -> None:
    with closing(RedisLog(url)) as other:
        mark = log.tail("a")
        assert mark.is_mark
        page = log.read("a", mark, limit=9, size=MUCH)
        assert (page.gap, list(page.messages)) == (None, [])
        assert page.position.is_same(mark)
        messages = [other.append("a", "first"), log.append("a", "second")]
        for each in (log, other):
            for place in (mark, page.position):
                found = each.read("a", place, limit=9, size=MUCH)
                assert (found.gap, list(found.messages)) == (None, messages)
                assert found.position == messages[-1].id


def test_reading_behind_a_mark_keeps_it_young(log: RedisLog) -> None:
    mark = log.tail("a")
    wait_until(
        lambda: log.read("a", mark, limit=9, size=MUCH).position.offset > mark.offset,
        "it is a later one",
    )


def now(server: RedisServer) -> int:
    seconds, micros = server.ask("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


def is_whole(log: RedisLog, mark: Position) -> bool:
    page = log.read("a", mark, limit=9, size=MUCH)
    assert page.gap is None or page.gap.requested == mark
    return page.gap is None


@pytest.mark.parametrize("is_there", [False, True])
def test_a_mark_that_is_older_than_a_channel_may_live_is_a_gap(
    server: RedisServer, log: RedisLog, is_there: bool
) -> None:
    if is_there:
        log.append("a", "text")
    oldest = now(server) - log._bounds.keep + SLACK
    assert is_whole(log, Position(NONE, oldest + 10_000))
    for old in (oldest - 10_000, 0):
        page = log.read("a", Position(NONE, old), limit=9, size=MUCH)
        assert page.gap is not None
        assert not page.is_sure, "who has followed since then knows better"


@pytest.mark.parametrize("is_there", [False, True])
def test_where_nothing_grows_old_no_mark_does(url: str, is_there: bool) -> None:
    with closing(RedisLog(url, Retention(age=None, after_end=None))) as log:
        if is_there:
            log.append("a", "text")
        assert is_whole(log, Position(NONE, 0))


@pytest.mark.parametrize("is_there", [False, True])
def test_a_mark_of_the_future_or_of_another_log_is_a_gap(
    server: RedisServer, log: RedisLog, is_there: bool
) -> None:
    if is_there:
        log.append("a", "text")
    early = now(server) - 10_000
    assert is_whole(log, Position(NONE, early))
    for forged in (Position(NONE, 10**17), Position("n1", early), Position("n0a", early)):
        page = log.read("a", forged, limit=9, size=MUCH)
        assert page.gap is not None
        assert (page.gap.oldest is not None) == is_there == bool(page.messages)
        assert page.position.is_mark != is_there
        assert log.read("a", page.position, limit=9, size=MUCH).gap is None


def test_a_mark_that_is_older_than_an_ended_channel_may_live_is_a_gap(
    server: RedisServer, url: str
) -> None:
    for age in (None, 3600.0):
        with closing(RedisLog(url, Retention(age=age, after_end=600.0))) as log:
            born = log.append(f"a{age}", "text")
            for before, is_whole in ((500, True), (700, False)):
                mark = Position(NONE, now(server) - before * 1000)
                page = log.read(f"a{age}", mark, limit=9, size=MUCH)
                assert list(page.messages) == [born]
                assert (page.gap is None) == is_whole
                assert (log.read("none", mark, limit=9, size=MUCH).gap is None) == is_whole


def test_a_mark_given_while_a_channel_was_gone_knows_its_second_life_only(
    server: RedisServer, log: RedisLog
) -> None:
    early = Position(NONE, now(server) - 10_000)
    first = log.append("a", "first life").id
    for kind in ("log", "meta"):
        server.ask("DEL", name(log, kind))
    page = log.read("a", first, limit=9, size=MUCH)
    assert page.gap is not None
    assert page.position.is_mark
    second = log.append("a", "second life")
    assert list(log.read("a", page.position, limit=9, size=MUCH).messages) == [second]
    assert is_whole(log, page.position)
    assert is_whole(log, early), "no trace is left: nobody can tell"


def test_a_mark_before_a_channel_of_which_a_rest_was_found_is_a_gap(
    server: RedisServer, log: RedisLog
) -> None:
    mark = log.tail("a")
    log.append("a", "first life")
    server.ask("DEL", name(log, "meta"))
    log.append("a", "second life")
    page = log.read("a", mark, limit=9, size=MUCH)
    assert page.gap is not None
    assert page.is_sure


def test_who_follows_where_nothing_is_said_is_told_before_its_mark_is_too_old(
    server: RedisServer, log: RedisLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming.logs.redis.announcements.LOOK", 0.05)
    monkeypatch.setattr(log, "_bounds", log._bounds._replace(keep=2000))
    with following(log, "a") as listener:
        wait_until(lambda: len(listener.calls) > 2, "it is told to look again and again")
    assert names(server, log) == []


def test_who_follows_where_nothing_is_said_is_left_alone_if_marks_stay_good(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming.logs.redis.announcements.LOOK", 0.01)
    looks: list[str] = []
    with closing(RedisLog(url, Retention(age=None, after_end=None))) as log:
        look = log._look
        monkeypatch.setattr(
            log.process.announcements, "_look", lambda a: looks.append(a) or look(a)
        )
        with following(log, "a") as listener:
            wait_until(lambda: len(looks) > 5, "it looks again and again")
            assert len(listener.calls) == 1, "the first look is news"


# What is told


def test_a_message_is_told_once_in_every_process(log: RedisLog, url: str) -> None:
    with (
        closing(RedisLog(url)) as other,
        following(log, "a") as own,
        following(other, "a") as others,
    ):
        for n in range(20):
            log.append("a", str(n), key=str(n))
            log.append("a", "again", key=str(n))
        for count, each in ((21, log), (22, other)):
            each.append("a", "last")
            for listener in (own, others):  # what comes behind a newer one is not told
                wait_until(lambda who=listener, n=count: len(who.calls) >= n, "all is told")
    assert len(own.calls) == len(others.calls) == 22


def test_when_the_listening_connection_is_lost_all_are_told(
    server: RedisServer, log: RedisLog, caplog: pytest.LogCaptureFixture
) -> None:
    with following(log, "a") as a, following(log, "b") as b:
        server.ask("CLIENT", "KILL", "TYPE", "pubsub")
        assert a.wait(PATIENCE)
        assert b.wait(PATIENCE)
    assert "not heard of" in caplog.text


def test_own_messages_are_told_before_append_returns_whatever_their_length(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(RedisLog(url, Retention(messages=1))) as log:
        monkeypatch.setattr(log.process.announcements, "_announced", lambda channel, said: None)
        log.append("a", "no longer held", key="k")
        log.append("a", "held")
        with following(log, "a") as listener:
            log.append("a", "no longer held", key="k")
            assert listener.calls == [], "a repetition is no news"
            messages = [log.append("a", text) for text in ("short", "x" * 100_000)]
            assert listener.calls == [("a", message) for message in messages]


def test_a_short_message_is_told_as_it_is_read(log: RedisLog, url: str) -> None:
    start = log.append("a", "").id
    with closing(RedisLog(url)) as other, following(other, "a") as listener:
        for text in ("", "text", "x" * CARRIED, "中 😀 \0 \r\n\n \u2028 \x85", '["a"] "b"', "\n"):
            log.append("a", text)
            log.append("a", text, event='tick "价格"', key=f"k\n \0{text[:9]}", sender="c-1")
            log.append("a", text, traceparent=TRACE)
        wait_until(lambda: len(listener.calls) == 18, "all is told")
    assert listener.messages == list(log.read("a", start, limit=99, size=MUCH).messages)


@pytest.mark.parametrize("trace", ["", "00-1-2-01", f"{TRACE}\n", f"{TRACE}-more", TRACE.upper()])
def test_a_trace_that_is_none_is_not_taken_for_one(trace: str) -> None:
    entry = ["1-0", ["t", "1", "d", "text", "p", trace]]
    assert stored("a", "e", entry).traceparent is None
    _, message = announced("a", f"e-1 {json.dumps(['message', '', '', trace])}\ntext")
    assert message is not None
    assert message.traceparent is None


def test_of_a_long_message_others_are_told_the_place_only(log: RedisLog, url: str) -> None:
    with closing(RedisLog(url)) as other, following(other, "a") as listener:
        log.append("a", "x" * (CARRIED + 1))
        log.append("a", "中" * (CARRIED // 3 + 1))
        wait_until(lambda: len(listener.calls) == 2, "both are told")
    assert listener.messages == []


def test_what_others_publish_under_our_name_is_told_and_harms_nobody(
    server: RedisServer, log: RedisLog, caplog: pytest.LogCaptureFixture
) -> None:
    epoch = log.append("a", "text").id.epoch
    forged = [
        b"",
        b"5",
        b"\xff\xfe",
        b"a-1-2 [",
        f"{epoch}-3 nothing\n\xff".encode("latin-1"),
        f"{epoch}-4 {'[' * 100_000}\n".encode(),
        f'{epoch}-5 ["one"]\ntext'.encode(),
        f'{epoch}-6 ["one", 2, null]\ntext'.encode(),
    ]
    with following(log, "a") as listener:
        for count, said in enumerate(forged, start=1):
            server.ask("PUBLISH", name(log, "log"), said)
            wait_until(lambda c=count: len(listener.calls) == c, f"{said[:50]!r} is told")
        assert listener.messages == []
    assert caplog.text == ""


def test_what_was_not_stored_is_not_announced(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path) as server,
        closing(RedisLog(server.url())) as log,
        closing(RedisLog(f"{log._url}?prefix={log._url.prefix}")) as other,
        following(other, "a") as listener,
    ):
        server.ask("CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(LogUnavailable, match="out of memory"):
            log.append("a", "refused")
        server.ask("CONFIG", "SET", "maxmemory", "0")
        message = log.append("a", "stored")
        assert message.id.offset == 1
        wait_until(lambda: listener.calls, "it is told")
        assert listener.calls == [("a", message)]


# What others, or memory that runs short, do to our keys


def test_a_log_that_was_evicted_is_a_gap_with_nothing_held(
    server: RedisServer, log: RedisLog
) -> None:
    mark = log.tail("a")
    head = [log.append("a", str(n)).id for n in range(3)][-1]
    server.ask("DEL", name(log, "log"))
    page = log.read("a", mark, limit=9, size=MUCH)
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
    mark, places = log.tail("a"), [log.append("a", str(n)).id for n in range(3)]
    new_run(server, log)
    last = log.append("a", "3")
    assert last.id.offset == 4
    assert last.id.epoch != places[0].epoch
    for seen, place in enumerate([mark, *places]):
        page = log.read("a", place, limit=9, size=MUCH)
        assert page.gap is None
        assert {m.id.epoch for m in page.messages} == {last.id.epoch}
        assert len(page.messages) == 4 - seen


def test_an_end_outlives_a_new_run(server: RedisServer, log: RedisLog) -> None:
    first = log.append("a", "text", key="k").id
    last = log.append("a", "{}", event="end", last=True).id
    for read_first in (True, False):
        new_run(server, log)
        if read_first:
            page = log.read("a", last, limit=9, size=MUCH)
            assert (page.gap, list(page.messages), page.ended) == (None, [], True)
            assert page.position.epoch != last.epoch
        with pytest.raises(ChannelEnded):
            log.append("a", "late")
        assert log.append("a", "again", key="k").id.offset == first.offset
        page = log.read("a", first, limit=9, size=MUCH)
        assert ([m.event for m in page.messages], page.gap, page.ended) == (["end"], None, True)


def test_an_end_that_redis_has_lost_has_not_been(server: RedisServer, log: RedisLog) -> None:
    log.append("a", "text")
    with redis.Redis(port=server.port, password=server.password) as client:
        before = {kind: client.dump(name(log, kind)) for kind in ("log", "meta")}
        last = log.append("a", "{}", event="end", last=True).id
        for kind, value in before.items():
            client.restore(name(log, kind), 0, value, replace=True)
    new_run(server, log)
    message = log.append("a", "on")
    assert message.id.offset == last.offset
    page = log.read("a", last, limit=9, size=MUCH)
    assert page.gap is not None
    assert (list(page.messages), page.ended) == ([message], False)


def test_an_end_is_known_though_its_messages_were_evicted(
    server: RedisServer, log: RedisLog
) -> None:
    first = log.append("a", "text").id
    last = log.append("a", "{}", event="end", last=True).id
    server.ask("DEL", name(log, "log"))
    page = log.read("a", first, limit=9, size=MUCH)
    assert page.gap is not None
    assert (page.gap.oldest, page.position, page.ended) == (None, last, True)
    with pytest.raises(ChannelEnded):
        log.append("a", "late")


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
        assert log.process.commands._client is None


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
    client = log.process.commands._client
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
    wait_until(lambda: passes(log), "it is tried again")
    assert log.tail("a").offset == 3, "it was stored, and once"


def test_a_process_needs_few_connections_however_many_follow_and_publish(
    server: RedisServer, log: RedisLog
) -> None:
    def ours() -> int:
        return str(server.ask("CLIENT", "LIST", "TYPE", "pubsub")).count("id=")

    wait_until(lambda: ours() == 0, "the tests before have let go")
    listeners = {f"c{n}": Listener() for n in range(300)}
    for channel, listener in listeners.items():
        log.follow(channel, listener)
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
    # a connection that was closed counts until the server has looked at it
    wait_until(
        lambda: server.ask("INFO", "clients")["connected_clients"] <= before + CONNECTIONS,
        "few are connected",
    )
    assert all(listeners[f"c{n}"].wait(PATIENCE) for n in range(20))
    for channel, listener in listeners.items():
        log.unfollow(channel, listener)


def test_whoever_waits_too_long_for_a_turn_is_told(
    log: RedisLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append("a", "text")  # connected
    for _ in range(CONNECTIONS):
        log.process.commands._turns.acquire()
    monkeypatch.setattr(commands, "TIMEOUT", 0.05)
    with pytest.raises(LogUnavailable, match="slower than we ask it"):
        log.append("a", "text")
    monkeypatch.setattr(commands, "TIMEOUT", PATIENCE)
    log.process.commands._turns.release(CONNECTIONS)
    log.append("a", "text")


def test_who_listens_is_not_cut_in_the_midst_of_it_when_the_log_is_closed(log: RedisLog) -> None:
    ear = log.process.commands.listen()
    log.close()
    gc.collect()
    ear.ping()
    assert wait_until(ear.receive, "an answer")[0] == "PONG"
    assert ear._connection._sock is ear.sock, "not another one"
    ear.close()


def test_a_child_of_a_process_that_follows_has_its_own_connections(log: RedisLog) -> None:
    with following(log, "a") as listener:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                log.append("a", "before the child follows")
                mine = Listener()
                log.follow("a", mine)
                log.append("a", "from the child")
                heard = mine.wait(PATIENCE) and not listener.calls
                os.write(writer, b"told" if heard else b"deaf")
            finally:
                os._exit(0)
        os.close(writer)
        assert os.read(reader, 10) == b"told"
        os.close(reader)
        os.waitpid(child, 0)
        wait_until(lambda: len(listener.calls) == 2, "the parent is told of both")
        message = log.append("a", "from the parent")
        assert message.id.offset == 3
        wait_until(lambda: listener.calls[2:] == [("a", message)], "its own is told")


@in_greenlets
def test_in_greenlets_whoever_reads_when_told_misses_nothing() -> None:
    commands.TIMEOUT = PATIENCE  # in a process of its own, without the fixtures
    url = shared_server().url()
    with closing(RedisLog(url)) as log, closing(RedisLog(url)) as other:
        place, seen = log.tail("a"), 0
        with following(other, "a") as listener:
            threads = [
                threading.Thread(target=lambda: [log.append("a", "x") for _ in range(20)])
                for _ in range(50)
            ]
            for thread in threads:
                thread.start()
            while seen < 1000:
                assert listener.wait(PATIENCE), f"asleep at {place}"
                while (page := other.read("a", place, limit=99, size=MUCH)).messages:
                    assert page.gap is None
                    place, seen = page.position, seen + len(page.messages)
            for thread in threads:
                thread.join()


# Rooms


def test_a_room_outlives_what_is_kept_as_long_as_its_members_beat(
    server: RedisServer, log: RedisLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.enter("a", Member("ann"))
    server.ask("PEXPIRE", name(log, "members"), 10_000)
    log.beat()
    assert server.ask("PTTL", name(log, "members")) <= 10_000
    monkeypatch.setattr(log.process.rooms, "_renewed", log.process.rooms._renewed - rooms.KEPT)
    log.beat()
    assert server.ask("PTTL", name(log, "members")) > 60_000


def test_a_flushed_server_knows_the_rooms_again_after_a_beat_and_an_enter(
    server: RedisServer, url: str
) -> None:
    lease = 0.2
    with closing(RedisLog(url, lease=lease)) as dead, closing(RedisLog(url, lease=lease)) as one:
        dead.enter("a", Member("ann"))
        for key in server.ask("KEYS", f"{one._url.prefix}*"):
            server.ask("DEL", key)
        assert dead.beat() == []
        assert dead.enter("a", Member("ann")) is None
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
    assert log.process.rooms._own == {}
    assert not [each for each in names(server, log) if each.startswith("worker:")]


def test_processes_of_an_earlier_version_and_of_this_one_see_the_members_of_both(
    server: RedisServer, log: RedisLog
) -> None:
    log.enter("a", Member("ann", "Ann"))
    log.enter("a", Member("bob", "Bob", "Bob", 2))
    old = json.dumps([3, "old", "Cid"], separators=(",", ":"))
    server.ask("HSET", name(log, "members"), "mcid", old)
    server.ask("ZADD", f"{log._url.prefix}workers", "9e15", "old")
    assert log.members("a") == [
        Member("ann", "Ann"),
        Member("bob", "Bob", "Bob", 2),
        Member("cid", "Cid"),
    ]
    rows = [json.loads(server.ask("HGET", name(log, "members"), f"m{n}")) for n in ("ann", "bob")]
    worker = log.process.rooms._worker
    assert rows == [[1, worker, "Ann"], [2, worker, "Bob"]], "what they read, and no more"
    assert log.enter("a", Member("cid", "Cid!")) == Member("cid", "Cid")
    assert log.members("a")[2] == Member("cid", "Cid!", connections=2)
    server.ask("HSET", name(log, "members"), "mbob", json.dumps([2, "old", "Bob"]))  # it enters him
    assert log.find("a", "bob") == Member("bob", "Bob", "Bob", 3)
    server.ask("HDEL", name(log, "members"), "mbob")  # and takes him out, for all
    assert log.find("a", "bob") is None
    assert log.enter("a", Member("bob")) is None
    assert log.find("a", "bob") == Member("bob")


def test_closing_a_log_that_is_away_ends_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    log = RedisLog("redis://127.0.0.1:1/0")
    with pytest.raises(LogUnavailable, match="cannot be reached"):
        log.enter("a", Member("ann"))
    log.close()
    assert "until their lease is over" in caplog.text


def test_no_command_is_newer_than_the_oldest_redis_that_is_promised(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, closing(RedisLog(server.url("p:"))) as log:
        with following(log, "a") as listener:
            for n in range(3):
                log.append("a", "x", key=str(n))
            assert listener.wait(PATIENCE)
        log.read("a", log.tail("a", 2), limit=9, size=MUCH)
        log.append("a", "{}", event="end", last=True)
        log.enter("room", Member("ann"))
        log.members("room")
        log.beat()
        log.leave("room", "ann")
        log.check()
        log.channels("")
        stats = server.ask("INFO", "commandstats")
        used = {name.removeprefix("cmdstat_").partition("|")[0] for name in stats}
        assert {"evalsha", "xadd", "hset", "publish", "subscribe"} & used
        # through a script: redis-py takes all that COMMAND says for a list of commands
        ask = "return redis.call('COMMAND', 'DOCS', unpack(ARGV))"
        docs = server.ask("EVAL", ask, 0, *sorted(used))
    since = {}
    for name, told in zip(docs[::2], docs[1::2], strict=True):
        fields = dict(zip(told[::2], told[1::2], strict=True))
        since[name] = [int(n) for n in fields["since"].split(".")]
    assert since.keys() == used
    assert [name for name in used if since[name] >= [6, 3]] == []
