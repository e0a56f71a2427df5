"""The files that the pages for readers show: as they stand there, run."""

import re
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.polling import wait_until

ROOT = Path(__file__).parents[1]
SHOWN = re.compile(r"`([\w./-]+)`[^`\n]*(?:\n[^`\n]+)*[:：]\n\n```\w+\n(.*?)^```", re.M | re.S)


def shown(page: str, name: str) -> str:
    """The file that a page of ``docs/`` calls by this name, in the sentence before it."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    (found,) = [block for called, block in SHOWN.findall(text) if called == name]
    return str(found)


def run_shown(page: str, name: str, **changed: str) -> dict[str, Any]:
    """The names that the file defines. ``changed`` are words of it that the test needs otherwise,
    as shorter waits: ``old=new``, where ``old`` is the key of ``CHANGES``."""
    source = shown(page, name)
    for key, new in changed.items():
        old = CHANGES[key]
        assert source.count(old) == 1, f"{old!r} in {name}"
        source = source.replace(old, new)
    defined: dict[str, Any] = {"__name__": name.removesuffix(".py")}
    exec(compile(source, name, "exec"), defined)
    return defined


CHANGES: Mapping[str, str] = {"sleep": "time.sleep(2)", "every": "every=2", "steps": "0.2"}


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
