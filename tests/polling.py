"""Waiting in tests: look again and again, until a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 20.0
LONGEST_PAUSE = 0.02


def wait_until(condition: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """The first true value of ``condition``; fails after ``patience`` seconds."""
    until, pause = time.monotonic() + patience, 0.002
    while not (value := condition()):
        assert time.monotonic() < until, f"not within {patience} s: {what}"
        time.sleep(pause)
        pause = min(pause * 1.25, LONGEST_PAUSE)  # who waits long looks seldom
    return value
