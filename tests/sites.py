"""A real threaded server for one test, and what must hold at its end: all gone, no error said."""

import atexit
import functools
import json
import logging
import socket
import ssl
import subprocess
import tempfile
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import websocket as websocket_client
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from streaming import Streaming
from streaming.clients import deadlines, requested
from streaming.clients.registry import Registry
from streaming.web.state import State
from tests.live.clients import RawClient, read_head
from tests.polling import PATIENCE, wait_until

TICK = 0.02
"""Seconds between two looks at clients in tests, so that what is noticed is noticed soon."""


@dataclass(frozen=True)
class Way:
    """One of the ways to reach a client. In a process of greenlets each is another one."""

    name: str
    tls: bool = False
    version: str = "1.1"
    settings: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        return self.name


PLAIN = Way("plain")
WAYS = [
    PLAIN,
    Way("no direct writes", settings=(("direct_writes", False),)),
    Way("TLS", tls=True),
    Way("HTTP/1.0", version="1.0"),
]
"""What a promise has to hold on: here in threads, and once more in greenlets."""


@dataclass
class Site:
    """An application behind a real server; ``errors`` is all that was logged as an error."""

    app: Flask
    port: int
    errors: list[str] = field(default_factory=list)
    way: "Way" = field(default_factory=lambda: PLAIN)

    @property
    def state(self) -> State:
        return self.app.extensions["streaming"]

    @property
    def registry(self) -> Registry:
        return self.state.registry

    @property
    def url(self) -> str:
        return f"{'https' if self.way.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def get(self, path: str, **how: Any) -> RawClient:
        """A request on a bare socket."""
        tls = trusting() if self.way.tls else None
        return RawClient(self.url + path, tls=tls, version=self.way.version, **how)

    def raw(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send these bytes; status, headers and the beginning of the body of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            connection.sendall(request)
            return read_head(connection)

    @contextmanager
    def chat(self, path: str, **how: Any) -> Iterator[websocket_client.WebSocket]:
        """A connection of websocket-client."""
        connection = websocket_client.create_connection(self.ws_url + path, timeout=PATIENCE, **how)
        try:
            yield connection
        finally:
            connection.close()
            connection.shutdown()  # close() leaves the socket open once the server said goodbye

    @contextmanager
    def json(
        self, path: str = "/streaming/ws", headers: Mapping[str, str] | None = None
    ) -> Iterator["Json"]:
        """A connection that speaks ``streaming.v1.json``, past its welcome."""
        own = {"header": dict(headers or {})}
        with self.chat(path, subprotocols=["streaming.v1.json"], **own) as connection:
            welcome = json.loads(connection.recv())
            assert welcome["type"] == "welcome"
            yield Json(connection, welcome["client"])

    def wait_empty(self) -> None:
        """Wait until nobody is connected any more."""
        wait_until(lambda: self.registry.is_empty, "an empty registry")

    def wait_reason(self, text: str) -> None:
        """Wait until the registry remembers a client that left for this reason."""
        wait_until(
            lambda: any(text in str(row["reason"]) for row in self.registry.snapshot()["ended"]),
            f"a client that left because of {text!r}",
        )


@dataclass
class Json:
    """One JSON connection."""

    socket: websocket_client.WebSocket
    client: str

    def send(self, **frame: object) -> None:
        self.socket.send(json.dumps(frame))

    def recv(self) -> Any:
        return json.loads(self.socket.recv())

    def ask(self, **frame: object) -> Any:
        self.send(**frame)
        return self.recv()


def make_app(
    *, authorize: Any = lambda action, channel: True, way: Way = PLAIN, **config: object
) -> Flask:
    """A small application with the extension and settings ``STREAMING_<KEY>``."""
    app = Flask("small")
    config = {**dict(way.settings), **config}
    app.config.update({f"STREAMING_{key.upper()}": value for key, value in config.items()})
    Streaming(app, authorize=authorize)
    return app


@contextmanager
def drained(app: Flask) -> Iterator[Flask]:
    """``app``, whose streams are ended behind the test."""
    try:
        yield app
    finally:
        app.extensions["streaming"].close()


@functools.cache
def _keys() -> tempfile.TemporaryDirectory[str]:
    """A certificate for this run of the tests, and its key."""
    folder = tempfile.TemporaryDirectory(prefix="streaming-tls-")
    atexit.register(folder.cleanup)
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
    command += ["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-keyout", f"{folder.name}/key.pem", "-out", f"{folder.name}/cert.pem"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def certificate() -> tuple[str, str]:
    """The paths of a certificate and its key."""
    return f"{_keys().name}/cert.pem", f"{_keys().name}/key.pem"


def trusting() -> ssl.SSLContext:
    """A client's context that takes every certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class _Collector(logging.Handler):
    def __init__(self, errors: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        self._errors.append(logging.Formatter().format(record))


@contextmanager
def serve(
    app: Flask,
    *,
    expect_errors: bool = False,
    way: Way = PLAIN,
    wrap: Callable[[Any], Any] = lambda wsgi: wsgi,
) -> Generator[Site]:
    """``app`` on a threaded server; nobody is connected and no error was said at the end.

    With ``expect_errors`` there must have been one. ``wrap`` puts WSGI middleware around the app.
    """
    errors: list[str] = []

    class Handler(WSGIRequestHandler):
        protocol_version = f"HTTP/{way.version}"

        def log(self, type: str, message: str, *args: Any) -> None:
            """No line for each request."""

    app.wsgi_app = wrap(app.wsgi_app)  # type: ignore[method-assign]
    server = make_server(
        "127.0.0.1",
        0,
        app,
        threaded=True,
        request_handler=Handler,
        ssl_context=certificate() if way.tls else None,
    )
    server.log = lambda type, message, *args: errors.append(message)  # what the app let through
    server.handle_error = lambda *_: errors.append(traceback.format_exc())
    site = Site(app, server.server_port, errors, way)
    thread = threading.Thread(target=lambda: server.serve_forever(0.01), name="server")
    collector = _Collector(errors)
    logging.getLogger().addHandler(collector)
    thread.start()
    try:
        with (
            mock.patch.object(deadlines, "TICK", TICK),
            mock.patch.object(requested, "LOOK", TICK),
        ):
            yield site
            site.state.close()
            site.wait_empty()
            wheel = site.registry.deadlines  # it counts in our ticks
            wait_until(lambda: not wheel._is_running, "nobody has a deadline")
    finally:
        site.state.close()
        server.shutdown()
        thread.join()
        server.server_close()
        logging.getLogger().removeHandler(collector)
    assert bool(errors) == expect_errors, "\n".join(errors) or "no error was logged"
