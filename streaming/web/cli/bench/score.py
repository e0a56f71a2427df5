"""What clients got, held against what was published."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Score:
    """What all clients together got; times in seconds."""

    counts: Counter[str] = field(default_factory=Counter)
    """``delivered``, ``lost``, ``doubled``, ``gaps``, ``cuts`` and ``broken``."""
    waits: list[float] = field(default_factory=list)
    """From each publish to each arrival, of those that were connected."""
    replays: list[float] = field(default_factory=list)
    """From the beginning of each new connection until it had what it had missed."""


class Sheet:
    """What one client got of each channel, whose messages are numbered from 0."""

    __slots__ = ("_next", "_score")

    def __init__(self, channels: list[str], score: Score) -> None:
        self._next = dict.fromkeys(channels, 0)
        self._score = score

    def note(self, channel: str, number: int) -> None:
        """A message has come."""
        wanted = self._next[channel]
        if number < wanted:
            self._score.counts["doubled"] += 1
            return
        self._score.counts["delivered"] += 1
        self._score.counts["lost"] += number - wanted
        self._next[channel] = number + 1

    def has(self, heads: dict[str, int]) -> bool:
        """Whether it has all up to these numbers."""
        return all(number >= heads[channel] for channel, number in self._next.items())

    def close(self, heads: dict[str, int]) -> None:
        """Nothing comes any more: what it has not got is lost."""
        for channel, number in self._next.items():
            self._score.counts["lost"] += max(0, heads[channel] - number)


def quantile(values: list[float], share: float) -> float | None:
    """The value that ``share`` of all do not exceed; None of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None
