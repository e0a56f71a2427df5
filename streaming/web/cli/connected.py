"""``flask streaming clients``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import click

from ...hub.hub import Hub
from ...hub.orders import CHANNEL
from ...hub.questions import MOST, Question
from ...identity import Identity
from ...message import Message
from ...names import check_channel
from .command import command
from .log import shared_hub
from .saying import note, say_rows


@command("clients")
@click.option("--identity", help="Those of who has this id, as identify says it.")
@click.option("--channel", help="Those that follow this channel.")
@click.option(
    "--limit",
    type=click.IntRange(1, MOST),
    default=100,
    show_default=True,
    help="At most so many of each worker.",
)
@click.option(
    "--wait",
    type=click.FloatRange(0.1, 60),
    default=2.0,
    show_default=True,
    help="Seconds that the workers have to answer.",
)
def clients(
    identity: str | None, channel: str | None, limit: int, wait: float, as_json: bool
) -> None:
    """List who is connected, over all workers.

    The workers are asked over the log, and those that have clients answer. Nobody knows how many
    they are, so it always takes --wait seconds. The answers, with addresses and ids, are kept in
    the log for a minute.

    \b
    Examples:
      flask streaming clients
      flask streaming clients --channel news --limit 1000
      flask streaming clients --identity 42 --json | jq -r .id
    """
    if identity is not None:
        identity = Identity(identity).id
    if channel is not None:
        check_channel(channel)
    with shared_hub() as hub:
        answers = list(_ask(hub, Question(identity, channel, limit), wait))
    totals = {answer["answer"]: int(answer["total"]) for answer in answers}  # it may have pages
    rows = [_row(answer["process"], one) for answer in answers for one in answer["clients"]]
    say_rows(rows, as_json=as_json, nothing="No worker has named any.")
    left = sum(totals.values()) - len(rows)
    if left > 0:
        note(f"Not named: {left} more; see --limit.")
    if not as_json:
        note(f"Workers that have answered within {wait:g} s: {len(totals)}.")


def _ask(hub: Hub, question: Question, wait: float) -> Iterator[Any]:
    """The answers as they come, for so many seconds."""
    with hub.subscribe(question.reply) as answers:
        hub.publish(CHANNEL, question.text())
        until = time.monotonic() + wait
        while (left := until - time.monotonic()) > 0:
            for item in answers.take(left):
                if isinstance(item, Message):
                    yield json.loads(item.data)


def _row(process: str, one: dict[str, Any]) -> dict[str, object]:
    """What is said of every client, and of all alike."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one["since"]))
    row = {"id": one["id"], "transport": one["transport"], "identity": one["identity"]}
    channels = list(one.get("channels") or ())
    return {**row, "channels": channels, "peer": one.get("peer"), "since": since, "worker": process}
