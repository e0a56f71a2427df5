"""``flask streaming doctor``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import click
from flask import Flask, current_app

from ....names import check_channel
from ...state import current_state
from ..command import command
from ..log import own_hub
from ..saying import note, printable, say
from . import application, machine, middleware, proxy
from .address import Address
from .finding import Finding, Scene
from .server import Server, read_config
from .visit import Visit, readable

HERE = (*application.CHECKS, *machine.CHECKS, *middleware.CHECKS)
"""What is looked at on this machine, in this order."""

NAMES = (*(check.name for check in HERE), *proxy.NAMES)

UNREAD = "gunicorn-config"


@command("doctor")
@click.option(
    "--gunicorn-config",
    "config",
    type=click.Path(dir_okay=False),
    help="How the server runs.  [default: gunicorn.conf.py, if it is here]",
)
@click.option(
    "--ignore", multiple=True, type=click.Choice(NAMES), help="Leave a check out; repeatable."
)
@click.option("--url", help="Look at the server, too, as clients reach it: https://example.org")
@click.option("--channel", help="What to read there.  [default: one of STREAMING_PUBLIC]")
@click.option("--header", "headers", multiple=True, help="Who reads: 'Cookie: …'; repeatable.")
@click.option(
    "--wait",
    type=click.FloatRange(0.1, 60),
    default=5.0,
    show_default=True,
    help="Seconds after which an event counts as held back.",
)
@click.option(
    "--idle",
    type=click.FloatRange(0, 3600),
    help="Seconds of silence to try; 0 for none.  [default: the heartbeat and 5 more]",
)
def doctor(
    config: str | None,
    ignore: tuple[str, ...],
    url: str | None,
    channel: str | None,
    headers: tuple[str, ...],
    wait: float,
    idle: float | None,
    as_json: bool,
) -> None:
    """Look at the app and this machine, and say what to change.

    With --url it looks at the server through its proxy, too. It then publishes four small events,
    called doctor, to the channel that it reads.

    Ends with 0 if all is well, with 1 if there is something to change, and with 2 if something
    could not be looked at: fit for CI.

    \b
    Examples:
      flask streaming doctor
      flask streaming doctor --gunicorn-config deploy/gunicorn.conf.py
      flask streaming doctor --url https://example.org --channel news
      flask streaming doctor --ignore file-limit --ignore trusted-hosts --json
    """
    way = None if url is None else _Way(_address(url, headers), channel, wait, idle)
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    found = []
    for finding in _look(app, config, ignore, way, as_json):
        if finding.check in ignore:
            continue
        found.append(finding)
        say(finding.describe(), _text(finding), as_json=as_json)
    changes = sum(finding.is_seen for finding in found)
    if not as_json:
        note(f"To change: {changes}. Not looked at: {len(found) - changes}.")
    sys.exit(1 if changes else 2 if found else 0)


class _Way(NamedTuple):
    """How the server is reached."""

    address: Address
    channel: str | None
    wait: float
    idle: float | None


def _look(
    app: Flask, config: str | None, ignore: tuple[str, ...], way: _Way | None, as_json: bool
) -> Iterator[Finding]:
    server: Server | None = None
    if config is None and Path("gunicorn.conf.py").exists():
        config = "gunicorn.conf.py"
    if config is not None:
        try:
            server = read_config(config)
        except ValueError as error:
            yield _unread(config, error)
    with own_hub() as hub:
        scene = Scene(app, current_state(), hub, server, machine.open_files())
        for check in HERE:
            if check.name not in ignore:
                yield from check(scene)
        if way is not None:
            how = _visit(scene, way)
            if not as_json:
                note(f"Looking at {way.address.origin}, for {how.idle:g} s without a word.\n")
            yield from proxy.visit(how)


def _visit(scene: Scene, way: _Way) -> Visit:
    state, urls = scene.state, scene.app.url_map.bind("localhost")
    settings = state.settings
    return Visit(
        way.address,
        events=urls.build(f"{state.name}.events"),
        socket=urlsplit(urls.build(f"{state.name}.socket")).path,
        channel=check_channel(way.channel or readable(settings.public)),
        hub=None if settings.log == "memory:" else scene.hub,
        wait=way.wait,
        idle=(settings.heartbeat or 0.0) + 5.0 if way.idle is None else way.idle,
        heartbeat=settings.heartbeat,
    )


def _address(url: str, headers: tuple[str, ...]) -> Address:
    split = [line.partition(":") for line in headers]
    if not all(name.strip() and colon for name, colon, _ in split):
        raise click.UsageError("--header is a name, a colon and what it says: 'Cookie: session=…'")
    try:
        return Address(url, {name.strip(): value.strip() for name, _, value in split})
    except ValueError as error:
        raise click.UsageError(f"--url: {error}") from error


def _unread(config: str, error: Exception) -> Finding:
    return Finding(
        UNREAD,
        f"{config} cannot be read: {error}",
        "The server's workers, time-outs and limits were not looked at.",
        f"See what gunicorn says itself: gunicorn --check-config --config {config} app:app",
        "deployment.md#your-app",
        is_seen=False,
    )


def _text(finding: Finding) -> str:
    head = finding.check if finding.is_seen else f"{finding.check} (not looked at)"
    lines = (finding.what, finding.why, f"-> {finding.change}", f"docs/{finding.page}")
    return "\n".join([head, *(f"    {printable(line)}" for line in lines), ""])
