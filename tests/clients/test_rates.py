"""streaming/clients/rates.py: so much in a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.clients.rates import LEAST, Buckets, Rate, take
from tests.clock import Clock

RATE = Rate(5.0, 2.0)  # ten at once


def test_a_bucket_gives_what_is_in_it_at_once_and_then_as_much_as_comes() -> None:
    full_at, now = 0.0, 1000.0
    for _ in range(10):
        full_at, wait = take(full_at, now, RATE)
        assert wait == 0
    assert take(full_at, now, RATE) == (full_at, pytest.approx(0.2))
    full_at, wait = take(full_at, now + 0.2, RATE)
    assert wait == 0
    assert take(full_at, now + 0.2, RATE)[1] > 0
    assert take(full_at, now + 99, RATE, 10.0)[1] == 0
    full_at, wait = take(full_at, now + 99, RATE, 20.0)  # more than there ever is: it owes ten
    assert wait == 0
    assert take(full_at, now + 101, RATE)[1] == pytest.approx(0.2)


@given(st.lists(st.floats(0, 5), max_size=60), st.floats(0.5, 50), st.floats(0.5, 20))
def test_in_no_time_more_is_taken_than_the_rate_and_what_was_there(
    pauses: list[float], a_second: float, ahead: float
) -> None:
    rate, full_at, now, taken = Rate(a_second, ahead), 0.0, 0.0, 0
    for pause in pauses:
        now += pause
        before = full_at
        full_at, wait = take(full_at, now, rate)
        taken += not wait
        assert (full_at == before) if wait else True
        assert taken <= max(1.0, a_second * ahead) + a_second * (now + LEAST) + 1e-6
        assert not wait or take(full_at, now + wait, rate)[1] == 0


def test_each_has_its_own_and_who_has_not_been_there_has_a_full_one() -> None:
    clock = Clock()
    buckets = Buckets(RATE, clock=clock)
    assert [buckets.take("a") for _ in range(11)] == [0.0] * 10 + [pytest.approx(0.2)]
    assert buckets.take("b") == 0
    clock.now += 0.2
    assert buckets.take("a") == 0


def test_what_is_charged_is_owed_until_it_has_come() -> None:
    clock = Clock()
    buckets = Buckets(RATE, clock=clock)
    buckets.charge("a", 9.0)
    assert buckets.wait("a") == buckets.wait("b") == 0
    buckets.charge("a", 16.0)  # ten were there
    assert buckets.wait("a") == pytest.approx(3.0)
    clock.now += 3.1
    assert buckets.wait("a") == 0
    assert buckets.take("a") > 0


def test_full_buckets_are_forgotten_and_others_are_not() -> None:
    clock = Clock()
    buckets = Buckets(RATE, clock=clock)
    for _ in range(11):
        buckets.take("a")
    for n in range(5000):  # one each second: full again before the next comes
        clock.now += 1
        buckets.take(n)
        if n == 0:
            assert buckets.take("a", 6.0) > 0
    assert len(buckets) <= 100


def test_however_many_come_at_once_so_many_are_known_and_the_latest_of_them() -> None:
    buckets = Buckets(RATE, most=200, clock=Clock())
    for n in range(5000):
        buckets.take(n, 10.0)
        assert len(buckets) <= 200
    assert buckets.take(4999) > 0
    assert buckets.take(0) == 0
