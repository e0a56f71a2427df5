"""The group ``flask streaming``, which the extension gives to its application."""

from __future__ import annotations

from flask import Flask
from flask.cli import AppGroup

from . import connected, lists, orders, publish, tail, ticket
from .doctor import command as doctor

commands = AppGroup(
    "streaming",
    help="""Look at channels, publish, and find out what is set up wrongly.

    The commands work on STREAMING_LOG, from outside the server's processes. Each says with --help
    how it is used, and with --json what it says as JSON.
    """,
)
for _each in (
    publish.publish,
    tail.tail,
    lists.channels,
    lists.members,
    connected.clients,
    lists.runs,
    orders.disconnect,
    orders.revoke,
    ticket.ticket,
    doctor.doctor,
):
    commands.add_command(_each)


def add_commands(app: Flask) -> None:
    """Have ``flask streaming`` in ``app``, unless it has a command of its own that is called so."""
    if "streaming" not in app.cli.commands:
        app.cli.add_command(commands)
