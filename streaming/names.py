"""What channels, events and idempotency keys may be called."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from hashlib import blake2s
from typing import TypeVar

from .errors import InvalidMessage

T = TypeVar("T")

_CHANNEL = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_PATTERN = re.compile(r"[A-Za-z0-9_.:-]{0,128}\*")
_HALF_PAIR = re.compile(r"[\ud800-\udfff]")
_UNPRINTABLE = re.compile(r"[\r\n\0\ud800-\udfff]")

_OWNED = "client:"

END = "end"
"""The event name of a channel's last message."""

RESERVED_EVENTS = frozenset({"ready", "gap", "restart", "close", "error", "open", "ticket", END})


def check_channel(name: str) -> str:
    """Return ``name`` if it is a legal channel name.

    Raises:
        InvalidMessage: If it is not 1 to 128 of ``A-Z a-z 0-9 _ . : -``.
    """
    if not isinstance(name, str) or not _CHANNEL.fullmatch(name):
        hint = ""
        if isinstance(name, str) and name.startswith("user:"):
            hint = " (streaming.user_channel(id) makes one of any id)"
        raise InvalidMessage(
            f"{name!r:.100} is not a channel name: use 1 to 128 letters, digits or any of _ . : -"
            f"{hint}"
        )
    return name


def check_pattern(name: str) -> str:
    """Return ``name`` if it is a channel's name, or the beginning of some and ``*`` (``job:*``).

    Raises:
        InvalidMessage: If it is neither.
    """
    if isinstance(name, str) and _PATTERN.fullmatch(name):
        return name
    try:
        return check_channel(name)
    except InvalidMessage as error:
        raise InvalidMessage(
            f"{name!r:.100} is neither a channel's name nor a pattern such as 'job:*', with one "
            "'*' at its end."
        ) from error


def check_event(name: str) -> str:
    """Return ``name`` if it is a legal event name.

    Raises:
        InvalidMessage: If it is empty, longer than 128 characters, holds a line break, NUL or
            half a surrogate pair, or is one of the names the streams themselves use.
    """
    if not isinstance(name, str) or not 0 < len(name) <= 128 or _UNPRINTABLE.search(name):
        raise InvalidMessage(
            f"{name!r:.100} is not an event name: 1 to 128 characters, no line breaks or NUL"
        )
    if name in RESERVED_EVENTS:
        raise InvalidMessage(
            f"The event name {name!r:.100} is used by the stream itself; choose another."
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


def owned_key(key: str, owner: str | None) -> str:
    """``key`` in the name space of its ``owner``, None for the application, which meets no other.

    Who reads it learns neither of the two.

    Raises:
        InvalidMessage: If ``key`` is not legal, or the application's looks like an owned one.
    """
    check_key(key)
    if owner is not None:
        digest = blake2s(f"{len(owner)} {owner}{key}".encode(), digest_size=24)
        return _OWNED + digest.hexdigest()
    if key.startswith(_OWNED):
        raise InvalidMessage(f"Keys that begin with {_OWNED!r} are those of clients.")
    return key


class Patterns(Mapping[str, T]):
    """What is said of channels, by name or by pattern (``job:*``). Frozen.

    As a mapping it has what was written; ``of`` says what that means for a channel.

    Raises:
        InvalidMessage: If a key is neither a name nor a pattern.
    """

    __slots__ = ("_said", "_starts")

    def __init__(self, said: Mapping[str, T] | None = None) -> None:
        self._said = {check_pattern(name): value for name, value in (said or {}).items()}
        starts = [(name[:-1], value) for name, value in self._said.items() if name[-1] == "*"]
        self._starts = sorted(starts, key=lambda start: len(start[0]), reverse=True)

    def of(self, channel: str, otherwise: T) -> T:
        """What is said of ``channel``: under its name, or else by the longest pattern."""
        if channel in self._said:
            return self._said[channel]
        for start, value in self._starts:
            if channel.startswith(start):
                return value
        return otherwise

    def __getitem__(self, name: str) -> T:
        return self._said[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._said)

    def __len__(self) -> int:
        return len(self._said)

    def __repr__(self) -> str:
        return repr(self._said)


def channel_tag(channel: str) -> str:
    """Ten hexadecimal digits that stand for a channel's name inside a composite cursor."""
    return blake2s(channel.encode("ascii"), digest_size=5).hexdigest()
