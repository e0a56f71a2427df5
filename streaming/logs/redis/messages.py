"""Messages as Redis gives them back: from a channel's stream, or with their announcement.

An announcement is the message's place, printed. Where the text is short, the message is in it too:

    <epoch>-<offset> ["<event>","<sender or nothing>","<key or nothing>"]
    <epoch>-<offset> ["<event>","<sender or nothing>","<key or nothing>","<traceparent>"]
    <text>

That saves each process that follows a read for each message, and Redis most of what the read costs.
"""

from __future__ import annotations

import json
from typing import Any

from ...errors import InvalidCursor, LogUnavailable
from ...message import Message, Position, text_size
from ...wire import traceparent


def stored(channel: str, epoch: str, entry: list[Any]) -> Message:
    """The message that is stored as ``entry``, an id and its fields.

    Raises:
        LogUnavailable: If it is none of ours.
    """
    offset, _, _ = entry[0].partition("-")
    fields = dict(zip(entry[1][::2], entry[1][1::2], strict=True))
    if "d" not in fields:
        raise LogUnavailable(f"Redis has what somebody else put among the messages of {channel!r}.")
    return Message(
        channel,
        fields["d"],
        Position(epoch, int(offset)),
        fields.get("e", "message"),
        fields.get("s"),
        fields.get("k"),
        text_size(fields["d"]),
        traceparent.known(fields.get("p")),
    )


def announced(channel: str, said: str) -> tuple[Position | None, Message | None]:
    """The place of a message and, if it was announced with it, the message itself.

    None for what cannot be made out: whoever follows has to read.
    """
    head, has_text, text = said.partition("\n")
    printed, _, fields = head.partition(" ")
    try:
        place = Position.parse(printed)
    except InvalidCursor:
        return None, None
    if not has_text:
        return place, None
    try:
        event, sender, key, *more = json.loads(fields)
    except (ValueError, TypeError, RecursionError):
        return place, None
    if not all(isinstance(field, str) for field in (event, sender, key)):
        return place, None
    size = text_size(text)
    trace = traceparent.known(more[0]) if more else None
    return place, Message(channel, text, place, event, sender or None, key or None, size, trace)
