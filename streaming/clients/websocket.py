"""A correct WebSocket connection (RFC 6455), and its life: greeting, messages, rest, the end.

How it ends is in ``wire.closing``, who writes in ``outlet``, what is due in ``client``.

A connection whose handler returned a function is *awake* while a thread of its own reads and
serves, and *at rest* while the poller waits for it together with all others. It goes to rest when
its deadline finds it silent: a time-out for each read would be a tenth of a message's cost.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from ..bell import give_turn
from ..errors import ClientGone, HubClosed, Lagged, ProtocolError, StreamingError
from ..hub.subscription import Subscription
from ..message import Message
from ..settings import Settings
from ..wire import frames
from ..wire.closing import Closing, Ending, Move
from ..wire.deflate import Compressor
from . import sockets
from .client import Client
from .closed import ConnectionClosed, as_closed
from .line import Line, LineFormat
from .outlet import Writing
from .registry import Registry

SETTLE = 1.0
"""Seconds a client that closes is kept for what it published last."""

AWAKE = 1.0
"""Seconds of silence after which a connection goes to rest."""

SLICE = 0.005
"""Seconds after which a client that never stops talking lets others have a turn."""

READ = 64 * 1024
"""Bytes taken from the socket at once."""

AHEAD = 0.1
"""Seconds for which a handler that only sends goes on without a look at what has come."""

KEPT = 8
"""Messages that are kept for a handler that does not read."""

WAITED = 0.0001
"""Seconds a read takes at least if it had to wait, and others had their turn."""

BRIEFLY = 1e-6
"""Seconds that a read without waiting may wait: none would make every send fail that has to."""

Take = Callable[[str | bytes], None]
"""What is called with each message of a connection."""


@dataclass(frozen=True, slots=True)
class Bare:
    """A ``Take`` that needs nothing around it: see ``surround`` of ``Connection``."""

    take: Take

    def __call__(self, message: str | bytes) -> None:
        self.take(message)


_PING = frames.encode(frames.Opcode.PING, b"")

_log = logging.getLogger(__name__)


class Connection(Client):
    """An open WebSocket. Made by ``Sock.route``; handlers get it as their first argument.

    One thread or greenlet reads at a time. ``send`` may be called from any thread.

    Args:
        registry: Where it is listed.
        sock: The server's socket; see ``use``.
        peer: The client's address, for people to read.
        environ: The WSGI environment of its handshake.
        subprotocol: What the handshake agreed on.
        compressor, decompress: Both ends of permessage-deflate, if agreed on.
        surround: Makes what is around each call of the function that the handler returns, and of
            those that are called at the end. Not of a ``Bare`` one.
    """

    transport = "websocket"

    __slots__ = (
        "_acknowledged",
        "_ahead",
        "_asked",
        "_closing",
        "_compressor",
        "_decoder",
        "_endings",
        "_environ",
        "_got_on",
        "_is_awake",
        "_is_drained",
        "_is_reading",
        "_owed",
        "_reading",
        "_received",
        "_registry",
        "_surround",
        "_take",
        "_timeout",
        "_turn",
        "line",
        "sock",
        "subprotocol",
    )

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        sock: socket.socket,
        *,
        peer: str = "",
        environ: Mapping[str, Any] | None = None,
        subprotocol: str | None = None,
        compressor: Compressor | None = None,
        decompress: Callable[[bytes, int], bytes] | None = None,
        surround: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        super().__init__(registry.deadlines, settings, peer)
        self.subprotocol = subprotocol
        self.line = Line(sock, self.id, ping=_PING, may=settings.direct_writes, end=self.end)
        self.sock = sock
        self._registry = registry
        self._surround = surround
        self._closing = Closing()
        self._compressor = compressor
        self._decoder = frames.Decoder(settings.frame_size, decompress=decompress)
        self._received: Iterator[frames.Received] = iter(())
        self._reading = threading.Lock()  # held by whoever reads, or looks ahead
        self._ahead: tuple[str | bytes, ...] = ()  # the messages that a look ahead has found
        self._environ = environ
        self._is_awake = self._is_reading = False
        self._is_drained = True  # all that has arrived was looked at
        self._owed: Message | None = None
        self._endings: tuple[Callable[[], None], ...] = ()
        self._take: Take = _ignore
        self._timeout = sock.gettimeout()
        self._asked = 0.0  # when the first ping went out that nothing was heard after
        self._acknowledged: int | None = None  # what the client had taken at the last look
        self._got_on = 0.0  # when it was last seen to have taken some of what lay before it
        self._turn = self.heard
        if settings.heartbeat is not None:  # those that came together are not all pinged together
            self.heard -= random.uniform(0, settings.heartbeat / 2)

    # ---- for handlers

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
        if time.monotonic() - self._turn > AHEAD:
            self._look_ahead()
        if self._compressor is None:
            frame = frames.encode(opcode, payload)
        else:
            frame = frames.encode(opcode, self._compressor.compress(payload), rsv1=True)
        self.send_frame(frame)

    def send_frame(self, frame: bytes) -> None:
        """Send ready-made frames; see ``send``."""
        if self.reason is not None:
            raise as_closed(self.reason)
        try:
            self.line.put(frame)
        except ClientGone as gone:
            self.end(gone)
            raise ConnectionClosed(1006, str(gone)) from gone

    def receive(self, timeout: float | None = None) -> str | bytes | None:
        """The next message, text as ``str``, binary as ``bytes``; None after ``timeout`` seconds.

        With 0 it does not wait.

        Raises:
            ConnectionClosed: If the connection is over.
        """
        if self._take is not _ignore and not self._ahead:  # nobody looks ahead any more
            return self._receive(timeout)
        with self._reading:
            if self._ahead:
                message, *ahead = self._ahead
                self._ahead = tuple(ahead)
                return message
            return self._receive(timeout)

    def _receive(self, timeout: float | None) -> str | bytes | None:
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                for value in self._received:
                    self._take_turns()
                    if isinstance(value, frames.Text | frames.Binary):
                        return value.data
                    self._control(value)
                self._is_drained = True
            except ProtocolError as fault:
                self.end(fault)
            if self.reason is not None:
                raise as_closed(self.reason)
            data = self._read(timeout)
            if data is None:
                return None
            self._take_turns()
            if until is not None:  # pings and fragments give no more time
                timeout = until - time.monotonic()
            if not data:
                self.end(ClientGone("The client left without a close frame."))
            self._feed(data)

    @property
    def connected(self) -> bool:
        """Whether messages can be sent. Looks at what has come."""
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
        self.line.follow(subscription, form)

    def owe(self, message: Message) -> None:
        """Remember what the client published last: it gets it back, even if it closes now."""
        self._owed = message

    def on_end(self, call: Callable[[], None]) -> None:
        """Have ``call()`` called once when the connection is over, whatever ended it.

        In the connection's own thread, where it may block; in an app context, without a request.
        Ask for it in that thread too: in the handler, or where a message is taken. Asking twice
        for the same is asking once.
        """
        if call not in self._endings:
            self._endings += (call,)

    def close(self, reason: int | None = None, message: str | None = None) -> None:
        """Say goodbye with a close code (``reason``), wait at most ``FAREWELL`` seconds.

        Idempotent. The names of the parameters are flask-sock's.

        Raises:
            InvalidMessage: If the code may not be sent.
            TypeError: If it is no number.
        """
        if not isinstance(reason, int | None):
            raise TypeError(f"A close code is a number, not {reason!r:.60}: ws.close(1000, 'bye').")
        self.end(ConnectionClosed(reason or 1000, message or ""))
        self._linger()
        self.line.stop()
        sockets.shut(self.sock)  # the server closes first (RFC 6455 section 7.1.1)

    # ---- its life

    def use(self, sock: socket.socket) -> None:
        """Be on this socket, which is the same connection; before anything is sent."""
        self.sock = self.line.sock = sock

    def begin(self, handler: Callable[[], object], *, is_ours: bool) -> Callable[[], None] | None:
        """Call the handler in this thread, then be at rest, or over.

        Where the poller cannot wait for the connection, what is left of its life is returned, to be
        called in this thread. ``is_ours``: whether the socket is closed with the connection.
        """
        take: object = None

        def greet() -> bool:
            nonlocal take
            take = handler()
            self._environ = None
            self.line.uncork()
            return callable(take)

        if not self._go_on(greet, is_ours=is_ours):
            return None
        assert callable(take)
        self._take = take.take if isinstance(take, Bare) else self._surrounded(take)
        if self.line.is_direct:
            self._rest()
            return None
        return lambda: self._live(self._serve_all, is_ours=is_ours)

    def _surrounded(self, take: Take) -> Take:
        surround = self._surround

        def take_within(message: str | bytes) -> None:
            with surround():
                take(message)

        return take_within

    def _live(self, part: Callable[[], bool], *, is_ours: bool = True) -> None:
        """Do a part of its life; go to rest behind it, if it says so."""
        if self._go_on(part, is_ours=is_ours):
            self._rest()

    def _go_on(self, part: Callable[[], bool], *, is_ours: bool) -> bool:
        """What ``part`` says, whether there is more to come; if not, it is all over behind it."""
        is_on = False
        try:
            is_on = part()
        except ConnectionClosed:
            pass
        except StreamingError as error:
            if error.status >= 500 and not isinstance(error, HubClosed | ClientGone | Lagged):
                _log.warning("%s: %s", error.title, error)
            self.end(error)
        except Exception:
            _log.exception("A WebSocket handler failed")
            self.end(StreamingError("The handler failed."))
        finally:
            if not is_on:
                self._finish(is_ours=is_ours)
        return is_on

    def _serve_all(self) -> bool:
        for message in self:
            self._take(message)
        return False

    def _serve(self) -> bool:
        """Be awake: take messages until there was none for ``AWAKE`` seconds."""
        self._is_awake = True
        try:
            self._deadlines.set(self, time.monotonic() + AWAKE)
            while (message := self.receive()) is not None:
                self._take(message)
        finally:
            self._is_awake = False
        return True

    def due(self, now: float) -> float | None:
        when = super().due(now)
        if not self._is_awake or self.reason is not None:
            return when
        since = self.heard if self._is_reading else now
        if now - since >= AWAKE and self.line.phase is Writing.OPEN:
            self._is_awake = False
            self.sock = self.line.sock = sockets.renew(self.sock)
            return when
        rest = since + AWAKE
        return rest if when is None else min(rest, when)

    def _rest(self) -> None:
        """Let the poller wait; but not while something that has arrived was not looked at."""
        try:
            if self._ahead or not self._is_drained:
                self._wake()
            else:
                self._registry.poller.watch(self.sock, self._hear)
        except (OSError, RuntimeError) as error:
            self.end(ClientGone(f"Nobody can listen to the client: {error}"))
            self._finish(is_ours=True)

    def _hear(self) -> None:
        """The client said something or left: the poller calls.

        Most that a silent client says is the answer to a ping, and nobody need get up for that.
        """
        try:
            data = os.read(self.sock.fileno(), READ)
        except BlockingIOError:
            self._rest()
            return
        except OSError:
            data = b""
        if data:
            self.heard = time.monotonic()
            if self._decoder.is_between_frames and frames.is_lone_pong(data):
                self._rest()
                return
            self._feed(data)
        self._wake()  # the end of file is found again

    def _wake(self) -> None:
        name = f"websocket {self.id}"
        thread = threading.Thread(target=self._live, args=(self._serve,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self.end(ClientGone(f"No thread can be started for it: {error}"))
            self._finish(is_ours=True)

    def _finish(self, *, is_ours: bool) -> None:
        try:
            self.close()
            if is_ours:
                self.sock.close()
        finally:
            endings, self._endings = self._endings, ()
            for call in endings:
                try:
                    Context().run(self._call_within, call)  # the handler's request is over
                except Exception:
                    _log.exception("What was to be done at the end of a WebSocket failed")
            self._take = _ignore
            self._registry.remove(self, self.reason or "")

    def _call_within(self, call: Callable[[], None]) -> None:
        with self._surround():
            call()

    # ---- how it ends, and its deadlines: see ``Client``

    def describe(self) -> Mapping[str, object]:
        """For the registry's snapshot."""
        subscriptions = self.line.subscriptions()
        return {
            "peer": self.peer,
            "channels": [name for sub in subscriptions for name in sub.channels],
            "position": [sub.id for sub in subscriptions],
            "state": [sub.phase.value for sub in subscriptions],
        }

    def end(self, reason: StreamingError) -> None:
        """End the connection soon, with the reason's close code. From any thread; never blocks.

        Raises:
            InvalidMessage: If the close code may not be sent (RFC 6455 section 7.4).
        """
        if self.reason is None:
            _last_frame(reason)  # refused before anything has changed
        super().end(reason)

    def _say_goodbye(self, reason: StreamingError) -> None:
        self._note(Move.END)
        self.line.say_goodbye(_last_frame(reason))
        if self.line.phase is Writing.OVER:
            self._note(Move.OUT)

    def _note(self, event: Move) -> None:
        """Something has happened to the closing handshake; nothing does once it is over."""
        with self.line.guard:
            if self._closing.phase is not Ending.OVER:
                self._closing.move(event)

    def _cut(self) -> None:
        self._note(Move.LOST)
        self.line.cut()
        self.line.bell.ring()

    def _is_finished(self) -> bool:
        return False  # whoever reads hangs up when both close frames are through

    def _beat(self) -> None:
        self.line.ping()
        self._look_at_progress(time.monotonic())

    def _quiet_since(self) -> float:
        return max(self.heard, self.spoke)

    def _stuck_since(self) -> float:
        return self.line.progress

    def _socket(self) -> socket.socket | None:
        return self.sock

    def _missing(self, now: float) -> ClientGone | None:
        patience = self._settings.pong_timeout
        if patience is not None and self._owes_since():
            self._look_at_progress(now)
            is_late = not self.line.progress and now - self._owes_since() > patience
            if is_late and not sockets.unread(self.sock):  # else it waits for us to read
                return ClientGone(f"No pong within {patience:g} s.")
        return super()._missing(now)

    def _next(self, now: float) -> float | None:
        when, patience, since = super()._next(now), self._settings.pong_timeout, self._owes_since()
        if patience is None or not since:
            return when
        late = max(since, now - patience) + patience
        return late if when is None else min(when, late)

    def _owes_since(self) -> float:
        """Since when the client owes us a sign of life: when the first ping went out that nothing
        was heard after, or it last took some of what lies before that. 0 if it owes nothing."""
        if self.line.pinged <= self.heard:
            return 0.0
        if self._asked <= self.heard:
            self._asked = self.line.pinged
        return max(self._asked, self._got_on)

    def _look_at_progress(self, now: float) -> None:
        """Who has not taken all that was sent, but more than at the last look, is only slow."""
        if pending := sockets.pending(self.sock):
            taken = sockets.taken(self.sock)
            before, self._acknowledged = self._acknowledged, -pending if taken is None else taken
            if before is None or before < self._acknowledged:
                self._got_on = now

    # ---- reading

    def _feed(self, data: bytes) -> None:
        self._received, self._is_drained = self._decoder.feed(data), False

    def _take_turns(self) -> None:
        """Let others run: a greenlet's ``recv`` does not, as long as the client has more to say."""
        now = time.monotonic()
        if now - self._turn > SLICE:
            give_turn()
            self._turn = time.monotonic()

    def _look_ahead(self) -> None:
        """Follow what a client says whose handler does not read: pings, and its end. ``KEPT``
        messages are kept until they are received; what lies behind them must wait."""
        if self._take is not _ignore:  # it is read behind each message
            return
        self._turn = time.monotonic()
        self.line.uncork()
        if not self._reading.acquire(blocking=False):  # somebody reads, and follows it
            return
        try:
            while len(self._ahead) < KEPT and (not self._is_drained or sockets.unread(self.sock)):
                if (message := self._receive(0)) is None:
                    break
                self._ahead += (message,)
        except ConnectionClosed:
            pass
        finally:
            self._reading.release()

    def _control(self, value: frames.Received) -> None:
        if isinstance(value, frames.Ping):
            try:
                self.line.put(frames.encode(frames.Opcode.PONG, value.data))
            except ClientGone as gone:
                self.end(gone)
        elif isinstance(value, frames.Close):
            self._settle()
            self._note(Move.HEARD)
            self.end(ConnectionClosed(value.code or 1005, value.reason))

    def _settle(self) -> None:
        """Wait until the client was sent what it published itself, at most ``SETTLE`` seconds."""
        owed, until = self._owed, time.monotonic() + SETTLE
        subscription = owed and self.line.subscription(owed.channel)
        while subscription and owed and not subscription.is_past(owed.id):
            if time.monotonic() > until or self.reason is not None:
                return
            time.sleep(0.002)

    def _read(self, timeout: float | None = None) -> bytes | None:
        """What came, nothing at the end; None after ``timeout`` seconds."""
        self.line.uncork()
        if timeout is not None:
            timeout = max(timeout, BRIEFLY)
        if self._timeout != timeout:
            self._timeout = timeout
            self.sock.settimeout(timeout)
        began, sock = time.monotonic(), self.sock
        self._is_reading = True
        try:
            data = sock.recv(READ)
        except TimeoutError:
            return None
        except OSError:
            if sock is not self.sock:
                return None  # told to rest
            data = b""
        finally:
            self._is_reading = False
            if timeout == BRIEFLY:  # others send on it, and would turn in circles
                self._timeout = None
                with suppress(OSError):
                    sock.settimeout(None)
        self.heard = now = time.monotonic()
        if now - began > WAITED:
            self._turn = now
        return data

    def _linger(self) -> None:
        """Read until the client's close frame or its end; it is cut if it gives none in time.

        Closing a socket with unread input would reset the connection and lose what is under way.
        """
        while not isinstance(self.reason, ClientGone):
            with suppress(ProtocolError):  # what follows a fault has no meaning: it is told of it
                for value in self._received:
                    self._take_turns()
                    if isinstance(value, frames.Close):
                        self._note(Move.HEARD)
            if self._closing.is_heard:
                break
            data = self._read()
            if not data:
                self._note(Move.LOST)
                return
            self._take_turns()  # who floods now would keep those out that cut it
            self._received = self._decoder.feed(data)
        self.line.wait_over(self._cut_at or time.monotonic())
        if self._closing.phase is Ending.ANSWERING:
            self._note(Move.OUT)


def _last_frame(reason: StreamingError) -> bytes:
    if isinstance(reason, ClientGone):
        return b""
    text = reason.message if isinstance(reason, ConnectionClosed) else reason.told
    return frames.encode_close(None if reason.close_code == 1005 else reason.close_code, text)


def _ignore(message: str | bytes) -> None:
    """A handler that returned nothing takes nothing."""
