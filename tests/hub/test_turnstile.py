"""streaming/hub/turnstile.py: many that lag, and everybody else in between."""

import threading
import time

import pytest

from streaming.hub.turnstile import Turnstile
from streaming.hub.workers import SLICE
from tests.greenlets import in_greenlets
from tests.polling import PATIENCE, wait_until


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_work_at_a_time_than_said(most: int) -> None:
    turnstile, gate = Turnstile(most), threading.Event()
    inside: list[int] = []

    def work(number: int) -> None:
        with turnstile:
            inside.append(number)
            gate.wait(PATIENCE)
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(inside) == most, "as many as may are at work")
    assert len(inside) == most
    gate.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert inside == []


def test_whoever_fails_lets_the_next_one_in() -> None:
    turnstile = Turnstile(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), turnstile:
            raise ZeroDivisionError


@in_greenlets
def test_everybody_else_has_a_turn_between_the_moments_of_a_crowd() -> None:
    """All of the crowd are ready at once; without turns they would run one after the other."""
    turnstile, done, seen = Turnstile(1), [], set()

    def work() -> None:
        with turnstile:
            until = time.monotonic() + SLICE * 1.5
            while time.monotonic() < until:
                pass
            done.append(True)

    def look() -> None:
        while len(done) < 50:
            seen.add(len(done))
            time.sleep(1e-6)

    crowd = [threading.Thread(target=work) for _ in range(50)]
    other = threading.Thread(target=look)
    other.start()
    for thread in crowd:
        thread.start()
    for thread in (*crowd, other):
        thread.join(PATIENCE)
    assert len(seen) > 25, f"others had {len(seen)} turns in 50 moments"


@in_greenlets
def test_one_who_works_long_gives_turns_when_asked_to_pause() -> None:
    turnstile, turns, is_over = Turnstile(1), [], []

    def look() -> None:
        while not is_over:
            turns.append(True)
            time.sleep(1e-6)

    other = threading.Thread(target=look)
    other.start()
    with turnstile:
        until = time.monotonic() + PATIENCE
        while len(turns) <= 10 and time.monotonic() < until:
            turnstile.pause()
    is_over.append(True)
    other.join(PATIENCE)
    assert len(turns) > 10
