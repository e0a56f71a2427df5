"""An assistant whose model is the test: what it reads comes from the server at ``UPSTREAM``."""

import os
from collections.abc import Iterator

import httpx
from flask import Flask, Response, request

from streaming import Streaming, current_run

app = Flask(__name__)
app.config.update({k: v for k, v in os.environ.items() if k.startswith("STREAMING_")})
app.config["STREAMING_PONG_TIMEOUT"] = None  # who is not read from in a test answers no ping
streaming = Streaming(app, authorize=lambda action, channel: True)


def answer(name: str) -> Iterator[str]:
    """What the upstream says, as it comes."""
    with (
        httpx.Client(timeout=60) as client,
        client.stream("GET", f"{os.environ['UPSTREAM']}/{name}") as upstream,
    ):
        current_run().closes(upstream)
        upstream.raise_for_status()
        yield from upstream.iter_text()


@app.get("/")
def home() -> str:
    return "here"


@app.post("/ask/<name>")
def ask(name: str) -> Response:
    how = request.args.get("alone", "continue")
    alone = how if how in ("continue", "cancel") else float(how)
    return streaming.run(answer, name, on_disconnect=alone).response()  # type: ignore[arg-type]


@app.after_request
def name_worker(response: Response) -> Response:
    response.headers["X-Worker"] = str(os.getpid())
    return response
