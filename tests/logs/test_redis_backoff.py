"""streaming/logs/redis/backoff.py: waiting longer each time, and not all at once."""

import pytest

from streaming.errors import LogUnavailable
from streaming.logs.redis.backoff import Backoff, Outage
from tests.clock import Clock


def test_the_bound_doubles_up_to_the_cap_and_begins_anew_after_a_success() -> None:
    backoff = Backoff(0.1, 1.0, draw=lambda low, high: high)
    assert [backoff.fail() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    backoff.succeed()
    assert backoff.fail() == 0.1


def test_the_wait_is_drawn_from_nothing_up_to_the_bound() -> None:
    bounds = []
    backoff = Backoff(0.1, 1.0, draw=lambda low, high: bounds.append((low, high)) or 0.0)
    backoff.fail()
    assert bounds == [(0.0, 0.1)]
    assert all(0.0 <= Backoff(0.1, 5.0).fail() <= 0.1 for _ in range(100))


def test_after_ten_thousand_failures_it_still_counts() -> None:
    backoff = Backoff(0.1, 5.0, draw=lambda low, high: high)
    assert {backoff.fail() for _ in range(10_000)} >= {0.1, 5.0}


def outage(clock: Clock) -> Outage:
    return Outage(Backoff(1.0, 1.0, draw=lambda low, high: high), patience=5.0, clock=clock)


def test_without_a_failure_everybody_may_try() -> None:
    server = outage(Clock())
    for _ in range(3):
        server.check()


def test_after_a_failure_nobody_may_try_for_a_while_and_then_one() -> None:
    clock = Clock()
    server = outage(clock)
    server.fail("It is away.")
    with pytest.raises(LogUnavailable, match="It is away"):
        server.check()
    clock.now += 1.1
    server.check()
    with pytest.raises(LogUnavailable, match="It is away"):
        server.check()  # one is on the way
    server.succeed()
    server.check()
    server.check()


def test_if_the_one_does_not_come_back_another_may_try() -> None:
    clock = Clock()
    server = outage(clock)
    server.fail("It is away.")
    clock.now += 1.1
    server.check()
    clock.now += 5.1
    server.check()
