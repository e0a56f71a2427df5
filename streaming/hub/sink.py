"""What the engine writes to, and how messages become bytes on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ..message import Message


class Format(Protocol):
    """How messages become the bytes of one kind of sink. Hashable; one object per format."""

    personal: bool
    """Whether a message looks different to the client that published it."""

    def encode(self, message: Message, /) -> bytes:
        """The bytes that stand for ``message``, the same for every subscriber."""

    def encode_own(self, message: Message, /) -> bytes:
        """The bytes for the client that published ``message``."""

    def cut(self, messages: Sequence[Message], /) -> list[bytes]:
        """``messages`` for subscribers of several channels, cut where each id goes on with the
        places in the other channels: joined by these, the pieces are whole.

        Raises:
            NotImplementedError: If no subscriber with this format follows several.
        """

    def frame(self, blocks: bytes, /) -> bytes:
        """``blocks`` as they go onto the socket in a direct write."""


class Sink(Protocol):
    """A client's socket that can be written to without blocking."""

    fd: int
    """Non-blocking file descriptor; -1 while something of ours waits to be sent, or at the end."""

    client: str
    """The client's id; messages it published itself are encoded with ``encode_own``."""

    def hold(self, rest: bytes | memoryview) -> None:
        """Take over what the kernel did not take (nothing, if it took nothing). Sets fd to -1."""


class Seat(NamedTuple):
    """Where a live subscription is written to. A new object each time it goes live."""

    form: Format
    sink: Sink
