"""The app that is measured: streams, chat and echo on the package's public API alone."""

import os

from flask import Flask, Response, request

from streaming import Connection, Sock, Streaming, Take, chat

app = Flask(__name__)
app.config["STREAMING_LOG"] = os.environ.get("BENCH_LOG", "memory:")
app.config["STREAMING_RETENTION_SIZE"] = 1024 * 1024
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
