"""The bodies of streaming responses: what the server iterates over."""

from __future__ import annotations

import codecs
import logging
import socket
import time
from collections.abc import Iterable, Iterator

from flask import Request

from ..clients import formats, sockets
from ..clients.client import spread_retry
from ..clients.formats import EventFormat
from ..clients.requested import Head, Loan, RequestStream
from ..clients.stream import BODY, EventStream
from ..errors import ClientGone, HubClosed, StreamingError
from ..hub.subscription import Subscription
from ..message import Gap, Message
from .passage import Passage
from .state import State

_log = logging.getLogger(__name__)


class EventBody:
    """A stream of events, until its end or until it goes on without its request."""

    def __init__(
        self,
        request: Request,
        state: State,
        form: EventFormat,
        names: tuple[str, ...],
        after: str | None,
        history: int,
    ) -> None:
        environ, settings = request.environ, state.settings
        self._state = state
        self._form = form
        self._names = names
        self._after = after
        self._history = history
        self._peer = str(environ.get("REMOTE_ADDR", ""))
        self._sock = sockets.client_socket(environ, settings.send_buffer)
        is_chunked = environ.get("SERVER_PROTOCOL") == "HTTP/1.1"
        self._may = is_chunked and settings.direct_writes
        self._unread = request.content_length or (
            BODY if environ.get("HTTP_TRANSFER_ENCODING") else 0
        )
        self.passage = Passage(self._sock)

    def __iter__(self) -> Iterator[bytes]:
        client, form, is_given = self._client(), self._form, False
        reason: StreamingError = ClientGone("The client left.")
        subscription: Subscription | None = None
        try:
            self._state.registry.add(client)
            subscription = client.subscription = self._state.hub.subscribe(
                self._names, after=self._after, history=self._history, bell=client.bell
            )
            yield client.hand(formats.ready(form, self._names, subscription.id))
            if isinstance(client, EventStream):
                yield from self._probe()
                is_given = self.passage.is_clear and client.start(subscription)
            if not is_given:
                client = self._stay(client)
                yield from _follow(client, subscription, form)
        except ClientGone as gone:
            reason = gone
        except StreamingError as error:
            reason = error
            if subscription is not None:
                subscription.close()  # nothing is written behind the back of the last word
            yield client.hand(formats.farewell(form, error, spread_retry()))
            if self._sock is not None:
                sockets.shut(self._sock, socket.SHUT_RD)  # the server finds the end, and does not
                # wait for another request: a client that stays would hold a stopping worker
        finally:
            if not is_given:
                if subscription is not None:
                    subscription.close()
                self._state.registry.remove(client, client.reason or reason)

    def _client(self) -> EventStream | RequestStream:
        state, sock = self._state, self._sock
        if self._may and sock is not None and sockets.is_direct(sock):
            return EventStream(
                state.registry, state.settings, sock, self._form, peer=self._peer, body=self._unread
            )
        return RequestStream(
            state.registry.deadlines, state.settings, sock, self._form, peer=self._peer
        )

    def _probe(self) -> Iterator[bytes]:
        """Find out what becomes of a piece, where that is not known."""
        if not self.passage.is_clear:
            self.passage.begin()
            yield self._form.heartbeat
            self.passage.end(self._form.frame(self._form.heartbeat))

    def _stay(self, client: EventStream | RequestStream) -> RequestStream:
        """A client whose connection could not be given away, or never can be."""
        if isinstance(client, RequestStream):
            return client
        state = self._state
        other = RequestStream(
            state.registry.deadlines, state.settings, self._sock, self._form, peer=self._peer
        )
        other.bell, other.subscription = client.bell, client.subscription
        state.registry.replace(client, other)
        return other


def _follow(client: RequestStream, sub: Subscription, form: EventFormat) -> Iterator[bytes]:
    """Read the log and give it to the server, until the stream is ended.

    Raises:
        StreamingError: The reason.
    """
    client.is_taken()
    while True:
        if items := sub.read_on():
            yield client.hand(b"".join([_encode(form, sub, item) for item in items]))
            client.is_taken()
        elif beat := client.wait():
            yield client.hand(beat)
            client.is_taken()


def _encode(form: EventFormat, sub: Subscription, item: Message | Gap) -> bytes:
    after = sub.step(item)
    if isinstance(item, Gap):
        return form.gap(item, after)
    return (
        form.encode_among(item, sub.others(item.channel)) if sub.is_several else item.encoded(form)
    )


class PieceBody:
    """The pieces of an iterable, each as soon as it is there, until the end of either side."""

    def __init__(
        self,
        request: Request,
        state: State,
        pieces: Iterable[str | bytes],
        every: float | None,
        form: EventFormat | None,
    ) -> None:
        environ, settings = request.environ, state.settings
        self._state = state
        self._pieces = pieces
        self.every = every
        self._form = form
        self._sock = sockets.client_socket(environ, settings.send_buffer)
        self._is_chunked = environ.get("SERVER_PROTOCOL") == "HTTP/1.1"
        self._source = _texts(pieces)
        self._first: str | None = ""
        self._client = RequestStream(
            state.registry.deadlines,
            settings,
            self._sock,
            form,
            peer=str(environ.get("REMOTE_ADDR", "")),
        )
        self.passage = Passage(self._sock)

    def begin(self, head: Head) -> None:
        """Wait for the first piece; ``head`` leaves meanwhile if that takes long.

        Raises:
            HubClosed: If the server is about to stop.
            Exception: What the iterable raised, if the head has not left.
        """
        self._state.registry.add(self._client)
        self._client.head = head
        try:
            self._first = self._pull(None)
        except Exception as error:
            if head.claim():
                raise
            self._source = _raise(error)  # it is told in the stream
        finally:
            self._client.head = None

    def close(self) -> None:
        """Let go of everything, also if nothing was asked for. Idempotent."""
        self._let_go("The response was not asked for.")

    def __iter__(self) -> Iterator[bytes]:
        client, form = self._client, self._form
        reason: StreamingError | str = ClientGone("The client left.")
        try:
            yield from self._paced()
            reason = "The end."
            if form:
                yield client.hand(formats.close(form))
        except HubClosed as closed:
            reason = closed
            yield from self._give_up(closed)
        except ClientGone as gone:
            reason = gone
        except Exception as error:
            _log.exception("A streamed answer failed")
            reason = f"The producer failed: {type(error).__name__}"
            yield from self._give_up(StreamingError("The answer failed."))
        except GeneratorExit:  # the server could not write
            reason = client.reason or reason
            raise
        finally:
            self._let_go(reason)

    def _paced(self) -> Iterator[bytes]:
        client, form = self._client, self._form
        piece, loan = self._first, None
        if form and self._sock is not None:
            if not self.passage.is_clear:
                self.passage.begin()
                yield form.heartbeat
                self.passage.end(self._frame(form.heartbeat))
            loan = client.lend(self._frame) if self.passage.is_clear else None
        while piece is not None:
            if piece:  # not the beginning of a character, or nothing behind the last
                yield client.hand(form.event("message", piece) if form else _utf8(piece))
                client.is_taken()
                yield from self.pause()
            piece = self._pull(loan)
            client.check()

    def pause(self) -> Iterator[bytes]:
        """Wait behind a piece; heartbeats that fall due meanwhile."""
        until = time.monotonic() + (self.every or 0.0)
        while (left := until - time.monotonic()) > 0:
            if beat := self._client.wait(left):
                yield self._client.hand(beat)
                self._client.is_taken()

    def _pull(self, loan: Loan | None) -> str | None:
        """The next piece, None at the end; the socket is lent out meanwhile."""
        if loan is not None:
            loan.lend()
        try:
            return next(self._source, None)
        except OSError as error:  # its network or disk; the client has not left
            raise ProducerError(f"{type(error).__name__}: {error}") from error
        finally:
            if loan is not None:
                loan.recall()

    def _give_up(self, error: StreamingError) -> Iterator[bytes]:
        """Say that this is not all. Plain text has no other way than to break off."""
        if self._form is None:
            if self._sock is not None:
                sockets.shut(self._sock)
            return
        yield self._client.hand(formats.farewell(self._form, error, spread_retry()))
        if self._sock is not None and isinstance(error, HubClosed):
            sockets.shut(self._sock, socket.SHUT_RD)

    def _frame(self, data: bytes) -> bytes:
        """What the server makes of a piece."""
        return b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data

    def _let_go(self, reason: StreamingError | str) -> None:
        self._state.registry.remove(self._client, self._client.reason or reason)
        pieces, self._pieces = self._pieces, ()
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


class ProducerError(Exception):
    """An error of the network or disk in a producer, told apart from one of the client's."""


def _texts(pieces: Iterable[str | bytes]) -> Iterator[str]:
    """The pieces as text; bytes are decoded without ever cutting a character."""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    for piece in pieces:
        yield piece if isinstance(piece, str) else decode(piece)
    yield decode(b"", True)


def _raise(error: Exception) -> Iterator[str]:
    yield from ()
    raise error


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
