"""One subscriber: its cursor, how it waits, how it ends.

    from       to        who moves it, and when
    lagging -> live      ``park``: it stands where the dispatcher stands, and its socket is free
    live    -> lagging   ``fall``: the dispatcher could not write all to its socket, or met a gap
    lagging -> closed    ``close``
    live    -> closed    ``close``

Nothing else moves it; ``closed`` is for ever. ``end`` does not: it leaves a reason, which the
subscriber's own thread meets at its next read, and closes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Protocol

from ..bell import Bell
from ..errors import HubClosed, Lagged, LogUnavailable, StreamEnded, StreamingError
from ..logs import Log, Page
from ..message import Gap, Message, Position, print_place
from ..names import Patterns
from ..settings import Policy
from ..threads import from_any_thread
from .encodings import Encodings
from .sink import Format, Seat, Sink

READ_MESSAGES = 256
READ_SIZE = 64 * 1024
"""One read of a subscription takes at most about so many messages, and bytes of text."""


Replayed = Callable[[int, int], None]
"""Is told how many messages of the past were read, and with how many bytes of text."""


class Reading(Enum):
    """Who reads the log for a subscription."""

    LAGGING = "lagging"
    """It reads by itself: it joins, resumes, or its client is slow."""
    LIVE = "live"
    """The dispatcher writes to its socket; it stands where the dispatcher stands."""
    CLOSED = "closed"
    """Nobody any more."""


_NONE: frozenset[str] = frozenset()

_NO_MESSAGES = 0, 0

_MOVES = {
    (Reading.LAGGING, Reading.LIVE),
    (Reading.LIVE, Reading.LAGGING),
    (Reading.LAGGING, Reading.CLOSED),
    (Reading.LIVE, Reading.CLOSED),
}


class Head(Protocol):
    """Where the dispatcher stands in a channel."""

    position: Position | None
    """The head as far as it was offered; None until the first subscriber has asked the log."""

    written: Position | None
    """Up to where all that is live has been written to, or found to lag."""

    ended: bool
    """Whether the channel has ended, and nothing comes behind ``position``."""

    offered: float
    """When it last wrote to those who are live (``time.monotonic``)."""

    passed: tuple[int, int]
    """Messages that it has written, or is writing, to those who are live; bytes of their text."""


class Engine(Protocol):
    """What a subscription needs of the dispatcher."""

    encodings: Encodings
    """What is at hand of what those are in the midst of that lag."""

    def seat(self, subscription: Subscription, seat: Seat, /) -> bool:
        """Write to this seat from now on, if the subscription stands where the dispatcher does."""

    def leave(self, subscription: Subscription, /) -> None:
        """Forget the subscription."""

    def read(self, channel: str, after: Position, /, *, limit: int, size: int) -> Page:
        """Read the log; see ``Log.read``."""

    def read_later(self, channel: str, /) -> None:
        """The log could not be read: ring when it can be."""

    def note_gap(self) -> None:
        """A subscription has read of a gap."""


class Subscription:
    """A cursor in one or several channels, made by ``subscribe``. A context manager.

    Used by one thread.
    """

    # But ``end``, ``notice`` and ``bell``; and live, it belongs to the dispatcher.

    __slots__ = (
        "_due",
        "_engine",
        "_fresh",
        "_log",
        "_others",
        "_over",
        "_passed",
        "_places",
        "_policies",
        "_replayed",
        "_sat",
        "_sent",
        "_unasked",
        "bell",
        "heads",
        "is_slow",
        "phase",
        "reason",
        "seat",
        "told",
        "waited",
    )

    def __init__(
        self,
        log: Log,
        engine: Engine,
        *,
        bell: Bell,
        policies: Patterns[Policy],
        replayed: Replayed | None = None,
    ) -> None:
        self.bell = bell
        self.phase = Reading.LAGGING
        self.reason: StreamingError | None = None
        """Why it was ended; None if nobody ended it."""
        self.seat: Seat | None = None
        """Where the dispatcher writes while it is live."""
        self.is_slow = False
        """Whether publishers no longer wait for it: it made no progress while they did, or has
        cost them too much."""
        self.waited = 0.0
        """Seconds that publishers have waited for it since it was at the head."""
        self._log = log
        self._engine = engine
        self._policies = policies
        self._replayed = replayed  # until it is at the head for the first time
        self.heads: Mapping[str, Head] = {}
        """Where the dispatcher stands in each channel; set by it."""
        self._fresh: frozenset[str] = _NONE  # channels in which nobody can be too slow yet
        self._places: dict[str, Position] = {}
        self._over: frozenset[str] = _NONE  # channels that have ended, all of which was read
        self._due: dict[str, None] = {}  # channels that may have something behind the cursor
        self._unasked: frozenset[str] = _NONE  # channels whose place only the log can judge
        self.told: dict[str, Position] | None = None
        """Of several channels: up to where the client was told each."""
        self._others: tuple[str, bytes] | None = None  # see ``others``
        self._sent: Position | None = None
        self._sat = _NO_MESSAGES  # what had passed in its channels when it went live
        self._passed: Position | None = None  # where others are written to still, when it parked

    def start(self, places: Mapping[str, Position], told: Iterable[str] = ()) -> None:
        """Stand at ``places``, those of ``told`` as its client says; called once by the hub."""
        self._places = dict(places)
        self._due |= dict.fromkeys(places)
        self._unasked = frozenset(filter(self._is_early, told))
        self._fresh = frozenset(places)
        self.told = dict(places) if len(places) > 1 else None

    def move(self, phase: Reading) -> None:
        """Be in another phase.

        Raises:
            RuntimeError: If the table above has no such move.
        """
        if (self.phase, phase) not in _MOVES:
            raise RuntimeError(f"A subscription does not go from {self.phase} to {phase}.")
        self.phase = phase

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels it follows."""
        return tuple(self.heads)

    @property
    def encodings(self) -> Encodings:
        """What is at hand of what its client may be in the midst of."""
        return self._engine.encodings

    @property
    def is_several(self) -> bool:
        """Whether it follows several channels: its ids are its own then."""
        return self.told is not None

    @property
    def id(self) -> str:
        """The cursor as a client is told it: resumes exactly behind what was stepped over.

        Of who is live in one channel it may be a batch behind what was written, never before it.
        """
        if self.told is not None:
            return print_cursor(self.told)
        return print_cursor(self._live_places() if self.phase is Reading.LIVE else self._places)

    def describe(self) -> Mapping[str, object]:
        """Channels, position and phase, for people to read."""
        return {"channels": self.channels, "position": self.id, "state": self.phase.value}

    @property
    def offered(self) -> float:
        """When the dispatcher last wrote to it (``time.monotonic``)."""
        return max(head.offered for head in self.heads.values())

    def place(self, channel: str) -> Position | None:
        """Up to where it has read ``channel`` itself; None before it stands anywhere."""
        return self._places.get(channel)

    def notice(self, channel: str) -> None:
        """Something was appended to ``channel``. From any thread."""
        self._due[channel] = None
        self.bell.ring()

    @from_any_thread
    def read(self) -> list[Message | Gap]:
        """What the log holds behind the cursor, a page of each channel; moves the cursor.

        Never blocks for new messages. A log that cannot be reached gives nothing now; the bell
        rings when it is back.

        Raises:
            StreamingError: The reason, once the subscription was ended.
        """
        self._due |= dict.fromkeys(self._places)
        return self._read(self._due)

    @from_any_thread
    def read_on(self) -> list[Message | Gap]:
        """``read``, but only in channels that the dispatcher has told of something new, and only
        of the first that has: what a client is given at once is bounded, whatever it follows.

        Raises:
            StreamingError: The reason, once the subscription was ended.
        """
        due = tuple(self._due)  # at once: another thread may tell us of more
        return self._read([n for n in due if not self._is_at_head(n)], is_one=True)

    def _read(self, channels: Iterable[str], *, is_one: bool = False) -> list[Message | Gap]:
        if self.reason is not None:
            raise self.reason
        items: list[Message | Gap] = []
        for channel in tuple(channels):
            self._due.pop(channel, None)  # before: it may be noticed again while we read
            try:
                page = self._page(channel, self._places[channel])
            except LogUnavailable:
                self._due[channel] = None
                self._engine.read_later(channel)
                continue
            if page.gap is not None:
                items.append(page.gap)
                self._engine.note_gap()
            items.extend(page.messages)
            if self._replayed is not None and page.messages:
                self._replayed(len(page.messages), sum(m.size for m in page.messages))
            self._places[channel] = page.position
            self._note_end(channel, page)
            if channel in self._fresh:
                self._fresh = self._fresh - {channel} or _NONE
                self._unasked = self._unasked - {channel} or _NONE
            if page.more and (page.messages or page.gap):
                self._due[channel] = None
            if items and is_one:
                break
        if not items:
            self._catch_up()
            if self.reason is not None:
                raise self.reason
        return items

    def _note_end(self, channel: str, page: Page) -> None:
        """Once all channels are over the next read says so, behind what this one gives."""
        if page.ended:
            self._over |= {channel}
            if len(self._over) == len(self._places):
                self.reason = self.reason or StreamEnded("All that was followed has ended.")
        elif self._over:
            self._over -= {channel}

    def _page(self, channel: str, place: Position) -> Page:
        policy = self._policies.of(channel, "replay")
        if policy == "latest":
            newest = self._log.tail(channel, 1)
            if newest.epoch == place.epoch and newest.offset > place.offset:
                place = newest
        page = self._engine.read(channel, place, limit=READ_MESSAGES, size=READ_SIZE)
        if channel not in self._unasked:
            page = page.for_follower()
        if page.gap is not None and policy == "latest":
            newest = self._log.tail(channel, 1)
            after = self._engine.read(channel, newest, limit=READ_MESSAGES, size=READ_SIZE)
            return Page(after.messages, after.position, page.gap, after.more, after.ended)
        if page.gap is not None and policy == "disconnect" and channel not in self._fresh:
            self.reason = Lagged(f"Too slow for channel {channel!r}. Resume with the last id.")
            raise self.reason
        return page

    def take(self, timeout: float | None = None) -> list[Message | Gap]:
        """What came since the last call; waits for something, but ``timeout`` seconds at most.

        Nothing is a possible answer, also before the time is over.

        Raises:
            StreamingError: The reason, once the subscription was ended.
        """
        items = self.read()
        if not items and self.bell.wait(timeout):
            items = self.read()
        return items

    def __iter__(self) -> Iterator[Message | Gap]:
        """Everything as it comes, until all channels have ended, this process is to stop, or the
        subscription is closed.

        Raises:
            Lagged: If it is too slow for a channel whose policy is ``disconnect``.
        """
        while not self.is_closed:
            try:
                items = self.take()
            except (HubClosed, StreamEnded):
                return
            for item in items:
                if not self.is_closed:
                    yield item

    def mark_sent(self) -> None:
        """Say that all that was read is on its way to the client."""
        if self.told is None:
            (self._sent,) = self._places.values()

    def is_past(self, place: Position) -> bool:
        """Whether the client was sent the message at ``place``, or never will be; one channel."""
        (head,) = self.heads.values()
        sent = head.written if self.phase is Reading.LIVE else self._sent
        if sent is None or sent.is_mark:
            return False
        return sent.epoch != place.epoch or sent.offset >= place.offset

    def step(self, item: Message | Gap) -> str:
        """Move the told cursor over ``item``, which ``read`` gave, and return it printed."""
        if isinstance(item, Message):
            place = item.id
        elif item.oldest is not None:  # what the gap left over is still to come
            place = Position(item.oldest.epoch, item.oldest.offset - 1)
        else:
            place = self._places[item.channel]
        if self.told is None:
            return str(place)
        self.tell(item.channel, place)
        return print_cursor(self.told)

    def others(self, channel: str) -> bytes:
        """How an id goes on behind the place in ``channel``: the places told of the others."""
        known = self._others
        if known is not None and known[0] == channel:
            return known[1]
        assert self.told is not None
        rest = [f".{print_place(n, place)}" for n, place in self.told.items() if n != channel]
        self._others = known = channel, "".join(rest).encode()
        return known[1]

    def tell(self, channel: str, place: Position) -> None:
        """The client was told everything of ``channel`` up to ``place``; several channels."""
        assert self.told is not None
        self.told[channel] = place
        if self._others is not None and self._others[0] != channel:
            self._others = None

    def tell_all(self, messages: Sequence[Message]) -> bytes | None:
        """The client is told all of these, of one channel; how their ids go on with the others'
        places, None if it follows no others."""
        if self.told is None or not messages:
            return None
        channel = messages[0].channel
        others = self.others(channel)
        self.tell(channel, messages[-1].id)
        return others

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, maybe by another thread just now."""
        return self.phase is Reading.CLOSED

    @property
    def is_at_head(self) -> bool:
        """Whether it stands where the dispatcher stands."""
        return self.reason is None and all(map(self._is_at_head, self._places))

    @property
    def is_behind(self) -> bool:
        """Whether there is something in the log that it has to read itself, and has not."""
        return self.phase is Reading.LAGGING and self.reason is None and not self.is_at_head

    def _is_at_head(self, channel: str) -> bool:
        head = self.heads[channel]
        is_same = self._places[channel].is_same(head.position)
        is_asked = channel not in self._unasked and (not head.ended or channel in self._over)
        return is_same and is_asked

    def _is_early(self, channel: str) -> bool:
        """Whether it stands at a mark from before the dispatcher came: since then the channel may
        have had messages, and may have been forgotten with them."""
        place, head = self._places[channel], self.heads[channel].position
        return place.is_mark and not (place.is_same(head) and head and place.offset >= head.offset)

    def park(self, form: Format, sink: Sink) -> bool:
        """Let the dispatcher write to ``sink`` from here on; False if not where it stands.

        Only where dispatcher and caller share one operating system thread (greenlets do), because
        only then can no write be torn by another.
        """
        if self.phase is not Reading.LAGGING or self.reason is not None:
            return False
        if not self._engine.seat(self, Seat(form, sink)):
            return False
        if self.told is None:
            (head,) = self.heads.values()
            self._passed = head.written if head.written is not head.position else None
        self._fresh = _NONE
        self._catch_up()
        return True

    def _catch_up(self) -> None:
        """It is at the head: publishers wait for it again, and what it reads is no past."""
        self._replayed = None
        self.is_slow, self.waited = False, 0.0

    def fall(self, channel: str, place: Position) -> None:
        """Stand at ``place`` in ``channel`` again, and in the others where the client was told;
        called by the dispatcher, which no longer writes."""
        if self.told is None:
            self._places[channel] = place
        else:
            self.tell(channel, place)
            self._places |= self.told
        self._due |= dict.fromkeys(self._places)

    def sit(self, seat: Seat) -> None:
        """Be live; called by the dispatcher, which writes to ``seat`` from now on."""
        self.seat, self._sat = seat, self._passing()

    def unseat(self) -> None:
        """Count what its sink was written since it is live. Idempotent."""
        if self.seat is not None:
            messages, size = self.passed
            self.seat.sink.messages += messages
            self.seat.sink.size += size
            self.seat = None

    @property
    def passed(self) -> tuple[int, int]:
        """Messages that its sink was written since it is live, and bytes of their text."""
        if self.seat is None:
            return _NO_MESSAGES
        now, then = self._passing(), self._sat
        return _NO_MESSAGES if now is then else (now[0] - then[0], now[1] - then[1])

    def _passing(self) -> tuple[int, int]:
        """What has passed in all its channels. Where it was in one, all who sit there share it."""
        found = _NO_MESSAGES
        for head in self.heads.values():
            more = head.passed
            if more[0]:
                found = (found[0] + more[0], found[1] + more[1]) if found[0] else more
        return found

    @from_any_thread
    def end(self, reason: StreamingError) -> None:
        """Have the subscriber's own thread raise ``reason`` at its next read. From any thread."""
        if self.reason is None:
            self.reason = reason
        self.bell.ring()

    @from_any_thread
    def close(self) -> None:
        """Leave all channels. Idempotent. From then on nothing is written to the sink."""
        if self.phase is Reading.CLOSED:
            return
        if self.phase is Reading.LIVE and self.told is None:
            self._places = self._live_places()
        self._engine.leave(self)

    def _live_places(self) -> dict[str, Position]:
        """Up to where it has surely been written to; one channel."""
        ((name, head),) = self.heads.items()
        written = head.written
        return self._places if written is None or written is self._passed else {name: written}

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def print_cursor(places: Mapping[str, Position]) -> str:
    """The cursor that stands at ``places``, as clients are told it; see ``message.Cursor``."""
    if len(places) == 1:
        (place,) = places.values()
        return str(place)
    return ".".join(print_place(channel, place) for channel, place in places.items())
