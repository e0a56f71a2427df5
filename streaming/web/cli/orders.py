"""``flask streaming disconnect`` and ``revoke``: orders to all workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ...hub.orders import Order, give, order_of
from .command import command
from .log import shared_hub
from .saying import say


def whom(function: Callable[..., None]) -> Callable[..., None]:
    """Options that say who is meant."""
    for name, text in (
        ("client", "The connection that streaming.clients() calls so."),
        ("channel", "Who follows this channel."),
        ("identity", "The connections of who has this id, as identify says it."),
    ):
        function = click.option(f"--{name}", help=text)(function)
    return function


@command("disconnect")
@whom
def disconnect(as_json: bool, **who: str | None) -> None:
    """Have connections made anew, on all workers.

    Within a second. Clients come back by themselves and resume, unless identify or authorize
    refuses them by then. Where several options are given, those are meant that are all of it.

    \b
    Examples:
      flask streaming disconnect --identity 42
      flask streaming disconnect --channel team:7
    """
    _order("disconnect", who, as_json)


@command("revoke")
@whom
def revoke(as_json: bool, **who: str | None) -> None:
    """End connections for good, on all workers.

    Within a second, and they are told not to come back. Where --channel is given they are to
    come back, for they may follow others. End the permission itself before: who comes again is
    asked again.

    \b
    Examples:
      flask streaming revoke --identity 42
      flask streaming revoke --client 5d0f9c3e81b2a764
    """
    _order("revoke", who, as_json, is_final=who["channel"] is None)


def _order(verb: str, who: dict[str, Any], as_json: bool, *, is_final: bool = False) -> None:
    given = {name: value for name, value in who.items() if value is not None}
    if not given:
        raise click.UsageError("Say whom: --identity, --channel or --client.")
    order: Order = order_of(**who, is_final=is_final)
    with shared_hub() as hub:
        give(hub, order)
    meant = ", ".join(f"{name} {value}" for name, value in given.items())
    say({"order": verb, **given}, f"All workers are told: {verb} {meant}.", as_json=as_json)
