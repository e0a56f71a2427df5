"""What one may have at once: whom a connection counts for, and how many they have."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from ..errors import StreamingError, TooManyClients, TooMuch

AGAIN = 5.0
"""Seconds after which who has too many connections may ask for another one."""

QUIET = 60.0
"""Seconds after a refusal that was logged until another one for the same reason is."""

_log = logging.getLogger(__name__)


class Holder(NamedTuple):
    """Whom something counts for."""

    identity: str | None = None
    """The id of an identity; None for a stranger."""
    address: str | None = None
    """The address; None where nobody can tell it from others."""
    is_own: bool = False
    """Whether it is a program of this machine, for which no proxy speaks."""

    @property
    def key(self) -> tuple[str, str] | None:
        """Who counts for what is done in a time: an identity, or the strangers of an address. None
        where nobody can tell."""
        if self.identity is not None:
            return "identity", self.identity
        return None if self.address is None else ("address", self.address)


NOBODY = Holder()


class Places:
    """How many connections there are, of all and of each holder. For one thread at a time.

    Args:
        most: How many there may be; None for any number, here and below.
        per_identity: How many of one identity.
        per_address: How many of one address.
    """

    def __init__(
        self,
        most: int | None = None,
        per_identity: int | None = None,
        per_address: int | None = None,
    ) -> None:
        self.taken = 0
        self._most = most
        self._limits = {"identity": per_identity, "address": per_address}
        self._counts: dict[tuple[str, str], int] = {}

    def refusal(self, holder: Holder) -> tuple[str, StreamingError] | None:
        """Why ``holder`` may have no other place, the setting and the error; None if it may."""
        if self._most is not None and self.taken >= self._most:
            return "clients", TooManyClients(
                f"This worker has {self.taken} clients, all that it takes "
                "(STREAMING_CLIENTS). Try again in a moment."
            )
        for kind, name in self._counted(holder):
            if (count := self._counts.get((kind, name), 0)) >= (self._limits[kind] or 0):
                return f"clients_per_{kind}", TooMuch(
                    f"There are {count} connections of this {kind}, all that it may have here "
                    f"(STREAMING_CLIENTS_PER_{kind.upper()}). Try again in a moment.",
                    AGAIN,
                )
        return None

    def take(self, holder: Holder) -> None:
        """Count another one, whatever there is; ``give_back`` it once."""
        self.taken += 1
        for key in self._counted(holder):
            self._counts[key] = self._counts.get(key, 0) + 1

    def give_back(self, holder: Holder) -> None:
        """Count one less."""
        self.taken -= 1
        for key in self._counted(holder):
            if (left := self._counts[key] - 1) > 0:
                self._counts[key] = left
            else:
                del self._counts[key]

    def _counted(self, holder: Holder) -> list[tuple[str, str]]:
        keys = (("identity", holder.identity), ("address", holder.address))
        return [(kind, name) for kind, name in keys if name and self._limits[kind] is not None]


class Refusals:
    """How often somebody was refused, by reason. From any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._counts: dict[str, int] = {}
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}

    def read(self) -> dict[str, int]:
        """By the setting that refused, as the fields of ``Settings`` are called; never by whom."""
        with self._lock:
            return dict(self._counts)

    def note(self, reason: str, error: StreamingError, holder: Holder) -> None:
        """Count one more. A budget that is used up is said in the log, once a minute."""
        now = self._clock()
        with self._lock:
            self._counts[reason] = self._counts.get(reason, 0) + 1
            is_news = now - self._said.get(reason, float("-inf")) >= QUIET
            if is_news:
                self._said[reason] = now
        if is_news and isinstance(error, TooMuch):
            _log.warning("Refused %s: %s", holder.identity or holder.address, error)
