"""Listening on one connection for what is announced, and being woken meanwhile."""

from __future__ import annotations

import os
import selectors
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ...bell import give_turn
from ...errors import LogUnavailable
from .ear import Ear

SILENCE = 2.0
"""Seconds without a word after which the server is asked for one, and it has as long to answer."""

TURN = 0.001
"""Seconds of taking in after which others get a turn."""

SOME = 200
"""Channels in one command."""


class Waker:
    """Waits for sockets, and can be woken. One thread waits; ``wake`` and ``close`` need a lock."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)

    def watch(self, sock: Any) -> None:
        """Wait for this socket too."""
        self._selector.register(sock, selectors.EVENT_READ)

    def forget(self, sock: Any) -> None:
        """Wait for this socket no more."""
        self._selector.unregister(sock)

    def wait(self, seconds: float) -> None:
        """Block until woken, or a watched socket is readable, or ``seconds`` have passed."""
        for key, _ in self._selector.select(max(0.0, seconds)):
            if key.fileobj == self._reader:
                os.read(self._reader, 4096)

    def wake(self) -> None:
        """Let the present or the next wait return."""
        with suppress(BlockingIOError):  # it is full of wake-ups
            os.write(self._writer, b"!")

    def close(self) -> None:
        """Let go of it; it must not be woken any more."""
        self._selector.close()
        os.close(self._reader)
        os.close(self._writer)


class Session:
    """One connection's life: what was asked for and what is confirmed.

    Args:
        ear: The connection.
        announced: Called with the channel and text of each announcement.
        confirmed: Called with a channel of which nothing announced is missed from now on.
    """

    def __init__(
        self, ear: Ear, *, announced: Callable[[str, str], None], confirmed: Callable[[str], None]
    ) -> None:
        self._ear = ear
        self._announced = announced
        self._confirmed = confirmed
        self._asked: set[str] = set()
        self._awaited: Counter[str] = Counter()
        self._spoke = time.monotonic()
        self._asked_at: float | None = None

    @property
    def next(self) -> float:
        """When ``check`` has something to do (``time.monotonic``)."""
        return (self._spoke if self._asked_at is None else self._asked_at) + SILENCE

    def change(self, wanted: Mapping[str, bool]) -> None:
        """Ask for the channels that are wanted, and no more for those that are not."""
        more, less = [], []
        for channel, is_wanted in wanted.items():
            if is_wanted and channel not in self._asked:
                more.append(channel)
            elif is_wanted and not self._awaited[channel]:
                self._confirmed(channel)
            elif not is_wanted and channel in self._asked:
                less.append(channel)
        self._asked.difference_update(less)
        self._asked.update(more)
        self._awaited.update(more)
        for start in range(0, len(more), SOME):
            self._ear.subscribe(more[start : start + SOME])
        for start in range(0, len(less), SOME):
            self._ear.unsubscribe(less[start : start + SOME])

    def hear(self) -> bool:
        """Take in what has arrived, for a moment at most; False if nothing has."""
        has_heard, until = False, time.monotonic() + TURN
        while (said := self._ear.receive()) is not None:
            kind, channel, text = said
            has_heard = True
            if kind == "message":
                self._announced(channel, text)
            elif kind == "subscribe":
                self._awaited[channel] -= 1
                if not self._awaited[channel]:  # if asked for twice, the last answer counts
                    del self._awaited[channel]
                    if channel in self._asked:
                        self._confirmed(channel)
            if time.monotonic() > until:
                give_turn()
                break
        if has_heard:
            self._spoke, self._asked_at = time.monotonic(), None
        return has_heard

    def check(self) -> None:
        """Ask a silent server for a sign of life.

        Raises:
            LogUnavailable: If it was asked and gave none.
        """
        now = time.monotonic()
        if now < self.next:
            return
        if self._asked_at is None:
            self._ear.ping()
            self._asked_at = now
        else:
            raise LogUnavailable("Redis has fallen silent on the connection that we listen on.")
