"""What comes out of a WebSocket: messages and control frames (RFC 6455 sections 5.5 and 5.6)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """A text message."""

    data: str


@dataclass(frozen=True, slots=True)
class Binary:
    """A binary message."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping; answer it with a pong of the same data (section 5.5.2)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A pong; nobody needs to have asked for it (section 5.5.3)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The peer closes; nothing comes after it. ``code`` is None if it gave none (1005)."""

    code: int | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Progress(Pong):
    """Nothing yet, but work was done: a good moment to give others a turn.

    It stands where many frames gave no value. To who does not know it, it is a pong that nobody
    asked for: a sign of life that wants nothing.
    """

    data: bytes = b""


PROGRESS = Progress()
"""The only one that a decoder gives."""

Received = Text | Binary | Ping | Pong | Close
