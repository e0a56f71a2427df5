"""An app with handlers of both kinds, for ``test_sock_servers.py``."""

import os
import time
from collections.abc import Callable

from flask import Flask, current_app, has_request_context

from streaming import Connection, Sock, Streaming, Take, chat

app = Flask(__name__)
app.config["STREAMING_LOG"] = os.environ.get("STREAMING_LOG", "memory:")
streaming = Streaming(app, authorize=lambda action, channel: not channel.startswith("private"))
sock = Sock(app)


def around() -> str:
    """What is there now, published so that everybody can see it."""
    text = f"{current_app.name} {has_request_context()}"
    streaming.publish("told", text)
    return text


@sock.route("/returns")
def returns(ws: Connection) -> Callable[[object], None]:
    """A function that publishes; and so does the end."""
    ws.on_end(around)  # type: ignore[arg-type]
    return lambda message: ws.send(around())


@sock.route("/pushes")
def pushes(ws: Connection) -> None:
    """Only sends; its end is published."""
    try:
        while True:
            ws.send("tick")
            time.sleep(0.01)
    finally:
        streaming.publish("told", "the push is over")


@sock.route("/rooms/<room>")
def talk(ws: Connection, room: str) -> Take:
    """The README's."""
    return chat(ws, room)
