"""How much of its past a channel keeps, in the units of the scripts."""

from __future__ import annotations

from typing import NamedTuple, Self

from ..contract import Retention

MARGIN = 120_000
"""Milliseconds that a channel outlives its last message."""


class Bounds(NamedTuple):
    """What a channel keeps, as the scripts are told it: ms, where 0 is for ever."""

    keep: int
    messages: int
    size: int
    age: int
    end_keep: int
    after_end: int
    window: int

    @classmethod
    def of(cls, keep: Retention) -> Self:
        """Those of a retention."""
        age, window = _ms(keep.age), _ms(keep.key_window)
        after_end = _ms(keep.after_end)
        return cls(
            max(age, window) + MARGIN if age else 0,
            keep.messages,
            keep.size,
            age,
            after_end + MARGIN if after_end else 0,
            after_end,
            window,
        )

    @property
    def least(self) -> int:
        """Ms that a channel lives at least."""
        return min(filter(None, (self.keep, self.end_keep)), default=0)


def _ms(seconds: float | None) -> int:
    return 0 if seconds is None else max(int(seconds * 1000), 1)
