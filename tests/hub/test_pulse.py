"""streaming/hub/pulse.py: whether this process has stood still."""

import time

import pytest

from streaming.hub import pulse
from streaming.hub.pulse import STILL, Pulse
from streaming.logs.contract import BEAT, LEASE
from tests.clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pulse, "clock", clock)
    return clock


def test_it_has_if_somebody_who_looks_has_not_looked_for_long_and_that_is_said_once(
    clock: Clock,
) -> None:
    one = Pulse()
    one.begin()
    for _ in range(3):
        clock.now += STILL
        assert not one.has_stopped()
    clock.now += STILL + 0.1
    assert one.has_stopped()
    assert not one.has_stopped()


def test_where_nobody_looks_that_time_passes_says_nothing(clock: Clock) -> None:
    one = Pulse()
    clock.now += 1000.0
    assert not one.has_stopped()
    one.begin()
    one.end()
    clock.now += 1000.0
    assert not one.has_stopped()
    one.begin()
    assert not one.has_stopped()


def test_who_looks_as_often_as_it_beats_notices_before_others_look_dead() -> None:
    assert BEAT < STILL < LEASE - BEAT


def test_its_clock_is_the_one_that_goes_on_while_the_machine_sleeps() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= pulse.clock() <= time.clock_gettime(time.CLOCK_BOOTTIME)
