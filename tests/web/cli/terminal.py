"""How tests call ``flask streaming …``: in this process, with an application of their own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from click.testing import Result
from flask import Flask

from streaming.hub.hub import Hub
from tests.polling import wait_until
from tests.sites import make_app


class Terminal:
    """Calls commands of one application."""

    def __init__(self, app: Flask) -> None:
        self.app = app

    @property
    def hub(self) -> Hub:
        """The application's own."""
        found: Hub = self.app.extensions["streaming"].hub
        return found

    def call(self, *args: str, given: str | bytes = b"") -> Result:
        """One command, whatever becomes of it."""
        return self.app.test_cli_runner().invoke(args=["streaming", *args], input=given)

    def ask(self, *args: str, given: str | bytes = b"") -> list[Any]:
        """What a command says as JSON; it has to end well."""
        result = self.call(*args, "--json", given=given)
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]


@contextmanager
def terminal(app: Flask | None = None, **config: object) -> Iterator[Terminal]:
    """Before a small application, whose log is let go of at the end."""
    app = app or make_app(**config)
    try:
        yield Terminal(app)
    finally:
        state = app.extensions["streaming"]
        state.close()
        wait_until(lambda: state.presence.is_idle, "all members have left")
        state.hub.log.close()
