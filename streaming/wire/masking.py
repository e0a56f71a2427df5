"""The mask over what clients send (RFC 6455 section 5.3).

Integers are the only things the standard library can XOR many bytes of at once.
"""

from __future__ import annotations

_PIECE = 8192  # bytes unmasked at a time: large enough for speed, small enough for the CPU's cache
_SMALL = 1024

_integer = int.from_bytes  # looked up once
# A mask times the n-th of these is the mask repeated over 16 n bytes: cheaper than through bytes.
_REPEATS = tuple(_integer(b"\0\0\0\1" * 4 * n) for n in range(_SMALL // 16 + 1))


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """``payload`` masked with four bytes, or unmasked again, which is the same.

    A payload that comes in pieces needs its mask turned: see ``turn_mask``.
    """
    size = len(payload)
    if size <= _SMALL:
        key = _integer(mask) * _REPEATS[size + 15 >> 4] >> (-size & 15) * 8
        return (_integer(payload) ^ key).to_bytes(size)
    if size <= _PIECE:
        return _xor(payload, _integer((mask * (size // 4 + 1))[:size], "little"))
    key = _integer(mask * (_PIECE // 4), "little")
    whole = size - size % _PIECE
    pieces = [_xor(payload[at : at + _PIECE], key) for at in range(0, whole, _PIECE)]
    if whole < size:
        pieces.append(apply_mask(payload[whole:], mask))
    return b"".join(pieces)


def turn_mask(mask: bytes, offset: int) -> bytes:
    """The mask for what comes ``offset`` bytes later in the same payload."""
    offset %= 4
    return mask[offset:] + mask[:offset] if offset else mask


def _xor(payload: bytes, key: int) -> bytes:
    return (_integer(payload, "little") ^ key).to_bytes(len(payload), "little")
