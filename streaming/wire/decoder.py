"""WebSocket frames to messages, as bytes come in (RFC 6455 sections 5.2 to 5.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ..errors import ProtocolError
from .closing import is_close_code
from .fragments import STRETCH, Fragments, parse_text
from .header import Frame, Opcode
from .masking import apply_mask
from .received import PROGRESS, Binary, Close, Ping, Pong, Received, Text

_DATA = (Opcode.TEXT, Opcode.BINARY)
_BINARY, _CLOSE, _PING, _PONG = Opcode.BINARY, Opcode.CLOSE, Opcode.PING, Opcode.PONG
_FIN = 0x80
_LAST_DATA = _FIN | Opcode.BINARY


def _text(payload: bytes) -> Text:
    return Text(payload.decode())


# What a whole frame is, by its first byte; a close frame ends too much to be among them.
_MAKE: Mapping[int, Callable[[bytes], Received]] = {
    _FIN | Opcode.TEXT: _text,
    _FIN | Opcode.BINARY: Binary,
    _FIN | Opcode.PING: Ping,
    _FIN | Opcode.PONG: Pong,
}


class Decoder:
    """The bytes of one connection in, messages and control frames out.

    Fragments are put together; what stands between them (pings, pongs, close) comes out at once.
    Text is checked as it arrives. At most ``max_size`` bytes of an unfinished message are held,
    plus what was fed last. A ``Close`` is the last value: bytes after it are ignored.
    """

    __slots__ = (
        "_at",
        "_closed",
        "_data",
        "_decompress",
        "_fault",
        "_make",
        "_max_size",
        "_message",
        "_require_mask",
    )

    def __init__(
        self,
        max_size: int,
        *,
        require_mask: bool = True,
        decompress: Callable[[bytes, int], bytes] | None = None,
    ) -> None:
        """``max_size`` bounds a message in bytes, before and after decompression.

        ``require_mask``: the peer is a client, which must mask; otherwise a server, which must not.
        ``decompress(data, max_size)`` allows compressed messages, see ``wire.deflate``.
        """
        self._max_size = max_size
        self._require_mask = require_mask
        self._make = _MAKE if require_mask else {}
        self._decompress = decompress
        self._data = b""
        self._at = 0
        self._message: Fragments | None = None
        self._closed = False
        self._fault: tuple[str, int] | None = None

    def feed(self, data: bytes) -> Iterator[Received]:
        """Take ``data`` at once; iterate for what it completes. Any chunking gives the same values.

        What is not iterated over comes with the next call, so stopping early loses nothing. Where
        many frames give no value, a ``Progress`` comes out every now and then (at most 256 frames
        later): with it and the values, whoever iterates can give others a turn by the clock.

        Raises:
            ProtocolError: From the iterator, after every value that came before the fault: answer
                with its ``close_code`` and hang up. Every later iterator raises it too. 1002 for
                frames that are not allowed, 1007 for text that is not UTF-8 (or a message that
                cannot be decompressed), 1009 for more than ``max_size`` bytes (by the header
                already) or a thousand empty fragments.
        """
        if data and not self._closed and self._fault is None:
            self._data = self._data[self._at :] + data if self._at < len(self._data) else data
            self._at = 0
        return self._values()

    @property
    def held(self) -> int:
        """Bytes of an unfinished message that are held."""
        message = self._message
        return 0 if message is None else len(message.data)

    def forget(self) -> None:
        """Let go of an unfinished message; what comes from now on is a fault. From any thread."""
        self._fault = "A message that nobody waits for any more.", 1013
        self._message = None

    @property
    def is_between_frames(self) -> bool:
        """Whether the next byte fed is the first of a frame's header.

        So all that was fed has been iterated over, it ended with a frame (of an unfinished message
        too), and neither a ``Close`` nor a fault was in it: after these no frame is read.
        """
        if self._at < len(self._data) or self._closed or self._fault is not None:
            return False
        return self._message is None or not self._message.left

    def _values(self) -> Iterator[Received]:
        if self._fault is not None:
            raise ProtocolError(*self._fault)
        try:
            while self._at < len(self._data):
                value = self._short() or self._next()
                if value is None:
                    break
                yield value
        except ProtocolError as fault:
            self._fault = str(fault), fault.close_code
            self._release()
            raise
        self._data, self._at = self._data[self._at :], 0

    def _release(self) -> None:
        self._data, self._at, self._message = b"", 0, None

    def _short(self) -> Received | None:
        """The next value, if it is what most are: one whole masked frame of less than 64 KiB.

        ``None`` says no more than that ``_next`` has to look; faults are found there.
        """
        data, at = self._data, self._at
        if self._message is not None or len(data) < at + 6:
            return None
        first, length = data[at], data[at + 1] - 0x80
        make = self._make.get(first)
        if make is None or length < 0:
            return None
        start = at + 6
        if length > 125:
            if length > 126 or first > _LAST_DATA:
                return None
            length = data[at + 2] << 8 | data[at + 3]
            start = at + 8
            if length < 126:
                return None
        end = start + length
        if end > len(data) or length > self._max_size:
            return None
        try:
            value = make(apply_mask(data[start:end], data[start - 4 : start]))
        except UnicodeDecodeError:
            return None
        self._at = end
        return value

    def _next(self) -> Received | None:
        """The next value, or that there was none in a stretch; ``None`` if more bytes must come."""
        count = 0
        while count < STRETCH:
            message = self._message
            if message is not None and not message.left and self._require_mask:
                self._at, many = message.read_many(self._data, self._at, self._max_size)
                count += many
            if message is None or not (message.left or message.fin):
                header = Frame.parse(self._data, self._at, self._room())
                if header is None:
                    return None
                frame, start = header
                self._check(frame)
                end = start + frame.length
                if frame.opcode and frame.fin and end <= len(self._data):
                    self._at = end
                    return self._whole(frame, self._data[start:end])
                if frame.opcode >= _CLOSE:
                    return None
                message = self._begin(frame)
                self._at = start
            if message.left:
                self._at = message.read(self._data, self._at)
                if message.left:
                    return None
            if message.fin:
                self._message = None
                return self._finish(message.opcode, message.data, message.compressed)
            count += 1
        return PROGRESS

    def _room(self) -> int:
        return self._max_size - self.held

    def _check(self, frame: Frame) -> None:
        if bool(frame.mask) != self._require_mask:
            who = "client must" if self._require_mask else "server must not"
            raise ProtocolError(f"A {who} mask its frames.")
        opcode = frame.opcode
        if frame.rsv1 and (self._decompress is None or opcode not in _DATA):
            raise ProtocolError("A frame with RSV1, which nobody agreed on or is not allowed here.")
        if opcode >= _CLOSE:
            return
        if opcode and self._message is not None:
            raise ProtocolError("A new message before the last fragment of another.")
        if not opcode and self._message is None:
            raise ProtocolError("A continuation of no message.")

    def _begin(self, frame: Frame) -> Fragments:
        message = self._message or Fragments(frame.opcode, frame.rsv1)
        self._message = message
        message.begin(frame)
        return message

    def _whole(self, frame: Frame, payload: bytes) -> Received:
        if frame.mask:
            payload = apply_mask(payload, frame.mask)
        if frame.opcode is _PING:
            return Ping(payload)
        if frame.opcode is _PONG:
            return Pong(payload)
        if frame.opcode is not _CLOSE:
            return self._finish(frame.opcode, payload, frame.rsv1)
        close = _parse_close(payload)
        self._closed = True
        self._release()
        return close

    def _finish(self, opcode: Opcode, payload: bytes | bytearray, compressed: bool) -> Received:
        if compressed and self._decompress is not None:
            payload = self._decompress(bytes(payload), self._max_size)
        return Binary(bytes(payload)) if opcode is _BINARY else Text(parse_text(payload))


def _parse_close(payload: bytes) -> Close:
    """What a close frame says (section 5.5.1)."""
    if not payload:
        return Close(None)
    code = int.from_bytes(payload[:2])  # a single byte is no code either
    if not is_close_code(code):
        raise ProtocolError("A close frame with a code that may not be sent.")
    return Close(code, parse_text(payload[2:]))
