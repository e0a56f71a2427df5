"""An application that makes its promises behind a real server: see ``test_ways.py``."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from flask import Flask, Response, request

from streaming import SSE, Sock, Streaming, stream
from streaming.web.responses import event_stream
from streaming.web.state import current_state
from tests.middleware import Watching, Wsgi, collecting, compressing

SILENCE = 0.5
"""Seconds in which the producer says nothing, before and between its pieces."""


def make(wrap: Callable[[Wsgi], Any]) -> Flask:
    app = Flask("ways")
    app.config["STREAMING_HEARTBEAT"] = 0.2
    told = threading.Semaphore(0)
    Streaming(app, authorize=lambda action, channel: True)
    app.wsgi_app = wrapped = wrap(app.wsgi_app)  # type: ignore[method-assign]

    @app.get("/silent")
    def silent() -> Response:
        def pieces() -> Iterator[str]:
            for n in range(2):
                time.sleep(SILENCE)
                yield str(n)

        return stream(pieces(), form=SSE)

    @app.get("/waiting")
    def waiting() -> Response:
        """A producer that says nothing before it is told to, by ``/tell``."""

        def pieces() -> Iterator[str]:
            for n in range(2):
                told.acquire(timeout=60)
                yield str(n)

        return stream(pieces(), form=SSE)

    @app.get("/tell")
    def tell() -> str:
        told.release()
        return "told"

    @app.get("/failing")
    def failing() -> Response:
        def pieces() -> Iterator[str]:
            raise LookupError("secret")
            yield "never"

        return stream(pieces(), form=SSE)

    @app.post("/body")
    def body() -> Response:
        return event_stream(request, current_state(), ["a"])

    @app.get("/publish/<text>")
    def publish(text: str) -> str:
        current_state().hub.publish("a", text * int(request.args.get("times", 1)))
        return "published"

    @app.get("/")
    def state() -> dict[str, object]:
        registry = current_state().registry
        clients = [type(client).__name__ for client in registry.clients()]
        return {"seen": list(map(repr, getattr(wrapped, "seen", []))), "clients": clients}

    Sock(app).route("/rest")(lambda ws: ws.send)
    return app


app = make(lambda wsgi: wsgi)
watched = make(Watching)
collected = make(collecting)
compressed = make(compressing)
