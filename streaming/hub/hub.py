"""The process's front door: publish, subscribe, close. Knows neither Flask nor sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from ..bell import Bell
from ..errors import HubClosed, InvalidMessage, InvalidRequest, LogUnavailable, TooLarge
from ..logs import Log
from ..message import Cursor, Message, Position, text_size
from ..names import END, Patterns, check_channel, check_event, owned_key
from ..own import Own
from ..settings import Policy
from ..threads import from_any_thread
from .channel import Channel
from .dispatcher import Dispatcher
from .pace import Pace
from .subscription import Replayed, Subscription
from .tallies import Tallies

MAX_CHANNELS = 32
"""Channels that one subscription may follow."""


class _Engine(NamedTuple):
    """What each process has of its own."""

    dispatcher: Dispatcher
    pace: Pace
    closed: threading.Event
    tallies: Tallies


class Hub:
    """Channels of one log, and who follows them.

    Args:
        log: Where the messages live.
        message_size: Bytes of text (UTF-8) that one message may hold.
        policies: What happens to subscribers that fall behind, by channel or pattern
            (``names.Patterns``); ``replay`` otherwise.
    """

    def __init__(
        self,
        log: Log,
        *,
        message_size: int = 1024 * 1024,
        policies: Mapping[str, Policy] | None = None,
    ) -> None:
        self.log = log
        self.message_size = message_size
        """Bytes of text (UTF-8) that one message may hold."""
        self._policies = Patterns(policies)
        self._engine = Own(self._begin)
        self._watched: list[tuple[str, Callable[[str], None]]] = []

    @property
    def closed(self) -> threading.Event:
        """Set once ``close`` was called."""
        return self._engine().closed

    @from_any_thread
    def publish(
        self,
        channel: str,
        data: str,
        *,
        event: str = "message",
        key: str | None = None,
        owner: str | None = None,
        sender: str | None = None,
        traceparent: str | None = None,
    ) -> Message:
        """Append a message to ``channel`` and return it with its id.

        Returns once the log has it; delivery happens behind the caller's back. Waits a moment where
        subscribers of this process that keep up would fall out of what is held. From any thread.
        With ``key``, repeating the call within the window returns the first message again. Keys of
        one ``owner`` are not those of another, nor the application's (None). ``traceparent`` is the
        span in which it is published.

        Raises:
            InvalidMessage: If the channel or event name or the key is not well formed, or ``data``
                is not text.
            TooLarge: If ``data`` exceeds the size limit.
            LogUnavailable: If the log cannot be reached; see ``Log.append``.
        """
        check_channel(channel)
        check_event(event)
        self.check_data(data)
        if key is not None:
            key = owned_key(key, owner)
        return self._append(
            channel, data, event=event, key=key, sender=sender, traceparent=traceparent
        )

    @from_any_thread
    def end(self, channel: str, data: str = "{}") -> Message:
        """End ``channel`` for good, and return its last message, called ``end``.

        Whoever follows it gets all there is, then this, then the end of the stream; whoever comes
        later, too, for as long as the channel is kept.

        Raises:
            ChannelEnded: If it has ended already.
            InvalidMessage: If no channel is called so, or ``data`` is not text.
            TooLarge: If ``data`` exceeds the size limit.
            LogUnavailable: If the log cannot be reached; see ``Log.append``.
        """
        check_channel(channel)
        self.check_data(data)
        return self._append(channel, data, event=END, last=True)

    def _append(
        self,
        channel: str,
        data: str,
        *,
        event: str,
        key: str | None = None,
        sender: str | None = None,
        last: bool = False,
        traceparent: str | None = None,
    ) -> Message:
        engine = self._engine()
        tallies, began = engine.tallies, time.perf_counter()
        try:
            message = self.log.append(
                channel,
                data,
                event=event,
                key=key,
                sender=sender,
                last=last,
                traceparent=traceparent,
            )
        except LogUnavailable:
            tallies.append_failed.add()
            raise
        tallies.append.add(time.perf_counter() - began)
        engine.pace.keep(message)
        return message

    @from_any_thread
    def prune(self, channel: str) -> int:
        """Let go of all messages that ``channel`` holds, and return how many these were.

        For good, for all processes. What is on its way to clients arrives; who comes for it later
        is told of a gap. The channel goes on, an ended one stays ended.

        Raises:
            InvalidMessage: If no channel is called so.
            LogUnavailable: If the log cannot be reached; some of it may be gone.
        """
        check_channel(channel)
        return self.log.prune(channel)

    @from_any_thread
    def subscribe(
        self,
        channels: str | Iterable[str],
        *,
        after: str | None = None,
        history: int = 0,
        bell: Bell | None = None,
        replayed: Replayed | None = None,
    ) -> Subscription:
        """A subscription to ``channels``, to be closed by the caller (it is a context manager).

        Args:
            channels: One name or several.
            after: The id the client saw last; it gets everything behind it. ``start``: everything
                there ever was, or a gap where the first is no longer held. None: the head.
            history: How many held messages to begin with where ``after`` says nothing.
            bell: Rung when there is something to read; one of its own if None.
            replayed: Told what is read until it is at the head for the first time.

        Raises:
            InvalidMessage: If a channel name is not well formed.
            InvalidRequest: If there are no channels or more than 32.
            InvalidCursor: If no log ever gave out ``after``.
            HubClosed: If the hub is closed.
            TooManyClients: If no thread can be started to serve it.
            LogUnavailable: If the log cannot be reached.
        """
        names = check_channels(channels)
        cursor = None if after is None else Cursor.parse(after)
        subscription = Subscription(
            self.log,
            self._dispatcher,
            bell=bell or Bell(),
            policies=self._policies,
            replayed=replayed,
        )
        try:
            if self.closed.is_set():
                raise HubClosed()
            joined = self._dispatcher.join(subscription, names)
            self._start(subscription, joined, cursor, history)
            for prefix, seen in self._watched:
                for name in filter(lambda name: name.startswith(prefix), names):
                    seen(name)
            if self.closed.is_set():  # since we asked: ``close`` may not have seen us
                subscription.end(HubClosed())
        except BaseException:
            subscription.close()
            raise
        return subscription

    @from_any_thread
    def close(self) -> None:
        """End every subscription with ``HubClosed`` and refuse new ones. Idempotent.

        Does not wait: subscribers end in their own threads. Publishing stays possible.
        """
        self.closed.set()
        for subscription in self._dispatcher.subscriptions():
            subscription.end(HubClosed())

    def watch(self, prefix: str, seen: Callable[[str], None]) -> None:
        """Call ``seen`` with each channel that begins with ``prefix`` and gets a subscriber."""
        self._watched.append((prefix, seen))

    @from_any_thread
    def start_of(self, channel: str) -> Position:
        """The position before everything there ever was in ``channel``; a mark if there is nothing.

        Raises:
            LogUnavailable: If the log cannot be reached.
        """
        head = self.log.tail(channel)
        return head if head.is_mark else Position(head.epoch, 0)

    def subscribers(self, channel: str) -> int:
        """How many subscriptions of this process follow ``channel``."""
        found = self._dispatcher.channel(channel)
        return 0 if found is None else len(found)

    @property
    def published(self) -> int:
        """How many messages this process has published."""
        return self.tallies.append.count

    @property
    def tallies(self) -> Tallies:
        """What this process has counted."""
        return self._engine().tallies

    @property
    def followed(self) -> int:
        """How many channels subscriptions of this process follow."""
        return len(self._dispatcher)

    def _begin(self) -> _Engine:
        tallies = Tallies()
        dispatcher = Dispatcher(self.log, tallies)
        pace = Pace(dispatcher, self.log.retention)
        return _Engine(dispatcher, pace, threading.Event(), tallies)

    @property
    def _dispatcher(self) -> Dispatcher:
        return self._engine().dispatcher

    def _start(
        self,
        subscription: Subscription,
        joined: Mapping[str, Channel],
        cursor: Cursor | None,
        history: int,
    ) -> None:
        """Let it stand where the client says, or else where the log does.

        The id of a single channel says nothing about others, so in a wider subscription it counts
        for the channel it belongs to; if it belongs to none, that past is lost in all. A mark may
        belong to any of which the log can tell that it had no messages then.
        """
        single = cursor.single if cursor and len(joined) > 1 else None
        told: dict[str, Position] = {}
        heads: dict[str, Position] = {}
        for name, channel in joined.items():
            self._dispatcher.follow(channel)
            place = None if cursor is None or single else cursor.get(name)
            if place is not None:
                told[name] = place
            if place is None or channel.position is None:
                heads[name] = head = self.log.tail(name)
                self._dispatcher.settle(channel, head, ended=self._has_ended(name, head))
            if cursor is not None and cursor.is_start:
                heads[name] = self.start_of(name)
            elif place is None and history:
                heads[name] = self.log.tail(name, history)
        if single is not None:
            known = [] if single.is_mark else [n for n in joined if heads[n].epoch == single.epoch]
            known = known or [name for name in joined if self._knows(name, single)]
            told = dict.fromkeys(known or joined, single)
        subscription.start({name: told.get(name) or heads[name] for name in joined}, told)

    def _has_ended(self, name: str, head: Position) -> bool:
        """Whether nothing comes behind ``head``, where nobody of this process has asked before."""
        return not head.is_mark and self.log.read(name, head, limit=1, size=1).ended

    def _knows(self, name: str, place: Position) -> bool:
        return self.log.read(name, place, limit=1, size=1).gap is None

    def check_data(self, data: str) -> None:
        """Return if a message can hold ``data``.

        Raises:
            InvalidMessage: If it is not text.
            TooLarge: If it exceeds the size limit.
        """
        if not isinstance(data, str):
            raise InvalidMessage(f"A message is text, not {type(data).__name__}; use json.dumps.")
        try:
            size = text_size(data)
        except UnicodeEncodeError as error:
            raise InvalidMessage("The text holds half of a surrogate pair.") from error
        if size > self.message_size:
            raise TooLarge(
                f"The text has {size} bytes; a message holds at most {self.message_size} "
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
