"""What applications and their clients publish: within a span, where somebody records them."""

from __future__ import annotations

from functools import partial

from ..clients.client import Client
from ..hub import traces
from ..hub.hub import Hub
from ..message import Message


def publish(
    hub: Hub,
    channel: str,
    data: str,
    *,
    event: str = "message",
    key: str | None = None,
    owner: str | None = None,
    by: Client | None = None,
    sender: str | None = None,
) -> Message:
    """``hub.publish``, which also says what it raises. ``by``: who says so on its connection."""
    if by is not None:
        sender = by.sender
    spans = traces.find()
    span = None if spans is None else spans.publishing(channel, by.trace if by else None)
    if span is None:
        return hub.publish(channel, data, event=event, key=key, owner=owner, sender=sender)
    call = partial(hub.publish, channel, data, event=event, key=key, owner=owner, sender=sender)
    return span.run(partial(call, traceparent=span.traceparent))
