"""The mask over what clients send (RFC 6455 section 5.3)."""

from __future__ import annotations

_PIECE = 8192  # bytes unmasked at a time: large enough for speed, small enough for the CPU's cache


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """``payload`` masked, or unmasked again, which is the same (section 5.3).

    A payload that comes in pieces needs its mask turned: see ``turn_mask``.
    """
    size = len(payload)
    if size <= _PIECE:
        return _xor(payload, int.from_bytes((mask * (size // 4 + 1))[:size], "little"))
    key = int.from_bytes(mask * (_PIECE // 4), "little")
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
    return (int.from_bytes(payload, "little") ^ key).to_bytes(len(payload), "little")
