"""streaming/bell.py: a wake-up that is never missed, under threads and greenlets."""

import os
import socket
import threading
import time

import pytest

from streaming.bell import Bell, give_turn
from tests.greenlets import in_greenlets
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
