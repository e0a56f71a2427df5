"""The process's front door: publish, subscribe, close. Knows neither Flask nor sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from ..bell import Bell
from ..errors import HubClosed, InvalidMessage, InvalidRequest, TooLarge
from ..logs import Log
from ..message import Cursor, Message, Position, check_channel, check_event, check_key
from ..settings import Policy
from .pump import Pump
from .subscription import Subscription

MAX_CHANNELS = 32
"""Channels that one subscription may follow."""


class Hub:
    """Channels of one log, and the pumps of those that somebody follows.

    Args:
        log: Where the messages live.
        message_size: Bytes of text (UTF-8) that one message may hold.
        policies: What happens to subscribers that fall behind, by channel; ``replay`` otherwise.
    """

    def __init__(
        self,
        log: Log,
        *,
        message_size: int = 1024 * 1024,
        policies: Mapping[str, Policy] | None = None,
    ) -> None:
        self.log = log
        self.closed = threading.Event()
        """Set once ``close`` was called."""
        self._message_size = message_size
        self._policies = dict(policies or {})
        self._lock = threading.Lock()
        self._pumps: dict[str, Pump] = {}

    def publish(
        self,
        channel: str,
        data: str,
        *,
        event: str = "message",
        key: str | None = None,
        sender: str | None = None,
    ) -> Message:
        """Append a message to ``channel`` and return it with its id.

        Returns once the log has it; delivery happens behind the caller's back. From any thread.
        With ``key``, repeating the call within the window returns the first message again.

        Raises:
            InvalidMessage: If the channel or event name or the key is not well formed, or ``data``
                is not text.
            TooLarge: If ``data`` exceeds the size limit.
            LogUnavailable: If the log cannot be reached; see ``Log.append``.
        """
        check_channel(channel)
        check_event(event)
        self._check_data(data)
        if key is not None:
            check_key(key)
        return self.log.append(channel, data, event=event, key=key, sender=sender)

    def subscribe(
        self,
        channels: str | Iterable[str],
        *,
        after: str | None = None,
        history: int = 0,
        bell: Bell | None = None,
    ) -> Subscription:
        """A subscription to ``channels``, to be closed by the caller (it is a context manager).

        Args:
            channels: One name or several.
            after: The id the client saw last; it gets everything behind it. None: the head.
            history: How many held messages to begin with where ``after`` says nothing.
            bell: Rung when there is something to read; one of its own if None.

        Raises:
            InvalidMessage: If a channel name is not well formed.
            InvalidRequest: If there are no channels or more than 32.
            InvalidCursor: If no log ever gave out ``after``.
            HubClosed: If the hub is closed.
            LogUnavailable: If the log cannot be reached.
        """
        names = check_channels(channels)
        cursor = None if after is None else Cursor.parse(after)
        pumps: dict[str, Pump] = {}
        fresh: list[Pump] = []  # a thread's start lets others run: not under the lock
        subscription = Subscription(
            self.log, pumps, bell=bell or Bell(), policies=self._policies, leave=self._leave
        )
        try:
            try:
                with self._lock:
                    if self.closed.is_set():
                        raise HubClosed("The server is restarting. Try again in a moment.")
                    for name in names:
                        pumps[name] = self._pump(name, fresh)
                        pumps[name].join(subscription)
            finally:
                for pump in fresh:
                    pump.start()
            subscription.start(self._places(names, cursor, history))
        except BaseException:
            subscription.close()
            raise
        return subscription

    def close(self) -> None:
        """End every subscription with ``HubClosed`` and refuse new ones. Idempotent.

        Does not wait: subscribers end in their own threads. Publishing stays possible.
        """
        with self._lock:
            self.closed.set()
            pumps = tuple(self._pumps.values())
        for pump in pumps:
            for subscription in pump.subscriptions():
                subscription.end(HubClosed("The server is restarting. Come back and resume."))

    def subscribers(self, channel: str) -> int:
        """How many subscriptions of this process follow ``channel``."""
        with self._lock:
            return len(self._pumps.get(channel, ()))

    def _pump(self, name: str, fresh: list[Pump]) -> Pump:
        pump = self._pumps.get(name)
        if pump is None or pump.is_broken:
            pump = self._pumps[name] = Pump(name, self.log)
            fresh.append(pump)
        return pump

    def _leave(self, pumps: Mapping[str, Pump], subscription: Subscription) -> None:
        with self._lock:
            for name, pump in pumps.items():
                pump.leave(subscription)
                if not len(pump):
                    if self._pumps.get(name) is pump:
                        del self._pumps[name]
                    pump.stop()

    def _places(
        self, names: tuple[str, ...], cursor: Cursor | None, history: int
    ) -> dict[str, Position]:
        """Where to start in each channel.

        The id of a single channel says nothing about the others, so in a wider subscription it
        counts for the channel whose epoch it carries; if none does, that past is lost in all.
        """
        heads = {name: self.log.tail(name, history) for name in names}
        if cursor is None:
            return heads
        if cursor.single and len(names) > 1:
            known = {
                n: cursor.single for n, head in heads.items() if head.epoch == cursor.single.epoch
            }
            return heads | (known or dict.fromkeys(names, cursor.single))
        return {name: cursor.get(name) or head for name, head in heads.items()}

    def _check_data(self, data: str) -> None:
        if not isinstance(data, str):
            raise InvalidMessage(f"A message is text, not {type(data).__name__}; use json.dumps.")
        try:
            size = len(data) if data.isascii() else len(data.encode())
        except UnicodeEncodeError as error:
            raise InvalidMessage("The text holds half of a surrogate pair.") from error
        if size > self._message_size:
            raise TooLarge(
                f"The text has {size} bytes; a message holds at most {self._message_size} "
                "(STREAMING_MESSAGE_SIZE)."
            )


def check_channels(channels: str | Iterable[str]) -> tuple[str, ...]:
    """The channel names in order and without repetitions.

    Raises:
        InvalidMessage: If a name is not well formed.
        InvalidRequest: If there are none or more than 32.
    """
    names = (channels,) if isinstance(channels, str) else tuple(dict.fromkeys(channels))
    if not 0 < len(names) <= MAX_CHANNELS:
        raise InvalidRequest(
            f"{len(names)} channels asked for; name 1 to {MAX_CHANNELS} (?channel=a&channel=b)."
        )
    for name in names:
        check_channel(name)
    return names
