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

    def escape(self, text: str, /) -> bytes:
        """A stretch of a message's text as it stands in its block. Those of two stretches together
        are that of both, unless a CR LF is torn."""

    def around(self, message: Message, own: bool, others: bytes | None, /) -> tuple[bytes, bytes]:
        """What stands before and behind a text, which is not empty, in the block of ``message``:
        ``own`` for the client that published it; ``others``, if not None, is what its id goes on
        with."""

    def ends(self, size: int, /) -> tuple[bytes, bytes]:
        """What goes onto the socket before and behind the text, and what is around it, of one
        message: ``size`` bytes in all."""


class Rest(Protocol):
    """What is still to be sent of something that was begun."""

    def __len__(self) -> int:
        """How many bytes."""


class Sink(Protocol):
    """A client's socket that can be written to without blocking."""

    fd: int
    """Non-blocking file descriptor; -1 while something of ours waits to be sent, or at the end."""

    client: str
    """The client's id; messages it published itself are encoded with ``encode_own``."""

    messages: int
    """Messages that went out on it, or have begun to, and are counted. Of those that the dispatcher
    writes now ``Subscription.passed`` knows."""

    size: int
    """Bytes of their text."""

    def hold(self, rest: Rest) -> None:
        """Take over what the kernel did not take (nothing, if it took nothing). Sets fd to -1."""


class Seat(NamedTuple):
    """Where a live subscription is written to. A new object each time it goes live."""

    form: Format
    sink: Sink


def encode_blocks(
    form: Format, messages: Sequence[Message], client: str, others: bytes | None
) -> bytes:
    """``messages`` for one client: ids go on with ``others``, if not None, where it follows several
    channels. The messages keep none of the bytes."""
    if others is not None:
        data = others.join(form.cut(messages))
    elif form.personal:
        data = b"".join(
            [form.encode_own(m) if m.client == client else form.encode(m) for m in messages]
        )
    else:
        data = b"".join([form.encode(message) for message in messages])
    for message in messages:
        message.forget_encoded()
    return data
