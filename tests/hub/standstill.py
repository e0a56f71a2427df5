"""A machine that stands still, when a test says so."""

import threading
from collections.abc import Callable

import pytest

from streaming.bell import Bell
from streaming.hub import pulse
from tests.clock import Clock
from tests.polling import PATIENCE, wait_until


class Standstill(Bell):
    """What a thread waits with that looks again and again. Behind its next wait the machine has
    stood still; it goes on itself when it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, happen: Callable[[], object]) -> None:
        super().__init__()
        self._clock = Clock()
        self._happen = happen
        self.is_over = False
        self.let_go = threading.Event()
        monkeypatch.setattr(pulse, "clock", self._clock)

    def wait(self, timeout: float | None = None) -> bool:
        is_rung = super().wait(timeout)
        if not self.is_over:
            self._clock.now += pulse.STILL + 1.0
            self._happen()
            self.is_over = True
        return self.let_go.wait(PATIENCE) and is_rung


def stand_still(
    monkeypatch: pytest.MonkeyPatch, looker: object, happen: Callable[[], object] = lambda: None
) -> threading.Event:
    """Have the machine stand still behind the next wait of ``looker``'s, a ``happen`` with it; set
    what is returned to let it go on."""
    bell = Standstill(monkeypatch, happen)
    monkeypatch.setattr(looker, "_bell", bell)
    wait_until(lambda: bell.is_over, "it has stood still")
    return bell.let_go
