"""The files that the pages for readers show: as they stand there, run."""

import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.polling import wait_until

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"([^\n]+[:：])\n\n```\w+\n(.*?)^```", re.M | re.S)
FILE = re.compile(r"`([\w./-]+\.(?:py|html))`")


def shown(page: str, name: str) -> str:
    """The file of a page of ``docs/``: the block behind the line that names it last."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    (found,) = [block for line, block in BLOCK.findall(text) if FILE.findall(line)[-1:] == [name]]
    return str(found)


def run_shown(page: str, name: str, **waits: str) -> dict[str, Any]:
    """The names that the file defines. ``waits`` are shorter ones: ``every="every=0.1"``."""
    source = shown(page, name)
    for key, new in waits.items():
        assert source.count(WAITS[key]) == 1, f"{WAITS[key]!r} in {name}"
        source = source.replace(WAITS[key], new)
    defined: dict[str, Any] = {"__name__": name.removesuffix(".py")}
    exec(compile(source, name, "exec"), defined)
    return defined


WAITS = {"sleep": "time.sleep(2)", "every": "every=2"}


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        """No line for each request."""


@contextmanager
def serving(app: Flask) -> Generator[int]:
    """The port of 127.0.0.1 on which ``app`` is served, whatever it is made of, by threads."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Handler)
    thread = threading.Thread(target=lambda: server.serve_forever(0.01), name="guide")
    thread.start()
    try:
        yield server.server_port
    finally:
        if (state := app.extensions.get("streaming")) is not None:
            state.close()
            wait_until(lambda: not state.registry and state.presence.is_idle, "all have left")
            state.hub.log.close()
        server.shutdown()
        thread.join()
        server.server_close()
