"""Waiting in tests: look again and again, until a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds that a test waits: only so that it ends. A machine may be busy with something else."""

LONGEST_PAUSE = 0.02


def wait_until(condition: Callable[[], T], what: str, timeout: float = PATIENCE) -> T:
    """The first true value of ``condition``; fails after ``timeout`` seconds."""
    until, pause = time.monotonic() + timeout, 0.002
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"waited {timeout:g} s in vain for: {what} (last: {value!r})")
        time.sleep(pause)
        pause = min(pause * 1.25, LONGEST_PAUSE)  # who waits long looks seldom
    return value
