"""Messages and cursors: the values that travel through the whole house."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2s
from typing import Protocol, Self

from .errors import InvalidCursor, InvalidMessage

_CHANNEL = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_POSITION = re.compile(r"([0-9A-Za-z]{1,32})-(0|[1-9][0-9]{0,17})")
_TAGGED = re.compile(r"([0-9a-f]{10})_" + _POSITION.pattern)
_HALF_PAIR = re.compile(r"[\ud800-\udfff]")
_UNPRINTABLE = re.compile(r"[\r\n\0\ud800-\udfff]")


def check_channel(name: str) -> str:
    """Return ``name`` if it is a legal channel name.

    Raises:
        InvalidMessage: If it is not 1 to 128 of ``A-Z a-z 0-9 _ . : -``.
    """
    if not isinstance(name, str) or not _CHANNEL.fullmatch(name):
        raise InvalidMessage(
            f"{name!r:.150} is not a channel name: use 1 to 128 letters, digits or any of _ . : -"
        )
    return name


def check_event(name: str) -> str:
    """Return ``name`` if it is a legal event name.

    Raises:
        InvalidMessage: If it is empty, longer than 128 characters, holds a line break, NUL or
            half a surrogate pair, or is one of the names the streams themselves use.
    """
    if not isinstance(name, str) or not 0 < len(name) <= 128 or _UNPRINTABLE.search(name):
        raise InvalidMessage(
            f"{name!r:.150} is not an event name: 1 to 128 characters, no line breaks or NUL"
        )
    if name in RESERVED_EVENTS:
        raise InvalidMessage(
            f"The event name {name!r} is used by the stream itself; choose another."
        )
    return name


def check_key(key: str) -> str:
    """Return ``key`` if it is a legal idempotency key.

    Raises:
        InvalidMessage: If it is not a text of 1 to 128 characters, or holds half a surrogate pair.
    """
    if not isinstance(key, str) or not 0 < len(key) <= 128 or _HALF_PAIR.search(key):
        raise InvalidMessage(
            "An idempotency key is a text of 1 to 128 characters, no half surrogate pairs."
        )
    return key


RESERVED_EVENTS = frozenset({"ready", "gap", "restart", "close", "error", "open"})


@dataclass(frozen=True, slots=True)
class Position:
    """A place in one channel's log: after the message with this offset, in this epoch."""

    epoch: str
    offset: int

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
            raise InvalidCursor(f"{text!r:.150} is not the id of a message.")
        return cls(found[1], int(found[2]))


def channel_tag(channel: str) -> str:
    """Ten hexadecimal digits that stand for a channel's name inside a composite cursor."""
    return blake2s(channel.encode("ascii"), digest_size=5).hexdigest()


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a subscriber stands in one or several channels; opaque to clients.

    Printed ``<epoch>-<offset>`` for one channel and ``<tag>_<epoch>-<offset>.<tag>_…`` for
    several, so that it is safe in an HTTP header and in a URL. A subscriber that comes back with
    more or fewer channels keeps the places of those it still follows.
    """

    single: Position | None = None
    tagged: Mapping[str, Position] = field(default_factory=dict)

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
        if _POSITION.fullmatch(text):
            return cls(single=Position.parse(text))
        tagged: dict[str, Position] = {}
        for part in text.split("."):
            found = _TAGGED.fullmatch(part)
            if not found:
                raise InvalidCursor(
                    f"{text!r:.150} is not a cursor (Last-Event-ID). "
                    "Send back an id exactly as a stream gave it, or none to start at the head."
                )
            tagged[found[1]] = Position(found[2], int(found[3]))
        return cls(tagged=tagged)


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the log stored it. Only a log makes these."""

    channel: str
    data: str
    id: Position
    event: str = "message"
    sender: str | None = None
    """The client id of the connection that published it; None if the application did."""

    key: str | None = field(default=None, repr=False)
    size: int = field(default=0, repr=False)
    """Bytes of the text in UTF-8."""
    _encoded: dict[Encoder, bytes] = field(
        default_factory=dict, repr=False, compare=False, hash=False
    )

    def encoded(self, encoder: Encoder) -> bytes:
        """``encoder.encode(self)``, computed once and shared by all subscribers."""
        block = self._encoded.get(encoder)
        if block is None:
            block = self._encoded[encoder] = encoder.encode(self)
        return block

    def forget_encoded(self) -> None:
        """Let go of the bytes: all at the head have them, and the log keeps the text."""
        self._encoded.clear()


class Encoder(Protocol):
    """Turns a message into the bytes of one wire format. Hashable; one object per format."""

    def encode(self, message: Message, /) -> bytes:
        """The bytes that stand for ``message``, the same for every subscriber."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What a subscriber is told when the log no longer holds what its cursor needs."""

    channel: str
    requested: Position
    oldest: Position | None
    newest: Position | None

    def payload(self) -> dict[str, str | None]:
        """The gap as the transports say it; ids are printed, None where nothing is held."""
        return {
            "channel": self.channel,
            "requested": str(self.requested),
            "oldest": None if self.oldest is None else str(self.oldest),
            "newest": None if self.newest is None else str(self.newest),
        }
