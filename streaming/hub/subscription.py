"""One subscriber: its cursor, how it waits, how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from ..bell import Bell
from ..errors import Lagged, LogUnavailable, StreamingError
from ..logs import Page
from ..message import Gap, Message, Position, channel_tag
from ..settings import Policy

if TYPE_CHECKING:
    from ..logs import Log
    from .pump import Format, Pump, Sink

State = Literal["lagging", "live", "closed"]

READ_MESSAGES = 256
READ_SIZE = 64 * 1024
"""One read of a subscription takes at most about so many messages, and bytes of text."""


class Subscription:
    """A cursor in one or several channels, made by ``Hub.subscribe``.

    ``lagging`` reads the log itself; ``live`` (one channel, at its head) is written to by the
    channel's pump; ``closed`` is over. Used by one thread, except ``end`` and ``bell``.
    """

    __slots__ = (
        "_leave",
        "_log",
        "_places",
        "_policies",
        "_pumps",
        "_reading",
        "_sent",
        "_sink",
        "_told",
        "bell",
        "reason",
        "state",
    )

    def __init__(
        self,
        log: Log,
        pumps: Mapping[str, Pump],
        *,
        bell: Bell,
        policies: Mapping[str, Policy],
        leave: Callable[[Mapping[str, Pump], Subscription], None],
    ) -> None:
        self.bell = bell
        self.state: State = "lagging"
        self._policies = policies
        self.reason: StreamingError | None = None
        self._log = log
        self._pumps = pumps
        self._leave = leave
        self._reading = False
        self._places: dict[str, Position] = {}
        self._told: dict[str, Position] | None = None  # of several channels only
        self._sent: Position | None = None
        self._sink: tuple[Format, Sink] | None = None

    def start(self, places: Mapping[str, Position]) -> None:
        """Stand at ``places``; called once by the hub."""
        self._places = dict(places)
        self._told = dict(places) if len(places) > 1 else None

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels it follows."""
        return tuple(self._pumps)

    @property
    def sink(self) -> tuple[Format, Sink] | None:
        """Where the pump writes while the subscription is live."""
        return self._sink

    @property
    def id(self) -> str:
        """The cursor as a client is told it: resumes exactly behind what was stepped over."""
        if self.state == "live":
            return print_cursor(self._heads())
        return print_cursor(self._told or self._places)

    @property
    def offered(self) -> float:
        """When the pump last wrote to the live set (``time.monotonic``)."""
        return max(pump.offered for pump in self._pumps.values())

    def read(self) -> list[Message | Gap]:
        """What the log holds behind the cursor, a page of each channel; moves the cursor.

        Never blocks for new messages. A log that cannot be reached gives nothing now; the pump
        rings when it is back.

        Raises:
            StreamingError: The reason, once the subscription was ended.
        """
        if self.reason is not None:
            raise self.reason
        items: list[Message | Gap] = []
        for channel, place in self._places.items():
            try:
                page = self._page(channel, place)
            except LogUnavailable:
                self._pumps[channel].retry()
                continue
            if page.gap is not None:
                items.append(page.gap)
            items.extend(page.messages)
            self._places[channel] = page.position
        self._reading = True
        return items

    def read_on(self) -> list[Message | Gap]:
        """``read``, without asking the log where the pump stands at the same place.

        What the pump has not seen yet it will ring for.

        Raises:
            StreamingError: The reason, once the subscription was ended.
        """
        if not self.is_at_head:
            return self.read()
        self._reading = True
        return []

    def _page(self, channel: str, place: Position) -> Page:
        policy = self._policies.get(channel, "replay")
        if policy == "latest":
            newest = self._log.tail(channel, 1)
            if newest.epoch == place.epoch and newest.offset > place.offset:
                place = newest
        page = self._log.read(channel, place, limit=READ_MESSAGES, size=READ_SIZE)
        if page.gap is not None and policy == "latest":
            newest = self._log.tail(channel, 1)
            after = self._log.read(channel, newest, limit=READ_MESSAGES, size=READ_SIZE)
            return Page(after.messages, after.position, page.gap)
        if page.gap is not None and policy == "disconnect" and self._reading:
            self.reason = Lagged(f"Too slow for channel {channel!r}. Resume with the last id.")
            raise self.reason
        return page

    def take(self, timeout: float | None = None) -> list[Message | Gap]:
        """``read``, but wait for something; nothing after ``timeout`` seconds or a bare ring.

        Raises:
            StreamingError: The reason, once the subscription was ended.
        """
        items = self.read()
        if not items and self.bell.wait(timeout):
            items = self.read()
        return items

    def mark_sent(self) -> None:
        """Say that all that was read is on its way to the client."""
        (self._sent,) = self._places.values()

    def is_past(self, place: Position) -> bool:
        """Whether the client was sent the message at ``place``, or never will be."""
        ((channel, _),) = self._places.items()
        sent = self._pumps[channel].written if self.state == "live" else self._sent
        return sent is not None and (sent.epoch != place.epoch or sent.offset >= place.offset)

    def step(self, item: Message | Gap) -> str:
        """Move the told cursor over ``item``, which ``read`` gave, and return it printed."""
        if isinstance(item, Message):
            place = item.id
        elif item.oldest is not None:  # what the gap left over is still to come
            place = Position(item.oldest.epoch, item.oldest.offset - 1)
        else:
            place = self._places[item.channel]
        if self._told is None:
            return str(place)
        self._told[item.channel] = place
        return print_cursor(self._told)

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, maybe by another thread just now."""
        return self.state == "closed"

    @property
    def is_at_head(self) -> bool:
        """Whether ``park`` would take it now."""
        if len(self._places) > 1 or self.reason is not None:
            return False
        return all(self._pumps[channel].position == p for channel, p in self._places.items())

    def park(self, form: Format, sink: Sink) -> bool:
        """Let the pump write to ``sink`` from here on; False if not at the pump's position.

        Only with one channel, and only when pump and caller share one operating system thread
        (greenlets do), because only then can no write be torn by another.
        """
        if len(self._places) > 1 or self.reason is not None:
            return False
        ((channel, place),) = self._places.items()
        if not self._pumps[channel].park(self, place, form, sink):
            return False
        self._sink = (form, sink)
        return True

    def lag(self, place: Position) -> None:
        """Fall out of the live set at ``place``; called by the pump."""
        ((channel, _),) = self._places.items()
        self._places[channel] = place
        self._sink = None

    def end(self, reason: StreamingError) -> None:
        """Have the subscriber's own thread raise ``reason`` at its next read. From any thread."""
        if self.reason is None:
            self.reason = reason
        self.bell.ring()

    def close(self) -> None:
        """Leave all pumps; nothing is written to the sink any more. Idempotent."""
        if self.state == "closed":
            return
        if self.state == "live":
            self._places = self._heads()
        self._leave(self._pumps, self)
        self._sink = None
        self.state = "closed"

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _heads(self) -> dict[str, Position]:
        return {c: self._pumps[c].position or place for c, place in self._places.items()}


def print_cursor(places: Mapping[str, Position]) -> str:
    """The cursor that stands at ``places``, as clients are told it; see ``message.Cursor``."""
    if len(places) == 1:
        (place,) = places.values()
        return str(place)
    return ".".join(f"{channel_tag(channel)}_{place}" for channel, place in places.items())
