"""A few threads that take turns at many jobs, whatever the number of jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from ..bell import Bell, give_turn
from ..own import era, is_over

SLICE = 0.001
"""Seconds of work after which all other greenlets have a turn."""

Job = TypeVar("Job", bound=Hashable)


class Workers(Generic[Job]):
    """Does each job that was put, one after the other, and each by one thread at a time.

    Owns ``most`` daemon threads at the most: one from ``ensure`` on, and one more whenever all are
    busy. They end when nothing is to be done and ``is_needed`` says that nothing will be.

    Args:
        work: Does a job, or a part of it; True to have it put behind the others again.
        patience: Seconds until a job that was put off is done.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Job], bool],
        *,
        most: int,
        is_needed: Callable[[], bool],
        patience: float,
    ) -> None:
        self._name = name
        self._work = work
        self._most = most
        self._is_needed = is_needed
        self._patience = patience
        self._lock = threading.Lock()
        self._starting = threading.Lock()  # held while the first thread is started
        self._queue: dict[Job, None] = {}
        self._busy: dict[Job, bool] = {}  # being done; whether it was put meanwhile
        self._late: dict[Job, None] = {}  # put off
        self._late_at = 0.0  # until then (``time.monotonic``)
        self._idle: dict[Bell, None] = {}
        self._count = 0

    def put(self, job: Job) -> None:
        """Have a job done soon, once more if it is being done. Never blocks."""
        with self._lock:
            self._put(job)

    def put_off(self, job: Job) -> None:
        """Have a job done after a while, together with all that were put off before."""
        with self._lock:
            if not self._late:
                self._late_at = time.monotonic() + self._patience
                self._ring_all()  # somebody has to wait for the time
            self._late[job] = None

    def forget(self, job: Job) -> None:
        """Do not do it again, unless it is put again."""
        with self._lock:
            self._queue.pop(job, None)
            self._late.pop(job, None)
            if job in self._busy:
                self._busy[job] = False

    def end(self) -> None:
        """Let those who wait find out that nothing is needed any more."""
        with self._lock:
            self._ring_all()

    def ensure(self) -> bool:
        """See to it that somebody works; False if no thread is to be had."""
        with self._starting:  # nobody returns before that is known
            with self._lock:
                if self._count:
                    return True
                self._count = 1
            return self._start()

    def _put(self, job: Job) -> None:
        if job in self._busy:
            self._busy[job] = True
            return
        self._queue[job] = None
        if self._idle:  # else those that work take it up, or the one they start
            self._idle.popitem()[0].ring()

    def _ring_all(self) -> None:
        while self._idle:
            self._idle.popitem()[0].ring()

    def _start(self) -> bool:
        """Start a worker that is counted already; False if no thread is to be had."""
        worker = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            worker.start()
        except RuntimeError:
            with self._lock:
                self._count -= 1
            return False
        return True

    def _run(self) -> None:
        bell, turn, born = Bell(), 0.0, era()
        while True:
            now = time.monotonic()
            if now > turn:
                give_turn()
                turn = time.monotonic() + SLICE
            if is_over(born):
                return
            with self._lock:
                job = self._next(bell, now)
                if job is None and bell not in self._idle:
                    self._count -= 1
                    return
                starts = job is not None and not self._idle and self._count < self._most
                self._count += starts
                wait = self._late_at - now if self._late else None
            if starts:  # one is to wait for the next job while this one is done
                self._start()
            if job is None:
                bell.wait(wait)
                turn = time.monotonic() + SLICE  # all others have had theirs
            else:
                self._do(job)

    def _next(self, bell: Bell, now: float) -> Job | None:
        """The next job; None, and ``bell`` among the idle unless nobody is needed, if there is
        none."""
        self._idle.pop(bell, None)
        if self._late and now >= self._late_at:
            late, self._late = self._late, {}
            for job in late:
                self._put(job)
        for job in self._queue:
            del self._queue[job]
            self._busy[job] = False
            return job
        if self._is_needed():
            self._idle[bell] = None
        return None

    def _do(self, job: Job) -> None:
        again = False
        try:
            again = self._work(job)
        finally:
            with self._lock:
                if self._busy.pop(job) or again:
                    self._put(job)
