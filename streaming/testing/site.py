"""An application on a real server in the test's process."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import WSGIRequestHandler, make_server

from ..errors import Recalled
from ..web.state import State
from .deadline import PATIENCE, Deadline, TooLate
from .reader import Reader
from .talk import Talk

REMEMBERS = "remember_token"
"""Flask-Login's cookie, where it is not called otherwise."""


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # as every server speaks it that people deploy on

    def log(self, type: str, message: str, *args: Any) -> None:
        """No line for each request."""


class Site:
    """Where clients of a test connect to; ``serve`` makes it.

    ``login`` is a ``FlaskClient``: log in with that as in any test. The cookies of its session, and
    Flask-Login's, are sent.
    """

    def __init__(self, app: Flask, port: int) -> None:
        self.app = app
        self.port = port

    @property
    def url(self) -> str:
        """For clients of others, such as ``http://127.0.0.1:40123``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def clients(self) -> list[dict[str, object]]:
        """Who is connected, as ``Streaming.clients`` says it."""
        return self._state.registry.snapshot()["clients"]

    def events(
        self,
        path: str,
        *,
        login: FlaskClient | None = None,
        headers: Mapping[str, str] | None = None,
        last_event_id: str | None = None,
        receive_buffer: int | None = None,
    ) -> Reader:
        """A client that reads an HTTP stream.

        Args:
            path: With its query, such as ``/streaming/events?channel=news``.
            login: Whose session it has.
            headers: ``{"Accept": "application/x-ndjson"}`` asks for lines of JSON.
            last_event_id: Where it goes on.
            receive_buffer: Bytes that the kernel takes for it, as far as it obeys; few for a client
                that is slow: it reads only when the test asks for the next event.

        Raises:
            TooLate: If there is no answer in 5 s.
        """
        given = self._headers(login, headers)
        given.setdefault("Accept", "text/event-stream")
        if last_event_id is not None:
            given["Last-Event-ID"] = last_event_id
        return Reader(self.port, path, given, receive_buffer)

    def websocket(
        self,
        path: str,
        *,
        login: FlaskClient | None = None,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
    ) -> Talk:
        """A client of a WebSocket.

        Raises:
            Refused: If the server answers with something else; it has the status.
            TooLate: If there is no answer in 5 s.
        """
        return Talk(self.port, path, self._headers(login, headers), subprotocols)

    def wait_clients(self, count: int, *, within: float | None = None) -> None:
        """Return once so many are connected, as after a client has left.

        Raises:
            TooLate: If there are more or fewer after so many seconds (5 if None).
        """
        for _ in self._look_until(count, within):
            time.sleep(0.005)

    def _look_until(self, count: int, within: float | None) -> Iterator[None]:
        """Something for each time that there are more or fewer; see ``wait_clients``."""
        deadline = Deadline(within, f"{count} clients")
        while len(there := self.clients) != count:
            if deadline.left() <= 0:
                raise TooLate(f"{deadline.missed()}. There are: {there}")
            yield

    def _end_all(self) -> None:
        """End everybody who is connected, or comes meanwhile."""
        for _ in self._look_until(0, None):
            for client in self._state.registry.clients():
                client.end(Recalled("The test is over."))
            time.sleep(0.005)

    @property
    def _state(self) -> State:
        state: State = self.app.extensions["streaming"]
        return state

    def _headers(
        self, login: FlaskClient | None, headers: Mapping[str, str] | None
    ) -> dict[str, str]:
        given = dict(headers or {})
        if login is not None:
            config = login.application.config
            names = {config["SESSION_COOKIE_NAME"], config.get("REMEMBER_COOKIE_NAME", REMEMBERS)}
            cookies = filter(None, map(login.get_cookie, sorted(names)))
            given["Cookie"] = "; ".join(f"{cookie.key}={cookie.value}" for cookie in cookies)
        return given


@contextmanager
def serve(app: Flask) -> Generator[Site]:
    """``app`` on a server of its own, with threads, on a free port of 127.0.0.1.

    Ends everybody who is still connected; the application may be served again.

    Raises:
        TooLate: If somebody is still there 5 s later, as a handler that does not end.
    """
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Handler)
    thread = threading.Thread(
        target=server.serve_forever, args=[0.01], name="streaming test server", daemon=True
    )
    thread.start()
    site = Site(app, server.server_port)
    try:
        yield site
        site._end_all()
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()
