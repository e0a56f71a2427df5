"""An application that uses everything while it is imported: see ``test_preload.py``."""

import os

from flask import Flask

from streaming import Sock, Streaming, chat
from streaming.web.state import current_state

app = Flask("preloaded")
app.config["STREAMING_LOG"] = os.environ["STREAMING_LOG"]
streaming = Streaming(app, authorize=lambda action, channel: True)
sock = Sock(app)

with app.app_context():
    state = current_state()
    hub, presence = state.hub, state.presence  # kept, as applications do
    hub.log.check()
    streaming.publish("news", "imported")
    presence.join("hall", "house")
    with hub.subscribe("news", history=1) as early:
        assert [message.data for message in early.take(5)] == ["imported"]  # type: ignore[union-attr]


@sock.route("/chat")
def talk(ws):  # type: ignore[no-untyped-def]
    return chat(ws, "hall")


@app.get("/")
def pid() -> str:
    return str(os.getpid())


@app.get("/publish/<channel>/<text>")
def publish(channel: str, text: str) -> str:
    hub.publish(channel, text)
    return "published"


@app.get("/join/<member>")
def join(member: str) -> str:
    presence.join("hall", member)
    return "joined"


@app.get("/leave/<member>")
def leave(member: str) -> str:
    presence.leave("hall", member)
    return "left"
