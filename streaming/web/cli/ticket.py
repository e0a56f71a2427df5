"""``flask streaming ticket``."""

from __future__ import annotations

import click
from flask import Flask, current_app

from ...identity import Identity
from ..issued import Issued, keys_of
from ..permissions import Action
from ..tickets import ACTIONS, LIFE
from .command import command
from .log import shared_hub
from .saying import say


@command("ticket")
@click.argument("channels", nargs=-1, required=True)
@click.option(
    "--action",
    "actions",
    multiple=True,
    type=click.Choice(ACTIONS),
    default=("subscribe",),
    show_default=True,
    help="What it allows; repeatable.",
)
@click.option(
    "--seconds",
    type=click.IntRange(1, LIFE),
    default=60,
    show_default=True,
    help="How long it is good for.",
)
@click.option("--identity", help="Whose it is; a stranger's without.")
@click.option("--once", is_flag=True, help="The first use is the last one.")
def ticket(
    channels: tuple[str, ...],
    actions: tuple[Action, ...],
    seconds: int,
    identity: str | None,
    once: bool,
    as_json: bool,
) -> None:
    """Give a ticket for CHANNELS, and say it.

    CHANNELS are names, or patterns such as 'room:*'. The ticket goes into a URL:
    ?channel=news&ticket=… Whoever has it may do what it says: nobody else is asked. Needs the
    SECRET_KEY of the server.

    \b
    Examples:
      flask streaming ticket news
      flask streaming ticket 'room:*' --action subscribe --action publish --seconds 600
      flask streaming ticket private:42 --identity 42 --once --json | jq -r .ticket
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    who = None if identity is None else Identity(identity)
    with shared_hub() as hub:
        text = Issued(hub).give(keys_of(app), channels, actions, who, seconds=seconds, is_once=once)
    said = {"ticket": text, "channels": list(channels), "actions": list(actions)}
    say({**said, "identity": identity, "seconds": seconds, "once": once}, text, as_json=as_json)
