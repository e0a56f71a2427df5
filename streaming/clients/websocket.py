"""A correct WebSocket connection (RFC 6455), as its handler sees it.

What arrives is in ``inlet``, who writes in ``outlet``, how it ends in ``farewell``, what is due in
``client``, and what calls the handler in ``life``.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from ..errors import ClientGone, ProtocolError, StreamingError
from ..hub.subscription import Subscription
from ..message import Message
from ..settings import Settings
from ..threads import from_any_thread, is_elsewhere, wait_there
from ..wire import frames
from ..wire.deflate import Compressor
from . import sockets
from .closed import ConnectionClosed, as_closed
from .deadlines import Deadlines
from .line import LineFormat
from .opening import Opening, Reply
from .websocket_client import WebSocketClient

AHEAD = 0.1
"""Seconds for which a handler that only sends goes on without a look at what has come."""

KEPT = 8
"""Messages that are kept for a handler that does not read."""

_MESSAGE = (frames.Text, frames.Binary)


class Connection(WebSocketClient):
    """A WebSocket. Made by ``Sock.route``; handlers get it as their first argument.

    Its first use answers the handshake, see ``open``. One thread or greenlet reads at a time.
    ``send`` and ``close`` may be called from any thread.

    Args:
        deadlines: Who looks at it when it is due.
        sock: The server's socket.
        peer: The client's address, for people to read.
        environ: The WSGI environment of its handshake.
        subprotocol: What the handshake agreed on.
        compressor, decompress: Both ends of permessage-deflate, if agreed on.
    """

    __slots__ = (
        "_compressor",
        "_endings",
        "_environ",
        "_is_served",
        "_opening",
        "subprotocol",
        "ticket_frame",
    )

    def __init__(
        self,
        deadlines: Deadlines,
        settings: Settings,
        sock: socket.socket,
        *,
        peer: str = "",
        environ: Mapping[str, Any] | None = None,
        subprotocol: str | None = None,
        compressor: Compressor | None = None,
        decompress: Callable[[bytes, int], bytes] | None = None,
        answer: Callable[[Connection], None] | None = None,
    ) -> None:
        super().__init__(deadlines, settings, sock, peer=peer, decompress=decompress)
        self._opening = None if answer is None else Opening(partial(answer, self))
        self.subprotocol: str | None = subprotocol
        """What the handshake agreed on."""
        self.ticket_frame: Callable[[Mapping[str, object]], bytes] | None = None
        """How its protocol says what it is to come back with, if it has a word for that."""
        self._compressor = compressor
        self._environ = environ
        self._is_served = False  # whether what comes is taken as it comes, and nobody looks ahead
        self._endings: tuple[Callable[[], None], ...] = ()

    # ---- for handlers

    @from_any_thread
    def open(self) -> None:
        """Answer the handshake with 101 now, if that is not done. The first use does it, too.

        Until then the handler may refuse the client as a view does. For one that sends nothing for
        a while: it is done in any case about a second behind the handler's begin.

        Raises:
            HubClosed: If the server is about to stop. The client is answered with 503.
            TooManyClients: If the system can take no more. The client is answered with 503.
        """
        if self._opening is not None:
            self._open(self._opening)
            self.line.uncork()

    def _open(self, opening: Opening) -> None:
        try:
            is_open = opening.open()
        except StreamingError as error:
            self.reason = error
            raise
        if is_open:
            self._opening = None
        elif self.reason is None:
            self.reason = ConnectionClosed(1006, "The handshake was refused.")

    @from_any_thread
    def send(self, data: str | bytes | bytearray | memoryview) -> None:
        """Send one message, as text or, if it is bytes, as binary. Whole, in order; may block.

        Raises:
            ConnectionClosed: If the connection is over.
            TypeError: If the data is neither text nor bytes.
        """
        if isinstance(data, str):
            opcode, payload = frames.Opcode.TEXT, data.encode()
        elif isinstance(data, bytes | bytearray | memoryview):
            opcode, payload = frames.Opcode.BINARY, bytes(data)
        else:
            raise TypeError(
                f"ws.send takes str or bytes, not {type(data).__name__}: "
                "send json.dumps(data), or str(data)."
            )
        if self._opening is not None:
            self._open(self._opening)
        if time.monotonic() - self.inlet.turn > AHEAD:
            self._look_ahead()
        if self._compressor is None:
            frame = frames.encode(opcode, payload)
        else:
            frame = frames.encode(opcode, self._compressor.compress(payload), rsv1=True)
        if self.reason is not None:
            raise as_closed(self.reason)
        try:
            self.line.put(frame, 1, len(payload))
        except ClientGone as gone:
            self.end(gone)
            raise ConnectionClosed(1006, str(gone)) from gone

    def receive(self, timeout: float | None = None) -> str | bytes | None:
        """The next message, text as ``str``, binary as ``bytes``; None after ``timeout`` seconds.

        With 0 it does not wait.

        Raises:
            ConnectionClosed: If the connection is over.
        """
        if is_elsewhere():
            return wait_there(self.receive, timeout)
        inlet = self.inlet
        if self._opening is not None:
            self._open(self._opening)
        inlet.lock.acquire()  # where threads are greenlets, ``with`` costs twice as much
        try:
            if inlet.kept:
                message, *kept = inlet.kept
                inlet.kept = tuple(kept)
                return message
            return self._receive(timeout)
        finally:
            inlet.lock.release()

    def _receive(self, timeout: float | None) -> str | bytes | None:
        inlet, until = self.inlet, None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                while (value := inlet.next()) is not None:
                    if isinstance(value, _MESSAGE):
                        inlet.count(value.data)
                        return value.data
                    self._control(value)
            except ProtocolError as fault:
                self.end(fault)
            if self.reason is not None:
                raise as_closed(self.reason)
            is_more = inlet.read(timeout)
            if is_more is None:
                return None
            if until is not None:  # pings and fragments give no more time
                timeout = until - time.monotonic()
            if not is_more:
                self.end(ClientGone("The client left without a close frame."))

    def _control(self, value: frames.Received) -> None:
        if isinstance(value, frames.Ping):
            try:
                self.line.put(frames.encode(frames.Opcode.PONG, value.data))
            except ClientGone as gone:
                self.end(gone)
        elif isinstance(value, frames.Close):
            self._farewell.hear()
            self.end(ConnectionClosed(value.code or 1005, value.reason))

    def _look_ahead(self) -> None:
        """Follow what a client says whose handler does not read: pings, and its end. ``KEPT``
        messages are kept until they are received; what lies behind them must wait."""
        inlet = self.inlet
        if self._is_served:  # it is read behind each message
            return
        inlet.turn = time.monotonic()
        self.line.uncork()
        if not inlet.lock.acquire(blocking=False):  # somebody reads, and follows it
            return
        try:
            while len(inlet.kept) < KEPT and inlet.is_ready:
                if (message := self._receive(0)) is None:
                    break
                inlet.kept += (message,)
        except ConnectionClosed:
            pass
        finally:
            inlet.lock.release()

    @property
    @from_any_thread
    def connected(self) -> bool:
        """Whether messages can be sent. Looks at what has come."""
        if self._opening is not None:
            self._open(self._opening)
        self._look_ahead()
        return self.reason is None

    @property
    def environ(self) -> Mapping[str, Any]:
        """The WSGI environment of the handshake, while its handler runs.

        Raises:
            RuntimeError: If the request is over.
        """
        if self._environ is None:
            raise RuntimeError(
                "ws.environ ends with the request: take from it what you need before you return "
                "a function."
            )
        return self._environ

    @property
    def close_reason(self) -> int:
        """The close code, 1005 (none) while the connection is not over."""
        return 1005 if self.reason is None else self.reason.close_code

    @property
    def close_message(self) -> str | None:
        """The text behind the close code, None while the connection is not over."""
        return None if self.reason is None else as_closed(self.reason).message

    def __iter__(self) -> Iterator[str | bytes]:
        """Messages until the connection is over."""
        while True:
            try:
                message = self.receive()
            except ConnectionClosed:
                return
            if message is not None:
                yield message

    def follow(self, subscription: Subscription, form: LineFormat) -> None:
        """Deliver a subscription of one channel, made with ``bell=connection.line.bell``, here."""
        if self._opening is not None:
            self._open(self._opening)
        self.line.follow(subscription, form)

    def owe(self, message: Message) -> None:
        """Remember what the client published last: it gets it back, even if it closes now."""
        self._farewell.owed = message

    def hand_ticket(self, ticket: Mapping[str, object]) -> None:
        if self.ticket_frame is not None:
            self.line.say_soon(self.ticket_frame(ticket))

    def on_end(self, call: Callable[[], None]) -> None:
        """Have ``call()`` called once when the connection is over, whatever ended it.

        In the connection's own thread, where it may block; in an app context, without a request.
        Ask for it in that thread too: in the handler, or where a message is taken. Asking twice
        for the same is asking once.
        """
        if call not in self._endings:
            self._endings += (call,)

    @from_any_thread
    def close(self, reason: int | None = None, message: str | None = None) -> None:
        """Say goodbye with a close code (``reason``), wait for the answer, at most half a second.

        Idempotent. The names of the parameters are flask-sock's.

        Raises:
            InvalidMessage: If the code may not be sent.
            TypeError: If it is no number.
        """
        if not isinstance(reason, int | None):
            raise TypeError(f"A close code is a number, not {reason!r:.60}: ws.close(1000, 'bye').")
        if self._opening is not None:
            self._open(self._opening)
            if self._opening is not None:  # it was refused: the socket is the server's
                return
        self.end(ConnectionClosed(reason or 1000, message or ""))
        if not isinstance(self.reason, ClientGone):
            self._farewell.wait(self.inlet, self._cut_at or time.monotonic())
        self.line.stop()
        self.inlet.close()
        sockets.shut(self.line.sock)  # the server closes first (RFC 6455 section 7.1.1)

    # ---- for ``Life``

    def refuse(self) -> bool:
        """Leave the handshake to the server to answer, unless it is answered; whether it is left.

        Nothing can be sent or received then; for the socket nothing has happened.
        """
        opening = self._opening
        if opening is None or not opening.refuse():
            return False
        self._open(opening)  # for the reason
        self.line.stop()
        return True

    @property
    def is_waiting(self) -> bool:
        """Whether the handshake is not answered yet."""
        return self._opening is not None and self._opening.phase is Reply.WAITING

    @property
    def is_refused(self) -> bool:
        """Whether the server has to answer the handshake."""
        return self._opening is not None and self._opening.phase is Reply.REFUSED

    def end_request(self, *, is_served: bool) -> None:
        """The handler has returned. ``is_served``: whether messages are taken as they come now."""
        self._environ = None
        self._is_served = is_served
        self.line.uncork()

    def take_endings(self) -> tuple[Callable[[], None], ...]:
        """What is to be called at the end, once."""
        endings, self._endings = self._endings, ()
        return endings
