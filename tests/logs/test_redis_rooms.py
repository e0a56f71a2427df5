"""streaming/logs/redis/rooms.py: members where Redis fails in between."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any, NoReturn

import pytest
import redis

from streaming.errors import LogUnavailable
from streaming.logs import Member
from streaming.logs.doubt import Doubt
from streaming.logs.redis import RedisLog, seats
from streaming.logs.redis.scripts import Script
from tests.polling import wait_until
from tests.redis_server import shared_cluster, shared_server
from tests.witness import passes

SHORT = 0.2
"""A lease that a test can wait out."""

Open = Callable[..., RedisLog]


@pytest.fixture
def open_again() -> Iterator[Open]:
    """Opens the same Redis once more, as another process would."""
    url = shared_server().url()
    with ExitStack() as opened:
        yield lambda **how: opened.enter_context(closing(RedisLog(url, **how)))


@pytest.mark.parametrize(
    ("step", "time"),
    [(seats.FORGET, 1), (seats.CLEAR, 2), (seats.BURY, 1)],
    ids=["before the room is forgotten", "before the next room", "before the process is forgotten"],
)
def test_members_that_were_taken_out_are_told_though_redis_goes_away_right_behind(
    open_again: Open, monkeypatch: pytest.MonkeyPatch, step: Script, time: int
) -> None:
    dead, living = open_again(lease=SHORT), open_again(lease=SHORT)
    run = living.process.commands.run
    asked: list[Script] = []
    told: list[tuple[str, str]] = []

    def fail_once(script: Script, *args: Any, **how: Any) -> Any:
        asked.append(script)
        if script is step and asked.count(step) == time:
            raise LogUnavailable("Redis is away.")
        return run(script, *args, **how)

    def beat() -> bool:
        with suppress(LogUnavailable):
            told.extend(living.beat())
        return len(told) >= 2

    for room in ("a", "b"):
        dead.enter(room, Member("ann"))
    monkeypatch.setattr(living.process.commands, "run", fail_once)
    wait_until(beat, "both are told")
    assert asked.count(step) >= time
    assert living.beat() == []
    assert sorted(told) == [("a", "ann"), ("b", "ann")]


def test_who_only_asked_while_redis_was_away_takes_nobody_for_dead(
    open_again: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, third = open_again(lease=SHORT), open_again(lease=SHORT), open_again(lease=SHORT)
    two.process.rooms._doubt = Doubt(1000.0)
    one.enter("a", Member("ann"))
    assert two.members("a")  # it is connected

    def break_off(*_: object) -> NoReturn:
        raise redis.ConnectionError("Connection closed by server.")

    with monkeypatch.context() as away:
        away.setattr(two.process.commands._client, "execute_command", break_off)
        for ask in (lambda: two.members("a"), lambda: two.find("a", "ann")):
            with pytest.raises(LogUnavailable):
                ask()
        wait_until(lambda: not third.members("a"), "nobody has beaten for a lease")
    wait_until(lambda: passes(two), "it is tried again")
    assert two.members("a") == [Member("ann")]
    assert two.beat() == []


def test_a_node_of_a_cluster_that_is_away_keeps_nobody_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with closing(RedisLog(shared_cluster().url())) as log:
        assert log.members("a") == []
        run = log.process.commands.run

        def break_off(script: Script, *args: Any, **how: Any) -> Any:
            if script is seats.MEMBERS:
                raise LogUnavailable("away") from redis.ConnectionError("refused")
            return run(script, *args, **how)

        monkeypatch.setattr(log.process.commands, "run", break_off)
        with pytest.raises(LogUnavailable):
            log.members("a")
        assert not log.process.rooms._doubt.lasts()
