"""Draining under gunicorn, which runs no hook when a worker is told to stop."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from typing import Protocol

from ..errors import ConfigurationError
from ..threads import note_greenlets
from .draining import (
    close_all,
    close_logs,
    interrupt_runs,
    is_any_in_memory,
    is_drained,
    is_making,
)

INTERVAL = 0.05
"""Seconds between two looks at the worker."""

PATIENCE = 5.0
"""Seconds that a worker waits at its exit. The last clients take the end of their stream or are cut
within one; thousands of members may take longer to leave."""


MARGIN = 2.0
"""Seconds before the end of gunicorn's ``graceful_timeout`` at which runs are interrupted."""


class Config(Protocol):
    """The part of gunicorn's configuration that is looked at."""

    workers: int
    graceful_timeout: int


class Worker(Protocol):
    """The part of a gunicorn worker that is looked at."""

    alive: bool
    cfg: Config


_watched: dict[int, Worker] = {}  # by process: a fork is another one
_deadlines: dict[int, float] = {}  # by process: when its runs must be over (``time.monotonic``)


def watch_worker(worker: Worker) -> None:
    """Drain all streams of this process as soon as ``worker`` is to stop.

    For ``post_worker_init`` in ``gunicorn.conf.py``. TERM, HUP and ``max_requests``
    all end in ``worker.alive`` being false. Starts a daemon thread that lives until then.

    Raises:
        ConfigurationError: If there are more workers and an application's log is in memory: what
            one worker publishes, the clients of another would never see.
    """
    if worker.cfg.workers > 1 and is_any_in_memory():
        raise ConfigurationError(
            f"{worker.cfg.workers} workers cannot share STREAMING_LOG=memory:. Set it to "
            "'sqlite:///streaming.db' (workers of one machine; four slashes and a full path if "
            "other apps or scripts share it) or 'redis://host:6379' (of many machines), or start "
            "one worker (--workers 1)."
        )

    watch(worker)


def watch(worker: Worker, *, is_last: bool = False) -> None:
    """Drain all streams of this process as soon as ``worker`` is to stop; in a daemon thread.

    With ``is_last`` also at the interpreter's exit, where no ``worker_exit`` does it.
    """
    if is_last:
        atexit.register(_drain_at_exit, os.getpid())

    def look() -> None:
        while worker.alive:
            time.sleep(INTERVAL)
        _note_deadline(worker)
        close_all()

    _watched[os.getpid()] = worker
    note_greenlets()
    threading.Thread(target=look, name="streaming drain", daemon=True).start()


def is_watched() -> bool:
    """Whether this process is drained when it is to stop."""
    return os.getpid() in _watched


def find_worker() -> Worker | None:
    """The gunicorn worker of this process; None if something else hears of its end."""
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return owner if hasattr(owner, "alive") and hasattr(owner, "cfg") else None


def _note_deadline(worker: Worker) -> None:
    """Note until when the runs of a worker that is to stop may go on. Who sees it first counts: the
    watcher, or the worker's exit."""
    until = time.monotonic() + worker.cfg.graceful_timeout - MARGIN
    _deadlines.setdefault(os.getpid(), until)


def drain_worker() -> None:
    """Drain all streams of this process; let its runs come to their end, as far as gunicorn's
    ``graceful_timeout`` allows; wait until streams have ended and rooms know who left, at most
    5 s (``PATIENCE``); then let go of its logs, so that other processes need not find out that
    this one is gone.

    For ``worker_exit`` in ``gunicorn.conf.py``: streams at rest are not in gunicorn's count of
    open connections, so it may have ended before ``watch_worker`` looked.
    """
    worker = _watched.get(os.getpid())
    if worker is not None and not worker.alive:
        _note_deadline(worker)
    close_all()
    until = _deadlines.get(os.getpid(), 0.0)
    while is_making() and time.monotonic() < until:
        time.sleep(INTERVAL)
    interrupt_runs()
    until = time.monotonic() + PATIENCE
    while not is_drained() and time.monotonic() < until:
        time.sleep(INTERVAL / 5)
    close_logs()


def _drain_at_exit(process: int) -> None:
    if process == os.getpid():
        drain_worker()
