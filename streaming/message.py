"""Messages and cursors: the values that travel through the whole house."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self

from .errors import InvalidCursor
from .identity import Identity, client_of, identity_of
from .names import channel_tag

_POSITION = re.compile(r"([0-9A-Za-z]{1,32})-(0|[1-9][0-9]{0,17})")
_TAGGED = re.compile(r"([0-9a-f]{10})_" + _POSITION.pattern)


START = "start"
"""The cursor before the first message there ever was, whether it is still held or not."""

MARK = "n"
"""What the epoch of a mark begins with; those of channels are hexadecimal."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in one channel's log: after the message with this offset, in this epoch.

    Or a *mark*: the place in a channel that has no messages and no trace in the log. Its epoch is
    the log's own, and its offset says when it was given, in the log's own counting.
    """

    epoch: str
    offset: int

    @property
    def is_mark(self) -> bool:
        """Whether it is a place in a channel without messages."""
        return self.epoch.startswith(MARK)

    def is_same(self, other: Position | None) -> bool:
        """Whether both are one place in one channel: equal, or two marks of one log."""
        return other is not None and (self == other or (self.is_mark and self.epoch == other.epoch))

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The position that was printed as ``text``.

        Raises:
            InvalidCursor: If no position is printed like that.
        """
        found = _POSITION.fullmatch(text)
        if not found:
            raise InvalidCursor(f"{text!r:.100} is not the id of a message.")
        return cls(found[1], int(found[2]))


def print_place(channel: str, place: Position) -> str:
    """A place inside the cursor of several channels."""
    return f"{channel_tag(channel)}_{place}"


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a subscriber stands in one or several channels; opaque to clients.

    Printed ``<epoch>-<offset>`` for one channel and ``<tag>_<epoch>-<offset>.<tag>_…`` for
    several, so that it is safe in an HTTP header and in a URL. A subscriber that comes back with
    more or fewer channels keeps the places of those it still follows.
    """

    single: Position | None = None
    tagged: Mapping[str, Position] = field(default_factory=dict)
    is_start: bool = False
    """Whether it stands before everything; printed ``start``."""

    def get(self, channel: str) -> Position | None:
        """The place in ``channel``, if this cursor knows one."""
        return self.single or self.tagged.get(channel_tag(channel))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The cursor that was printed as ``text``.

        Raises:
            InvalidCursor: If no cursor is printed like that.
        """
        if len(text) > 8192:
            raise InvalidCursor("The cursor (Last-Event-ID) is longer than 8192 characters.")
        if text == START:
            return cls(is_start=True)
        if _POSITION.fullmatch(text):
            return cls(single=Position.parse(text))
        tagged: dict[str, Position] = {}
        for part in text.split("."):
            found = _TAGGED.fullmatch(part)
            if not found:
                raise InvalidCursor(
                    f"{text!r:.100} is not a cursor (Last-Event-ID). "
                    "Send back an id exactly as a stream gave it, or none to start at the head."
                )
            tagged[found[1]] = Position(found[2], int(found[3]))
        return cls(tagged=tagged)


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the log stored it. Only a log makes these."""

    channel: str
    """The name of the channel."""
    data: str
    """The text; of what was published as JSON, the JSON."""
    id: Position
    """Its place in the channel. ``str(message.id)`` is what clients see, and resume behind."""
    event: str = "message"
    """The name of the event; browsers have listeners by this name."""
    sender: str | None = None
    """Who published it, as the log keeps it: see ``client`` and ``identity``."""

    key: str | None = field(default=None, repr=False)
    size: int = field(default=0, repr=False)
    """Bytes of the text in UTF-8."""
    traceparent: str | None = field(default=None, repr=False)
    """The span it was published in, where that is recorded (W3C Trace Context); else None."""
    _encoded: dict[Encoder, bytes] = field(
        default_factory=dict, repr=False, compare=False, hash=False
    )

    @property
    def client(self) -> str | None:
        """The id of the connection that published it; None if none did."""
        return client_of(self.sender)

    @property
    def identity(self) -> Identity | None:
        """Who published it, as the application said then; None for strangers and itself."""
        return identity_of(self.sender)

    def encoded(self, encoder: Encoder) -> bytes:
        """``encoder.encode(self)``, computed once and shared by all subscribers."""
        block = self._encoded.get(encoder)
        if block is None:
            block = self._encoded[encoder] = encoder.encode(self)
        return block

    def forget_encoded(self) -> None:
        """Let go of the bytes: all at the head have them, and the log keeps the text."""
        self._encoded.clear()


def text_size(text: str) -> int:
    """Bytes of ``text`` in UTF-8.

    Raises:
        UnicodeEncodeError: If it holds half a surrogate pair.
    """
    return len(text) if text.isascii() else len(text.encode())


class Encoder(Protocol):
    """Turns a message into the bytes of one wire format. Hashable; one object per format."""

    def encode(self, message: Message, /) -> bytes:
        """The bytes that stand for ``message``, the same for every subscriber."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What a subscriber is told when the log no longer holds what its cursor needs."""

    channel: str
    """The channel in which something is missing."""
    requested: Position
    """Where the subscriber stood."""
    oldest: Position | None
    """The oldest message held, with which it goes on; None if none is."""
    newest: Position | None
    """The newest message held; None if none is."""

    def payload(self) -> dict[str, str | None]:
        """The gap as the transports say it; ids are printed, None where nothing is held."""
        return {
            "channel": self.channel,
            "requested": str(self.requested),
            "oldest": None if self.oldest is None else str(self.oldest),
            "newest": None if self.newest is None else str(self.newest),
        }
