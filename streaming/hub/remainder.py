"""Where a client stands in the midst of something encoded: a place, not bytes."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence

from ..message import Message
from .encodings import HELD, LARGE, Encoded, EncodedPage, Encodings, LargeMessage
from .sink import Format, encode_blocks
from .workers import SLICE

AT_ONCE = 128 * 1024
"""Bytes given to the kernel in one write, beyond which no other span is made."""


class Remainder:
    """What a client has not taken yet of something encoded (a ``sink.Rest``).

    Args:
        before, behind: What stands around it, for this client.
        at: How many bytes of all that it has taken.
    """

    __slots__ = ("_before", "_behind", "_left", "encoded")

    def __init__(
        self, encoded: Encoded, *, before: bytes = b"", behind: bytes = b"", at: int = 0
    ) -> None:
        self.encoded = encoded
        self._before = before
        self._behind = behind
        self._left = len(before) + encoded.starts[-1] + len(behind) - at

    def __len__(self) -> int:
        """How many bytes are left."""
        return self._left

    def take(self, count: int) -> None:
        """The client has taken so many more."""
        self._left -= count

    def pieces(self, message: Message | None = None) -> list[bytes | memoryview]:
        """The next bytes, some ``AT_ONCE`` of them; none if there are none.

        Others may have a turn meanwhile, and a file descriptor be another connection's behind it;
        but not if ``message`` is given, the large one that this is.

        Raises:
            ClientGone: If the log holds them no longer.
            LogUnavailable: If they have to be read again, and the log cannot be reached.
        """
        starts, before, behind = self.encoded.starts, self._before, self._behind
        at = starts[-1] + len(behind) - self._left  # in the spans
        found: list[bytes | memoryview] = []
        if at < 0:
            found.append(memoryview(before)[at:])
            at = 0
        most = at + AT_ONCE
        for number in range(bisect_right(starts, at) - 1, len(starts) - 1):
            if at >= most:
                return found
            span = self.encoded.span(number, message)
            found.append(memoryview(span)[at - starts[number] :] if at > starts[number] else span)
            at = starts[number + 1]
        found.append(memoryview(behind)[at - starts[-1] :])
        return found


def begin(
    encodings: Encodings,
    messages: Sequence[Message],
    form: Format,
    client: str,
    others: bytes | None,
) -> Remainder:
    """All of what was read at once of a channel, for one client; see ``encode_blocks``. For whoever
    is at work in the turnstile.
    """
    first = messages[0]
    if first.size <= LARGE:
        data = form.frame(encode_blocks(form, messages, client, others))
        return Remainder(EncodedPage(encodings, messages, form, client, others, data))
    encoded = encodings.message(first, form)
    while not encoded.measure(first, time.monotonic() + SLICE):
        encodings.turnstile.pause()
    return begin_large(encoded, first, form, client, others)


def begin_large(
    encoded: LargeMessage, message: Message, form: Format, client: str, others: bytes | None
) -> Remainder:
    """All of a large message, measured, for one client."""
    own = form.personal and message.client == client
    before, behind = form.around(message, own, others)
    first, last = form.ends(len(before) + encoded.starts[-1] + len(behind))
    return Remainder(encoded, before=first + before, behind=behind + last)


def rest_of(data: bytes, at: int, make: Callable[[], EncodedPage]) -> Remainder | bytes:
    """What is left of a page of which ``at`` bytes were taken; ``make`` says how it is made again.

    Little is held as it is.
    """
    return data[at:] if len(data) - at <= HELD else Remainder(make(), at=at)
