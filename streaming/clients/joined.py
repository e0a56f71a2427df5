"""In how many rooms one may be, with all connections together."""

from __future__ import annotations

import threading
from collections import Counter

from ..errors import TooMuch
from .budgets import AGAIN, Holder, Refusals


class Joined:
    """Which connections of this process are in which rooms. From any thread.

    Args:
        most: In how many rooms the connections of one holder may be, each counted; None for any
            number.
        refusals: Where is counted what was refused.
    """

    def __init__(self, most: int | None, refusals: Refusals) -> None:
        self._most = most
        self._refusals = refusals
        self._lock = threading.Lock()
        self._there: dict[tuple[str, str], tuple[str, str]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def enter(self, holder: Holder, connection: str, room: str) -> bool:
        """Count a connection of ``holder`` in ``room``; False if it is already, or is not counted
        because nobody can tell it from others.

        Raises:
            TooMuch: If ``holder`` is in as many rooms as it may be.
        """
        key, most = holder.key, self._most
        if key is None or most is None:
            return False
        with self._lock:
            if (connection, room) in self._there:
                return False
            is_full = self._counts[key] >= most
            if not is_full:
                self._there[connection, room] = key
                self._counts[key] += 1
        if is_full:
            error = TooMuch(
                f"All connections of this {key[0]} together are in {most} rooms, as many as they "
                "may be in (STREAMING_ROOMS). Leave one.",
                AGAIN,
            )
            self._refusals.note("rooms", error, holder)
            raise error
        return True

    def leave(self, connection: str, room: str) -> None:
        """Take ``enter`` back. Idempotent."""
        with self._lock:
            key = self._there.pop((connection, room), None)
            if key is not None:
                self._counts[key] -= 1
                if not self._counts[key]:
                    del self._counts[key]
