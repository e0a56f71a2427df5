"""An application that has gevent's thread pool do its work: see ``test_native_threads.py``."""

import os

import gevent
from flask import Flask

from streaming import Sock, Streaming
from streaming.web.state import current_state

app = Flask("pool")
app.config["STREAMING_LOG"] = os.environ["STREAMING_LOG"]
streaming = Streaming(app, authorize=lambda action, channel: True)
sock = Sock(app)


def pool():  # type: ignore[no-untyped-def]
    return gevent.get_hub().threadpool


def work(channel: str, name: str, count: int) -> None:
    with app.app_context():
        presence = current_state().presence
        presence.join("hall", name)
        for n in range(count):
            streaming.publish(channel, f"{name}:{n}")
        assert name in [member.id for member in streaming.members("hall")]
        presence.leave("hall", name)


@app.get("/")
def home() -> str:
    return "home"


@app.get("/spawn/<channel>/<name>/<int:count>")
def spawn(channel: str, name: str, count: int) -> str:
    pool().spawn(work, channel, name, count)
    return "spawned"


@app.get("/apply/<channel>/<name>/<int:count>")
def apply(channel: str, name: str, count: int) -> str:
    pool().apply(work, (channel, name, count))
    return "applied"


@sock.route("/loop")
def loop(ws):  # type: ignore[no-untyped-def]
    while (text := pool().apply(ws.receive)) != "bye":
        assert pool().apply(lambda: ws.connected)
        pool().apply(ws.send, (f"loop {text}",))
    pool().apply(ws.close, (1000, "bye"))


@sock.route("/rest")
def rest(ws):  # type: ignore[no-untyped-def]
    return lambda text: pool().apply(ws.send, (f"rest {text}",))
