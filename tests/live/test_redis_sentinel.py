"""A master, its replica and three sentinels: what a real failover does to everybody."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from streaming.errors import LogUnavailable
from streaming.hub.hub import Hub
from streaming.logs.redis import RedisLog
from streaming.message import Position
from tests.polling import wait_until
from tests.redis_server import RedisServer, free_port, redis_server
from tests.witness import publish_at_last, seen_by, watching

FAILOVER = 60.0


@dataclass
class Guarded:
    """Two servers and those who watch them."""

    master: RedisServer
    replica: RedisServer
    sentinels: list[RedisServer]

    def lose_master(self) -> None:
        """Kill it, and let the sentinels find out soon. Before, they take nobody for dead whom a
        busy machine has stopped for a moment: that would be a failover that nobody asked for."""
        self.master.kill()
        for sentinel in self.sentinels:
            sentinel.ask("SENTINEL", "SET", "news", "down-after-milliseconds", 1000)

    def order_failover(self) -> bool:
        """Whether the sentinels take the order; not before they know enough of the replica."""
        try:
            self.sentinels[0].ask("SENTINEL", "FAILOVER", "news")
        except redis.ResponseError:
            return False
        return True

    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/news/0?prefix=p:"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    with ExitStack() as running:
        master = running.enter_context(redis_server(tmp_path / "master"))
        follows = f"127.0.0.1 {master.port}"
        replica = running.enter_context(redis_server(tmp_path / "replica", replicaof=follows))
        sentinels = []
        for n in range(3):
            folder = tmp_path / f"sentinel{n}"
            folder.mkdir()
            file = folder / "sentinel.conf"
            file.write_text(
                f"sentinel monitor news {follows} 2\n"
                "sentinel down-after-milliseconds news 600000\n"
                "sentinel failover-timeout news 10000\n"
            )
            port = free_port()
            sentinel = RedisServer(folder, str(file), "--sentinel", port=port).start()
            running.callback(sentinel.kill)
            sentinels.append(sentinel)
        wait_until(lambda: all(map(is_ready, sentinels)), "the sentinels know all", FAILOVER)
        yield Guarded(master, replica, sentinels)


def is_ready(sentinel: RedisServer) -> bool:
    state = sentinel.ask("SENTINEL", "MASTER", "news")
    if isinstance(state, list):  # older versions of redis-py
        state = dict(zip(state[::2], state[1::2], strict=True))
    return int(state["num-slaves"]) == 1 and int(state["num-other-sentinels"]) == 2


def test_a_failover_loses_nothing_without_saying_so(guarded: Guarded) -> None:
    with closing(RedisLog(guarded.url())) as log, watching(Hub(log)) as witness:
        hub = witness.hub
        acknowledged: dict[Position, str] = {}
        refusals: list[str] = []
        over = threading.Event()

        def publish(name: str) -> None:
            n = 0
            while not over.is_set():
                n += 1
                try:
                    message = hub.publish("a", f"{name}:{n}")
                except LogUnavailable as error:
                    refusals.append(str(error))
                    time.sleep(0.05)
                else:
                    acknowledged[message.id] = message.data
                time.sleep(0.002)

        threads = [threading.Thread(target=publish, args=(name,)) for name in "xyz"]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: len(acknowledged) > 300, "publishing goes on")
            guarded.lose_master()
            before = len(acknowledged)
            wait_until(lambda: len(acknowledged) > before + 300, "it goes on again", FAILOVER)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        publish_at_last(hub, "last")
        seen_by(witness, "last")
        received = set(witness.texts)
        lost = [text for text in acknowledged.values() if text not in received]
        print(
            f"acknowledged {len(acknowledged)}, received {len(received)}, "
            f"refused {len(refusals)}, gaps {len(witness.gaps)}, lost {len(lost)}"
        )
        assert refusals, "nobody noticed the failover"
        assert len({place.epoch for place in acknowledged}) == 2
        assert not lost or witness.gaps, "lost, and nothing was said"
        assert len(set(witness.texts)) == len(witness.texts), "doubled"


def test_an_ordered_failover_needs_no_restart_of_anybody(guarded: Guarded) -> None:
    with closing(RedisLog(guarded.url())) as log, watching(Hub(log)) as witness:
        hub = witness.hub
        first = hub.publish("a", "before")
        seen_by(witness, "before")
        wait_until(lambda: guarded.replica.ask("EXISTS", "p:{a}:log"), "it is replicated")
        wait_until(guarded.order_failover, "the sentinels begin", FAILOVER)
        wait_until(lambda: guarded.replica.ask("ROLE")[0] == "master", "it took over", FAILOVER)
        wait_until(lambda: guarded.master.ask("ROLE")[0] == "slave", "it stepped down", FAILOVER)
        after = publish_at_last(hub, "after")
        seen_by(witness, "after")
        assert (witness.texts, witness.gaps) == (["before", "after"], [])
        assert after.id.offset == 2
        assert after.id.epoch != first.id.epoch


def test_sentinels_that_are_away_are_named(guarded: Guarded) -> None:
    for sentinel in guarded.sentinels:
        sentinel.kill()
    with closing(RedisLog(guarded.url())) as log, pytest.raises(LogUnavailable, match="sentinel"):
        log.append("a", "text")
