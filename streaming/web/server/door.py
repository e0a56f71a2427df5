"""Where connections come in."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from ...bell import give_turn

TURN = 0.002
"""Seconds of serving one connection after the other; then others get a turn."""

PAUSE = 0.5
"""Seconds until the next try where no connection can be accepted, for want of descriptors."""


class Door:
    """Accepts the connections of one listener; ``GeventWorker.run`` drives it (``server_class``).

    A greenlet takes a connection, serves it and comes back for the next one: a crowd that is
    answered at once needs few of them. A follower is on call, who comes when the one before waits
    for something else. None takes what it does not serve at once, so other workers get their part.
    What a connection sets in context variables, the next one does not see.
    """

    def __init__(
        self, listener: Any, serve: Callable[[Any, Any], None], *, pool: Any, log: Any
    ) -> None:
        self.pool = pool
        self._listener = listener
        self._serve = serve
        self._log = log
        self._is_open = True
        self._is_attended = False
        self._is_called = False

    def start(self) -> None:
        """Begin to accept."""
        self._call()

    def close(self) -> None:
        """Accept no more; who is being served stays. Returns when nobody is at the door."""
        self._is_open = False
        self._listener.close()
        while self._is_attended:
            give_turn()
        give_turn()  # until the pool has noticed, or gunicorn would wait another second

    def stop(self, timeout: float | None = None) -> None:
        """Close, and after ``timeout`` seconds end those that are still being served."""
        self.close()
        self.pool.join(timeout=timeout)
        self.pool.kill(block=True, timeout=1)

    def _call(self) -> None:
        """Put somebody on call. Where all are busy, the first that is done comes by itself."""
        if not self._is_called and self.pool.free_count():
            self._is_called = True
            self.pool.spawn(self._attend)

    def _attend(self) -> None:
        self._is_called = False
        until = time.monotonic() + TURN
        while self._is_open and not self._is_attended:
            self._is_attended = True
            try:
                if time.monotonic() > until:
                    give_turn()
                    until = time.monotonic() + TURN
                client, addr = self._listener.accept()
            except OSError as error:
                if self._is_open:
                    self._log.error("Cannot accept connections: %s", error)
                    time.sleep(PAUSE)
                continue
            finally:
                self._is_attended = False
            self._call()
            try:
                copy_context().run(self._serve, client, addr)
            except Exception:
                self._log.exception("A connection could not be served")
