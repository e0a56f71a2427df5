"""An application whose pages come from another host, with tickets; set up by the environment."""

import os

from flask import Flask, abort, request

from streaming import Streaming

app = Flask(__name__)
app.config.update(
    SECRET_KEY="live",
    STREAMING_LOG=os.environ.get("STREAMING_LOG", "memory:"),
)
streaming = Streaming(app)
app.after_request(streaming.allow_origin)


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
