"""The life of a WebSocket: greeting, messages, rest, the end.

A connection whose handler returned a function is *awake* while a thread of its own reads and
serves, and *at rest* while the poller waits for it together with all others. It goes to rest when
its deadline finds it silent: a time-out for each read would be a tenth of a message's cost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import Context
from dataclasses import dataclass

from ..errors import ClientGone, HubClosed, Lagged, StreamingError
from . import sockets
from .closed import ConnectionClosed
from .outlet import Writing
from .registry import Registry
from .websocket import Connection

AWAKE = 1.0
"""Seconds of silence after which a connection goes to rest."""

PATIENCE = 0.75
"""Seconds after which a handshake is answered whatever its handler is at: a client waits for it
before it says anything, and not for ever."""

Take = Callable[[str | bytes], None]
"""What is called with each message of a connection."""

Surround = Callable[[], AbstractContextManager[object]]
"""Makes what is around a call."""

Explain = Callable[[Exception], StreamingError | None]
"""Says which end of a connection an error stands for, if it does."""


@dataclass(frozen=True, slots=True)
class Bare:
    """A ``Take`` that needs nothing around it: see ``surround`` of ``Life``."""

    take: Take

    def __call__(self, message: str | bytes) -> None:
        self.take(message)


_log = logging.getLogger(__name__)


def _unexplained(error: Exception) -> None:
    """What we did not raise is a failure."""


class Life:
    """What becomes of a connection. Whoever waits for its client holds it; see ``begin``.

    Args:
        connection: The connection, in the registry once it is open.
        registry: Where it is listed then.
        surround: What is around each call of the function that the handler returns, and of those
            that are called at the end. Not of a ``Bare`` one.
        explain: The end that an error of others stands for; None if it is a failure.
        is_ours: Whether the socket is closed with the connection.
    """

    __slots__ = (
        "_explain",
        "_is_awake",
        "_is_ours",
        "_registry",
        "_surround",
        "_take",
        "connection",
        "tick",
    )

    def __init__(
        self,
        connection: Connection,
        registry: Registry,
        *,
        surround: Surround = nullcontext,
        explain: Explain = _unexplained,
        is_ours: bool,
    ) -> None:
        self.connection = connection
        self.tick = 0
        self._registry = registry
        self._surround = surround
        self._explain = explain
        self._is_ours = is_ours
        self._take: Take = _ignore
        self._is_awake = False

    def begin(self, handler: Callable[[], object]) -> Callable[[], None] | None:
        """Call the handler in this thread, then be at rest, or over. If it has neither opened nor
        refused the connection, that is opened behind it, or after ``PATIENCE`` seconds.

        Where the poller cannot wait for the connection, what is left of its life is returned, to be
        called in this thread.

        Raises what the handler raises before it has opened the connection, which is refused then;
        and what ``Connection.open`` raises.
        """
        take: object = None

        def greet() -> bool:
            nonlocal take
            take = handler()
            self.connection.open()
            self.connection.end_request(is_served=callable(take))
            return callable(take)

        with suppress(RuntimeError):  # no thread to be had: the handler decides
            self._registry.deadlines.set(self, time.monotonic() + PATIENCE)
        if not self._go_on(greet):
            return None
        assert callable(take)
        self._take = take.take if isinstance(take, Bare) else _within(self._surround, take)
        if not self.connection.line.is_direct:
            return lambda: self._live(self._serve_all)
        self._rest()
        return None

    def due(self, now: float) -> float | None:
        """See ``deadlines.Timed``: a handshake is answered, a silent connection goes to rest."""
        if self.connection.is_waiting:
            with suppress(StreamingError):  # the handler is told, or the server answers
                self.connection.open()
            return None
        if not self._is_awake or self.connection.reason is not None:
            return None
        line, inlet = self.connection.line, self.connection.inlet
        since = inlet.heard if inlet.is_waiting else now
        if now - since < AWAKE:
            return since + AWAKE
        if line.phase is not Writing.OPEN:  # it has to take what it is in the midst of
            return now + AWAKE
        self._is_awake = False
        line.sock = sockets.renew(line.sock)  # its reader finds another one, and goes
        return None

    def _live(self, part: Callable[[], bool]) -> None:
        """Do a part of its life; go to rest behind it, if it says so."""
        if self._go_on(part):
            self._rest()

    def _go_on(self, part: Callable[[], bool]) -> bool:
        """What ``part`` says, whether there is more to come; if not, it is all over behind it."""
        is_on = False
        try:
            is_on = part()
        except ConnectionClosed:
            self.connection.open()
        except BaseException as error:
            if self.connection.refuse() or not isinstance(error, Exception):
                raise
            self._fail(error)
        finally:
            if not is_on:
                self._finish()
        return is_on

    def _fail(self, error: Exception) -> None:
        """End the connection for an error."""
        if not isinstance(error, StreamingError):
            reason = self._explain(error)
            if reason is None:
                _log.exception("A WebSocket handler failed")
                reason = StreamingError("The handler failed.")
            self.connection.end(reason)
            return
        if error.status >= 500 and not isinstance(error, HubClosed | ClientGone | Lagged):
            _log.warning("%s: %s", error.title, error)
        self.connection.end(error)

    def _serve_all(self) -> bool:
        for message in self.connection:
            self._take(message)
        return False

    def _serve(self) -> bool:
        """Be awake: take messages until there was none for ``AWAKE`` seconds."""
        self._is_awake = True
        try:
            self._registry.deadlines.set(self, time.monotonic() + AWAKE)
            while (message := self.connection.receive()) is not None:
                self._take(message)
        finally:
            self._is_awake = False
        return True

    def _rest(self) -> None:
        """Let the poller wait; but not while something that has arrived was not looked at."""
        try:
            if self.connection.inlet.is_empty:
                self._registry.poller.watch(self.connection.line.sock, self._hear)
            else:
                self._wake()
        except (OSError, RuntimeError) as error:
            self.connection.end(ClientGone(f"Nobody can listen to the client: {error}"))
            self._finish()

    def _hear(self) -> None:
        """The client said something or left: the poller calls."""
        inlet = self.connection.inlet
        if inlet.lock.locked() or inlet.read_at_rest():  # locked: who closes it reads
            self._wake()
        else:
            self._rest()

    def _wake(self) -> None:
        name = f"websocket {self.connection.id}"
        thread = threading.Thread(target=self._live, args=(self._serve,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self.connection.end(ClientGone(f"No thread can be started for it: {error}"))
            self._finish()

    def _finish(self) -> None:
        connection = self.connection
        try:
            if not connection.refuse():
                connection.close()
                if self._is_ours:
                    connection.line.sock.close()
        finally:
            for call in connection.take_endings():
                try:
                    Context().run(self._call_within, call)  # the handler's request is over
                except Exception:
                    _log.exception("What was to be done at the end of a WebSocket failed")
            self._take = _ignore
            self._registry.deadlines.drop(self)
            self._registry.remove(connection, connection.reason or "")

    def _call_within(self, call: Callable[[], None]) -> None:
        with self._surround():
            call()


def _within(surround: Surround, take: Take) -> Take:
    def take_within(message: str | bytes) -> None:
        with surround():
            take(message)

    return take_within


def _ignore(message: str | bytes) -> None:
    """A handler that returned nothing takes nothing."""
