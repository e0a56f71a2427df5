"""The runs that one process makes: a bounded number at a time, written by a few threads."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import ChannelEnded, HubClosed, LogUnavailable, TooManyClients, TooManyRuns
from ..threads import from_any_thread
from ..wire.compact import compact
from .generation import WINDOW, Generation, now, print_end
from .hub import Hub
from .pieces import Producer
from .presence import Presence
from .workers import Workers

PREFIX = "run:"
"""What the channels of runs begin with."""

MADE = "~runs"
"""The room of runs that are made now; a member is called ``<run>.<token>``."""

FIRST = 30.0
"""Seconds that a run which is not to go on alone waits for its first reader."""

OnDisconnect = float | Literal["continue", "cancel"]
"""What becomes of a run that nobody listens to: it goes on; it is stopped; or it is stopped after
so many seconds without anybody."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Made:
    """A run that this process makes."""

    work: Generation
    token: str
    patience: float | None
    """Seconds it goes on while nobody listens; None for ever."""
    lonely: float
    """Since when nobody has listened (``time.monotonic``); a time to come until somebody has."""

    @property
    def seat(self) -> str:
        """What it is called in the room of those that are made."""
        return f"{self.work.id}.{self.token}"


class Making:
    """What this process makes.

    Owns, while it makes some, a few daemon threads ``streaming runs`` that write what producers
    have said, and a thread ``run <id>`` for each producer.

    Args:
        most: Producers at work at the same time, and as many that wait for their turn.
        hang_up: Closes what a producer reads from, so that it notices.
    """

    def __init__(
        self, hub: Hub, presence: Presence, *, most: int, hang_up: Callable[[object], None]
    ) -> None:
        self._hub = hub
        self._presence = presence
        self._most = most
        self._hang_up = hang_up
        self._lock = threading.Lock()
        self.made: dict[str, Made] = {}
        """By id; until the end of each is in the log."""
        self._queue: deque[Generation] = deque()
        self._working = 0  # producers that have a thread, or are about to
        self._reserved = 0  # places in the queue, of those that are about to begin
        self._is_closed = False
        self._is_away = False
        self._ended: Counter[str] = Counter()
        self._workers: Workers[Generation] = Workers(
            "streaming runs",
            self._write,
            most=hub.log.reads,
            is_needed=lambda: bool(self.made),
            patience=WINDOW,
        )

    def begin(
        self,
        producer: Producer,
        args: tuple[Any, ...],
        *,
        id: str,
        context: Callable[[], AbstractContextManager[object]],
        on_disconnect: OnDisconnect,
        about: Mapping[str, Any] | None,
    ) -> bool:
        """Begin the run ``id``; False if another was faster. See ``Runs.start``."""
        channel, token = PREFIX + id, secrets.token_hex(8)
        work = Generation(
            *(id, channel, producer, args),
            context=context,
            hub=self._hub,
            wanted=self._want,
            hang_up=self._hang_up,
            ended=self._count,
            over=self._let_go,
            through=self._free,
        )
        patience = _patience(on_disconnect)
        made = Made(work, token, patience, time.monotonic() + max(FIRST, patience or 0.0))
        is_queued = self._reserve()
        try:
            self._presence.hold(MADE, made.seat)
            said: dict[str, Any] = {"id": id, "state": "queued" if is_queued else "running"}
            said |= {"started": now()} | ({"about": dict(about)} if about else {})
            first = self._hub.log.append(
                channel, compact(said), event="start", key="start", sender=token
            )
        except BaseException:
            self._give_back(made, is_queued=is_queued)
            raise
        if first.sender != token:
            self._give_back(made, is_queued=is_queued)
            return False
        work.place = first.id
        with self._lock:
            self.made[id] = made
            if is_queued:
                self._reserved -= 1
                self._queue.append(work)
        if not self._is_served(work):
            self._let_go(work)
            if not is_queued:
                self._free(work)  # its producer never begins
            self._fail(work)
        elif not is_queued:
            self._start(work, announce=False)
        self._go_on()
        return True

    def _is_served(self, work: Generation) -> bool:
        """See to it that it hears of its end, and is written; False if no thread is to be had."""
        try:
            self._hub.log.follow(work.channel, work.heard)
        except TooManyClients:
            return False
        work.heard(work.channel, None)  # somebody may have ended it in between
        return self._workers.ensure()

    def try_again(self) -> None:
        """Have everything written that waits: the log may have been away."""
        for made in list(self.made.values()):
            self._workers.put(made.work)

    def close(self) -> None:
        """Begin no more; those that are made go on. Idempotent."""
        self._is_closed = True

    @from_any_thread
    def end(self, id: str, state: str, detail: str = "") -> None:
        """End a run, whoever makes it; it may have been ended just now.

        Raises:
            LogUnavailable: If the log cannot be reached.
        """
        with suppress(ChannelEnded):
            self._hub.end(PREFIX + id, print_end(state, detail))
            self._count(state)

    def ended(self) -> dict[str, int]:
        """How many runs this process has ended, by state."""
        with self._lock:
            return dict(self._ended)

    def _count(self, state: str) -> None:
        with self._lock:
            self._ended[state] += 1

    def interrupt(self) -> None:
        """End all that is made here: this process cannot wait for them."""
        for id in list(self.made):
            try:
                self.end(id, "interrupted", "The server has stopped.")
            except LogUnavailable as error:
                _log.warning("The run %s ends without a word: %s", id, error)
                return

    # ---- places

    def _reserve(self) -> bool:
        """Take a place for one more; whether it has to wait for its turn."""
        with self._lock:
            if self._is_closed or self._hub.closed.is_set():
                raise HubClosed()
            is_queued = self._working >= self._most
            if not is_queued:
                self._working += 1
            elif len(self._queue) + self._reserved < self._most:
                self._reserved += 1
            else:
                raise TooManyRuns(
                    f"This worker makes {self._most} answers, and as many wait (STREAMING_RUNS). "
                    "Try again in a moment."
                )
        return is_queued

    def _give_back(self, made: Made, *, is_queued: bool) -> None:
        """Give the place back: it is not made here."""
        with self._lock:
            self._reserved -= is_queued
            self._working -= not is_queued
        self._presence.release(MADE, made.seat)
        self._go_on()

    def _go_on(self) -> None:
        """Let those begin whose turn it is."""
        while True:
            with self._lock:
                if not self._queue or self._working >= self._most:
                    return
                work = self._queue.popleft()
                self._working += 1
            self._start(work, announce=True)

    def _free(self, work: Generation) -> None:
        """A producer has come to its end, which may be long after that of its run."""
        with self._lock:
            self._working -= 1
        self._go_on()

    # ---- what is made

    def _start(self, work: Generation, *, announce: bool) -> None:
        try:
            work.start(announce=announce)
        except RuntimeError:  # no thread is to be had
            self._fail(work)

    def _fail(self, work: Generation) -> None:
        self.end(work.id, "failed", "The server cannot start another thread.")

    def _want(self, work: Generation, is_late: bool) -> None:
        if is_late:
            self._workers.put_off(work)
        else:
            self._workers.put(work)

    def _write(self, work: Generation) -> bool:
        try:
            work.write()
            self._is_away = False
        except LogUnavailable as error:
            if not self._is_away:
                _log.warning("Runs wait for the log: %s", error)
            self._is_away = True  # the keeper tries again
        except Exception:
            _log.exception("The run %s cannot be written", work.id)
            self._let_go(work)
        return False

    def _let_go(self, work: Generation) -> None:
        """The end of a run is in the log."""
        with self._lock:
            made = self.made.get(work.id)
            if made is None or made.work is not work:
                return
            del self.made[work.id]
            if work in self._queue:
                self._queue.remove(work)
        self._hub.log.unfollow(work.channel, work.heard)
        self._presence.release(MADE, made.seat)
        if not self.made:
            self._workers.end()


def _patience(on_disconnect: OnDisconnect) -> float | None:
    if on_disconnect == "continue":
        return None
    if on_disconnect == "cancel":
        return 0.0
    is_number = isinstance(on_disconnect, int | float) and not isinstance(on_disconnect, bool)
    if not is_number or not 0 <= on_disconnect < 10**9:
        raise TypeError(
            f"on_disconnect is {on_disconnect!r:.60}; it is 'continue', 'cancel' or seconds."
        )
    return float(on_disconnect)
