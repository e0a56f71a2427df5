"""A WebSocket's handshake: what refuses it, and how it is answered when somebody needs its peer.

Until then the socket is the server's, with all that has come on it.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from functools import partial

from flask import Request, current_app, request

from ..clients import sockets
from ..clients.life import Life
from ..clients.sockets import client_socket
from ..clients.websocket import Connection
from ..errors import ClientGone, HandshakeError, TooManyClients
from ..settings import Settings
from ..wire.deflate import Deflate
from ..wire.handshake import check_handshake, choose_subprotocol
from .admission import taken_ticket
from .ahead import take_ahead
from .arrivals import Arrival
from .origin import check_origin
from .outcomes import explain
from .state import State


def prepare(
    request: Request,
    state: State,
    subprotocols: Sequence[str],
    settings: Settings,
    *,
    must_agree: bool = False,
) -> Life:
    """Check a handshake and return the connection that answers it at its first use, about to begin.
    ``settings`` are those of the connection. With ``must_agree`` a client that offers none of
    ``subprotocols`` is refused.

    Raises:
        HandshakeError: If it is none (400, 426), or the server keeps its sockets to itself.
        Forbidden: If the page's origin is not allowed.
        HubClosed: If the server is about to stop.
        TooManyClients: If this worker has as many as it takes.
        TooMuch: If its identity or address has as many as it may have.
    """
    environ = request.environ
    answer = check_handshake(
        request.method, environ.get("SERVER_PROTOCOL", ""), dict(request.headers)
    )
    check_origin(request, settings.origins)
    arrival = state.admit(environ)
    protocol = choose_subprotocol(request.headers.get("Sec-WebSocket-Protocol"), subprotocols)
    if must_agree and protocol is None:
        raise HandshakeError(f"Ask for the subprotocol {' or '.join(map(repr, subprotocols))}.")
    state.registry.check_open()
    sock = client_socket(environ, None)
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
    connection = Connection(
        state.registry.deadlines,
        settings,
        sock,
        peer=arrival.address.text,
        environ=environ,
        subprotocol=protocol,
        compressor=agreed[0].compressor() if agreed else None,
        decompress=agreed[0].decompressor().decompress if agreed else None,
        answer=partial(
            _answer, state, settings, arrival, "\r\n".join([*head, "", ""]).encode("latin-1")
        ),
    )
    connection.identity, connection.holder = arrival.identity, arrival.holder
    connection.trace = arrival.trace
    return Life(
        connection,
        state.registry,
        surround=current_app.app_context,
        explain=explain,
        is_ours=not isinstance(sock, ssl.SSLSocket),
    )


def _answer(
    state: State, settings: Settings, arrival: Arrival, head: bytes, connection: Connection
) -> None:
    """Put a connection into the registry, take its socket from the server, and send the head.

    Raises:
        HubClosed: If the server is about to stop.
        TooManyClients: If this worker has as many as it takes, or the system has no thread or no
            file descriptor left.
        TooMuch: If its identity or address has as many as it may have.
    """
    environ, line = connection.environ, connection.line
    if taken_ticket() is not None:  # the handler has asked for it since
        arrival = state.arrive(request.environ)
        connection.holder = arrival.holder
    state.registry.add(connection)  # until here, and if it fails, the server can answer
    servers = client_socket(environ, settings.send_buffer) or line.sock
    if not isinstance(servers, ssl.SSLSocket):
        try:
            line.sock = sockets.exchange(servers)
        except OSError as error:
            state.registry.remove(connection, str(error))
            raise TooManyClients("The server has no file descriptor left. Try again.") from error
    if ahead := take_ahead(environ, servers):
        connection.inlet.feed(ahead)
    state.introduce(connection, arrival)
    line.cork()
    try:
        line.send(head)
    except ClientGone as gone:
        connection.end(gone)
    line.start()
    state.welcome(connection, arrival.asked)
