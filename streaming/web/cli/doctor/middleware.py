"""What middleware and hooks around the application make of a stream, tried with a real one.

The application is asked for a stream in place of its views, in this process: WSGI middleware and
``after_request`` hooks do with it what they do to every stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from flask import Flask
from werkzeug.test import EnvironBuilder

from ....clients.formats import SSE
from ...stream import stream
from .finding import Check, Finding, Scene

PIECES = 400
"""Pieces that the stream has, of some 100 bytes each: more than anything collects by itself."""

AHEAD = 3
"""Pieces that may be asked for before the first has passed."""


class Passed(NamedTuple):
    """What became of a stream."""

    asked: int
    """Pieces that were asked for before the first passed."""
    is_changed: bool
    """Whether other bytes came out."""


def try_stream(app: Flask) -> Passed:
    """Have ``app`` answer a request with a stream, and see what comes out."""
    asked, first, out = 0, 0, b""

    def pieces() -> Iterator[str]:
        nonlocal asked
        for number in range(PIECES):
            asked += 1
            yield f"piece {number} {'-' * 80}"

    with _answering(app, lambda *_: stream(pieces(), form=SSE)):
        environ = EnvironBuilder(path="/", headers=[("Accept-Encoding", "gzip")]).get_environ()
        heads: list[tuple[str, str]] = []
        begin: Any = lambda status, headers, *_: heads.extend(headers)  # noqa: E731
        body = app.wsgi_app(environ, begin)
        try:
            for data in body:
                out += data
                first = first or (asked if data and asked else 0)
        finally:
            getattr(body, "close", lambda: None)()
    names = {name.lower() for name, _ in heads}
    is_whole = all(b"data: piece %d -" % number in out for number in (0, PIECES - 1))
    return Passed(first, "content-encoding" in names or not is_whole)


@contextmanager
def _answering(app: Flask, answer: Any) -> Iterator[None]:
    """Have all requests answered so: no route, and no hook before, is asked."""
    before = dict(vars(app))
    own: dict[str, Any] = {"preprocess_request": lambda *_: None, "dispatch_request": answer}
    vars(app).update(own)
    try:
        yield
    finally:
        for name in own:
            del vars(app)[name]
            if name in before:
                setattr(app, name, before[name])


def passage(scene: Scene) -> Finding | None:
    """Whether a stream passes piece by piece, as it is."""
    try:
        passed = try_stream(scene.app)
    except Exception as error:  # whatever stands around the application
        return Finding(
            "middleware",
            f"The app fails to answer with a stream: {type(error).__name__}: {error}",
            "What stands around it could not be looked at.",
            "See whether a middleware or an after_request hook expects a body that it can read.",
            "troubleshooting.md#nothing-arrives-or-all-of-it-at-the-end",
            is_seen=False,
        )
    if passed.asked > AHEAD:
        return Finding(
            "middleware",
            "A middleware or an after_request hook holds back streams.",
            "Clients see nothing, or all of it late.",
            "Keep what collects, compresses or measures bodies away from streams; a hook asks "
            "response.is_streamed first.",
            "troubleshooting.md#nothing-arrives-or-all-of-it-at-the-end",
        )
    if passed.is_changed:
        return Finding(
            "middleware",
            "A middleware compresses or changes streams.",
            "Each client costs a thread then, and browsers may see events late.",
            "Keep it away from text/event-stream and application/x-ndjson.",
            "deployment.md#direct-writes-and-middleware",
        )
    return None


CHECKS = (Check("middleware", passage),)
