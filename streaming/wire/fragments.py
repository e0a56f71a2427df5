"""A WebSocket message that arrives in pieces (RFC 6455 section 5.4)."""

from __future__ import annotations

import codecs

from ..errors import ProtocolError
from .header import Frame, Opcode
from .masking import apply_mask, turn_mask

_MOST_EMPTY_FRAGMENTS = 1000


class Fragments:
    """A message under way: the fragments so far and what is left of the frame being read."""

    __slots__ = ("_check", "_empty", "_mask", "compressed", "data", "fin", "left", "opcode")

    def __init__(self, opcode: Opcode, compressed: bool) -> None:
        self.opcode = opcode
        self.compressed = compressed
        self.data = bytearray()
        is_text = opcode is Opcode.TEXT and not compressed
        self._check = codecs.getincrementaldecoder("utf-8")() if is_text else None
        self._empty = 0

    def begin(self, frame: Frame) -> None:
        self.left, self.fin, self._mask = frame.length, frame.fin, frame.mask
        if not frame.length:
            self._empty += 1
            if self._empty > _MOST_EMPTY_FRAGMENTS:
                raise ProtocolError("A message of too many empty fragments.", 1009)

    def read(self, data: bytes, start: int) -> int:
        """Take what ``data`` has of the payload from ``start``; return where that ends."""
        piece = data[start : start + self.left]
        self.left -= len(piece)
        if self._mask:
            piece = apply_mask(piece, self._mask)
            self._mask = turn_mask(self._mask, len(piece))
        self.data += piece
        if self._check is not None:
            try:
                self._check.decode(piece)
            except UnicodeDecodeError as error:
                raise ProtocolError("Text that is not UTF-8.", 1007) from error
        return start + len(piece)


def parse_text(payload: bytes | bytearray) -> str:
    """The text of a whole message.

    Raises:
        ProtocolError: If it is not UTF-8 (1007, section 8.1).
    """
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("Text that is not UTF-8.", 1007) from error
