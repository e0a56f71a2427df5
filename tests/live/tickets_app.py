"""An application whose pages come from another host, with tickets; set up by the environment."""

import os

from flask import Flask, abort, request, session

from streaming import Streaming

app = Flask(__name__)
app.config.update(
    SECRET_KEY="live",
    STREAMING_LOG=os.environ.get("STREAMING_LOG", "memory:"),
    STREAMING_ORIGINS=os.environ.get("ORIGINS", "").split(),
    STREAMING_HEADERS=["X-Team"],
    TRUSTED_HOSTS=os.environ.get("HOSTS", "").split() or None,
)


def identify() -> str | None:
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return session.get("user") or bearer or None


streaming = Streaming(app, identify=identify)
app.after_request(streaming.allow_origin)


@app.get("/")
def page() -> str:
    return "<!doctype html><title>a page</title><link rel=icon href=data:,>"


@app.post("/login/<id>")
def login(id: str) -> tuple[str, int]:
    session["user"] = id
    return "", 204


@app.post("/disconnect/<id>")
def disconnect(id: str) -> tuple[str, int]:
    streaming.disconnect(identity=id)
    return "", 204


@app.post("/ticket/<id>")
def give(id: str) -> str:
    once, seconds = "once" in request.args, int(request.args.get("seconds", 60))
    own = streaming.user_channel(id)
    return streaming.ticket("news", own, identity=id, once=once, seconds=seconds)


@app.post("/news")
def news() -> tuple[str, int]:
    streaming.publish("news", request.get_data(as_text=True))
    return "", 204


@app.post("/revoke/<id>")
def revoke(id: str) -> tuple[str, int]:
    streaming.revoke(identity=id)
    return "", 204


@app.get("/missing")
def missing() -> None:
    abort(404)
