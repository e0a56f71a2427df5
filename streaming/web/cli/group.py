"""The group ``flask streaming``, which the extension gives to its application."""

from __future__ import annotations

from collections.abc import Mapping

import click
from flask import Flask
from flask.cli import AppGroup


class Commands(AppGroup):
    """Commands that are imported when one is asked for: a server's processes never need them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all, in order."""
        return sorted(self.all())

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The one that is called so, if there is one."""
        return self.all().get(name)

    def all(self) -> Mapping[str, click.Command]:
        """All of them by their names."""
        if not self.commands:
            from . import connected, lists, orders, prune, publish, tail, ticket
            from .bench import command as bench
            from .doctor import command as doctor

            for each in (
                publish.publish,
                tail.tail,
                lists.channels,
                lists.members,
                connected.clients,
                lists.runs,
                orders.disconnect,
                orders.revoke,
                prune.prune,
                ticket.ticket,
                doctor.doctor,
                bench.bench,
            ):
                self.add_command(each)
        return self.commands


commands = Commands(
    "streaming",
    help="""Look at channels, publish, and find out what is set up wrongly.

    The commands work on STREAMING_LOG, from outside the server's processes. Each says with --help
    how it is used, and with --json what it says as JSON.
    """,
)


def add_commands(app: Flask) -> None:
    """Have ``flask streaming`` in ``app``, unless it has a command of its own that is called so."""
    if "streaming" not in app.cli.commands:
        app.cli.add_command(commands)
