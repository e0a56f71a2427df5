"""flask-sock's route, with our own connection under it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any

import flask_sock
from flask import Blueprint, Response, current_app, request

from ..clients.life import Life, Take
from .handshake import prepare
from .outcomes import end_of, is_take
from .sock_options import Options, options_of
from .state import State, current_state
from .topmost import Handler, Routed, below


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
        and the handler is not called. The handler's first use of ``ws``, or its end, answers the
        handshake. Until then it, and each decorator below ``route``, may answer as a view does:
        with a response, ``abort(401)``, or any other error. After that these close the connection:
        with 1008 for a redirect or 4xx, 1013 for 429 and 503, 1011 for any other failure.

        Nothing can be put around what is decorated: ``functools.wraps`` of it is a
        ``ConfigurationError``. ``subprotocols``: what to agree on, see ``ws.subprotocol``.
        The other options are those of Flask's ``route``. Flask's configuration key
        ``SOCK_SERVER_OPTIONS`` holds as in flask-sock, as far as it means something here.
        """
        options["websocket"] = True

        def decorate(routed: Handler) -> Handler:
            handler = below(routed)

            @wraps(handler)
            def view(**variables: Any) -> Any:
                state = current_state()
                options = self._options(state)
                agree = subprotocols or options.subprotocols
                life = prepare(request, state, agree, options.settings, must_agree=self._must_agree)
                return _begin(life, handler, variables)

            (bp or self.app or self._own_blueprint()).route(path, **options)(view)
            return Routed(handler)

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


def _begin(life: Life, handler: Handler, variables: Mapping[str, Any]) -> object:
    """What the view returns: the handler's own answer if the connection was not opened.

    Raises:
        StreamingError: If the connection could not be opened.
        Exception: What the handler raises before it has opened it.
    """
    connection, answer = life.connection, None

    def greet() -> Take | None:
        nonlocal answer
        answer = handler(connection, **variables)
        if answer is None or is_take(answer):
            return answer
        if not connection.refuse():
            connection.end(end_of(answer))
        return None

    rest = life.begin(greet)
    if not connection.is_refused:
        return Taken(rest)
    if answer is None or is_take(answer):  # it knows nothing of what it was refused for
        assert connection.reason is not None
        raise connection.reason
    return answer


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
