"""The app that is measured: streams, chat and echo on the package's public API alone."""

import os
import time
from collections.abc import Iterator

from flask import Flask, Response, request

from streaming import Connection, Sock, Streaming, Take, chat

app = Flask(__name__)
app.config["STREAMING_LOG"] = os.environ.get("BENCH_LOG", "memory:")
app.config["STREAMING_RETENTION_SIZE"] = 1024 * 1024
app.config["STREAMING_RUNS"] = 1000
app.config["STREAMING_PUBLIC"] = ["*"]
streaming = Streaming(app)
sock = Sock(app)


@app.get("/events")
def events() -> Response:
    """One SSE subscription, resumable; of one channel, or of those that are named."""
    return streaming.events(*(request.args.getlist("channel") or ["bench"]))


@app.post("/publish")
def publish() -> tuple[str, int]:
    """The body becomes one event for every subscriber."""
    streaming.publish("bench", request.get_data(as_text=True))
    return "", 204


@sock.route("/ws")
def talk(ws: Connection) -> Take:
    """The tutorial's chat."""
    return chat(ws, "bench", check=False)


@sock.route("/echo")
def echo(ws: Connection) -> Take:
    """``You said: X``, to the sender only."""
    return lambda text: ws.send(f"You said: {text}")


def pieces(count: int, pause: float) -> Iterator[str]:
    """An answer."""
    for n in range(count):
        yield f"piece {n} "
        time.sleep(pause)


@app.post("/ask")
def ask() -> Response:
    """An answer that outlives its request."""
    return streaming.run(
        pieces, int(request.args["count"]), float(request.args["pause"])
    ).response()
