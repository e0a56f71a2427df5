"""JSON as it stands inside events and frames."""

from __future__ import annotations

import json
from collections.abc import Mapping

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # made once


def compact(value: Mapping[str, object]) -> str:
    """JSON without spaces, Unicode as it is."""
    return _encode(value)


def escaped(text: str) -> bytes:
    """A text, or a stretch of one, as it stands between the quotes of a JSON string."""
    return _encode(text)[1:-1].encode()
