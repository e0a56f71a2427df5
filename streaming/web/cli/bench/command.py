"""``flask streaming bench``."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from flask import Flask, current_app

from ...state import current_state
from ..command import command
from ..doctor.address import Address
from ..log import shared_hub
from ..saying import printable, say
from .follower import Refused
from .load import Load, Work
from .score import Score, quantile

F = TypeVar("F", bound=Callable[..., Any])


def _number(
    name: str, kind: click.IntRange | click.FloatRange, default: float, text: str
) -> Callable[[F], F]:
    return click.option(name, type=kind, default=default, show_default=True, help=text)


@command("bench")
@click.option("--url", required=True, help="Where the app begins: https://example.org/app")
@_number("--connections", click.IntRange(1, 5000), 100, "Event streams.")
@_number("--rate", click.FloatRange(0.1, 10_000), 20.0, "Messages in a second, over all channels.")
@_number("--channels", click.IntRange(1, 1000), 10, "Channels that are published to.")
@_number("--each", click.IntRange(1, 32), 2, "Channels that each stream follows.")
@_number("--seconds", click.FloatRange(1, 3600), 10.0, "How long it takes.")
@_number("--cut", click.FloatRange(0, 3600), 0.0, "Seconds between two cuts; 0 for none.")
@click.option("--prefix", default="bench:", show_default=True, help="What its channels begin with.")
def bench(
    url: str,
    connections: int,
    rate: float,
    channels: int,
    each: int,
    seconds: float,
    cut: float,
    prefix: str,
    as_json: bool,
) -> None:
    """Have many clients follow, and count every message.

    --connections event streams follow --each of --channels channels. --rate messages in a second
    are published to these over the log, for --seconds. Every --cut seconds each connection is cut,
    as mobile networks do, and comes back with its last id. Ends with 1 if anything is lost or
    doubled.

    The clients are in this one process: more than it can serve makes it the slow one. Strangers
    have to be able to read the channels: STREAMING_PUBLIC = ['bench:*'].

    \b
    Examples:
      flask streaming bench --url http://127.0.0.1:8000
      flask streaming bench --url https://example.org --connections 1000 --cut 5 --json
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    try:
        Address(url, {})
    except ValueError as error:
        raise click.UsageError(f"--url: {error}") from error
    if each > channels:
        raise click.UsageError("--each is more than --channels.")
    path = app.url_map.bind("localhost").build(f"{current_state().name}.events")
    token = secrets.token_hex(4)
    names = [f"{prefix}{token}:{number}" for number in range(channels)]
    work = Work(url.rstrip("/") + path, names, each, connections, rate, seconds, cut)
    with shared_hub() as hub:
        load = Load(work, hub)
        try:
            _run(load, seconds, is_shown=not as_json)
        except OSError as error:
            raise click.ClickException(f"{url}: {error}") from error
        except Refused as error:
            raise click.ClickException(
                f"{url}: a stream is answered with {printable(str(error))}. Strangers have to be "
                f"able to read the channels: STREAMING_PUBLIC = [{prefix + '*'!r}], or another "
                "--prefix."
            ) from error
    figures = _figures(load.score, load.published, connections)
    text = "\n".join(f"{name:<16}{value}" for name, value in figures.items())
    say(figures, text, as_json=as_json)
    sys.exit(1 if figures["lost"] or figures["doubled"] else 0)


def _run(load: Load, seconds: float, *, is_shown: bool) -> None:
    if not is_shown:
        load.run(lambda passed: None)
        return
    with click.progressbar(length=int(seconds * 10), file=sys.stderr) as bar:
        load.run(lambda passed: bar.update(round(passed * 10)))


def _figures(score: Score, published: int, connections: int) -> dict[str, Any]:
    named = ("delivered", "lost", "doubled", "gaps", "cuts", "broken")
    figures: dict[str, Any] = {"connections": connections, "published": published}
    figures |= {name: score.counts[name] for name in named}
    for name, values in (("delivery", score.waits), ("replay", score.replays)):
        for share in (50, 99):
            found = quantile(values, share / 100)
            figures[f"{name}_p{share}_ms"] = None if found is None else round(found * 1000, 1)
    return figures
