"""One batch of a channel on its way to everybody who was live when it was read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from ..logs import Page
from ..message import Message, Position
from .channel import Channel
from .encodings import LARGE, EncodedPage, Encodings, LargeMessage
from .remainder import Remainder, begin_large, rest_of
from .sink import Format, Rest, Seat
from .subscription import Subscription
from .tallies import Spread

LOOK = 32
"""Writes between two looks at the clock."""

Stall = Callable[[Subscription, Seat, Channel, Position, Rest], None]
"""Lets a subscription lag: with its seat, the channel, from where on, and what is to be sent."""


class Fanout:
    """Writes one batch to every seat, a moment at a time. This is the hot path of the package.

    Args:
        channel: Whose batch it is.
        page: What is written.
        before: Where the seats stood.
        seats: Those who were live when the dispatcher moved on.
        stall: Called for each whose socket does not take it all.
        encodings: What is at hand for those.
        took: Told of each message that a socket has taken; None if nobody knows how old they are.
        heard: When this process heard of the oldest (``time.monotonic``).
    """

    __slots__ = (
        "_before",
        "_channel",
        "_encodings",
        "_has_run",
        "_heard",
        "_large",
        "_looks",
        "_pieces",
        "_rest",
        "_stall",
        "_took",
        "page",
    )

    def __init__(
        self,
        channel: Channel,
        page: Page,
        before: Position,
        seats: list[tuple[Subscription, Seat]],
        stall: Stall,
        encodings: Encodings,
        took: Spread | None = None,
        heard: float = 0.0,
    ) -> None:
        self.page = page
        self._took = took
        self._heard = heard
        self._looks: list[tuple[float, int]] = []  # at the clock; how many took all before each
        self._encodings = encodings
        self._channel = channel
        self._before = before
        self._rest: Iterator[tuple[Subscription, Seat]] = iter(seats)
        self._has_run = bool(seats)
        self._stall = stall
        self._pieces: dict[Format, _Pieces] = {}
        self._large: dict[Format, LargeMessage] = {}
        if len(page.messages) == 1 and page.messages[0].size > LARGE:
            forms = {seat.form for _, seat in seats}
            self._large = {form: encodings.message(page.messages[0], form) for form in forms}

    def run(self, until: float) -> bool:
        """Write until about ``until`` (``time.monotonic``); whether everybody was written to."""
        try:
            return self._run_large(until) if self._large else self._run(until)
        finally:
            if self._looks and self._took is not None:
                self._took.add_all(self._heard, self._looks, len(self.page.messages))
            self._looks.clear()

    def _run(self, until: float) -> bool:
        write, live, look, missed = os.write, self._channel.live, LOOK, 0
        name, place, known = self._channel.name, self.page.position, self._pieces
        for subscription, seat in self._rest:
            if live.get(subscription) is not seat:
                self._uncount(seat)  # it left, or fell in another channel, and may be back
                continue
            form, sink = seat
            pieces = known.get(form)
            if pieces is None:
                pieces = known[form] = _Pieces(form, self.page, self._encodings)
            told, others = subscription.told, None
            if told is not None:
                others = subscription.others(name)
                data = pieces.among(others)
            elif pieces.senders and sink.client in pieces.senders:
                data = pieces.own(sink.client)
            else:
                data = pieces.shared
            try:
                sent = write(sink.fd, data)
            except OSError:  # it would block, or still has something to send, or is closed
                missed += 1
                self._miss(subscription, seat)
            else:
                if sent != len(data):
                    missed += 1
                    rest = pieces.rest(sink.client, others, data, sent)
                    self._stall(subscription, seat, self._channel, place, rest)
                elif told is not None:
                    told[name] = place  # and others(name) stays as it is
            look -= 1
            if not look:
                now = time.monotonic()
                self._looks.append((now, LOOK - missed))
                if now > until:
                    return False
                look, missed = LOOK, 0
        if look + missed < LOOK:
            self._looks.append((time.monotonic(), LOOK - look - missed))
        if self._has_run:
            for message in self.page.messages:
                message.forget_encoded()
        return True

    def _miss(self, subscription: Subscription, seat: Seat) -> None:
        """A socket has taken nothing of it."""
        self._uncount(seat)
        self._stall(subscription, seat, self._channel, self._before, b"")

    def _uncount(self, seat: Seat) -> None:
        """It is not written there, though it was counted for all when it was read."""
        seat.sink.messages -= len(self.page.messages)
        seat.sink.size -= self.page.size

    def _run_large(self, until: float) -> bool:
        """``run`` for one large message: its spans, as far as each socket takes them.

        They are made of the message itself: to read it again would be to wait in the midst of it.
        """
        (message,) = self.page.messages
        live, name, place = self._channel.live, self._channel.name, self.page.position
        if not all([encoded.measure(message, until) for encoded in self._large.values()]):
            return False
        for subscription, seat in self._rest:
            if live.get(subscription) is not seat:
                self._uncount(seat)
                continue
            (form, sink), told = seat, subscription.told
            others = None if told is None else subscription.others(name)
            rest = begin_large(self._large[form], message, form, sink.client, others)
            if not _write(rest, sink.fd, message):
                self._miss(subscription, seat)
            elif rest:
                self._stall(subscription, seat, self._channel, place, rest)
            elif told is not None:
                told[name] = place
            now = time.monotonic()
            if not rest:
                self._looks.append((now, 1))
            if now > until:
                return False
        return True


def _write(rest: Remainder, fd: int, message: Message) -> bool:
    """Write what ``fd`` takes now of ``message``; False if that is nothing. Nobody waits in it."""
    size = len(rest)
    try:
        while rest:
            rest.take(os.writev(fd, rest.pieces(message)))
    except OSError:  # it would block, or is closed
        pass
    return len(rest) < size


class _Pieces:
    """A batch in one format, each of its forms made when the first needs it."""

    __slots__ = ("_cut", "_encodings", "_form", "_messages", "_page", "_shared", "senders")

    def __init__(self, form: Format, page: Page, encodings: Encodings) -> None:
        self._form = form
        self._encodings = encodings
        self._page: EncodedPage | None = None
        self._messages = page.messages
        self._shared = b""
        self._cut: list[bytes] = []
        self.senders = {m.client for m in page.messages if m.client} if form.personal else set()

    @property
    def shared(self) -> bytes:
        """As everybody sees it who follows this channel alone."""
        if not self._shared:
            self._shared = self._frame([m.encoded(self._form) for m in self._messages])
        return self._shared

    def own(self, client: str) -> bytes:
        """As the client sees it that published some of it."""
        return self._frame([self._one(message, client) for message in self._messages])

    def among(self, others: bytes) -> bytes:
        """As a client sees it that follows other channels too, and was told ``others`` of them."""
        if not self._cut:
            self._cut = self._form.cut(self._messages)
        return self._form.frame(others.join(self._cut))

    def rest(self, client: str, others: bytes | None, data: bytes, sent: int) -> Rest:
        """What a client has not taken of ``data``, which is one of these."""

        def page() -> EncodedPage:
            if data is not self._shared:
                return self._encode(client, others, data)
            if self._page is None:
                self._page = self._encode("", None, data)
            return self._page

        return rest_of(data, sent, page)

    def _encode(self, client: str, others: bytes | None, data: bytes) -> EncodedPage:
        return EncodedPage(self._encodings, self._messages, self._form, client, others, data)

    def _one(self, message: Message, client: str) -> bytes:
        if message.client == client:
            return self._form.encode_own(message)
        return message.encoded(self._form)

    def _frame(self, blocks: list[bytes]) -> bytes:
        return self._form.frame(b"".join(blocks))
