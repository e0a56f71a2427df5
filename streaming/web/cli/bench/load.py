"""A time of load: messages at a steady rate, and clients that are cut and come back."""

from __future__ import annotations

import selectors
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ....hub.hub import Hub
from .follower import PATIENCE, Follower
from .score import Score

GRACE = 10.0
"""Seconds at the end for what is on its way."""

BACK = 0.5
"""Seconds after which a client comes back whose connection was ended by the server."""

TURN = 0.02
"""Seconds between two looks at the clock."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done."""

    url: str
    channels: list[str]
    each: int
    """Channels that each client follows."""
    connections: int
    rate: float
    """Messages published in a second, over all channels."""
    seconds: float
    cut: float
    """Seconds after which each client's connection is cut; 0 for never."""


class Load:
    """Clients and a publisher, in one thread."""

    def __init__(self, work: Work, hub: Hub) -> None:
        self.score = Score()
        self.published = 0
        self._work, self._hub = work, hub
        self._heads = dict.fromkeys(work.channels, 0)
        self._poll = selectors.DefaultSelector()
        self._away: deque[tuple[float, Follower]] = deque()  # when they come back
        self._followers = [
            Follower(work.url, self._followed(number), self.score, lambda: dict(self._heads))
            for number in range(work.connections)
        ]

    def _followed(self, number: int) -> list[str]:
        channels = self._work.channels
        return [channels[(number + more) % len(channels)] for more in range(self._work.each)]

    def run(self, tell: Callable[[float], object]) -> None:
        """Do it; ``tell`` is called with each second of it that is over.

        Raises:
            OSError: If there is no server.
            Refused: If it does not let clients follow.
            LogUnavailable: If nothing can be published.
            TimeoutError: If not all clients are connected in time.
        """
        try:
            for follower in self._followers:
                self._open(follower)
                self._look(0)
            self._wait(lambda: all(one.is_ready for one in self._followers), PATIENCE)
            if not all(one.is_ready for one in self._followers):
                raise TimeoutError("Not all clients were told where they stand.")
            self._publish_and_cut(tell)
            self._wait(self._has_all, GRACE)
        finally:
            for follower in self._followers:
                follower.sheet.close(self._heads)
                follower.close()
            self._poll.close()

    def _publish_and_cut(self, tell: Callable[[float], object]) -> None:
        work, began, told = self._work, time.monotonic(), 0.0
        cuts = deque(
            (work.cut * (1 + number / work.connections), one)
            for number, one in enumerate(self._followers)
            if work.cut
        )
        now = 0.0
        while now < work.seconds:
            now = min(time.monotonic() - began, work.seconds)  # what was due then is done late
            while self.published < work.rate * now:
                self._publish()
            while cuts and cuts[0][0] <= now:
                when, follower = cuts.popleft()
                cuts.append((when + work.cut, follower))
                if follower.sock is not None:
                    self.score.counts["cuts"] += 1
                    self._shut(follower)
                    self._open(follower)
            self._look(TURN)
            if now - told >= 1:
                tell(now - told)
                told = now
        tell(work.seconds - told)

    def _publish(self) -> None:
        channel = self._work.channels[self.published % len(self._work.channels)]
        said = f"{channel} {self._heads[channel]} {time.monotonic()!r}"
        self._heads[channel] += 1
        self._hub.publish(channel, said, event="bench")
        self.published += 1

    def _open(self, follower: Follower) -> None:
        self._poll.register(follower.connect(), selectors.EVENT_READ, follower)

    def _shut(self, follower: Follower) -> None:
        if follower.sock is not None:
            self._poll.unregister(follower.sock)
            follower.close()

    def _look(self, seconds: float) -> None:
        now = time.monotonic()
        while self._away and self._away[0][0] <= now:
            self._open(self._away.popleft()[1])
        for key, _ in self._poll.select(seconds):
            follower: Follower = key.data
            if not follower.take():
                self.score.counts["broken"] += 1
                self._shut(follower)
                self._away.append((now + BACK, follower))

    def _wait(self, condition: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not condition() and time.monotonic() < until:
            self._look(TURN)

    def _has_all(self) -> bool:
        return all(one.sheet.has(self._heads) for one in self._followers)
