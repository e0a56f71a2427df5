"""streaming/clients/deadlines.py: one wheel for all clients, which touches only who is due."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from unittest import mock

import pytest

from streaming.clients import deadlines as wheels
from streaming.clients.deadlines import Deadlines
from tests.greenlets import is_green, run_file
from tests.polling import wait_until
from tests.shortage import no_thread_at_first

NAME = "streaming deadlines"


class Waiting:
    """Somebody with deadlines, who notes when he was looked at."""

    def __init__(self, say: Callable[[float], float | None] = lambda now: None) -> None:
        self.tick = 0
        self.looks: list[float] = []
        self._say = say

    def due(self, now: float) -> float | None:
        self.looks.append(now)
        return self._say(now)


def wheels_at_work() -> int:
    return [thread.name for thread in threading.enumerate()].count(NAME)


@pytest.fixture
def wheel() -> Iterator[Deadlines]:
    """A wheel that turns fast."""
    with mock.patch.object(wheels, "TICK", 0.005):
        yield (wheel := Deadlines())
        with wheel._lock:
            left = [who for notch in wheel._notches.values() for who in notch]
        for who in left:
            wheel.drop(who)
        wait_until(lambda: not wheels_at_work(), "the wheel stands still")


def test_one_is_looked_at_when_he_asked_for_it_and_not_before(wheel: Deadlines) -> None:
    who, when = Waiting(), time.monotonic() + 0.05
    wheel.set(who, when)
    wait_until(lambda: who.looks, "he is looked at")
    assert who.looks[0] >= when
    assert len(wheel) == 0


def test_he_is_looked_at_again_when_he_says_and_no_more_when_he_says_nothing(
    wheel: Deadlines,
) -> None:
    who = Waiting(lambda now: now + 0.02 if len(who.looks) < 3 else None)
    wheel.set(who, time.monotonic())
    wait_until(lambda: len(who.looks) == 3, "three looks")
    assert all(later - sooner >= 0.02 for sooner, later in pairwise(who.looks))
    wait_until(lambda: not wheels_at_work(), "the wheel stands still")
    assert len(who.looks) == 3


def test_nobody_is_touched_who_is_not_due(wheel: Deadlines) -> None:
    later = [Waiting() for _ in range(1000)]
    for who in later:
        wheel.set(who, time.monotonic() + 3600.0)
    soon = Waiting()
    wheel.set(soon, time.monotonic() + 0.01)
    wait_until(lambda: soon.looks, "the one that is due")
    assert len(wheel) == 1000
    assert not any(who.looks for who in later)


def test_a_sooner_deadline_replaces_a_later_one_and_the_wheel_wakes_for_it(
    wheel: Deadlines,
) -> None:
    who = Waiting()
    wheel.set(who, time.monotonic() + 3600.0)
    wait_until(lambda: wheel._next, "the wheel waits for it")
    wheel.set(who, time.monotonic())
    wait_until(lambda: who.looks, "he is looked at")
    assert len(wheel) == 0


def test_a_later_deadline_replaces_a_sooner_one(wheel: Deadlines) -> None:
    who, witness = Waiting(), Waiting()
    now = time.monotonic()
    wheel.set(who, now + 1000.0)
    wheel.set(who, now + 3600.0)
    wheel.set(witness, now + 1000.0)
    wheel._look(now + 2000.0)  # as if the time of the first had passed
    assert witness.looks
    assert not who.looks


def test_whoever_is_dropped_is_not_looked_at_and_leaves_nothing_behind(wheel: Deadlines) -> None:
    dropped, witness = Waiting(), Waiting()
    now = time.monotonic()
    wheel.set(dropped, now + 1000.0)
    wheel.set(witness, now + 1000.0)
    wheel.drop(dropped)
    wheel.drop(dropped)
    wheel.drop(Waiting())
    assert len(wheel) == 1
    wheel._look(now + 2000.0)  # as if the time had passed
    assert witness.looks
    assert not dropped.looks
    wheel.drop(witness)  # its thread finds out that it has nothing to wait for


def test_whoever_was_dropped_stays_so_although_somebody_sets_him_again(wheel: Deadlines) -> None:
    """A thread that ends a client may come a moment after the one that has removed it."""
    who = Waiting()
    wheel.drop(who)
    wheel.set(who, time.monotonic())
    assert len(wheel) == 0


def test_whoever_is_dropped_while_he_is_looked_at_stays_so(wheel: Deadlines) -> None:
    def drop(now: float) -> float:
        wheel.drop(who)
        return now

    who, witness = Waiting(drop), Waiting()
    wheel.set(who, time.monotonic())
    wait_until(lambda: who.looks, "he is looked at")
    wheel.set(witness, time.monotonic())
    wait_until(lambda: witness.looks, "another look")
    assert len(who.looks) == 1
    assert len(wheel) == 0


def test_whoever_is_dropped_while_another_is_looked_at_is_not_looked_at(wheel: Deadlines) -> None:
    """Many are due at once, and others have a turn before the last of them is come to."""
    second = Waiting()
    first = Waiting(lambda now: wheel.drop(second))
    for who in (first, second):
        wheel._notches.setdefault(1, {})[who] = None
    wheel._look(1e9)
    assert first.looks
    assert not second.looks


def test_a_deadline_that_is_set_while_he_is_looked_at_goes_before_what_he_says(
    wheel: Deadlines,
) -> None:
    """An ended client is cut in half a second, though its last look said 15 more."""

    def end(now: float) -> float | None:
        if len(who.looks) > 1:
            return None
        wheel.set(who, now + 0.01)
        return now + 3600.0

    who = Waiting(end)
    wheel.set(who, time.monotonic())
    wait_until(lambda: len(who.looks) == 2, "the second look")


def test_one_thread_turns_it_while_somebody_has_a_deadline(wheel: Deadlines) -> None:
    assert wheels_at_work() == 0
    many = [Waiting() for _ in range(20)]
    for who in many:
        wheel.set(who, time.monotonic() + 3600.0)
    assert wheels_at_work() == 1
    for who in many:
        wheel.drop(who)
    wait_until(lambda: not wheels_at_work(), "the wheel stands still")
    again = Waiting()
    wheel.set(again, time.monotonic())
    wait_until(lambda: again.looks, "it turns again")


def test_one_that_fails_is_reported_and_costs_the_others_nothing(
    wheel: Deadlines, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(now: float) -> float:
        raise ZeroDivisionError("broken look")

    broken, sound = Waiting(fail), Waiting()
    when = time.monotonic()
    with caplog.at_level(logging.ERROR, "streaming.clients.deadlines"):
        wheel.set(broken, when)
        wheel.set(sound, when)
        wait_until(lambda: sound.looks, "the sound one is looked at")
    assert "broken look" in caplog.text
    wait_until(lambda: len(wheel) == 1, "the broken one is looked at again, later")


def test_without_a_thread_nobody_is_promised_anything(wheel: Deadlines) -> None:
    who = Waiting()
    with (
        mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread")),
        pytest.raises(RuntimeError),
    ):
        wheel.set(who, time.monotonic())
    assert len(wheel) == 0
    wheel.set(who, time.monotonic())
    wait_until(lambda: who.looks, "there is a thread again")


def test_who_comes_while_no_thread_can_be_had_for_another_is_looked_at(wheel: Deadlines) -> None:
    first, second = Waiting(), Waiting()
    with (
        no_thread_at_first(NAME, lambda: wheel.set(second, time.monotonic())),
        pytest.raises(RuntimeError),
    ):
        wheel.set(first, time.monotonic())
    wait_until(lambda: second.looks, "the second is looked at")
    assert not first.looks


def test_many_that_are_due_together_do_not_keep_others_from_their_turn(wheel: Deadlines) -> None:
    many = [Waiting() for _ in range(100)]
    with (
        mock.patch.object(wheels, "give_turn") as turns,
        mock.patch.object(wheels, "SLICE", -1.0),  # each look takes longer than a slice
    ):
        for who in many:
            wheel._notches.setdefault(1, {})[who] = None
        wheel._look(1e9)
    assert all(who.looks for who in many)
    assert turns.call_count == 100


def test_everybody_is_looked_at_however_threads_set_and_drop() -> None:
    with mock.patch.object(wheels, "TICK", 0.001):
        wheel, kept = Deadlines(), [Waiting() for _ in range(200)]

        def come_and_go() -> None:
            for _ in range(200):
                who = Waiting()
                wheel.set(who, time.monotonic() + 0.001)
                wheel.drop(who)

        threads = [threading.Thread(target=come_and_go) for _ in range(3)]
        for thread in threads:
            thread.start()
        for who in kept:
            wheel.set(who, time.monotonic())
        for thread in threads:
            thread.join()
        wait_until(lambda: all(who.looks for who in kept), "all that stay are looked at")
        wait_until(lambda: not wheels_at_work(), "the wheel stands still")
        assert len(wheel) == 0


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
