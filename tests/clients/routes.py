"""A WebSocket route, and clients of it; and how the time passes that clients have."""

import time
from collections.abc import Callable
from typing import Any

from flask import Flask
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_client

from streaming import Connection, Sock
from streaming.clients.registry import Registry
from tests.live.raw_websocket import RawWebSocket
from tests.polling import PATIENCE
from tests.sites import Site, make_app

Handler = Callable[[Connection], object]


def app_of(handler: Handler, **config: object) -> Flask:
    app = make_app(**config)
    Sock(app).route("/socket")(handler)
    return app


def echo(ws: Connection) -> None:
    for data in ws:
        ws.send(data)


def raw(site: Site, **how: Any) -> RawWebSocket:
    return RawWebSocket(site, "/socket", subprotocol=None, **how)  # type: ignore[arg-type]


def connect(site: Site, **how: Any) -> ClientConnection:
    """A client of ``websockets`` that waits for a server as long as any test does."""
    waits = {"open_timeout": PATIENCE, "close_timeout": PATIENCE, "ping_interval": None}
    return connect_client(f"{site.ws_url}/socket", **waits, **how)


def time_is_up(registry: Registry) -> None:
    """Let the time be over that those have who are told goodbye."""
    now = time.monotonic()
    for client in registry.clients():
        if client.reason is not None:
            client._cut_at = now
            client.due(now)
