"""What OpenTelemetry is told, where the application has it. Costs a look where it has not.

Nothing is imported here: an application that has set a tracer provider has imported OpenTelemetry
itself. No span is made for a client and a message, only for a publish, for a batch in a process and
for a connection; and none where nothing would be recorded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..message import Message

if TYPE_CHECKING:
    from .spans import Connection, Delivery, Spans


_found: Callable[[], Spans | None] | None = None


def find() -> Spans | None:
    """What makes spans; None if nothing does. From any thread, never fails."""
    if "opentelemetry.trace" not in sys.modules:
        return None
    return (_found or _look())()


def _look() -> Callable[[], Spans | None]:
    global _found
    try:
        from .spans import found
    except ImportError:  # it is too old, or there in part
        _found = _nothing
    else:
        _found = found
    return _found


def _nothing() -> None:
    return None


def delivery(
    channel: str, messages: Sequence[Message], *, live: int, lagging: int
) -> Delivery | None:
    """The span of a batch for so many subscriptions; None if none of it was published in one."""
    traced = [m.traceparent for m in messages if m.traceparent is not None]
    if not traced or not live + lagging or (spans := find()) is None:
        return None
    return spans.delivery(channel, len(messages), traced, live, lagging)


def connection() -> Connection | None:
    """The span of somebody who is about to be connected, for ``Client.trace``."""
    spans = find()
    return None if spans is None else spans.connection()
