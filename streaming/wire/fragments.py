"""A WebSocket message that arrives in pieces (RFC 6455 section 5.4)."""

from __future__ import annotations

import codecs

from ..errors import ProtocolError
from .header import Frame, Opcode
from .masking import apply_mask, turn_mask

STRETCH = 128
"""Frames read at a stretch, before others may have a turn."""

_MOST_EMPTY_FRAGMENTS = 1000
_TEXT = Opcode.TEXT


class Fragments:
    """A message under way: the fragments so far and what is left of the frame being read."""

    __slots__ = (
        "_checked",
        "_empty",
        "_is_text",
        "_mask",
        "compressed",
        "data",
        "fin",
        "left",
        "opcode",
    )

    def __init__(self, opcode: Opcode, compressed: bool) -> None:
        self.opcode = opcode
        self.compressed = compressed
        self.data = bytearray()
        self.left = 0
        self.fin = False
        self._is_text = opcode is _TEXT and not compressed
        self._checked = 0
        self._empty = 0

    def begin(self, frame: Frame) -> None:
        """Go on with the fragment whose header is ``frame``.

        Raises:
            ProtocolError: If it is one empty fragment too many (1009).
        """
        self.left, self.fin, self._mask = frame.length, frame.fin, frame.mask
        if not frame.length:
            self._empty += 1
            if self._empty > _MOST_EMPTY_FRAGMENTS:
                raise ProtocolError("A message of too many empty fragments.", 1009)

    def read(self, data: bytes, start: int) -> int:
        """Take what ``data`` has of the payload from ``start``; return where that ends.

        Raises:
            ProtocolError: If it is text and not UTF-8 (1007).
        """
        piece = data[start : start + self.left]
        self.left -= len(piece)
        if self._mask:
            piece = apply_mask(piece, self._mask)
            if self.left:
                self._mask = turn_mask(self._mask, len(piece))
        self.data += piece
        if self.left or not self.fin:
            self._check()
        return start + len(piece)

    def read_many(self, data: bytes, start: int, max_size: int) -> tuple[int, int]:
        """Take a stretch of whole fragments from ``start``; return where it ends, and their number.

        It ends behind the last fragment of the message, and before anything that is not a masked
        fragment of up to 125 bytes within the limits.

        Raises:
            ProtocolError: If it is text and not UTF-8 (1007).
        """
        whole, size, number = self.data, len(data), 0
        while number < STRETCH and not self.fin:
            payload = start + 6
            if payload > size or data[start] & 0x7F:
                break
            length = data[start + 1] - 0x80
            end = payload + length
            if not 0 <= length <= 125 or end > size or len(whole) + length > max_size:
                break
            if length == 1:
                whole.append(data[payload] ^ data[start + 2])
            elif length:
                whole += apply_mask(data[payload:end], data[start + 2 : payload])
            elif self._empty < _MOST_EMPTY_FRAGMENTS:
                self._empty += 1
            else:
                break
            self.fin = data[start] != 0
            start = end
            number += 1
        if number and not self.fin:
            self._check()
        return start, number

    def _check(self) -> None:
        """Check what is new of a text, but for a last character that is not whole yet.

        Whoever has the last byte checks the whole.
        """
        if self._is_text:
            try:
                _, size = codecs.utf_8_decode(self.data[self._checked :], "strict", False)
            except UnicodeDecodeError as error:
                raise ProtocolError("Text that is not UTF-8.", 1007) from error
            self._checked += size


def parse_text(payload: bytes | bytearray) -> str:
    """The text of a whole message.

    Raises:
        ProtocolError: If it is not UTF-8 (1007, section 8.1).
    """
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("Text that is not UTF-8.", 1007) from error
