"""When each client has to be looked at: one wheel for all, which touches only who is due."""

from __future__ import annotations

import logging
import threading
import time
from typing import Protocol

from ..bell import Bell, give_turn
from ..own import era, is_over

TICK = 0.25
"""Seconds between two notches of the wheel: a deadline is kept to this."""

LINGER = 1.25
"""Seconds for which the thread sleeps on where nobody is left: others come, and it is there."""

SLICE = 0.002
"""Seconds of looking at clients after which others get a turn."""

_DROPPED = -1
"""The notch of those who are never looked at again."""

_log = logging.getLogger(__name__)


class Timed(Protocol):
    """Somebody with deadlines."""

    tick: int
    """The notch it stands at; 0 for none, at first. Written by the wheel alone."""

    def due(self, now: float, /) -> float | None:
        """Do what is due by ``now``, without blocking; when to look again, None for never more.

        Both are ``time.monotonic``.
        """


class Deadlines:
    """Calls ``due`` of each client when it asked for it. From any thread.

    Owns one daemon thread while somebody has a deadline. Whoever is dropped costs nothing more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notches: dict[int, dict[Timed, None]] = {}
        self._bell = Bell()
        self._next = 0
        self._is_running = False

    def set(self, who: Timed, when: float) -> None:
        """Look at ``who`` at ``when`` (``time.monotonic``), and not before; unless it was dropped.

        Raises:
            RuntimeError: If no thread can be started; nobody is looked at then.
        """
        self._put(who, when, is_sure=True)

    def _put(self, who: Timed, when: float, *, is_sure: bool) -> None:
        """``set``; if not ``is_sure``, what others have set meanwhile goes before."""
        tick = int(when / TICK) + 1
        with self._lock:
            if who.tick == _DROPPED or (who.tick and not is_sure):
                return
            if not self._is_running:
                self._start()
            self._remove(who)
            who.tick = tick
            self._notches.setdefault(tick, {})[who] = None
            is_sooner = tick < self._next
        if is_sooner:
            self._bell.ring()

    def drop(self, who: Timed) -> None:
        """Never look at ``who`` again, whoever sets it. Idempotent."""
        with self._lock:
            self._remove(who)
            who.tick = _DROPPED
            if not self._notches and self._next * TICK - time.monotonic() > LINGER:
                self._bell.ring()  # the thread has nothing to wait for

    def __len__(self) -> int:
        """How many have a deadline."""
        with self._lock:
            return sum(map(len, self._notches.values()))

    def _remove(self, who: Timed) -> None:
        notch = self._notches.get(who.tick)
        if notch is not None:
            notch.pop(who, None)
            if not notch:
                del self._notches[who.tick]
        who.tick = 0

    def _start(self) -> None:
        """For the holder of the lock: nobody relies on the thread before it is there."""
        threading.Thread(target=self._run, name="streaming deadlines", daemon=True).start()
        self._is_running = True

    def _run(self) -> None:
        born = era()
        while not is_over(born):
            with self._lock:
                self._next = min(self._notches, default=0)
                if not self._next:
                    self._is_running = False
                    return
            left = self._next * TICK - time.monotonic()
            if left > 0:
                self._bell.wait(left)
            self._look(time.monotonic())

    def _look(self, now: float) -> None:
        with self._lock:
            ticks = [tick for tick in self._notches if tick * TICK <= now]
            late = [who for tick in sorted(ticks) for who in self._notches.pop(tick)]
            for who in late:
                who.tick = 0
        turn = time.monotonic() + SLICE
        for who in late:
            if who.tick == _DROPPED:  # while others had a turn
                continue
            try:
                when = who.due(now)
            except Exception:
                _log.exception("A client could not be looked at")
                when = now + 1.0
            if when is not None:
                self._put(who, when, is_sure=False)
            if time.monotonic() > turn:
                give_turn()
                turn = time.monotonic() + SLICE
