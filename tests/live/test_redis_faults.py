"""Real Redis servers that are killed, restarted, stalled, flushed, filled up and demoted."""

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from streaming.errors import LogUnavailable
from streaming.hub.hub import Hub
from streaming.logs import Page, Retention
from streaming.logs.redis import RedisLog
from streaming.logs.redis.commands import TIMEOUT
from streaming.message import Message, Position
from tests.greenlets import in_greenlets
from tests.polling import PATIENCE, wait_until
from tests.redis_server import RedisServer, redis_server
from tests.witness import passes, publish_at_last, seen_by, watching

BOUND = 3 * TIMEOUT + PATIENCE
"""Seconds: what is promised, and what a busy machine may add. Who waits behind others waits longer,
and who waits for the server for ever."""

KEPT = {"appendonly": "yes", "appendfsync": "always"}


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that remembers."""
    with redis_server(tmp_path, **KEPT) as server:
        yield server


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that remembers nothing when it is restarted."""
    with redis_server(tmp_path) as server:
        yield server


def refused(hub: Hub, channel: str = "a") -> str:
    """Why publishing is refused; it has to be, and soon."""
    began = time.monotonic()
    with pytest.raises(LogUnavailable) as caught:
        hub.publish(channel, "refused")
    assert time.monotonic() - began < BOUND
    return str(caught.value)


def test_a_server_that_is_killed_and_comes_back_with_its_log_leaves_no_gap(
    kept: RedisServer,
) -> None:
    with closing(RedisLog(kept.url())) as log, watching(Hub(log)) as witness:
        hub = witness.hub
        hub.publish("a", "before")
        seen_by(witness, "before")
        kept.kill()
        for _ in range(3):
            assert "cannot be reached" in refused(hub)
        with pytest.raises(LogUnavailable):
            log.check()
        kept.start()
        publish_at_last(hub, "after")
        seen_by(witness, "after")
        assert witness.texts == ["before", "after"]
        assert witness.gaps == []
        wait_until(lambda: passes(log), "health is good again")


def test_a_server_that_forgot_everything_is_told_of_as_a_gap(forgetful: RedisServer) -> None:
    with closing(RedisLog(forgetful.url())) as log, watching(Hub(log)) as witness:
        hub = witness.hub
        first = hub.publish("a", "before")
        seen_by(witness, "before")
        forgetful.kill()
        refused(hub)
        forgetful.start()
        wait_until(lambda: witness.gaps, "the gap is told though nothing new comes")
        publish_at_last(hub, "after")
        seen_by(witness, "after")
        assert witness.texts == ["before", "after"]
        assert [gap.requested for gap in witness.gaps] == [first.id]
        assert witness.messages[1].id.epoch != first.id.epoch


def test_a_flushed_server_is_told_of_as_a_gap_with_the_next_message(
    forgetful: RedisServer,
) -> None:
    with closing(RedisLog(forgetful.url())) as log, watching(Hub(log)) as witness:
        hub = witness.hub
        first = hub.publish("a", "before")
        seen_by(witness, "before")
        forgetful.ask("FLUSHALL")
        hub.publish("a", "after")
        seen_by(witness, "after")
        assert [gap.requested for gap in witness.gaps] == [first.id]


def test_a_lost_tail_is_a_gap_for_those_who_saw_it_and_for_nobody_else(
    tmp_path: Path,
) -> None:
    with redis_server(tmp_path / "first") as first:
        log = RedisLog(first.url("p:"))
        mark = log.tail("a")
        held = [log.append("a", f"kept {n}").id for n in range(3)]
        first.ask("SAVE")
        lost = [log.append("a", f"lost {n}").id for n in range(3)]
        log.close()
    second = RedisServer(tmp_path / "second")
    shutil.copy(tmp_path / "first" / "dump.rdb", tmp_path / "second" / "dump.rdb")
    second.start()
    try:
        with closing(RedisLog(second.url("p:"))) as log:
            new = [log.append("a", f"new {n}") for n in range(4)]
            assert [m.id.offset for m in new] == [4, 5, 6, 7], "the same offsets again"
            for seen, place in enumerate([mark, *held]):
                page = log.read("a", place, limit=100, size=1 << 20)
                assert page.gap is None
                assert len(page.messages) == 7 - seen
                assert page.position == new[-1].id
            for place in lost:
                page = log.read("a", place, limit=100, size=1 << 20)
                assert page.gap is not None
                assert (page.gap.requested, page.gap.oldest) == (place, new[0].id)
                assert list(page.messages) == new, "what it has seen before is not repeated"
    finally:
        second.stop()


def test_many_restarts_leave_the_cursors_of_the_last_ones_good(kept: RedisServer) -> None:
    with closing(RedisLog(kept.url())) as log:
        places = []
        for n in range(6):
            places.append(wait_until(lambda n=n: append(log, str(n)), "it is appended").id)
            kept.kill()
            kept.start()
        last = wait_until(lambda: append(log, "last"), "it is appended").id
        assert len({place.epoch for place in places}) == 6
        for place in places:
            page = log.read("a", place, limit=100, size=1 << 20)
            assert (page.gap, len(page.messages)) == (None, last.offset - place.offset)


def test_who_waited_for_a_first_message_since_before_a_restart_gets_it_without_a_gap(
    kept: RedisServer,
) -> None:
    with closing(RedisLog(kept.url())) as log:
        mark = log.tail("a")
        kept.kill()
        kept.start()
        page = wait_until(lambda: read(log, mark), "it is read")
        assert (page.gap, list(page.messages)) == (None, [])
        message = log.append("a", "first")
        kept.kill()
        kept.start()
        for place in (mark, page.position):
            page = wait_until(lambda place=place: read(log, place), "it is read")
            assert (page.gap, [m.data for m in page.messages]) == (None, ["first"])
            assert page.messages[0].id.epoch != message.id.epoch


def test_who_was_there_before_all_was_flushed_is_told_whatever_was_there(
    forgetful: RedisServer,
) -> None:
    with closing(RedisLog(forgetful.url())) as log:
        place = log.append("a", "text").id
        forgetful.ask("FLUSHALL")
        page = log.read("a", place, limit=9, size=1 << 20)
        assert page.gap is not None
        assert page.position.is_mark
        message = log.append("a", "more")
        for after, is_gap in ((place, True), (page.position, False)):
            page = log.read("a", after, limit=9, size=1 << 20)
            assert (page.gap is not None, list(page.messages)) == (is_gap, [message])


def read(log: RedisLog, place: Position) -> Page | None:
    try:
        return log.read("a", place, limit=100, size=1 << 20)
    except LogUnavailable:
        time.sleep(0.02)
        return None


def append(log: RedisLog, text: str) -> Message | None:
    try:
        return log.append("a", text, key=text)
    except LogUnavailable:
        time.sleep(0.02)
        return None


def test_a_stalled_server_costs_publishers_a_bounded_time_and_goes_on(
    kept: RedisServer,
) -> None:
    with closing(RedisLog(kept.url())) as log, watching(Hub(log)) as witness:
        hub = witness.hub
        hub.publish("a", "before")
        seen_by(witness, "before")
        kept.stall()
        try:
            assert "may be stored" in refused(hub)
            threads = [threading.Thread(target=refused, args=(hub,)) for _ in range(40)]
            began = time.monotonic()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert time.monotonic() - began < BOUND, "they do not wait one after the other"
            wait_until(lambda: log.process.announcements.trouble, "the silence is noticed")
            with pytest.raises(LogUnavailable):
                log.check()
        finally:
            kept.go_on()
        publish_at_last(hub, "after")
        seen_by(witness, "after")
        assert witness.gaps == []
        assert [text for text in witness.texts if text != "refused"] == ["before", "after"]


@in_greenlets
def test_other_greenlets_run_on_while_the_server_is_stalled() -> None:
    logging.disable()  # what is lost and found again is told on stderr
    with (
        tempfile.TemporaryDirectory() as folder,
        redis_server(Path(folder), **KEPT) as server,
        closing(RedisLog(server.url())) as log,
        watching(Hub(log)) as witness,
    ):
        hub = witness.hub
        hub.publish("a", "before")
        seen_by(witness, "before")
        server.stall()
        waiting = threading.Thread(target=refused, args=(hub,))
        waiting.start()
        turns = 0
        while waiting.is_alive():
            time.sleep(0.01)
            turns += 1
        server.go_on()
        assert turns > 20, "they did not"
        publish_at_last(hub, "after")
        seen_by(witness, "after")


def test_a_server_without_memory_takes_nothing_and_breaks_nothing(forgetful: RedisServer) -> None:
    with closing(RedisLog(forgetful.url())) as log, watching(Hub(log)) as witness:
        hub = witness.hub
        for n in range(3):
            hub.publish("a", str(n))
        seen_by(witness, "2")
        head = log.tail("a")
        forgetful.ask("CONFIG", "SET", "maxmemory", "1mb")
        assert "out of memory" in refused(hub)
        assert "out of memory" in refused(hub, "never.used")
        with pytest.raises(LogUnavailable, match="out of memory"):
            log.append("a", "text", key="k")
        with pytest.raises(LogUnavailable, match="out of memory"):
            log.check()
        assert log.tail("a") == head
        assert len(log.read("a", log.tail("a", 9), limit=9, size=1 << 20).messages) == 3
        assert log.tail("asked for in need").is_mark, "reading goes on"
        forgetful.ask("CONFIG", "SET", "maxmemory", "0")
        assert log.append("a", "3", key="k").id.offset == 4
        seen_by(witness, "3")
        assert (witness.texts, witness.gaps) == (["0", "1", "2", "3"], [])


def test_a_full_channel_takes_nothing_either_without_memory(forgetful: RedisServer) -> None:
    with closing(RedisLog(forgetful.url(), Retention(messages=3))) as log:
        for n in range(5):
            log.append("a", str(n))
        forgetful.ask("CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(LogUnavailable, match="out of memory"):
            log.append("a", "refused")
        page = log.read("a", log.tail("a", 9), limit=9, size=1 << 20)
        assert [m.data for m in page.messages] == ["2", "3", "4"]


def test_a_replica_takes_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path / "master") as master,
        redis_server(tmp_path / "replica", replicaof=f"127.0.0.1 {master.port}") as replica,
        closing(RedisLog(master.url("p:"))) as there,
        closing(RedisLog(replica.url("p:"))) as here,
    ):
        there.append("a", "text")
        wait_until(lambda: replica.ask("EXISTS", "p:{a}:log"), "it is replicated")
        for _ in range(2):
            with pytest.raises(LogUnavailable, match=r"read-only replica.*redis\+sentinel"):
                here.append("a", "text")
        with pytest.raises(LogUnavailable, match="read-only"):
            here.check()
        replica.ask("REPLICAOF", "NO", "ONE")
        assert here.append("a", "text").id.offset == 2


def is_linked(replica: RedisServer) -> bool:
    return bool(replica.ask("INFO", "replication")["master_link_status"] == "up")


def test_a_replica_that_takes_over_goes_on_without_a_gap_if_it_had_everything(
    tmp_path: Path,
) -> None:
    with (
        redis_server(tmp_path / "master") as master,
        redis_server(tmp_path / "replica", replicaof=f"127.0.0.1 {master.port}") as replica,
        closing(RedisLog(master.url("p:"))) as before,
        closing(RedisLog(replica.url("p:"))) as after,
    ):
        wait_until(lambda: is_linked(replica), "they are linked")
        place = before.append("a", "text").id
        # not WAIT: it waits for what its own connection has written
        wait_until(lambda: replica.ask("EXISTS", "p:{a}:log"), "it is replicated")
        replica.ask("REPLICAOF", "NO", "ONE")
        message = after.append("a", "more")
        page = after.read("a", place, limit=9, size=1 << 20)
        assert (page.gap, list(page.messages)) == (None, [message])
        assert message.id.epoch != place.epoch
        # What the old master still took is not what the new one has under the same offset.
        stray = before.append("a", "taken by the old master").id
        assert stray.offset == message.id.offset
        assert after.read("a", stray, limit=9, size=1 << 20).gap is not None


def test_a_missing_or_wrong_password_is_said_without_repeating_it(tmp_path: Path) -> None:
    with redis_server(tmp_path, requirepass="open sesame") as server:
        url = server.url().replace("open sesame", "{}")
        with closing(RedisLog(url.format("open%20sesame"))) as log:
            log.check()
            log.append("a", "text")
        for wrong in (url.format("s3cret"), url.replace(":{}@", "")):
            with closing(RedisLog(wrong)) as log:
                with pytest.raises(LogUnavailable, match="password") as caught:
                    log.append("a", "text")
                assert "s3cret" not in str(caught.value)
                assert "may be stored" not in str(caught.value)


def test_a_user_who_may_not_ask_for_the_lineage_can_still_use_the_log(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        server.ask("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-info")
        url = server.url("p:").replace("redis://", "redis://app:pw@")
        with closing(RedisLog(url)) as log:
            place = log.tail("a")
            message = log.append("a", "text")
            page = log.read("a", place, limit=9, size=99)
            assert (page.gap, list(page.messages)) == (None, [message])
        server.ask("ACL", "SETUSER", "app", "+info", "resetchannels")
        with closing(RedisLog(url)) as log:
            with pytest.raises(LogUnavailable, match="ACL"):
                log.append("a", "not announced")
            assert log.tail("a") == message.id, "nothing half-done"


def test_no_message_is_missed_when_the_listening_connection_is_cut(kept: RedisServer) -> None:
    with closing(RedisLog(kept.url())) as log, watching(Hub(log)) as witness:
        hub = witness.hub
        for n in range(200):
            hub.publish("a", str(n))
            if n % 20 == 10:
                assert kept.ask("CLIENT", "KILL", "TYPE", "pubsub") in (0, 1)
        seen_by(witness, "199")
        assert witness.texts == [str(n) for n in range(200)]
        assert witness.gaps == []


@in_greenlets
def test_no_message_is_missed_in_greenlets_when_the_server_is_cut_off_and_killed() -> None:
    logging.disable()  # what is lost and found again is told on stderr
    with (
        tempfile.TemporaryDirectory() as folder,
        redis_server(Path(folder), **KEPT) as server,
        closing(RedisLog(server.url())) as log,
        watching(Hub(log)) as witness,
    ):
        for n in range(100):
            publish_at_last(witness.hub, str(n))
            if n % 20 == 10:
                server.ask("CLIENT", "KILL", "TYPE", "pubsub")
            if n % 50 == 30:
                server.kill()
                server.start()
        seen_by(witness, "99")
        assert witness.texts == [str(n) for n in range(100)]
        assert witness.gaps == []


def test_the_last_message_before_silence_is_not_missed_either(kept: RedisServer) -> None:
    with closing(RedisLog(kept.url())) as log, watching(Hub(log)) as witness:
        for n in range(10):
            kept.ask("CLIENT", "KILL", "TYPE", "pubsub")
            witness.hub.publish("a", str(n))
            seen_by(witness, str(n))


def test_publishers_and_subscribers_come_through_repeated_kills_with_nothing_lost(
    kept: RedisServer,
) -> None:
    keeps_up = Retention(messages=1_000_000, size=1 << 30)  # however late the subscriber is
    with closing(RedisLog(kept.url(), keeps_up)) as log, watching(Hub(log)) as witness:
        hub = witness.hub
        acknowledged: list[str] = []
        over = threading.Event()

        def publish(name: str) -> None:
            n = 0
            while not over.is_set():
                n += 1
                try:
                    hub.publish("a", f"{name}:{n}")
                except LogUnavailable:
                    time.sleep(0.01)
                else:
                    acknowledged.append(f"{name}:{n}")

        threads = [threading.Thread(target=publish, args=(name,)) for name in "xyz"]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                count = len(acknowledged)
                wait_until(lambda c=count: len(acknowledged) > c + 100, "publishing goes on")
                kept.kill()
                kept.start()
        finally:
            over.set()
            for thread in threads:
                thread.join()
        publish_at_last(hub, "last")
        seen_by(witness, "last")
        assert witness.gaps == []
        assert len(set(witness.texts)) == len(witness.texts), "doubled"
        assert set(acknowledged) <= set(witness.texts), "acknowledged and lost"
