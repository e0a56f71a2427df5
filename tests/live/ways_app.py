"""An application that makes its promises behind a real server: see ``test_ways.py``."""

import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Flask, Response, request

from streaming import SSE, Sock, Streaming, current_state, stream
from streaming.web.responses import event_stream

SILENCE = 1.6
"""Seconds in which the producer says nothing, before and between its pieces."""

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Watching:
    """What Sentry and others do: they see what leaves the application, and its iterable."""

    def __init__(self, app: Wsgi) -> None:
        self.app = app
        self.seen: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        pieces: Any = None
        try:
            pieces = self.app(environ, lambda *how: start_response(*how))
            yield from pieces
        except GeneratorExit:
            raise
        except BaseException as error:
            self.seen.append(repr(error))
            raise
        finally:
            getattr(pieces, "close", lambda: None)()


def collecting(app: Wsgi) -> Wsgi:
    def wrapped(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        held, pieces = b"", app(environ, start_response)
        try:
            for piece in pieces:
                held += piece
                if len(held) > 10_000:
                    yield held
                    held = b""
            yield held
        finally:
            getattr(pieces, "close", lambda: None)()

    return wrapped


def compressing(app: Wsgi) -> Wsgi:
    def wrapped(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        packer = zlib.compressobj(wbits=31)
        pieces = app(
            environ,
            lambda status, headers, *rest: start_response(
                status, [*headers, ("Content-Encoding", "gzip")], *rest
            ),
        )
        try:
            for piece in pieces:
                yield packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
            yield packer.flush()
        finally:
            getattr(pieces, "close", lambda: None)()

    return wrapped


def make(wrap: Callable[[Wsgi], Any]) -> Flask:
    app = Flask("ways")
    app.config["STREAMING_HEARTBEAT"] = 0.2
    Streaming(app, authorize=lambda action, channel: True)
    app.wsgi_app = wrapped = wrap(app.wsgi_app)  # type: ignore[method-assign]

    @app.get("/silent")
    def silent() -> Response:
        def pieces() -> Iterator[str]:
            for n in range(2):
                time.sleep(SILENCE)
                yield str(n)

        return stream(pieces(), form=SSE)

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
        return {"seen": getattr(wrapped, "seen", []), "clients": clients}

    Sock(app).route("/rest")(lambda ws: ws.send)
    return app


app = make(lambda wsgi: wsgi)
watched = make(Watching)
collected = make(collecting)
compressed = make(compressing)
