"""``flask streaming doctor``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
from flask import Flask, current_app

from ...state import current_state
from ..command import command
from ..log import own_hub
from ..saying import note, say
from . import application, machine, middleware
from .finding import Finding, Scene
from .server import Server, read_config

HERE = (*application.CHECKS, *machine.CHECKS, *middleware.CHECKS)
"""What is looked at on this machine, in this order."""

NAMES = tuple(check.name for check in HERE)

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
def doctor(config: str | None, ignore: tuple[str, ...], as_json: bool) -> None:
    """Look at the app and this machine, and say what to change.

    Ends with 0 if all is well, with 1 if there is something to change, and with 2 if something
    could not be looked at: fit for CI.

    \b
    Examples:
      flask streaming doctor
      flask streaming doctor --gunicorn-config deploy/gunicorn.conf.py
      flask streaming doctor --ignore file-limit --ignore trusted-hosts --json
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    found = []
    for finding in _look(app, config, ignore):
        found.append(finding)
        say(finding.describe(), _text(finding), as_json=as_json)
    changes = sum(finding.is_seen for finding in found)
    if not as_json:
        note(f"To change: {changes}. Not looked at: {len(found) - changes}.")
    sys.exit(1 if changes else 2 if found else 0)


def _look(app: Flask, config: str | None, ignore: tuple[str, ...]) -> Iterator[Finding]:
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
    return "\n".join([head, *(f"    {line}" for line in lines), ""])
