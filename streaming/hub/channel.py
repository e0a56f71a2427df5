"""A channel as the engine sees it: where the dispatcher stands, and who stands with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..message import Message, Position
from .sink import Seat
from .subscription import Subscription

if TYPE_CHECKING:
    from .spans import Delivery


class Channel:
    """A channel that somebody of this process follows. Passive; guarded by the dispatcher's lock.

    ``position`` is where the dispatcher stands in the log, ``waiting`` and ``live`` are the
    subscriptions that read themselves, and those that stand where it stands.
    """

    __slots__ = (
        "delivery",
        "ended",
        "follows",
        "heard",
        "is_retried",
        "live",
        "name",
        "news",
        "offered",
        "paced",
        "passed",
        "position",
        "waiting",
        "written",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.position: Position | None = None
        self.written: Position | None = None
        self.offered = 0.0
        self.delivery: Delivery | None = None  # the span of the batch that is under way
        self.ended = False  # nothing comes behind ``position``
        self.waiting: dict[Subscription, None] = {}
        self.live: dict[Subscription, Seat] = {}
        self.follows = 0  # how often the log was asked to tell of it
        self.news: list[Message | None] = []  # what it was told since it was last looked at
        self.heard = 0.0  # when the first of that was told (``time.monotonic``); 0 if nothing was
        self.is_retried = False  # the log could not be read: ring everybody when it can be
        self.passed = 0, 0  # messages for those who were live, and bytes of their text
        self.paced = 0  # up to this offset, publishers need not look whether they are too fast

    def end_delivery(self) -> None:
        """Nothing of the batch is under way any more. Idempotent, needs no lock."""
        delivery, self.delivery = self.delivery, None
        if delivery is not None:
            delivery.end()

    def __len__(self) -> int:
        """How many subscriptions follow it."""
        return len(self.waiting) + len(self.live)
