"""streaming/logs/redis/places.py: connections of a holder, counted over all processes."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
import redis

from streaming.clients.budgets import Everywhere, Holder, Places
from streaming.clients.client import Client
from streaming.clients.registry import Registry
from streaming.errors import HubClosed, TooMuch
from streaming.logs.redis import RedisLog, commands, places
from streaming.settings import Settings
from tests.logs.test_shared_logs import start
from tests.polling import wait_until
from tests.redis_server import RedisServer, redis_server, shared_cluster, shared_server
from tests.shortage import no_thread_at_first

Open = Callable[..., RedisLog]
SHORT = 5.0
"""A lease that a test can wait out, of processes that beat four times in it: longer than a machine
that is busy stops one of them, for who has not beaten for so long counts as dead."""


@pytest.fixture
def url() -> str:
    return shared_server().url()


@pytest.fixture
def open_again(url: str) -> Iterator[Open]:
    """Opens the same Redis once more, as another process would."""
    with ExitStack() as opened:
        yield lambda where=url, **how: opened.enter_context(closing(RedisLog(where, **how)))


def rows(log: RedisLog, holder: str = "identity:ada") -> list[int]:
    """What each process has said of a holder."""
    places = log.process.places
    found = log.process.commands._open().hvals(places._key(holder))
    return sorted(int(row.partition(":")[0]) for row in found)


def said(log: RedisLog) -> list[int] | None:
    """``rows``, or None while it cannot be asked."""
    with suppress(redis.RedisError):
        return rows(log)
    return None


def take_all(log: RedisLog, most: int, holder: str = "identity:ada") -> int:
    """How many it gets."""
    count = 0
    while log.take_place(holder, most):
        count += 1
        assert count <= most
    return count


@pytest.mark.parametrize("home", [shared_server, shared_cluster], ids=["server", "cluster"])
def test_of_many_that_come_to_several_exactly_as_many_get_in_as_may(
    home: Callable[[], RedisServer], open_again: Open
) -> None:
    where = home().url()
    logs, gate, got = [open_again(where) for _ in range(3)], threading.Barrier(9), []

    def come(log: RedisLog) -> None:
        gate.wait()
        got.extend(log for _ in range(20) if log.take_place("identity:ada", 25))

    for thread in start(*[lambda log=log: come(log) for log in logs * 3]):  # type: ignore[misc]
        thread.join()
    assert len(got) == 25
    assert logs[0].take_place("identity:bob", 25)
    for log in got:
        log.give_place("identity:ada")
    wait_until(lambda: rows(logs[0]) == [], "nothing is left of who is gone")
    assert take_all(logs[1], 25) == 25


def test_what_one_gives_back_it_has_again_at_once_and_the_others_soon(open_again: Open) -> None:
    one, two = open_again(), open_again()
    assert take_all(one, 2) == 2
    one.give_place("identity:ada")
    assert one.take_place("identity:ada", 2)
    assert not two.take_place("identity:ada", 2)
    one.give_place("identity:ada")
    assert wait_until(lambda: two.take_place("identity:ada", 2), "the other has it")
    assert not one.take_place("identity:ada", 2)


HOLD = """
import sys
from streaming.logs.redis import RedisLog
log = RedisLog(sys.argv[1], lease=float(sys.argv[2]))
print(sum(log.take_place("identity:ada", 5) for _ in range(3)), flush=True)
sys.stdin.read()
"""


@contextmanager
def other_process(url: str) -> Iterator[subprocess.Popen[str]]:
    """One that has three places."""
    command = [sys.executable, "-c", HOLD, url, str(SHORT)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "3\n"
            yield process
        finally:
            process.kill()


def test_what_a_killed_process_had_is_free_when_its_lease_is_over(
    url: str, open_again: Open
) -> None:
    log = open_again(lease=SHORT)
    with other_process(url) as other:
        assert take_all(log, 5) == 2
        other.kill()
        other.wait()
        wait_until(lambda: log.take_place("identity:ada", 5), "what the dead one had is free")
        assert take_all(log, 5) == 2
        assert rows(log) == [5]


def test_a_process_that_was_taken_for_dead_says_again_what_it_has(
    url: str, open_again: Open
) -> None:
    log = open_again(lease=SHORT)
    with other_process(url) as other:
        other.send_signal(signal.SIGSTOP)
        assert take_all(log, 5) == 2
        wait_until(lambda: log.take_place("identity:ada", 5), "it is taken for dead")
        other.send_signal(signal.SIGCONT)
        wait_until(lambda: rows(log) == [3, 3], "it is counted again")
        assert not log.take_place("identity:ada", 6)


def test_what_redis_has_lost_is_said_again(open_again: Open) -> None:
    one, two = open_again(lease=SHORT), open_again(lease=SHORT)
    assert take_all(one, 3) == 3
    places = one.process.places
    one.process.commands._open().delete(places._holders, places._key("identity:ada"))
    wait_until(lambda: rows(two) == [3], "it is there again")
    assert not two.take_place("identity:ada", 3)


def test_who_closes_has_nothing_any_more(open_again: Open) -> None:
    one, two = open_again(lease=SHORT), open_again(lease=SHORT)
    assert take_all(one, 3) == 3
    assert not two.take_place("identity:ada", 3)
    one.close()
    wait_until(lambda: two.take_place("identity:ada", 3), "what the other had is free")
    assert rows(two) == [1]
    assert one.take_place("identity:ada", 3)  # for nobody
    one.give_place("identity:ada")


@pytest.mark.parametrize(("go", "come_back"), [("stop", "start"), ("stall", "go_on")])
def test_while_redis_is_away_each_counts_for_itself(
    tmp_path: Path, open_again: Open, go: str, come_back: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server(tmp_path) as server:
        url = server.url()
        one, two, looks = (open_again(url, lease=2 * SHORT) for _ in range(3))
        assert rows(looks) == []
        for module in (commands, places):
            monkeypatch.setattr(module, "TIMEOUT", 2.0)
        assert one.take_place("identity:ada", 3)
        getattr(server, go)()
        assert take_all(one, 3) == 2
        assert take_all(two, 3) == 3
        for _ in range(2):
            two.give_place("identity:ada")
        getattr(server, come_back)()
        wait_until(lambda: said(looks) == [1, 3], "what both have is said")
        assert not two.take_place("identity:ada", 3)


def take_one(log: RedisLog) -> None:
    assert log.take_place("identity:ada", 9)


def give_one(log: RedisLog) -> None:
    log.give_place("identity:ada")


@pytest.mark.parametrize("meanwhile", [None, take_one, give_one], ids=["nothing", "take", "give"])
@pytest.mark.parametrize(("act", "count"), [(take_one, 4), (give_one, 2)], ids=["take", "give"])
def test_a_redis_that_was_started_anew_hears_who_lives_before_what_he_has(
    tmp_path: Path,
    open_again: Open,
    act: Callable[[RedisLog], None],
    count: int,
    meanwhile: Callable[[RedisLog], None] | None,
) -> None:
    """Or others take him for dead."""
    with redis_server(tmp_path) as server:
        url = server.url()
        one, two = (open_again(url, lease=4 * SHORT) for _ in range(2))
        assert rows(two) == []
        for _ in range(3):
            take_one(one)
        wait_until(lambda: not one.process.places._unsaid, "all is said")
        server.stop()
        if meanwhile is not None:
            meanwhile(one)
            count += 1 if meanwhile is take_one else -1
        server.start()
        act(one)
        wait_until(lambda: said(two) == [count], "what it has is said")
        living = two.process.commands._open().zrange(one.process.places._holders, 0, -1)
        assert living == [one.process.places._worker]


def test_what_was_taken_while_no_thread_could_be_had_for_another_is_given_back(
    open_again: Open,
) -> None:
    one, two = open_again(), open_again()
    with no_thread_at_first("streaming places", lambda: take_one(one)):
        one.take_place("identity:bob", 9)
    assert rows(two) == [1]
    give_one(one)
    wait_until(lambda: rows(two) == [], "somebody says so")


def test_what_is_to_be_said_when_redis_is_back_is_bounded(
    tmp_path: Path, open_again: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "UNSAID", 3)
    with redis_server(tmp_path) as server:
        url = server.url()
        one, two = (open_again(url, lease=SHORT) for _ in range(2))
        assert take_all(one, 2) == 2
        assert one.take_place("identity:bob", 2)
        server.stop()
        one.give_place("identity:bob")
        for n in range(20):
            assert one.take_place(f"identity:{n}", 2)
            one.give_place(f"identity:{n}")
            assert len(one.process.places._unsaid) <= 3
        server.start()
        wait_until(lambda: take_all(two, 2, "identity:bob") == 2, "what was not said is over")
        wait_until(lambda: 2 in (said(two) or []), "what it has is said")
        assert not two.take_place("identity:ada", 2)


def test_where_somebody_else_has_put_something_each_counts_for_itself(open_again: Open) -> None:
    one, two = open_again(), open_again()
    client = one.process.commands._open()
    client.set(one.process.places._key("identity:ada"), "not ours")
    assert (take_all(one, 2), take_all(two, 2)) == (2, 2)
    client.hset(one.process.places._key("identity:bob"), "somebody", "not ours")
    assert take_all(one, 2, "identity:bob") == 2
    assert not two.take_place("identity:bob", 2)


def test_nobody_works_for_who_has_nothing(open_again: Open) -> None:
    log = open_again(lease=SHORT)
    for _ in range(3):
        assert log.take_place("identity:ada", 1)
        log.give_place("identity:ada")
    wait_until(lambda: not log.process.places._is_at_work, "the thread is over")
    assert rows(log) == []
    assert log.process.places._held == log.process.places._unsaid == {}
    assert log.take_place("identity:ada", 1)
    assert rows(log) == [1]


# over the registry


class _Somebody(Client):
    def _cut(self) -> None:
        """Nothing is open."""

    def _beat_at(self) -> None:
        """It needs no heartbeat."""

    def _stuck_since(self) -> float:
        return 0.0


def registry(log: RedisLog) -> Registry:
    return Registry(Places(None, 2, 2), Everywhere(log, 2, 2))


def come(registry: Registry, holder: Holder) -> Client:
    client = _Somebody(registry.deadlines, Settings(), "")
    client.holder = holder
    registry.add(client)
    return client


def test_who_comes_is_late_somebody_else_and_ends_is_counted_everywhere(open_again: Open) -> None:
    one, two = open_again(), open_again()
    here, there = registry(one), registry(two)
    client = come(here, Holder("ada", "192.0.2.1"))
    first = come(there, Holder("ada", "192.0.2.2"))
    with pytest.raises(TooMuch, match="PER_IDENTITY"):
        come(there, Holder("ada", "192.0.2.3"))
    assert there.refusals.read() == {"clients_per_identity": 1}
    assert (there._places.taken, len(there)) == (1, 1)
    here.count_for(client, Holder("bob", "192.0.2.1"))
    wait_until(lambda: rows(one) == [1], "one of them is somebody else")
    assert (rows(one, "identity:bob"), rows(one, "address:192.0.2.1")) == ([1], [1])
    second = come(there, Holder("ada", "192.0.2.3"))
    with pytest.raises(TooMuch, match="PER_IDENTITY"):
        here.count_for(client, Holder("ada", "192.0.2.9"))
    assert client.holder == Holder("bob", "192.0.2.1")
    with pytest.raises(TooMuch, match="PER_IDENTITY"):
        come(here, Holder("ada", "192.0.2.9"))
    wait_until(lambda: rows(one, "address:192.0.2.9") == [], "who was refused is not counted")
    for each in (client, client):
        here.remove(each, "left, said twice")
    there.remove(second, "left")
    gone = ("identity:bob", "address:192.0.2.1", "address:192.0.2.3")
    wait_until(lambda: not any(rows(one, holder) for holder in gone), "they are gone")
    wait_until(lambda: rows(one) == [1], "one of the two is there still")
    there.remove(first, "left")
    here.close(HubClosed("restart"))
    with pytest.raises(HubClosed):
        come(here, Holder("bob", None))
    assert (here._places.taken, here._places._counts) == (0, {})
