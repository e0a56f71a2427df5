"""What one may have at once: whom a connection counts for, and how many they have."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from ..errors import StreamingError, TooManyClients, TooMuch
from ..logs import Log

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
        for kind, name, most in _counted(holder, self._limits):
            if (count := self._counts.get((kind, name), 0)) >= most:
                return _too_many(kind, count)
        return None

    def take(self, holder: Holder) -> None:
        """Count another one, whatever there is; ``give_back`` it once."""
        self.taken += 1
        for kind, name, _ in _counted(holder, self._limits):
            self._counts[kind, name] = self._counts.get((kind, name), 0) + 1

    def give_back(self, holder: Holder) -> None:
        """Count one less."""
        self.taken -= 1
        for kind, name, _ in _counted(holder, self._limits):
            if (left := self._counts[kind, name] - 1) > 0:
                self._counts[kind, name] = left
            else:
                del self._counts[kind, name]


class Everywhere:
    """How many connections each holder has in all processes that the log counts together; see
    ``Log.take_place``. From any thread.

    Args:
        per_identity: How many there may be of one identity; None for any number.
        per_address: How many of one address.
    """

    def __init__(
        self,
        log: Log | None = None,
        per_identity: int | None = None,
        per_address: int | None = None,
    ) -> None:
        self._log = log
        self._limits = {"identity": per_identity, "address": per_address}

    def take(self, holder: Holder, before: Holder = NOBODY) -> tuple[str, StreamingError] | None:
        """Count another one; or say why not, as ``Places.refusal``. ``before`` it has counted for:
        what is the same of both is counted already."""
        taken: list[str] = []
        try:
            for kind, name, most in self._new(holder, before):
                if not self._log or self._log.take_place(f"{kind}:{name}", most):
                    taken.append(f"{kind}:{name}")
                else:
                    return _too_many(kind, most)
            taken.clear()
        finally:
            for place in taken:
                self._give(place)
        return None

    def give_back(self, holder: Holder, after: Holder = NOBODY) -> None:
        """Count one less, but for what is the same of ``after``. Does not wait."""
        for kind, name, _ in self._new(holder, after):
            self._give(f"{kind}:{name}")

    def _new(self, holder: Holder, known: Holder) -> list[tuple[str, str, int]]:
        has = _counted(known, self._limits)
        return [key for key in _counted(holder, self._limits) if key not in has]

    def _give(self, place: str) -> None:
        if self._log:
            self._log.give_place(place)


def _counted(holder: Holder, limits: dict[str, int | None]) -> list[tuple[str, str, int]]:
    """What is counted of a holder, and how many there may be."""
    keys = (("identity", holder.identity), ("address", holder.address))
    return [
        (kind, name, most) for kind, name in keys if name and (most := limits[kind]) is not None
    ]


def _too_many(kind: str, count: int) -> tuple[str, StreamingError]:
    return f"clients_per_{kind}", TooMuch(
        f"There are {count} connections of this {kind}, all that it may have here "
        f"(STREAMING_CLIENTS_PER_{kind.upper()}). Try again in a moment.",
        AGAIN,
    )


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
