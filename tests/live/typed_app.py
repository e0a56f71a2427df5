"""An application whose author has `mypy --strict`; tests/live/test_install.py has it checked."""

from collections.abc import Iterator

from flask import Flask
from flask.typing import ResponseReturnValue

from streaming import (
    Connection,
    Gap,
    Identity,
    Message,
    Part,
    Publisher,
    Sock,
    Streaming,
    StreamingError,
    chat,
    current_run,
    stream,
)


def may(action: str, channel: str, identity: Identity | None) -> bool:
    return action == "subscribe" or (identity is not None and channel.startswith(identity.id))


def who() -> Identity | None:
    return Identity("ada", name="Ada")


app = Flask(__name__)
streaming = Streaming(app, identify=who, authorize=may)
sock = Sock(app)


@app.post("/say/<text>")
def say(text: str) -> ResponseReturnValue:
    message: Message = streaming.publish("news", {"text": text}, event="said", key=text)
    return {"id": message.id, "to": message.channel}, 201


@app.get("/news")
def news() -> ResponseReturnValue:
    return streaming.events("news", history=10)


@app.get("/count")
def count() -> ResponseReturnValue:
    return stream((f"{n}\n" for n in range(3)), every=0.1)


def think(question: str) -> Iterator[str | Part]:
    yield Part("reasoning", "…")
    yield f"{current_run().id}: {question}"


@app.post("/ask")
def ask() -> ResponseReturnValue:
    return streaming.run(think, "Why?", key="why").response()


@sock.route("/echo")
def echo(ws: Connection) -> None:
    for message in ws:
        ws.send(message)


@sock.route("/room")
def room(ws: Connection) -> object:
    return chat(ws, "news")


def heard() -> list[str]:
    with streaming.subscribe("news", history=5) as items:
        return ["gap" if isinstance(item, Gap) else item.data for item in items]


def job() -> int:
    try:
        with Publisher("sqlite:///news.db") as publisher:
            publisher.publish("news", "done")
    except StreamingError as error:
        return error.status
    return len(streaming.members("news"))


def wrong() -> None:
    streaming.publish(7, "text")  # type: ignore[arg-type]  # strict: fails where types are missing
