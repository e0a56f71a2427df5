"""A small application for every server there is: see ``test_servers.py``."""

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from a2wsgi import WSGIMiddleware
from flask import Flask, Response

from streaming import Connection, Sock, Streaming, stream

app = Flask("servers")
app.config["STREAMING_LOG"] = os.environ.get("STREAMING_LOG", "memory:")
app.config["STREAMING_HEARTBEAT"] = float(os.environ.get("HEARTBEAT", "0.25"))
streaming = Streaming(app, authorize=lambda action, channel: True)
sock = Sock(app)
go_on = threading.Event()


@app.get("/")
def clients() -> list[str]:
    """Who is connected, by the class that serves them."""
    return [type(client).__name__ for client in app.extensions["streaming"].registry.clients()]


@app.get("/count")
def count() -> Response:
    """Pieces of the application's own: the first, and once that has come the others."""

    def pieces() -> Iterator[str]:
        yield "0 "
        go_on.wait(60)
        yield from ("1 ", "2 ")

    return stream(pieces())


@app.post("/go-on")
def tell() -> dict[str, str]:
    """What ``count`` waits for."""
    go_on.set()
    return {"told": "count"}


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
