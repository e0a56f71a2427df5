"""What clients are in the midst of: how its bytes are made again, and what of them is at hand.

A client that does not take all at once holds a place in something encoded (``remainder``), not its
bytes. Those are shared by all who are in the midst of the same, bounded for the whole process, and
made again from the log where they had to go: a large message a span of its text at a time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from weakref import WeakValueDictionary, ref

from ..errors import ClientGone
from ..logs import Log
from ..message import Message, Position
from .sink import Format, encode_blocks
from .turnstile import Turnstile

SPAN = 16 * 1024
"""Characters of a large message that are encoded at a time."""

MOST = 16 * 1024 * 1024
"""Bytes of text and of encoded text that are at hand; beyond it the oldest go."""

HELD = 4 * 1024
"""Bytes that a client may hold of its own: so few are not worth being made again."""

LARGE = 64 * 1024
"""A message of more bytes of text goes out in spans."""

TEXT = -1
"""What stands for the text itself among the spans of a message."""


class Encodings:
    """What is at hand for those who lag. From any thread.

    Args:
        log: Where messages are read again.
        most: Bytes that are kept, whatever the number of clients.
    """

    def __init__(self, log: Log, most: int = MOST) -> None:
        self.log = log
        self.turnstile = Turnstile(log.reads)
        """For the work that those who lag make: reading, encoding, writing what is taken now."""
        self._most = most
        self._lock = threading.Lock()
        self._size = 0
        self._kept: deque[tuple[ref[Encoded], int, int]] = deque()
        self._messages: WeakValueDictionary[tuple[str, Position, Format], LargeMessage]
        self._messages = WeakValueDictionary()

    def message(self, message: Message, form: Format) -> LargeMessage:
        """A large message in a format, shared by all who are in the midst of it."""
        key = message.channel, message.id, form
        with self._lock:
            found = self._messages.get(key)
            if found is not None:
                return found
            found = self._messages[key] = LargeMessage(self, message, form)
        self.keep(found, TEXT, message.size)
        return found

    def keep(self, encoded: Encoded, index: int, size: int) -> None:
        """Count what has just been put into ``encoded.spans``; what is too much goes."""
        with self._lock:
            self._kept.append((ref(encoded), index, size))
            self._size += size
            self._most = max(self._most, 2 * size)  # a text and what is made of it
            while self._size > self._most and len(self._kept) > 1:
                owner, index, size = self._kept.popleft()
                self._size -= size
                if (gone := owner()) is not None:
                    gone.spans.pop(index, None)


class Encoded:
    """Bytes in spans, each made when it is needed and let go when it is too much."""

    __slots__ = ("__weakref__", "encodings", "spans", "starts")

    def __init__(self, encodings: Encodings) -> None:
        self.encodings = encodings
        self.spans: dict[int, Message | bytes] = {}
        """What is at hand."""
        self.starts: list[int] = [0]
        """Where each span starts, and the last one ends."""

    def span(self, index: int, message: Message | None = None) -> bytes:
        """The bytes of one span, made of the large ``message`` by whoever has it. Else it may have
        to be read again, while others have a turn.

        Raises:
            ClientGone: If the log holds the message no longer.
            LogUnavailable: If the log cannot be reached.
        """
        kept = self.spans.get(index)
        if not isinstance(kept, bytes):
            kept = self.spans[index] = self._make(index, message)
            self.encodings.keep(self, index, len(kept))
        return kept

    def settle(self) -> None:
        """Somebody has to wait in the midst of it: count what is at hand. Idempotent."""

    def _make(self, index: int, message: Message | None) -> bytes:
        raise NotImplementedError

    def _read(self, channel: str, first: Position, last: Position) -> Sequence[Message]:
        """These messages, from the log."""
        count, before = last.offset - first.offset + 1, Position(first.epoch, first.offset - 1)
        page = self.encodings.log.read(channel, before, limit=count, size=1 << 62)
        found = page.messages
        if len(found) < count or found[0].id != first or found[-1].id != last:
            raise ClientGone("Too slow: the log has forgotten what the client was in the midst of.")
        return found


class LargeMessage(Encoded):
    """The text of a large message as a format writes it."""

    __slots__ = ("_channel", "_length", "_place", "form")

    def __init__(self, encodings: Encodings, message: Message, form: Format) -> None:
        super().__init__(encodings)
        self.form = form
        self._channel = message.channel
        self._place = message.id
        self._length = len(message.data)
        self.spans[TEXT] = message

    @property
    def count(self) -> int:
        """How many spans it has."""
        return -(-self._length // SPAN)

    def measure(self, message: Message, until: float) -> bool:
        """Find out where its spans start, for as long as it is not ``until`` (``time.monotonic``).

        False if that was too short; the next call goes on.
        """
        starts, count = self.starts, self.count
        while (index := len(starts) - 1) < count:
            if time.monotonic() > until:
                return False
            size = len(self.span(index, message))
            if len(starts) == index + 1:  # another thread may measure it, too
                starts.append(starts[-1] + size)
        return True

    def _make(self, index: int, message: Message | None) -> bytes:
        text = self._text() if message is None else message.data
        return self.form.escape(text[_cut(text, index) : _cut(text, index + 1)])

    def _text(self) -> str:
        kept = self.spans.get(TEXT)
        if not isinstance(kept, Message):
            (kept,) = self._read(self._channel, self._place, self._place)
            self.spans[TEXT] = kept
            self.encodings.keep(self, TEXT, kept.size)
        return kept.data


def _cut(text: str, index: int) -> int:
    """Where a span of a text begins: not in the midst of a CR LF."""
    at = index * SPAN
    return at + 1 if text[at - 1 : at + 1] == "\r\n" else at


class EncodedPage(Encoded):
    """Messages that were read and encoded together for one client, as one span.

    Args:
        data: What ``form`` made of them.
    """

    __slots__ = ("_channel", "_client", "_first", "_form", "_is_kept", "_last", "_others")

    def __init__(
        self,
        encodings: Encodings,
        messages: Sequence[Message],
        form: Format,
        client: str,
        others: bytes | None,
        data: bytes,
    ) -> None:
        super().__init__(encodings)
        self._channel = messages[0].channel
        self._first = messages[0].id
        self._last = messages[-1].id
        self._form = form
        self._client = client
        self._others = others
        self._is_kept = False
        self.starts.append(len(data))
        self.spans[0] = data

    def settle(self) -> None:
        if not self._is_kept and self.starts[-1] > HELD:
            self._is_kept = True
            self.encodings.keep(self, 0, self.starts[-1])

    def _make(self, index: int, message: Message | None) -> bytes:
        messages = self._read(self._channel, self._first, self._last)
        return self._form.frame(encode_blocks(self._form, messages, self._client, self._others))
