"""flask-sock's route, with our own connection under it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from typing import Any

import flask_sock
from flask import Blueprint, Request, Response, request

from .errors import ClientGone, HandshakeError, StreamingError
from .origin import check_origin
from .outlet import client_socket, release
from .state import State, current_state
from .websocket import Connection, ConnectionClosed
from .wire.deflate import Deflate
from .wire.handshake import check_handshake, choose_subprotocol

Handler = Callable[..., object]

_log = logging.getLogger(__name__)


class Sock(flask_sock.Sock):  # type: ignore[misc]  # flask-sock has no types
    """flask-sock's ``Sock``: same use, other connection (see ``websocket.Connection``)."""

    def route(
        self,
        path: str,
        bp: Blueprint | None = None,
        *,
        subprotocols: Sequence[str] = (),
        detached: bool = False,
        **options: Any,
    ) -> Callable[[Handler], Handler]:
        """Decorate a handler ``f(ws, **url_variables)`` for WebSockets at ``path``.

        The connection ends when the handler returns. A fault in the handshake is answered with
        400 or 426, a page of another origin with 403, and the handler is not called.

        Args:
            path: The URL rule.
            bp: The blueprint to register the route on, instead of the application.
            subprotocols: What to agree on; the choice is ``ws.subprotocol``.
            detached: Call ``f(ws, state, **url_variables)`` after Flask is done with the request:
                without its context, and without the memory that holds for as long as the client
                stays.
            options: As for Flask's ``route``.
        """
        options["websocket"] = True

        def decorate(handler: Handler) -> Handler:
            @wraps(handler)
            def view(**variables: Any) -> Response:
                state = current_state()
                connection = accept(request, state, subprotocols)
                if detached:
                    return Taken(partial(serve, connection, state, handler, state, **variables))
                serve(connection, state, handler, **variables)
                return Taken(None)

            (bp or self.app or self._own_blueprint()).route(path, **options)(view)
            return handler

        return decorate

    def _own_blueprint(self) -> Blueprint:
        """Where routes wait for ``init_app``."""
        if self.bp is None:
            self.bp: Blueprint | None = Blueprint("__flask_sock", __name__)
        return self.bp


class Taken(Response):
    """A response that uses up the socket: the server writes nothing and closes it."""

    def __init__(self, run: Callable[[], None] | None) -> None:
        super().__init__(status=101)
        self._run = run

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("101 Switching Protocols", [])  # for the access log; nothing is sent yet
        return _Session(self._run, environ)


class _Session:
    """What the server iterates over: runs a detached handler, then says that the socket is gone."""

    def __init__(self, run: Callable[[], None] | None, environ: dict[str, Any]) -> None:
        self._run = run
        self._environ = environ

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        run, self._run = self._run, None
        if run is not None:
            release(self._environ)
            run()
        raise ConnectionResetError(errno.ECONNRESET, "This connection was a WebSocket.")


def accept(request: Request, state: State, subprotocols: Sequence[str]) -> Connection:
    """Answer a handshake with 101 and return the open connection, in the registry.

    Raises:
        HandshakeError: If it is none (400, 426), or the server keeps its sockets to itself.
        Forbidden: If the page's origin is not allowed.
        HubClosed: If the server is about to stop.
    """
    environ, settings = request.environ, state.settings
    answer = check_handshake(
        request.method, environ.get("SERVER_PROTOCOL", ""), dict(request.headers)
    )
    check_origin(request, settings.origins)
    sock = client_socket(environ)
    if sock is None:
        raise HandshakeError(
            "This server does not hand out its sockets; use gunicorn or flask run."
        )
    head = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {answer}",
    ]
    protocol = choose_subprotocol(request.headers.get("Sec-WebSocket-Protocol"), subprotocols)
    if protocol:
        head.append(f"Sec-WebSocket-Protocol: {protocol}")
    agreed = None
    if settings.compression:
        agreed = Deflate().negotiate(request.headers.get("Sec-WebSocket-Extensions"))
    if agreed:
        head.append(f"Sec-WebSocket-Extensions: {agreed[1]}")
    connection = Connection(
        sock,
        settings,
        peer=request.remote_addr or "",
        subprotocol=protocol,
        compressor=agreed[0].compressor() if agreed else None,
        decompress=agreed[0].decompressor().decompress if agreed else None,
    )
    state.registry.add(connection)
    try:
        connection.line.send("\r\n".join([*head, "", ""]).encode("latin-1"))
    except OSError as error:
        connection.end(ClientGone(str(error)))
    connection.line.start()
    return connection


def serve(connection: Connection, state: State, handler: Handler, *args: Any, **kw: Any) -> None:
    """Call ``handler(connection, …)`` and end the connection with a code that says how it went."""
    try:
        handler(connection, *args, **kw)
    except ConnectionClosed:
        pass
    except StreamingError as error:
        connection.end(error)
    except Exception:
        _log.exception("A WebSocket handler failed")
        connection.end(StreamingError("The handler failed."))
    finally:
        connection.close()
        state.registry.remove(connection, connection.reason or "")
