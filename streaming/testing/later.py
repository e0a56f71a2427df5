"""Later, at once: what a test would have to wait an hour for."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from unittest import mock

from flask import Flask

from ..errors import ConfigurationError
from ..logs import MemoryLog
from ..web.state import State


class Clock:
    """The time of one application's log and of its tickets; ``clock`` makes it."""

    def __init__(self) -> None:
        self.ahead = 0.0
        """Seconds that it is ahead of the real time."""

    def forward(self, seconds: float) -> None:
        """Make it later.

        Raises:
            ValueError: If it would be earlier.
        """
        if seconds < 0:
            raise ValueError("Time goes forward.")
        self.ahead += seconds

    def set_by(self, real: Callable[[], float]) -> Callable[[], float]:
        """``real``, as far ahead as this clock is."""
        return lambda: real() + self.ahead


@contextmanager
def clock(app: Flask) -> Generator[Clock]:
    """A clock that the test sets: how old messages and idempotency keys are, and whether tickets
    are still good. What connections wait for (heartbeats, time-outs, lifetimes) goes by the real
    time: set it shorter.

    Raises:
        ConfigurationError: If the application's log is not ``memory:``.
    """
    state: State = app.extensions["streaming"]
    log, issued = state.hub.log, state.issued
    if not isinstance(log, MemoryLog):
        raise ConfigurationError(
            f"STREAMING_LOG is {state.settings.log!r:.200}: time can be set in memory: alone, "
            "which no other process looks at."
        )
    found = Clock()
    with (
        mock.patch.object(log, "_clock", found.set_by(log._clock)),
        mock.patch.object(issued, "_clock", found.set_by(issued._clock)),
    ):
        yield found
