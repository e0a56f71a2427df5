"""``traceparent``, which says of what a trace is made: W3C Trace Context, section 3.2."""

from __future__ import annotations

import re

SIZE = 55
"""Bytes of one of version 00; all of it is ASCII."""

_FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def known(text: object) -> str | None:
    """``text`` if it is a traceparent of version 00; None for all that it cannot be.

    Section 3.2.2: the trace id and the span id are not all zeros, and the digits are small.
    """
    return text if isinstance(text, str) and _FORM.fullmatch(text) else None


def encode(trace: int, span: int, flags: int) -> str:
    """The traceparent of a span (64 bits) in a trace (128 bits)."""
    return f"00-{trace:032x}-{span:016x}-{flags & 0xFF:02x}"


def decode(text: str) -> tuple[int, int, int]:
    """Trace, span and flags of a ``known`` one."""
    _, trace, span, flags = text.split("-")
    return int(trace, 16), int(span, 16), int(flags, 16)
