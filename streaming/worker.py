"""Draining under gunicorn, which runs no hook when a worker is told to stop."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from .state import close_all

INTERVAL = 0.05
"""Seconds between two looks at the worker."""


class Worker(Protocol):
    """The part of a gunicorn worker that is looked at."""

    alive: bool


def watch_worker(worker: Worker) -> None:
    """Drain all streams of this process as soon as ``worker`` is to stop.

    For ``gunicorn.conf.py``: ``post_worker_init = watch_worker``. TERM, HUP and ``max_requests``
    all end in ``worker.alive`` being false. Starts a daemon thread that lives until then.
    """

    def watch() -> None:
        while worker.alive:
            time.sleep(INTERVAL)
        close_all()

    threading.Thread(target=watch, name="streaming drain", daemon=True).start()
