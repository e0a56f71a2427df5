"""``flask streaming publish``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from ...errors import InvalidMessage, TooLarge
from .command import command
from .log import shared_hub
from .saying import say


@command("publish")
@click.argument("channel")
@click.argument("data")
@click.option("--event", default="message", show_default=True, help="The event's name.")
@click.option("--key", help="Idempotency key: a repetition within the window publishes nothing.")
def publish(channel: str, data: str, event: str, key: str | None, as_json: bool) -> None:
    """Publish DATA to CHANNEL, and say the message's id.

    With - for DATA each line of the standard input is a message, published as it comes. With --key,
    line 7 of it has the key KEY:7, so that the whole call can be repeated.

    \b
    Examples:
      flask streaming publish news "It works."
      flask streaming publish prices '{"EUR": 1.08}' --event price
      flask streaming publish log - < app.log
    """
    with shared_hub() as hub:
        if data != "-":
            texts: Iterator[tuple[str, str | None]] = iter([(data, key)])
        else:
            texts = _lines(hub.message_size, key)
        for text, own_key in texts:
            message = hub.publish(channel, text, event=event, key=own_key)
            said = {"channel": channel, "id": str(message.id), "event": message.event}
            say(said, str(message.id), as_json=as_json)


def _lines(most: int, key: str | None) -> Iterator[tuple[str, str | None]]:
    """Each line of the standard input, and its key."""
    source = sys.stdin.buffer
    for number, line in enumerate(iter(lambda: source.readline(most + 2), b""), start=1):
        data = line.removesuffix(b"\n")
        if len(data) > most:
            raise TooLarge(f"Line {number} has more than {most} bytes (STREAMING_MESSAGE_SIZE).")
        try:
            yield data.decode(), f"{key}:{number}" if key is not None else None
        except UnicodeDecodeError as error:
            raise InvalidMessage(f"Line {number} is not text in UTF-8: {error}") from error
