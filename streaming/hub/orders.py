"""Orders to let go of connections, which all processes of a log follow.

They are messages of one channel that no client may read or write. Each process that has clients
follows it, and remembers for a while what it has heard: somebody may be about to be connected.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass

from ..errors import InvalidMessage, StreamingError
from ..identity import id_of
from ..message import Message, Position
from ..names import check_channel
from ..own import Own, era, is_over
from .hub import Hub
from .questions import Question
from .subscription import Subscription

RESERVED = "streaming:"
"""What the names of channels begin with that are the package's own."""

CHANNEL = RESERVED + "orders"

_CLIENT = re.compile(r"[0-9a-f]{16}")

LINGER = 30.0
"""Seconds for which a process listens on behind its last client, or behind somebody who has been
asked who it is and is not connected yet: what an application asks its own database takes a while.
"""

RETRY = 1.0
"""Seconds after which a log that was away is tried again."""

REMEMBERED = 1000
"""Orders that a process remembers."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Order:
    """Whom to let go of: everybody of whom all that is said here is true."""

    identity: str | None = None
    """The id of an identity."""
    channel: str | None = None
    """A channel that it follows."""
    client: str | None = None
    """The id of a connection."""
    is_final: bool = False
    """Whether it is not to come back."""

    def text(self) -> str:
        """The order as a message."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Order | None:
        """The order that a message is; None if it is none, as from another version."""
        try:
            said = cls(**json.loads(text))
            is_final = said.is_final is True
            return order_of(said.identity, said.channel, said.client, is_final=is_final)
        except (TypeError, ValueError, RecursionError, InvalidMessage):
            return None


def order_of(
    identity: str | int | None, channel: str | None, client: str | None, *, is_final: bool = False
) -> Order:
    """An order that means somebody.

    Raises:
        TypeError: If it means everybody.
        InvalidMessage: If it means nobody.
    """
    if identity is None and channel is None and client is None:
        raise TypeError("Say whom: identity=…, channel=… or client=….")
    who = None if identity is None else id_of(identity)
    if channel is not None:
        check_channel(channel)
    if client is not None and not _CLIENT.fullmatch(client):
        raise InvalidMessage(f"{client!r:.60} is no client's id: 16 hexadecimal digits.")
    return Order(who, channel, client, is_final)


def given_since(hub: Hub, place: Position) -> tuple[list[Order], Position, bool]:
    """What was ordered since the orders stood at ``place``, where they stand now, and whether that
    is all there was. Of a log that has lost its past, what there has been since.

    Raises:
        LogUnavailable: If the log cannot be reached.
    """
    orders: list[Order] = []
    is_whole, is_more = True, True
    while is_more:
        page = hub.log.read(CHANNEL, place, limit=1000, size=256 * 1024)
        oldest = page.gap.oldest if page.gap is not None else None
        is_whole = is_whole and (oldest is None or oldest.epoch != place.epoch)
        parsed = [Order.parse(message.data) for message in page.messages]
        orders += [order for order in parsed if order is not None]
        place, is_more = page.position, page.more and bool(page.messages)
    return orders, place, is_whole


class Orders:
    """What this process is told to let go of. From any thread.

    Args:
        hub: Where orders are given and heard.
        obey: Called with each order, in a thread of ours.
        is_idle: Whether there is nobody to let go of, so that nothing need be heard.
        answer: Called with each question that is heard among the orders, in the same thread.
    """

    def __init__(
        self,
        hub: Hub,
        obey: Callable[[Order], None],
        is_idle: Callable[[], bool] = lambda: False,
        answer: Callable[[Question], None] = lambda question: None,
    ) -> None:
        self._ear = Own(lambda: _Ear(hub, obey, is_idle, answer))

    def listen(self) -> None:
        """Hear of what is ordered from now on, until the hub is closed or a while after everybody
        has left; of a log that cannot be reached, once it can. Idempotent; to be called for each
        who comes. Never fails.
        """
        self._ear().listen()

    def since(self, when: float) -> list[Order]:
        """What this process has heard since then (``time.monotonic``), as far as it remembers."""
        return [order for at, order in tuple(self._ear().heard) if at >= when]


def give(hub: Hub, order: Order) -> None:
    """Have all processes obey.

    Raises:
        LogUnavailable: If the log cannot be reached.
    """
    hub.publish(CHANNEL, order.text())


class _Ear:
    def __init__(
        self,
        hub: Hub,
        obey: Callable[[Order], None],
        is_idle: Callable[[], bool],
        answer: Callable[[Question], None],
    ) -> None:
        self.heard: deque[tuple[float, Order]] = deque(maxlen=REMEMBERED)
        self._hub = hub
        self._obey = obey
        self._is_idle = is_idle
        self._answer = answer
        self._era = era()
        self._lock = threading.Lock()
        self._is_listening = False
        self._called = 0.0

    def listen(self) -> None:
        self._called = time.monotonic()
        if not self._is_listening and not self._hub.closed.is_set():
            with self._lock:
                if not self._is_listening:
                    self._begin()

    def _begin(self) -> None:
        subscription = self._subscribe()
        thread = threading.Thread(
            target=self._run, args=[subscription], name="streaming orders", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            _log.warning("Nobody hears whom to let go of: %s", error)
            if subscription is not None:
                subscription.close()
        else:
            self._is_listening = True

    def _subscribe(self) -> Subscription | None:
        try:
            return self._hub.subscribe(CHANNEL)
        except StreamingError:
            return None  # whoever needs the log is told that it is away

    def _run(self, subscription: Subscription | None) -> None:
        try:
            while not self._has_lapsed():
                if subscription is None:
                    self._hub.closed.wait(RETRY)
                    subscription = self._subscribe()
                    continue
                is_rung = subscription.bell.wait(LINGER)
                if is_over(self._era):
                    return  # what we follow is our parent's
                if is_rung:
                    self._hear(subscription)
        except StreamingError:
            self._is_listening = False  # the hub is closed
        except Exception:
            self._is_listening = False  # until somebody comes
            _log.exception("An order to let go of somebody failed")
        if subscription is not None:
            subscription.close()

    def _hear(self, subscription: Subscription) -> None:
        while items := subscription.read():
            for item in items:
                if isinstance(item, Message):
                    self._take(item.data)

    def _take(self, text: str) -> None:
        if (order := Order.parse(text)) is not None:
            self.heard.append((time.monotonic(), order))
            self._obey(order)
        elif (question := Question.parse(text)) is not None:
            try:
                self._answer(question)
            except StreamingError as error:
                _log.warning("A question could not be answered: %s", error)

    def _has_lapsed(self) -> bool:
        with self._lock:
            called = self._called
            is_wanted = time.monotonic() - called < LINGER or not self._is_idle()
            if is_wanted and not self._hub.closed.is_set():
                return False
            self._is_listening = False
            if self._called == called or self._hub.closed.is_set():
                return True
            self._is_listening = True  # who has called meanwhile took us for listening
            return False
