"""A small application for every server there is: see ``test_servers.py``."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from a2wsgi import WSGIMiddleware
from flask import Flask, Response

from streaming import Connection, Sock, Streaming, stream

app = Flask("servers")
app.config["STREAMING_LOG"] = os.environ.get("STREAMING_LOG", "memory:")
app.config["STREAMING_HEARTBEAT"] = 0.25
streaming = Streaming(app, authorize=lambda action, channel: True)
sock = Sock(app)


@app.get("/")
def clients() -> list[str]:
    """Who is connected, by the class that serves them."""
    return [type(client).__name__ for client in app.extensions["streaming"].registry.clients()]


@app.get("/count")
def count() -> Response:
    """Pieces of the application's own, one after another."""

    def pieces() -> Iterator[str]:
        for n in range(3):
            yield f"{n} "
            time.sleep(0.3)

    return stream(pieces())


@sock.route("/loop")
def loop(ws: Connection) -> None:
    """A handler that reads."""
    for message in ws:
        ws.send(message)


@sock.route("/function")
def function(ws: Connection) -> Callable[[Any], None]:
    """A handler that returns what is called."""
    return lambda message: ws.send(message)


asgi = WSGIMiddleware(app, workers=20)
