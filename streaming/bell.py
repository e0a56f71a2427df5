"""A wake-up that is never missed, and a turn for everybody else."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from .threads import is_elsewhere, wait_there


class Bell:
    """Wakes one waiter. Sticky: a ring before the wait makes the wait return at once.

    Rings do not add up. Any thread or greenlet may ring; one waits. Where threads are greenlets, a
    thread of the operating system may only wait (``threads``). A plain ``threading.Lock`` used as a
    binary semaphore, because it is the cheapest primitive both under threads and greenlets.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Let the present or the next wait return. Never blocks."""
        if self._lock.locked():
            with suppress(RuntimeError):  # another thread rang in between: it is rung
                self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until rung; False after ``timeout`` seconds without a ring."""
        if is_elsewhere():
            return wait_there(self.wait, timeout)
        return self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout))


def give_turn() -> None:
    """Let other threads and greenlets run, those included that wait for a socket.

    ``time.sleep(0)`` would not do: a greenlet server goes on with greenlets that are ready and
    looks at its sockets only after dozens of such turns. Any time above 0 makes it look.
    """
    time.sleep(1e-9)
