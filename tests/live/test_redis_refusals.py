"""Real Redis servers that are there and take no writes, throw away, or hold what is not ours."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
import redis

from streaming.errors import LogUnavailable
from streaming.hub.hub import Hub
from streaming.hub.presence import Presence
from streaming.logs import Member, Retention
from streaming.logs.redis import RedisLog
from tests.live.test_redis_faults import passes, refused
from tests.polling import wait_until
from tests.redis_server import RedisServer, redis_server
from tests.witness import Witness, publish_at_last, seen_by, watching

LEASE = 2.0
"""Seconds: what a test can wait out, and a busy machine does not stop it for between two beats."""
MUCH = 1 << 20

# Servers that take no writes


@contextmanager
def no_memory(server: RedisServer) -> Iterator[None]:
    server.ask("CONFIG", "SET", "maxmemory", "1mb")
    yield
    server.ask("CONFIG", "SET", "maxmemory", "0")


@contextmanager
def no_snapshot(server: RedisServer) -> Iterator[None]:
    """A snapshot could not be saved: the place of its file is taken."""
    server.ask("CONFIG", "SET", "save", "3600 1")
    (server.folder / "dump.rdb").mkdir()
    save(server, "err")
    yield
    (server.folder / "dump.rdb").rmdir()
    save(server, "ok")
    server.ask("CONFIG", "SET", "save", "")


def save(server: RedisServer, status: str) -> None:
    server.ask("BGSAVE")

    def is_done() -> bool:
        told = server.ask("INFO", "persistence")
        return told["rdb_last_bgsave_status"] == status and not told["rdb_bgsave_in_progress"]

    wait_until(is_done, f"a snapshot with the status {status}")


@contextmanager
def full_disk(server: RedisServer) -> Iterator[None]:
    """Its log of commands cannot grow: the disk is full."""
    rest = server.folder / "rest"
    with rest.open("wb", 0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass

    def is_full() -> bool:
        with closing(RedisLog(server.url("other:"))) as log:
            try:
                log.append("filler", "x" * 4096)
            except LogUnavailable as error:
                return "MISCONF" in str(error)
        return False

    wait_until(is_full, "Redis has noticed")
    yield
    rest.unlink()


@contextmanager
def no_replicas(server: RedisServer) -> Iterator[None]:
    server.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    yield
    server.ask("CONFIG", "SET", "min-replicas-to-write", "0")


@contextmanager
def demoted(server: RedisServer) -> Iterator[None]:
    """It has become the replica of a master that nobody hears of."""
    server.ask("REPLICAOF", "127.0.0.1", "1")
    yield
    server.ask("REPLICAOF", "NO", "ONE")


@contextmanager
def read_only_user(server: RedisServer) -> Iterator[None]:
    server.ask("ACL", "SETUSER", "default", "-@write")
    yield
    server.ask("ACL", "SETUSER", "default", "+@write")


STATES: dict[str, tuple[Callable[..., object], str]] = {
    "no memory": (no_memory, "out of memory"),
    "no snapshot": (no_snapshot, "cannot save to disk"),
    "full disk": (full_disk, "cannot save to disk"),
    "no replicas": (no_replicas, "too few replicas"),
    "demoted": (demoted, "read-only replica"),
    "read-only user": (read_only_user, "ACL"),
}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    assert subprocess.run(command, check=False).returncode == 0, "this test wants root"
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def kept(small_disk: Path) -> Iterator[RedisServer]:
    with redis_server(small_disk, appendonly="yes", appendfsync="everysec") as server:
        yield server


@pytest.mark.parametrize("state", STATES)
def test_a_server_that_takes_no_writes_is_read_from_and_its_members_stay(
    kept: RedisServer, state: str
) -> None:
    begin, words = STATES[state]
    url, short = kept.url(), Retention(age=LEASE * 1.5, key_window=LEASE * 1.5)
    with (
        closing(RedisLog(url, short, lease=LEASE)) as old,
        closing(RedisLog(url, lease=LEASE)) as log,
        watching(Hub(log)) as witness,
    ):
        hub = witness.hub
        log.append("a", "before", key="before")
        old.append("aged", "long ago")
        seen_by(witness, "before")
        log.enter("room", Member("ann"))
        old.enter("room", Member("bob"))
        there = [Member("ann"), Member("bob")]
        with begin(kept):
            assert words in refused(hub)
            assert words in refused(hub, "never.used")
            with pytest.raises(LogUnavailable, match=words):
                log.enter("room", Member("late"))
            assert not passes(log)
            assert log.append("a", "before", key="before").id.offset == 1, "it is there"
            assert texts(log, "a") == ["before"]

            def is_aged() -> bool:
                assert {beat(log), beat(old)} <= {"nobody died", "refused"}
                assert log.members("room") == there
                return texts(old, "aged") == []

            wait_until(is_aged, "a lease is over, and what is aged is read no more")
            with watching(hub, "aged"), watching(hub, "new"):
                pass
        publish_at_last(hub, "after")
        seen_by(witness, "after")
        for one in (log, old):
            said = wait_until(lambda one=one: (s := beat(one)) != "refused" and s, "it beats")
            assert said == "nobody died"
        assert log.members("room") == there
        assert (witness.texts, witness.gaps) == (["before", "after"], [])
        wait_until(lambda: passes(log), "health is good again")


def texts(log: RedisLog, channel: str) -> list[str]:
    page = log.read(channel, log.tail(channel, 9), limit=9, size=MUCH)
    return [message.data for message in page.messages]


def beat(log: RedisLog) -> str:
    try:
        return "some died" if log.beat() else "nobody died"
    except LogUnavailable:
        return "refused"


def test_positions_outlive_a_restart_into_a_state_without_writes(tmp_path: Path) -> None:
    """A new life of the server wants new epochs, and none can be noted."""
    with redis_server(tmp_path, appendonly="yes", appendfsync="always") as server:
        log = RedisLog(server.url("p:"))
        places = [log.tail("a"), *(log.append("a", str(n)).id for n in range(4))]
        log.close()
    limits = {"appendonly": "yes", "min_replicas_to_write": "1"}
    with redis_server(tmp_path, **limits) as server, closing(RedisLog(server.url("p:"))) as log:
        for n, place in enumerate(tuple(places)):
            page = log.read("a", place, limit=9, size=MUCH)
            assert (page.gap, len(page.messages)) == (None, 4 - n)
            places.append(page.position)
        server.ask("CONFIG", "SET", "min-replicas-to-write", "0")
        last = log.append("a", "4")
        for place in places:
            page = log.read("a", place, limit=9, size=MUCH)
            offset = 0 if place.is_mark else place.offset
            assert (page.gap, len(page.messages)) == (None, 5 - offset)
            assert page.position == last.id


# Servers that throw away

POLICIES = ["allkeys-lru", "allkeys-lfu", "allkeys-random"]
POLICIES += ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"]


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_thrown_away_is_told_as_a_gap_and_all_goes_on(policy: str, tmp_path: Path) -> None:
    channels = [f"c{n}" for n in range(6)]
    with redis_server(tmp_path) as server, ExitStack() as stack:
        logs = [stack.enter_context(closing(RedisLog(server.url("p:")))) for _ in range(2)]
        hubs = [Hub(log) for log in logs]
        presence = Presence(hubs[1])
        presence.join("room", "ann")
        crowd = [stack.enter_context(watching(hub, c)) for hub in hubs for c in channels]
        used = int(server.ask("INFO", "memory")["used_memory"])
        server.ask("CONFIG", "SET", "maxmemory-policy", policy)
        server.ask("CONFIG", "SET", "maxmemory", str(used + 1_000_000))
        acknowledged: dict[str, list[str]] = {channel: [] for channel in channels}
        n = 0
        while int(server.ask("INFO", "stats")["evicted_keys"]) < 20:
            for channel in channels:
                n += 1
                with suppress(LogUnavailable):
                    hubs[0].publish(channel, f"{n}".ljust(4000))
                    acknowledged[channel].append(f"{n}")
        server.ask("CONFIG", "SET", "maxmemory", "0")
        for channel in channels:
            hubs[0].publish(channel, "last")
        for witness in crowd:
            seen_by(witness, "last")
            check_told(witness, acknowledged[witness.channel])
        wait_until(lambda: presence.members("room") == [Member("ann")], "she is there again")
        presence.leave("room", "ann")


def check_told(witness: Witness, acknowledged: list[str]) -> None:
    """All was seen, or a gap was told; and nothing twice."""
    seen = [text.strip() for text in witness.texts]
    assert len(set(seen)) == len(seen)
    assert witness.gaps or set(acknowledged) <= set(seen)


# Servers that hold what is not ours


def commands(key: str) -> dict[str, tuple[str, ...]]:
    return {
        "text": ("SET", key, "x"),
        "hash": ("HSET", key, "m", "x"),
        "stream": ("XADD", key, "*", "x", "y"),
        "list": ("RPUSH", key, "x"),
        "sorted set": ("ZADD", key, "1", "x"),
    }


@pytest.mark.parametrize("strange", commands(""))
@pytest.mark.parametrize("kind", ["log", "meta"])
def test_a_strangers_key_refuses_one_channel_and_is_named(
    kind: str, strange: str, tmp_path: Path
) -> None:
    key = "p:{a}:" + kind
    with (
        redis_server(tmp_path) as server,
        closing(RedisLog(server.url("p:"))) as log,
        watching(Hub(log)) as witness,
        watching(witness.hub, "b") as other,
    ):
        hub = witness.hub
        hub.publish("a", "before")
        seen_by(witness, "before")
        if strange != {"log": "stream", "meta": "hash"}[kind]:
            server.ask("DEL", key)
        elif kind == "meta":
            return  # a field more does no harm
        server.ask(*commands(key)[strange])
        for _ in range(2):
            text = refused(hub)
            assert "somebody else" in text
            assert "p:{a}:log" in text
        with pytest.raises(LogUnavailable, match="somebody else"):
            log.read("a", log.tail("b"), limit=9, size=MUCH)
        hub.publish("b", "not concerned")
        seen_by(other, "not concerned")
        server.ask("DEL", "p:{a}:log", "p:{a}:meta")
        hub.publish("a", "after")
        seen_by(witness, "after")
        assert witness.texts == ["before", "after"]
        assert len(witness.gaps) == 1


@pytest.mark.parametrize("strange", ["text", "list"])
@pytest.mark.parametrize("name", ["{room}:members", "workers"])
def test_a_strangers_key_refuses_a_room_and_leaves_channels_alone(
    name: str, strange: str, tmp_path: Path
) -> None:
    with redis_server(tmp_path) as server, closing(RedisLog(server.url("p:"))) as log:
        server.ask(*commands(f"p:{name}")[strange])
        for _ in range(2):
            with pytest.raises(LogUnavailable, match=f"somebody else.*p:.?{name[1:]}"):
                log.enter("room", Member("ann"))
        log.append("a", "text")
        server.ask("DEL", f"p:{name}")
        log.enter("room", Member("ann"))
        server.ask("HSET", "p:{room}:members", "theirs", "x")
        assert log.members("room") == [Member("ann")]
        assert log.beat() == []
        assert log.leave("room", "ann")


# Servers with rules, or without room

RULES = ["-@scripting", "-evalsha", "-eval", "-publish", "-xadd", "-hset", "resetchannels", "-time"]


@pytest.mark.parametrize("rule", RULES)
def test_what_a_user_may_not_do_is_said_and_nothing_is_half_done(rule: str, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, closing(RedisLog(server.url("p:"))) as whole:
        server.ask("SCRIPT", "FLUSH")
        server.ask("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", rule)
        url = server.url("p:").replace("redis://", "redis://app:pw@")
        with closing(RedisLog(url)) as log:
            for _ in range(2):
                with pytest.raises(LogUnavailable, match="ACL") as caught:
                    log.append("a", "text")
                assert "may be stored" not in str(caught.value)
                assert not passes(log) or rule not in ("-@scripting", "-evalsha")
            server.ask("ACL", "SETUSER", "app", "+@all", "&*")
            assert log.append("a", "text").id.offset == 1
        assert whole.tail("a").offset == 1


def test_who_may_not_subscribe_is_told_by_health_and_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server(tmp_path) as server:
        server.ask("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-subscribe")
        url = server.url("p:").replace("redis://", "redis://app:pw@")
        with (
            closing(RedisLog(server.url("p:"))) as elsewhere,
            closing(RedisLog(url)) as log,
            watching(Hub(log)) as witness,
        ):
            witness.hub.publish("a", "own")
            seen_by(witness, "own")
            elsewhere.append("a", "of another")
            wait_until(lambda: "ACL" in log.process.announcements.trouble, "it was refused")
            with pytest.raises(LogUnavailable, match=r"not heard of.*ACL"):
                log.check()
            assert "New messages are not heard of" in caplog.text
            server.ask("ACL", "SETUSER", "app", "+subscribe")
            seen_by(witness, "of another")
            assert witness.gaps == []
            wait_until(lambda: passes(log), "health is good again")


def test_a_server_with_too_many_clients_refuses_those_that_come_and_keeps_the_others(
    tmp_path: Path,
) -> None:
    with (
        redis_server(tmp_path) as server,
        closing(RedisLog(server.url("p:"))) as log,
        closing(RedisLog(server.url("p:"))) as late,
        watching(Hub(log)) as witness,
        redis.Redis(port=server.port, decode_responses=True) as admin,
    ):
        witness.hub.publish("a", "first")
        admin.config_set("maxclients", admin.info("clients")["connected_clients"])
        text = refused(Hub(late))
        assert "maxclients" in text
        assert "may be stored" not in text
        witness.hub.publish("a", "second")
        admin.config_set("maxclients", 1000)
        with watching_at_last(Hub(late)) as another:
            publish_at_last(another.hub, "third")
            seen_by(another, "third")
        seen_by(witness, "third")
        assert witness.texts == ["first", "second", "third"]


@contextmanager
def watching_at_last(hub: Hub) -> Iterator[Witness]:
    def begin() -> Witness | None:
        try:
            return Witness(hub)
        except LogUnavailable:
            time.sleep(0.02)
            return None

    witness = wait_until(begin, "it can be followed")
    try:
        yield witness
    finally:
        witness.close()


def test_scripts_that_are_forgotten_again_and_again_are_sent_again(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path) as server,
        closing(RedisLog(server.url("p:"))) as log,
        watching(Hub(log)) as witness,
    ):
        for n in range(50):
            server.ask("SCRIPT", "FLUSH")
            witness.hub.publish("a", str(n), key=str(n))
        seen_by(witness, "49")
        assert witness.texts == [str(n) for n in range(50)]
