"""streaming/logs/redis/rooms.py: members where Redis fails in between."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import pytest

from streaming.errors import LogUnavailable
from streaming.logs import Member
from streaming.logs.redis import RedisLog, seats
from streaming.logs.redis.scripts import Script
from tests.polling import wait_until
from tests.redis_server import shared_server

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
