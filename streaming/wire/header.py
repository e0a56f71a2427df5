"""One WebSocket frame: its header and its bytes (RFC 6455 section 5.2)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from ..errors import InvalidMessage, ProtocolError
from .masking import apply_mask

_MOST_CONTROL_BYTES = 125


class Opcode(IntEnum):
    """What a frame is (section 5.2)."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


_OPCODES = {opcode.value: opcode for opcode in Opcode}
_CLOSE = Opcode.CLOSE  # the first of the control frames; looking members up is dear
_SHORT = tuple(  # the headers of most frames sent: whole messages of up to 125 bytes, by opcode
    tuple(bytes((0x80 | first, length)) for length in range(126)) if first in _OPCODES else ()
    for first in range(max(Opcode) + 1)
)


class Frame(NamedTuple):
    """A frame's header; ``length`` is that of the payload, an empty ``mask`` means unmasked."""

    opcode: Opcode
    length: int
    fin: bool = True
    rsv1: bool = False
    mask: bytes = b""

    @classmethod
    def parse(cls, data: bytes, start: int, limit: int) -> tuple[Frame, int] | None:
        """The header at ``start`` and where its payload begins; ``None`` if more must come first.

        Raises:
            ProtocolError: If no frame begins like that (1002), or a data frame announces more than
                ``limit`` bytes (1009). Raised as soon as the bytes that show it are there.
        """
        end = start + 2
        if len(data) < end:
            return None
        first, second = data[start], data[start + 1]
        opcode = _OPCODES.get(first & 0x0F)
        if opcode is None:
            raise ProtocolError(f"Opcode {first & 0x0F:#x} is reserved.")
        if first & 0x30:
            raise ProtocolError("A frame with RSV2 or RSV3, which nobody agreed on.")
        length = second & 0x7F
        if opcode >= _CLOSE:
            if length > _MOST_CONTROL_BYTES or not first & 0x80:
                raise ProtocolError("A control frame in fragments, or of more than 125 bytes.")
        else:
            if length > 125:
                end += 2 if length == 126 else 8
                if len(data) < end:
                    return None
                length = _parse_length(data[start + 2 : end])
            if length > limit:
                raise ProtocolError("A message over the size limit.", 1009)
        mask = b""
        if second & 0x80:
            mask = data[end : end + 4]
            end += 4
            if len(data) < end:
                return None
        return cls(opcode, length, first & 0x80 != 0, first & 0x40 != 0, mask), end


def _parse_length(digits: bytes) -> int:
    length = int.from_bytes(digits)
    if length < 126 or (len(digits) == 8 and length < 0x10000):
        raise ProtocolError("The length of a frame is not in its shortest form.")
    if length >> 63:
        raise ProtocolError("The length of a frame has its top bit set.")
    return length


def encode(opcode: Opcode, payload: bytes, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """One frame as a server sends it. ``rsv1`` marks the first of a compressed message (RFC 7692).

    Raises:
        InvalidMessage: If a control frame would be fragmented or hold more than 125 bytes.
    """
    if fin and not rsv1 and len(payload) < 126:
        return _SHORT[opcode][len(payload)] + payload
    return _print(opcode, len(payload), fin, rsv1, 0) + payload


def announce(opcode: Opcode, length: int) -> bytes:
    """The header of one frame as a server sends it, whose payload has ``length`` bytes."""
    return _print(opcode, length, True, False, 0)


def encode_client(
    opcode: Opcode, payload: bytes, mask: bytes, *, fin: bool = True, rsv1: bool = False
) -> bytes:
    """One frame as a client sends it, masked with four bytes nobody can predict (section 5.3).

    Raises:
        InvalidMessage: If a control frame would be fragmented or hold more than 125 bytes.
        ValueError: If ``mask`` is not four bytes.
    """
    header = _print(opcode, len(payload), fin, rsv1, 0x80)
    if len(mask) != 4:
        raise ValueError(f"A mask is four bytes, not {len(mask)}.")
    return header + mask + apply_mask(payload, mask)


def _print(opcode: Opcode, length: int, fin: bool, rsv1: bool, masked: int) -> bytes:
    """A header without its mask, with the shortest form of the length."""
    if opcode >= _CLOSE and (length > _MOST_CONTROL_BYTES or not fin):
        raise InvalidMessage("A control frame holds 125 bytes at most and is never fragmented.")
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    if length < 126:
        return (first << 8 | masked | length).to_bytes(2)
    if length < 0x10000:
        return (first << 24 | (masked | 126) << 16 | length).to_bytes(4)
    return (first << 72 | (masked | 127) << 64 | length).to_bytes(10)
