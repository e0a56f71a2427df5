"""What all commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from flask.cli import with_appcontext

from ...errors import StreamingError


class Command(click.Command):
    """A command that says our own errors in one line, and ends with 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StreamingError as error:
            raise click.ClickException(str(error)) from error


def command(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a command: inside the application's context, and with ``--json``."""

    def make(function: Callable[..., None]) -> click.Command:
        option = click.option(
            "--json", "as_json", is_flag=True, help="Say it as JSON, one object a line."
        )
        return click.command(name, cls=Command)(option(with_appcontext(function)))

    return make
