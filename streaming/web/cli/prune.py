"""``flask streaming prune``."""

from __future__ import annotations

import click

from ...names import check_channel
from .command import command
from .log import shared_hub
from .saying import say


@command("prune")
@click.argument("channels", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(channels: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Let go of all messages that CHANNELS hold, for good.

    For what has to go before its time; what is over the retention goes by itself. The channels go
    on: their ids, their end, who follows them. A client that comes back for what is gone is told of
    a gap.

    \b
    Examples:
      flask streaming prune room:7
      flask streaming prune user:ada user:bob --yes --json
    """
    for name in channels:
        check_channel(name)
    if not yes:
        click.confirm(f"Forget all messages of {', '.join(channels)}?", abort=True, err=True)
    with shared_hub() as hub:
        for name in channels:
            count = hub.prune(name)
            say({"channel": name, "messages": count}, f"{name}  {count} gone", as_json=as_json)
