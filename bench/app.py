"""The app that is measured: streams, chat and echo on the package's public API alone."""

from flask import Flask, Response, request

from streaming import Connection, Sock, State, Streaming, chat

app = Flask(__name__)
streaming = Streaming(app)
sock = Sock(app)


@app.get("/events")
def events() -> Response:
    """One SSE subscription, resumable."""
    return streaming.events("bench")


@app.post("/publish")
def publish() -> tuple[str, int]:
    """The body becomes one event for every subscriber."""
    streaming.publish("bench", request.get_data(as_text=True))
    return "", 204


@sock.route("/ws", detached=True)
def talk(ws: Connection, state: State) -> None:
    """The tutorial's chat."""
    chat(ws, state, "bench")


@sock.route("/echo", detached=True)
def echo(ws: Connection, state: State) -> None:
    """``You said: X``, to the sender only."""
    for text in ws:
        ws.send(f"You said: {text}")
