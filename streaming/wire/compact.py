"""JSON as it stands inside events and frames."""

from __future__ import annotations

import json
from collections.abc import Mapping


def compact(value: Mapping[str, object]) -> str:
    """JSON without spaces, Unicode as it is."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
