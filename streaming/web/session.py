"""A WebSocket's life: the handler, the messages, the rest in between, the end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ..clients.websocket import Connection, ConnectionClosed
from ..errors import StreamingError
from .state import State

AWAKE = 1.0
"""Seconds of silence after which a connection goes to rest."""

Take = Callable[[str | bytes], None]
"""What is called with each message of a connection."""

_log = logging.getLogger(__name__)


class Session:
    """Runs one connection until it is over and out of the registry.

    Awake it has a thread of its own that reads; at rest, which takes direct writes, the poller
    waits for it together with all others.
    """

    __slots__ = ("_connection", "_state", "_take")

    def __init__(self, connection: Connection, state: State) -> None:
        self._connection = connection
        self._state = state
        self._take: Take = _ignore

    def begin(self, handler: Callable[[], object]) -> None:
        """Call the handler in this thread; returns when the connection is over or at rest."""
        self._run(lambda: self._greet(handler))

    def _greet(self, handler: Callable[[], object]) -> bool:
        take = handler()
        self._connection.line.uncork()
        if not callable(take):
            return False
        self._take = take
        if self._connection.line.is_direct:
            return True
        for message in self._connection:
            take(message)
        return False

    def _listen(self) -> bool:
        while (message := self._connection.receive(AWAKE)) is not None:
            self._take(message)
        return True

    def _run(self, part: Callable[[], bool]) -> None:
        """Do a part of the connection's life; it says whether the connection goes to rest."""
        is_resting = False
        try:
            is_resting = part()
        except ConnectionClosed:
            pass
        except StreamingError as error:
            self._connection.end(error)
        except Exception:
            _log.exception("A WebSocket handler failed")
            self._connection.end(StreamingError("The handler failed."))
        finally:
            if is_resting:
                self._state.poller.watch(self._connection.sock, self._wake)
            else:
                self._finish()

    def _wake(self) -> None:
        """The client said something or left: the poller calls."""
        if self._connection.hear():
            self._state.poller.watch(self._connection.sock, self._wake)
            return
        name = f"websocket {self._connection.id}"
        threading.Thread(target=self._run, args=(self._listen,), name=name, daemon=True).start()

    def _finish(self) -> None:
        try:
            self._connection.close()
            if self._connection.line.is_direct:
                self._connection.sock.close()  # it is ours; elsewhere it is the server's
        finally:
            self._do_the_rest()
            self._state.registry.remove(self._connection, self._connection.reason or "")

    def _do_the_rest(self) -> None:
        """What others wanted done at the end (``Connection.on_end``)."""
        endings, self._connection.endings = self._connection.endings, ()
        for call in endings:
            try:
                call()
            except Exception:
                _log.exception("What was to be done at the end of a WebSocket failed")


def _ignore(message: str | bytes) -> None:
    """A handler that returned nothing takes nothing."""
