"""streaming/bell.py: a wake-up that is never missed, under threads and greenlets."""

import itertools
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from streaming.bell import Bell, give_turn, is_crowded, wait_turn
from tests.greenlets import ROOT, in_greenlets
from tests.polling import PATIENCE


def test_a_ring_before_the_wait_is_not_missed() -> None:
    bell = Bell()
    bell.ring()
    assert bell.wait(0)


def test_a_new_bell_has_not_rung() -> None:
    assert not Bell().wait(0)


def test_rings_do_not_add_up() -> None:
    bell = Bell()
    for _ in range(3):
        bell.ring()
    assert bell.wait(0)
    assert not bell.wait(0)


def test_a_bell_rings_again_after_each_wait() -> None:
    bell = Bell()
    for _ in range(100):
        bell.ring()
        assert bell.wait(0)
    assert not bell.wait(0.001)


@pytest.mark.parametrize("timeout", [0, -1, -0.001, 0.001])
def test_a_wait_without_a_ring_ends_by_itself(timeout: float) -> None:
    assert not Bell().wait(timeout)


def test_a_ring_wakes_whoever_waits_without_a_limit() -> None:
    bell, woken = Bell(), threading.Event()

    def wait() -> None:
        assert bell.wait()
        woken.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    bell.ring()
    assert woken.wait(PATIENCE)
    waiter.join()


def hurry(ringers: int, rings: int) -> None:
    """Every ringer counts up and rings; the waiter has to see the last count of each."""
    bell = Bell()
    counts = [0] * ringers

    def ring(ringer: int) -> None:
        for _ in range(rings):
            counts[ringer] += 1
            bell.ring()

    threads = [threading.Thread(target=ring, args=(n,)) for n in range(ringers)]
    for thread in threads:
        thread.start()
    while sum(counts) < ringers * rings:
        assert bell.wait(PATIENCE), "a ring was missed"
    for thread in threads:
        thread.join()


def test_no_ring_of_many_threads_is_missed_or_raises() -> None:
    hurry(ringers=4, rings=5000)


def test_two_threads_that_wake_each_other_never_fall_asleep() -> None:
    there, back = Bell(), Bell()

    def answer() -> None:
        for _ in range(2000):
            assert there.wait(PATIENCE)
            back.ring()

    other = threading.Thread(target=answer)
    other.start()
    for turn in range(2000):
        there.ring()
        assert back.wait(PATIENCE), f"asleep at turn {turn}"
    other.join()


@in_greenlets
def test_no_ring_of_many_greenlets_is_missed_or_raises() -> None:
    hurry(ringers=4, rings=5000)


@in_greenlets
def test_a_greenlet_wakes_another_that_waits_without_a_limit() -> None:
    test_a_ring_wakes_whoever_waits_without_a_limit()


@in_greenlets
def test_a_wait_of_a_greenlet_without_a_ring_ends_by_itself() -> None:
    assert not Bell().wait(0.001)
    test_rings_do_not_add_up()


@in_greenlets
def test_a_turn_is_for_those_too_that_wait_for_their_socket() -> None:
    ours, theirs = socket.socketpair()
    heard: list[bytes] = []
    listener = threading.Thread(target=lambda: heard.append(theirs.recv(10)))
    listener.start()
    time.sleep(0.01)
    for _ in range(3):
        give_turn()
    os.write(ours.fileno(), b"x")
    for _ in range(5):
        give_turn()
    assert heard == [b"x"]
    listener.join(PATIENCE)
    ours.close()
    theirs.close()


@in_greenlets
def test_of_a_crowd_that_has_work_without_end_one_goes_on_at_a_time() -> None:
    """All others have a turn behind each: they would wait for the whole crowd otherwise."""
    seen: list[str] = []
    working = list(range(50))

    def work(number: int) -> None:
        for _ in range(10):
            seen.append("crowd")
            wait_turn()
        working.remove(number)

    def look() -> None:
        while working:
            seen.append("other")
            time.sleep(1e-9)

    threads = [threading.Thread(target=work, args=(number,)) for number in tuple(working)]
    threads.append(threading.Thread(target=look))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    first = seen.index("other")  # all of them begin at once
    runs = [len(list(run)) for who, run in itertools.groupby(seen[first:]) if who == "crowd"]
    assert sum(runs) > 400
    assert max(runs) <= 3


@in_greenlets
def test_whether_there_is_a_crowd_is_known_for_as_long_as_somebody_waits() -> None:
    assert not is_crowded()
    waiting = [threading.Thread(target=wait_turn) for _ in range(20)]
    for thread in waiting:
        thread.start()
    was_crowded = False
    while any(thread.is_alive() for thread in waiting):
        was_crowded |= is_crowded()
        time.sleep(1e-9)
    assert was_crowded
    assert not is_crowded()


LATE = """
import threading, time
from streaming.bell import wait_turn
wait_turn()
from gevent import monkey
monkey.patch_all()
threads = [threading.Thread(target=wait_turn) for _ in range(5)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(5)
    assert not thread.is_alive()
print("passed")
"""


def test_a_crowd_that_was_one_of_threads_may_become_one_of_greenlets() -> None:
    """A native lock would hold up all of them, for ever."""
    child = subprocess.run(
        [sys.executable, "-c", LATE], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert child.stdout + child.stderr == "passed\n"
