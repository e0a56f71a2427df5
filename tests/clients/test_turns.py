"""streaming/clients/turns.py: a slice for one that never stops talking, then everybody else."""

import threading
from collections.abc import Iterator
from itertools import groupby
from unittest import mock

import pytest

from streaming.bell import give_turn
from streaming.clients import turns
from streaming.clients.turns import SHARE, SLICE, Turns
from tests.greenlets import in_greenlets
from tests.polling import PATIENCE


class Clock:
    """Time that passes while somebody works or waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.turns = 0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def give_turn(self) -> None:
        self.turns += 1


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    with (
        mock.patch.object(turns, "time", clock),
        mock.patch.object(turns, "give_turn", clock.give_turn),
    ):
        yield clock


def test_one_alone_gives_turns_and_does_not_wait(clock: Clock) -> None:
    one = Turns()
    for n in range(1, 10):
        clock.now += SLICE
        before = clock.now
        assert one.take(7, SLICE) is (n == 1)
        assert clock.now == before
        assert clock.turns == n
        assert one.running == 7


@pytest.mark.parametrize("many", [2, 3, 50])
@pytest.mark.parametrize("used", [SLICE, 10 * SLICE])
def test_several_have_their_share_together_and_each_as_much(
    clock: Clock, many: int, used: float
) -> None:
    """Each asks when its slice is over; who is to go on first is the next to work."""
    one, begin = Turns(), clock.now
    ready = [(begin, who) for who in range(many)]
    worked = dict.fromkeys(range(many), 0.0)
    for _ in range(40 * many):
        at, who = min(ready)
        ready.remove((at, who))
        clock.now = max(clock.now, at) + used
        worked[who] += used
        end = clock.now
        one.take(who, used)
        ready.append((clock.now, who))
        clock.now = end  # others do not wait with it
    passed = clock.now - begin
    assert sum(worked.values()) / passed == pytest.approx(SHARE, rel=0.1)
    assert max(worked.values()) - min(worked.values()) <= 2 * used


def test_who_comes_to_a_row_that_is_over_does_not_wait(clock: Clock) -> None:
    one = Turns()
    for who in range(10):
        one.take(who, SLICE)
    clock.now += 1
    before = clock.now
    one.take(99, SLICE)
    assert clock.now == before


class Stepped:
    """Time that passes when somebody says so, up to when the next who sleeps is to go on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, threading.Event]] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        event = threading.Event()
        self._sleepers.append((self.now + seconds, event))
        assert event.wait(PATIENCE)

    def go_on(self) -> None:
        self.now = max(self.now, min((when for when, _ in self._sleepers), default=0.0))
        for sleeper in [each for each in self._sleepers if each[0] <= self.now]:
            self._sleepers.remove(sleeper)
            sleeper[1].set()


@in_greenlets
def test_a_crowd_that_has_work_without_end_lets_others_in_again_and_again() -> None:
    """They would wait for the whole crowd each time otherwise."""
    one, seen, clock = Turns(), list[str](), Stepped()
    working = list(range(50))

    def work(number: int) -> None:
        for _ in range(10):
            seen.append("crowd")
            one.take(number, 0.0002)
        working.remove(number)

    def look() -> None:
        while working:
            seen.append("other")
            clock.go_on()
            give_turn()

    threads = [threading.Thread(target=work, args=(number,)) for number in tuple(working)]
    threads.append(threading.Thread(target=look))
    with mock.patch.object(turns, "time", clock):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert seen.count("crowd") == 500
    assert sum(who == "other" for who, _ in groupby(seen)) > 50
