"""streaming/hub/workers.py: a few threads that take turns at many jobs."""

import threading
import time
from collections.abc import Callable

import pytest

from streaming.hub.workers import Workers
from tests.hub.engine import Crew
from tests.polling import PATIENCE, wait_until

NAME = "test worker"


class Team:
    """Workers, and what they have done; needed until ``dismiss``."""

    def __init__(self, work: Callable[[str], bool], most: int = 1, patience: float = 0.01) -> None:
        self.done: list[str] = []
        self.is_needed = True
        self._work = work
        self.workers: Workers[str] = Workers(
            NAME,
            self._do,
            most=most,
            is_needed=lambda: self.is_needed,
            patience=patience,
        )

    def _do(self, job: str) -> bool:
        again = self._work(job)
        self.done.append(job)
        return again

    def dismiss(self) -> None:
        self.is_needed = False
        self.workers.end()
        wait_until(lambda: not threads(), "all have ended")
        assert self.workers._count == 0
        assert self.workers._idle == self.workers._queue == self.workers._busy == {}


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def test_jobs_are_done_one_after_the_other_and_each_once() -> None:
    team = Team(lambda job: False)
    for job in "abcb":
        team.workers.put(job)
    assert team.workers.ensure()
    wait_until(lambda: len(team.done) == 3, "all is done")
    assert team.done == ["a", "b", "c"]
    team.dismiss()


def test_a_job_that_goes_on_is_put_behind_the_others() -> None:
    parts = {"a": 3, "b": 1, "c": 2}

    def work(job: str) -> bool:
        parts[job] -= 1
        return parts[job] > 0

    team = Team(work)
    for job in "abc":
        team.workers.put(job)
    team.workers.ensure()
    wait_until(lambda: len(team.done) == 6, "all is done")
    assert "".join(team.done) == "abcaca"
    team.dismiss()


def test_a_job_that_is_put_while_it_is_done_is_done_once_more_and_by_nobody_else() -> None:
    begun, let_go, at_once, most = threading.Semaphore(0), threading.Semaphore(0), [], []

    def work(job: str) -> bool:
        at_once.append(job)
        most.append(len(at_once))
        begun.release()
        assert let_go.acquire(timeout=PATIENCE)
        at_once.remove(job)
        return False

    team = Team(work, most=3)
    team.workers.put("a")
    team.workers.ensure()
    assert begun.acquire(timeout=PATIENCE)
    for _ in range(5):
        team.workers.put("a")
    let_go.release(2)
    assert begun.acquire(timeout=PATIENCE)
    wait_until(lambda: team.done == ["a", "a"], "it is done twice")
    assert most == [1, 1]
    team.dismiss()


def test_who_finds_nothing_needed_ends_though_others_have_not_noticed_yet() -> None:
    """Else it would wait for a ring that nobody gives: nobody knows its bell."""
    begun, let_go = threading.Event(), threading.Event()

    def work(job: str) -> bool:
        begun.set()
        return not let_go.wait(PATIENCE)

    team = Team(work, most=2)
    team.workers.put("a")
    team.workers.ensure()
    assert begun.wait(PATIENCE)
    wait_until(lambda: team.workers._idle, "the other one waits")
    team.is_needed = False
    let_go.set()
    wait_until(lambda: len(threads()) == 1, "the one that had a job has ended")
    team.dismiss()


@pytest.mark.usefixtures("hurry")
def test_whoever_needs_them_again_finds_them_whenever_they_end() -> None:
    crew, done = Crew(), set[str]()
    team = Team(lambda job: bool(done.add(job)), most=3)  # type: ignore[func-returns-value]
    team.is_needed = False
    users = 0
    lock = threading.Lock()

    def use(name: str) -> None:
        nonlocal users
        for n in range(300):
            with lock:
                users += 1
                team.is_needed = True
            job = f"{name}{n}"
            assert team.workers.ensure()
            team.workers.put(job)
            until = time.monotonic() + PATIENCE
            while job not in done:
                assert time.monotonic() < until, "nobody does it"
                time.sleep(0)
            with lock:
                users -= 1
                team.is_needed = users > 0
            if not team.is_needed:
                team.workers.end()

    for name in "abcd":
        crew.start(lambda name=name: use(name))
    crew.join()
    team.dismiss()


def test_what_is_put_off_is_done_after_a_while_and_what_is_forgotten_is_not() -> None:
    begun, let_go = threading.Event(), threading.Event()

    def work(job: str) -> bool:
        begun.set()
        assert let_go.wait(PATIENCE)
        return False

    team = Team(work)
    team.workers.ensure()
    team.workers.put("first")
    assert begun.wait(PATIENCE)  # what is due is not done before all is said
    for job in "abc":
        team.workers.put_off(job)
    team.workers.forget("b")
    team.workers.put("d")
    let_go.set()
    wait_until(lambda: len(team.done) == 4, "all is done")
    assert team.done == ["first", "d", "a", "c"]
    assert team.workers._late == {}
    team.dismiss()


def test_there_are_as_many_threads_as_are_busy_and_one_that_waits_up_to_the_most() -> None:
    begun, let_go = threading.Semaphore(0), threading.Event()

    def work(job: str) -> bool:
        begun.release()
        assert let_go.wait(PATIENCE)
        return False

    team = Team(work, most=3)
    team.workers.ensure()
    assert len(threads()) == 1
    for job, expected in (("a", 2), ("b", 3), ("c", 3)):
        team.workers.put(job)
        assert begun.acquire(timeout=PATIENCE)
        wait_until(lambda expected=expected: len(threads()) == expected, "threads")
    team.workers.put("d")
    let_go.set()
    wait_until(lambda: len(team.done) == 4, "all is done")
    assert len(threads()) == 3
    team.dismiss()
