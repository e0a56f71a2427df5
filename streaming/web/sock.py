"""flask-sock's route, with our own connection under it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, wraps
from typing import Any

import flask_sock
from flask import Blueprint, Request, Response, current_app, request

from ..clients import sockets
from ..clients.life import Life
from ..clients.sockets import client_socket
from ..clients.websocket import Connection
from ..errors import ClientGone, HandshakeError, TooManyClients
from ..settings import Settings
from ..wire.deflate import Deflate
from ..wire.handshake import check_handshake, choose_subprotocol
from .ahead import take_ahead
from .origin import check_origin
from .sock_options import Options, options_of
from .state import State, current_state

Handler = Callable[..., object]


class Sock(flask_sock.Sock):  # type: ignore[misc]  # flask-sock has no types
    """flask-sock's ``Sock``: same use, with another connection, ``Connection``."""

    _must_agree = False

    def route(
        self,
        path: str,
        bp: Blueprint | None = None,
        *,
        subprotocols: Sequence[str] = (),
        **options: Any,
    ) -> Callable[[Handler], Handler]:
        """Decorate a handler ``f(ws, **url_variables)`` for WebSockets at ``path``.

        The connection ends when the handler returns, unless it returns a function: then the
        handler was the greeting, and ``function(message)`` is called for each message, one after
        another, until the connection is over: each time in an app context of its own and outside
        the request's, on every server. Such a connection costs no greenlet while its client is
        silent.

        A fault in the handshake is answered with 400 or 426, a page of another origin with 403,
        and the handler is not called. ``subprotocols``: what to agree on, see ``ws.subprotocol``.
        The other options are those of Flask's ``route``. Flask's configuration key
        ``SOCK_SERVER_OPTIONS`` holds as in flask-sock, as far as it means something here.
        """
        options["websocket"] = True

        def decorate(handler: Handler) -> Handler:
            @wraps(handler)
            def view(**variables: Any) -> Response:
                state = current_state()
                options = self._options(state)
                agree = subprotocols or options.subprotocols
                life = accept(request, state, agree, options.settings, must_agree=self._must_agree)
                return Taken(life.begin(partial(handler, life.connection, **variables)))

            (bp or self.app or self._own_blueprint()).route(path, **options)(view)
            return handler

        return decorate

    def _options(self, state: State) -> Options:
        return options_of(current_app, state.settings)

    def _own_blueprint(self) -> Blueprint:
        """Where routes wait for ``init_app``."""
        if self.bp is None:
            self.bp: Blueprint | None = Blueprint("__flask_sock", __name__)
        return self.bp


class PlainSock(Sock):
    """``Sock`` for the package's own routes, to which the application's options do not belong.

    They speak subprotocols of ours, and nothing to a client that asks for none of them.
    """

    _must_agree = True

    def _options(self, state: State) -> Options:
        return Options(state.settings)


class Taken(Response):
    """Says that the socket is used up: what the server writes meets a peer that is gone.

    ``rest`` is what is left of the connection's life in this thread: it is lived when the request
    is over, so that the view's contexts, and what they hold, are not kept for it.
    """

    def __init__(self, rest: Callable[[], None] | None) -> None:
        super().__init__(status=101)
        self._rest = rest

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("101 Switching Protocols", [])  # for the access log
        return self._live()

    def _live(self) -> Iterator[bytes]:
        rest, self._rest = self._rest, None
        if rest is not None:
            rest()
        yield from ()

    def __del__(self) -> None:
        if self._rest is not None:  # an extension has put another response in the place of ours
            threading.Thread(target=self._rest, name="websocket rest", daemon=True).start()


def accept(
    request: Request,
    state: State,
    subprotocols: Sequence[str],
    settings: Settings,
    *,
    must_agree: bool = False,
) -> Life:
    """Answer a handshake with 101 and return the open connection, in the registry, about to begin.
    ``settings`` are those of the connection. With ``must_agree`` a client that offers none of
    ``subprotocols`` is refused.

    Raises:
        HandshakeError: If it is none (400, 426), or the server keeps its sockets to itself.
        Forbidden: If the page's origin is not allowed.
        HubClosed: If the server is about to stop.
        TooManyClients: If this worker has as many as it takes.
    """
    environ = request.environ
    answer = check_handshake(
        request.method, environ.get("SERVER_PROTOCOL", ""), dict(request.headers)
    )
    check_origin(request, settings.origins)
    arrival = state.arrive(environ)
    protocol = choose_subprotocol(request.headers.get("Sec-WebSocket-Protocol"), subprotocols)
    if must_agree and protocol is None:
        raise HandshakeError(f"Ask for the subprotocol {' or '.join(map(repr, subprotocols))}.")
    state.registry.check_open()
    state.registry.check_space()
    sock = client_socket(environ, settings.send_buffer)
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
    if protocol:
        head.append(f"Sec-WebSocket-Protocol: {protocol}")
    agreed = None
    if settings.compression:
        agreed = Deflate().negotiate(request.headers.get("Sec-WebSocket-Extensions"))
    if agreed:
        head.append(f"Sec-WebSocket-Extensions: {agreed[1]}")
    is_ours = not isinstance(sock, ssl.SSLSocket)
    connection = Connection(
        state.registry.deadlines,
        settings,
        sock,
        peer=request.remote_addr or "",
        environ=environ,
        subprotocol=protocol,
        compressor=agreed[0].compressor() if agreed else None,
        decompress=agreed[0].decompressor().decompress if agreed else None,
    )
    state.introduce(connection, arrival)
    if ahead := take_ahead(environ, sock):
        connection.inlet.feed(ahead)
    state.registry.add(connection)  # until here, and if it fails, the server can answer
    if is_ours:
        _exchange(connection, state)
    connection.line.cork()
    try:
        connection.line.send("\r\n".join([*head, "", ""]).encode("latin-1"))
    except ClientGone as gone:
        connection.end(gone)
    connection.line.start()
    state.welcome(connection, arrival.asked)
    return Life(connection, state.registry, surround=current_app.app_context, is_ours=is_ours)


def _exchange(connection: Connection, state: State) -> None:
    try:
        connection.line.sock = sockets.exchange(connection.line.sock)
    except OSError as error:
        state.registry.remove(connection, str(error))
        raise TooManyClients("The server has no file descriptor left. Try again.") from error
