"""``flask streaming channels``, ``members`` and ``runs``: what the log knows."""

from __future__ import annotations

import click

from ...clients.upstreams import hang_up
from ...hub.hub import Hub
from ...hub.presence import Presence, presence_channel
from ...hub.runs import Runs
from .command import command
from .log import shared_hub
from .saying import say_rows

_ALL = 2**31
"""More messages than a channel holds."""

limited = click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many."
)


@command("channels")
@click.argument("prefix", default="")
@limited
def channels(prefix: str, limit: int, as_json: bool) -> None:
    """List the channels that hold messages.

    Those that begin with PREFIX, the last used first. A log in Redis does not know which was
    used last. Channels that nobody has published to leave no trace.

    \b
    Examples:
      flask streaming channels
      flask streaming channels job: --json | jq -r .channel
    """
    with shared_hub() as hub:
        found = [_channel(hub, name) for name in hub.log.channels(prefix, limit)]
    rows = [row for row in found if row is not None]
    say_rows(rows, as_json=as_json, nothing="The log holds no such channels.")


def _channel(hub: Hub, name: str) -> dict[str, object] | None:
    """One channel; None if it has been forgotten meanwhile."""
    head, oldest = hub.log.tail(name), hub.log.tail(name, _ALL)
    if head.is_mark or oldest.is_mark:
        return None
    is_ended = hub.log.read(name, head, limit=1, size=1).ended
    held = head.offset - oldest.offset
    return {"channel": name, "messages": held, "newest": str(head), "ended": is_ended}


@command("members")
@click.argument("room")
def members(room: str, as_json: bool) -> None:
    """List who is in ROOM, over all workers.

    In the order they came. Members of a worker that has died are gone within 15 seconds.

    \b
    Examples:
      flask streaming members chat
      flask streaming members chat --json | jq -r .name
    """
    presence_channel(room)  # checks the name
    with shared_hub() as hub:
        found = hub.log.members(room)
    rows = [
        {"id": one.id, "name": one.name, "connections": one.connections, "info": one.info}
        for one in found
    ]
    say_rows(rows, as_json=as_json, nothing=f"Nobody is in {room}.")


@command("runs")
@limited
def runs(limit: int, as_json: bool) -> None:
    """List the runs that are kept.

    They are the answers of Streaming.run, and how they stand. One whose worker has died is
    ended by this: interrupted, as for everybody who asks.

    \b
    Examples:
      flask streaming runs
      flask streaming runs --limit 1000 --json | jq 'select(.state == "failed")'
      flask streaming tail run:ID --from-start
    """
    with shared_hub() as hub:
        known = Runs(hub, Presence(hub), most=1, hang_up=hang_up).kept(limit)
    rows = [
        {"id": run.id, "state": run.state, "started": run.started, "ended": run.ended}
        | {"detail": run.detail}
        for run in known
    ]
    say_rows(rows, as_json=as_json, nothing="The log holds no runs.")
