"""Work of many that lag, a moment at a time, and everybody else in between."""

from __future__ import annotations

import threading
import time

from ..bell import give_turn
from .workers import SLICE


class Turnstile:
    """Lets few work at a time, and gives all others a turn after each ``SLICE`` of their work.

    Greenlets that become ready together run one after the other before anybody looks at a socket:
    five hundred clients that lag would hold everybody up for a second. A context manager; within it
    nobody waits for a client.

    Args:
        most: How many work at the same time: more than one gains where they wait for a network.
    """

    __slots__ = ("_due", "_permits", "_present")

    def __init__(self, most: int) -> None:
        self._permits = threading.Lock() if most == 1 else threading.Semaphore(most)
        self._present = 0  # at work, or waiting to be
        self._due = 0.0  # when all others have a turn (``time.monotonic``)

    def __enter__(self) -> None:
        self._present += 1
        if self._present == 1:  # all others have had theirs
            self._due = time.monotonic() + SLICE
        self._permits.acquire()

    def __exit__(self, *_: object) -> None:
        try:
            self.pause()
        finally:
            self._present -= 1
            self._permits.release()

    def pause(self) -> None:
        """Give all others a turn, if it is time; for whoever is at work."""
        if time.monotonic() > self._due:
            give_turn()
            self._due = time.monotonic() + SLICE
