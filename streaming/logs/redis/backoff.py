"""How long to wait before trying again what has failed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from ...errors import LogUnavailable


class Backoff:
    """Waits that grow with each failure, drawn at random so that not all come back at once.

    Full jitter: between 0 and ``base``, then twice that, and so on up to ``cap`` seconds.
    """

    def __init__(
        self,
        base: float = 0.1,
        cap: float = 5.0,
        *,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._base = base
        self._cap = cap
        self._draw = draw
        self.failures = 0

    def fail(self) -> float:
        """Count a failure and return the seconds to wait."""
        self.failures += 1
        return self._draw(0.0, min(self._cap, self._base * 2.0 ** min(self.failures - 1, 30)))

    def succeed(self) -> None:
        """Begin from ``base`` again."""
        self.failures = 0


class Outage:
    """Lets one caller at a time find out whether a server is back, and the others fail at once.

    So an outage costs neither a caller its whole timeout each time nor the server a storm.

    Args:
        patience: Seconds within which a caller that was let through says how it went.
    """

    def __init__(
        self,
        backoff: Backoff,
        *,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backoff = backoff
        self._patience = patience
        self._clock = clock
        self._lock = threading.Lock()
        self._until = 0.0
        self._why = ""

    def check(self) -> None:
        """Return if it may be tried.

        Raises:
            LogUnavailable: If it failed a moment ago.
        """
        if not self._why:
            return
        with self._lock:
            now = self._clock()
            if self._why and now < self._until:
                raise LogUnavailable(self._why)
            self._until = now + self._patience

    def fail(self, why: str) -> None:
        """Say that it failed, and why."""
        with self._lock:
            self._why = why
            self._until = self._clock() + self._backoff.fail()

    def succeed(self) -> None:
        """Say that it went well."""
        if self._why:
            with self._lock:
                self._why = ""
                self._backoff.succeed()
