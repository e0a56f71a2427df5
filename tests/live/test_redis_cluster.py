"""A cluster of three real nodes, one of which is killed."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from streaming.errors import LogUnavailable
from streaming.hub.hub import Hub
from streaming.logs import Member
from streaming.logs.redis import RedisLog
from tests.polling import PATIENCE, wait_until
from tests.redis_server import RedisCluster, RedisServer
from tests.witness import Witness, passes, publish_at_last, seen_by, watching


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    cluster = RedisCluster(tmp_path)
    try:
        yield cluster.start()
    finally:
        cluster.stop()


def on_each(cluster: RedisCluster) -> dict[str, RedisServer]:
    """A channel for each node."""
    names = {cluster.node_of(f"p:{{c{n}}}:log"): f"c{n}" for n in range(100)}
    assert len(names) == 3
    return {name: node for node, name in names.items()}


def test_a_node_that_is_killed_takes_its_own_channels_only(cluster: RedisCluster) -> None:
    channels = on_each(cluster)
    # nobody beats, so the members have to outlive the test
    with closing(RedisLog(cluster.url("p:"), lease=600.0)) as log, ExitStack() as watched:
        hub = Hub(log)
        witnesses = {c: watched.enter_context(watching(hub, c)) for c in channels}
        for channel, witness in witnesses.items():
            hub.publish(channel, "before")
            seen_by(witness, "before")
            log.enter(channel, Member("ann"))
        log.check()
        lost, node = next(iter(channels.items()))
        node.kill()
        began = time.monotonic()
        with pytest.raises(LogUnavailable):
            hub.publish(lost, "refused")
        assert time.monotonic() - began < 2 * PATIENCE
        for channel, witness in witnesses.items():
            if channel != lost:
                publish_at_last(hub, "meanwhile", channel)
                seen_by(witness, "meanwhile")
                assert log.members(channel) == [Member("ann")]
        with pytest.raises(LogUnavailable):
            log.check()
        with pytest.raises(LogUnavailable):
            hub.publish(lost, "refused")
        node.start()
        for channel, witness in witnesses.items():
            publish_at_last(hub, "after", channel)
            seen_by(witness, "after")
            assert witness.gaps == []
            assert without_refused(witness)[0] == "before"
        wait_until(lambda: passes(log), "health is good again")


def without_refused(witness: Witness) -> list[str]:
    return [text for text in witness.texts if text != "refused"]


def test_all_names_of_a_channel_are_on_one_node(cluster: RedisCluster) -> None:
    with closing(RedisLog(cluster.url("p:"))) as log:
        for n in range(20):
            log.append(f"c{n}", "text", key="k")
    names = [name for node in cluster.nodes for name in node.ask("KEYS", "p:*")]
    assert len(names) == 20 * 4
    for n in range(20):
        assert len({cluster.node_of(name) for name in names if f"{{c{n}}}" in name}) == 1
