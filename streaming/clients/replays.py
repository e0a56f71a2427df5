"""How much of the past one may be sent in a time. Nothing live waits for it.

It is paid for afterwards: whoever owes nothing gets all that it asks for, and who does owe gets no
more of the past until that is paid.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from ..errors import TooMuch
from .budgets import Holder, Refusals
from .rates import Buckets, Rate

AHEAD = 60.0
"""Seconds for which the past may be sent at once."""

AROUND = 128
"""Bytes that are counted for what is around the text of a message."""

LONGEST = 30.0
"""Seconds after which a client may ask again, at most."""


class Replays:
    """What all are sent of the past. From any thread.

    Args:
        a_second: How many bytes each may be sent in a second; None for any number.
        refusals: Where is counted what was refused.
    """

    def __init__(
        self,
        a_second: int | None,
        refusals: Refusals,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._a_second = a_second
        self._refusals = refusals
        self._buckets = Buckets(Rate(a_second or 1, AHEAD), clock=clock)

    def account(self, holder: Holder, connection: str | None = None) -> Account | None:
        """The account of ``holder``; of its ``connection``, if it cannot be told from others. None
        if nobody keeps one."""
        key: Hashable = holder.key
        if key is None and not holder.is_own:
            key = connection
        return Account(self, holder, key) if key is not None and self._a_second else None

    def check(self, holder: Holder, key: Hashable) -> None:
        """See ``Account.check``."""
        if wait := self._buckets.wait(key):
            error = TooMuch(
                f"More of the past was asked for than {self._a_second} bytes a second "
                "(STREAMING_REPLAY). Try again in a moment, or without a past.",
                min(wait, LONGEST),
            )
            self._refusals.note("replay", error, holder)
            raise error

    def charge(self, key: Hashable, size: int) -> None:
        """See ``Account.charge``."""
        self._buckets.charge(key, size)


class Account:
    """What one is sent of the past; made by ``Replays.account``."""

    __slots__ = ("_holder", "_key", "_replays")

    def __init__(self, replays: Replays, holder: Holder, key: Hashable) -> None:
        self._replays = replays
        self._holder = holder
        self._key = key

    def check(self) -> None:
        """Return if it owes nothing.

        Raises:
            TooMuch: If it does.
        """
        self._replays.check(self._holder, self._key)

    def charge(self, messages: int, size: int) -> None:
        """Count so many messages with so many bytes of text."""
        self._replays.charge(self._key, size + messages * AROUND)
