"""An application for strangers to attack, which says how it is (``docs/security.md``)."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress

from flask import Flask, Response, request

from streaming import Sock, Streaming, stream
from streaming.web.state import current_state

app = Flask("attacked")
for name, text in os.environ.items():
    if name.startswith("STREAMING_"):
        app.config[name] = text
        with suppress(ValueError):
            app.config[name] = json.loads(text)
Streaming(app, authorize=lambda action, channel: True)


@app.get("/ticking")
def ticking() -> Response:
    """An answer without end."""

    def pieces() -> Iterator[str]:
        while True:
            yield "tick "
            time.sleep(0.1)

    return stream(pieces())


@app.post("/upload")
def upload() -> str:
    """A view of the application's own, which reads what it is sent."""
    return str(len(request.get_data()))


sock = Sock(app)
sock.route("/echo", endpoint="echo")(lambda ws: ws.send)
sock.route("/count", endpoint="count")(lambda ws: lambda message: ws.send(count()))
sock.route("/silent", endpoint="silent")(lambda ws: lambda message: None)


def count() -> str:
    """How many clients there are at this moment."""
    return str(len(current_state().registry.clients()))


@app.get("/")
def condition() -> dict[str, object]:
    """Who is connected, and what is open."""
    rows = current_state().registry.snapshot()
    return {
        "pid": os.getpid(),
        "clients": len(rows["clients"]),
        "peers": [row["peer"] for row in rows["clients"]],
        "ended": [row["reason"] for row in rows["ended"]],
        "refused": rows["refused"],
        "descriptors": len(os.listdir("/proc/self/fd")),
    }
