"""A WebSocket route, and a client of it on bare bytes."""

from collections.abc import Callable
from typing import Any

from flask import Flask

from streaming import Connection, Sock
from tests.live.raw_websocket import RawWebSocket
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
