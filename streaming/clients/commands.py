"""How much one may ask of us in a time: over one connection, over all that it has together, and how
much all may put into one channel."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..errors import ProtocolError, TooMuch
from .budgets import Holder, Refusals
from .rates import Buckets, Rate, take

AHEAD = 10.0
"""Seconds for which commands, or the messages of a channel, may come at once."""

TOGETHER = 10
"""How many times as much as a connection an identity may have, or the strangers of an address."""

PATIENCE = 0.1
"""For which part of the allowed number a client is told that it was too much; then it is cut."""


class Commands:
    """What all may ask. From any thread.

    Args:
        a_second: How many commands a connection may send; None for any number.
        refusals: Where is counted what was refused.
        into_channel: How many messages all of them together may publish into one channel in a
            second; None for any number.
    """

    def __init__(
        self,
        a_second: float | None,
        refusals: Refusals,
        *,
        into_channel: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rate = None if a_second is None else Rate(a_second, AHEAD)
        self.clock = clock
        self._refusals = refusals
        self._together: Buckets | None = None
        if a_second is not None:
            self._together = Buckets(Rate(a_second * TOGETHER, AHEAD), clock=clock)
        self._into_channel = into_channel
        self._channels = Buckets(Rate(into_channel or 1.0, AHEAD), clock=clock)

    def check(self, holder: Holder) -> None:
        """Count a command of ``holder`` that came over no connection of ours, and return.

        Raises:
            TooMuch: If it was one too many.
        """
        if wait := self.wait(holder):
            raise self.refuse(wait, holder)

    def check_message(self, channel: str, holder: Holder) -> None:
        """Count what ``holder`` is about to publish into ``channel``, and return.

        Raises:
            TooMuch: If all clients together have published as much as fits. It is not the fault of
                who hears it: nobody is to be cut for that.
        """
        most = self._into_channel
        if most is None or (holder.is_own and holder.key is None):
            return
        if wait := self._channels.take(channel):
            error = TooMuch(
                f"All clients together have published more than {most:g} messages a second into "
                f"channel {channel!r:.130} (STREAMING_CHANNEL_MESSAGES). Try again in a moment.",
                wait,
            )
            self._refusals.note("channel_messages", error, holder)
            raise error

    def wait(self, holder: Holder) -> float:
        """Count a command among all of ``holder``; 0, or the seconds until there is room for it.

        Who cannot be told from others is not counted.
        """
        key = holder.key
        return 0.0 if key is None or self._together is None else self._together.take(key)

    def refuse(self, wait: float, holder: Holder) -> TooMuch:
        """Note that a command is refused, and return the error."""
        most = self.rate.a_second if self.rate else 0.0
        error = TooMuch(
            f"More than {most:g} commands a second, or {TOGETHER * most:g} over all connections of "
            "one identity or address (STREAMING_COMMANDS). Slow down.",
            wait,
        )
        self._refusals.note("commands", error, holder)
        return error


class Allowance:
    """What one connection may ask. For one thread at a time.

    Args:
        commands: What all may ask.
        holder: Whose it is. A program of this machine alone has no number of its own.
    """

    __slots__ = ("_commands", "_full_at", "_holder", "_patient_at")

    def __init__(self, commands: Commands, holder: Holder) -> None:
        self._commands = commands
        self._holder = holder
        self._full_at = self._patient_at = 0.0

    def ask(self) -> TooMuch | None:
        """Count a command; the error to answer with, if it was one too many.

        Raises:
            ProtocolError: If its client goes on although it was told so (1008).
        """
        commands = self._commands
        rate = commands.rate
        if rate is None:
            return None
        wait = 0.0
        if not self._holder.is_own:
            self._full_at, wait = take(self._full_at, commands.clock(), rate)
        wait = wait or commands.wait(self._holder)
        if not wait:
            return None
        error = commands.refuse(wait, self._holder)
        patience = Rate(rate.a_second * PATIENCE, AHEAD)
        self._patient_at, over = take(self._patient_at, commands.clock(), patience)
        if over:
            raise ProtocolError("Too many commands, although it was said.", 1008)
        return error
