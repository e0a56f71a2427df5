"""A correct WebSocket connection (RFC 6455) on the socket that the WSGI server tells us."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping

from ..bell import Bell, give_turn
from ..errors import ClientGone, ProtocolError, StreamingError
from ..hub.subscription import Subscription
from ..message import Message
from ..settings import Settings
from ..wire import frames
from ..wire.deflate import Compressor
from .line import Line, LineFormat
from .outlet import FAREWELL
from .registry import new_client_id

SETTLE = 1.0
"""Seconds a client that closes is kept for what it published last."""

TURN = 0.005
"""Seconds after which a client that never stops talking lets others have a turn."""

READ = 64 * 1024
"""Bytes taken from the socket at once."""


_PING = frames.encode(frames.Opcode.PING, b"")


class ConnectionClosed(StreamingError):
    """The WebSocket is over. ``code`` and ``reason`` are the peer's, or ours if we ended it."""

    title = "Connection closed"

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"The WebSocket was closed: {code} {reason}".rstrip())
        self.close_code = self.code = code
        self.reason = reason


class Connection:
    """An open WebSocket. Made by ``Sock.route``; handlers get it as their first argument.

    One thread or greenlet reads, the request's own. ``send`` may be called from any thread.

    Args:
        sock: The client's socket, after the handshake.
        settings: Limits and deadlines.
        peer: The client's address, for people to read.
        subprotocol: What the handshake agreed on.
        compressor, decompress: Both ends of permessage-deflate, if agreed on.
    """

    transport = "websocket"

    def __init__(
        self,
        sock: socket.socket,
        settings: Settings,
        *,
        peer: str = "",
        subprotocol: str | None = None,
        compressor: Compressor | None = None,
        decompress: Callable[[bytes, int], bytes] | None = None,
    ) -> None:
        self.id = new_client_id()
        self.since = time.time()
        self.subprotocol = subprotocol
        self.reason: StreamingError | None = None
        """Why it is over, or about to be."""
        self.endings: tuple[Callable[[], None], ...] = ()
        self.line = Line(
            sock,
            self.id,
            bell=Bell(),
            ping=_PING,
            is_direct=settings.direct_writes,
            end=self.end,
        )
        self.sock = sock
        self._settings = settings
        self._peer = peer
        self._compressor = compressor
        self._decoder = frames.Decoder(settings.message_size, decompress=decompress)
        self._received: Iterator[frames.Received] = iter(())
        self._owed: Message | None = None
        self._timeout: float | None = None
        self._turn = self._heard = time.monotonic()
        if settings.heartbeat is not None:  # those that came together are not all pinged together
            self._heard -= random.uniform(0, settings.heartbeat / 2)
        self._pinged = 0.0
        self._cut_at: float | None = None
        self._peer_closed = False

    def send(self, data: str | bytes) -> None:
        """Send one message, as text or, if it is bytes, as binary. Whole, in order; may block.

        Raises:
            ConnectionClosed: If the connection is over.
        """
        opcode = frames.Opcode.TEXT if isinstance(data, str) else frames.Opcode.BINARY
        payload = data.encode() if isinstance(data, str) else bytes(data)
        if self._compressor is None:
            frame = frames.encode(opcode, payload)
        else:
            frame = frames.encode(opcode, self._compressor.compress(payload), rsv1=True)
        self.send_frame(frame)

    def send_frame(self, frame: bytes) -> None:
        """Send ready-made frames; see ``send``."""
        if self.reason is not None:
            raise self._over(self.reason)
        try:
            self.line.put(frame)
        except OSError as error:
            self.end(ClientGone(str(error)))
            raise ConnectionClosed(1006, str(error)) from error

    def receive(self, timeout: float | None = None) -> str | bytes | None:
        """The next message, text as ``str``, binary as ``bytes``; None after ``timeout`` seconds.

        Raises:
            ConnectionClosed: If the connection is over.
        """
        while True:
            try:
                for value in self._received:
                    self._take_turns()
                    if isinstance(value, frames.Text | frames.Binary):
                        return value.data
                    self._control(value)
            except ProtocolError as fault:
                self.end(fault)
            if self.reason is not None:
                raise self._over(self.reason)
            data = self._read(timeout)
            if data is None:
                return None
            if not data:
                self.end(ClientGone("The client left without a close frame."))
            self._received = self._decoder.feed(data)

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
        self.line.follow(subscription, form)

    def owe(self, message: Message) -> None:
        """Remember what the client published last: it gets it back, even if it closes now."""
        self._owed = message

    def on_end(self, call: Callable[[], None]) -> None:
        """Have ``call()`` called once when the connection is over, whatever ended it.

        In the connection's own thread, where it may block. Ask for it in that thread too: in the
        handler, or where a message is taken.
        """
        self.endings += (call,)

    def close(self, reason: int | None = None, message: str | None = None) -> None:
        """Say goodbye with a close code (``reason``), wait at most ``FAREWELL`` seconds.

        Idempotent. The names of the parameters are flask-sock's.
        """
        self.end(ConnectionClosed(1000 if reason is None else reason, message or ""))
        self._linger()
        self.line.stop()
        self.line.cut()  # the server closes first (RFC 6455 section 7.1.1); flask run would read on

    def end(self, reason: StreamingError) -> None:
        """End the connection soon, with the reason's close code. From any thread; never blocks.

        Raises:
            InvalidMessage: If the close code may not be sent (RFC 6455 section 7.4).
        """
        if self.reason is not None:
            return
        if isinstance(reason, ClientGone):
            self.reason = reason
            self.line.cut()
            self.line.bell.ring()
        else:
            text = reason.reason if isinstance(reason, ConnectionClosed) else reason.told
            code = None if reason.close_code == 1005 else reason.close_code
            last = frames.encode_close(code, text)
            self.reason = reason
            self.line.say_goodbye(last)
        self._cut_at = time.monotonic() + FAREWELL

    def sweep(self, now: float) -> None:
        """See ``registry.Client``."""
        every, patience = self._settings.heartbeat, self._settings.pong_timeout
        if self._cut_at is not None:
            if now >= self._cut_at:
                self.line.cut()
        elif self.line.is_stuck(now, self._settings.send_timeout):
            self.end(ClientGone(f"The client took nothing for {self._settings.send_timeout} s."))
        elif patience is not None and self.line.pinged > self._heard:
            if not self.line.progress and now - max(self.line.pinged, self.line.moved) > patience:
                self.end(ClientGone(f"No pong within {patience} s."))
        elif every is not None and now - max(self._heard, self._pinged) >= every:
            self._pinged = now
            try:
                self.line.ping()
            except OSError as error:
                self.end(ClientGone(str(error)))

    def describe(self) -> Mapping[str, object]:
        """For the registry's snapshot."""
        subscriptions = self.line.subscriptions()
        return {
            "peer": self._peer,
            "channels": [name for sub in subscriptions for name in sub.channels],
            "position": [sub.id for sub in subscriptions],
            "state": [sub.state for sub in subscriptions],
        }

    def _take_turns(self) -> None:
        """Let others run: a greenlet's ``recv`` does not, as long as the client has more to say."""
        now = time.monotonic()
        if now - self._turn > TURN:
            give_turn()
            self._turn = time.monotonic()

    def _control(self, value: frames.Ping | frames.Pong | frames.Close) -> None:
        if isinstance(value, frames.Ping):
            try:
                self.line.put(frames.encode(frames.Opcode.PONG, value.data))
            except OSError as error:
                self.end(ClientGone(str(error)))
        elif isinstance(value, frames.Close):
            self._peer_closed = True
            self._settle()
            self.end(ConnectionClosed(value.code or 1005, value.reason))

    def _settle(self) -> None:
        """Wait until the client was sent what it published itself, at most ``SETTLE`` seconds."""
        subscription = self._owed and self.line.subscription(self._owed.channel)
        until = time.monotonic() + SETTLE
        while subscription and self._owed and not subscription.is_past(self._owed.id):
            if time.monotonic() > until or self.reason is not None:
                return
            time.sleep(0.002)

    def _read(self, timeout: float | None = None) -> bytes | None:
        """What came, nothing at the end; None after ``timeout`` seconds."""
        self.line.uncork()
        if self._timeout != timeout:
            self._timeout = timeout
            self.sock.settimeout(timeout)
        try:
            data = self.sock.recv(READ)
        except TimeoutError:
            return None
        except OSError:
            data = b""
        self._heard = time.monotonic()
        return data

    def hear(self) -> bool:
        """Take what came while at rest, without waiting; False if somebody has to look at it.

        Most that a silent client says is the answer to a ping, and nobody need get up for that.
        """
        try:
            data = os.read(self.sock.fileno(), READ)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False  # the end; whoever looks finds it again
        self._heard = time.monotonic()
        if self._decoder.is_between_frames and frames.is_lone_pong(data):
            return True
        self._received = self._decoder.feed(data)
        return False

    def _linger(self) -> None:
        """Read until the client's close frame or its end; the sweep cuts a client that gives none.

        Closing a socket with unread input would reset the connection and lose what is under way.
        """
        while not isinstance(self.reason, ClientGone) and not self._is_over():
            data = self._read()
            if not data:
                return
            try:
                self._received = self._decoder.feed(data)
                self._peer_closed = any(isinstance(v, frames.Close) for v in self._received)
            except ProtocolError:
                pass  # what follows a fault has no meaning; the client is about to hear of it

    def _is_over(self) -> bool:
        """Whether both close frames are out; waits for ours once the peer's was read."""
        while self._peer_closed and not self.line.is_finished:
            if self._cut_at is None or time.monotonic() > self._cut_at:
                break
            time.sleep(0.002)
        return self._peer_closed

    @staticmethod
    def _over(reason: StreamingError) -> ConnectionClosed:
        if isinstance(reason, ConnectionClosed):
            return reason
        return ConnectionClosed(reason.close_code, str(reason))
