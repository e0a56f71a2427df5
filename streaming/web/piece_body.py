"""An iterable of pieces as the body of a response: what the server iterates over."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from flask import Request

from ..clients import formats, sockets
from ..clients.client import spread_retry
from ..clients.formats import EventFormat
from ..clients.requested import Aside, RequestStream, Start
from ..errors import (
    ClientGone,
    HubClosed,
    ProducerFailed,
    Recalled,
    Revoked,
    StreamingError,
    TooManyClients,
    TooMuch,
)
from ..hub.pieces import texts
from ..hub.subscription import Subscription
from .passage import Passage
from .requests import unread_body
from .state import State

Begun = Callable[[Subscription], None]
"""Is told which subscription is read."""

_log = logging.getLogger(__name__)


class Followed:
    """Pieces made of what a channel holds, which end as soon as their client leaves.

    Args:
        make: Makes them, and says which subscription it reads.
    """

    def __init__(self, make: Callable[[Begun], Iterator[str | bytes]]) -> None:
        self._make = make
        self._made: Iterator[str | bytes] = iter(())
        self.client: RequestStream | None = None
        self.welcome: Callable[[], None] = _nobody
        """Called when ``client`` follows the channel."""

    def __iter__(self) -> Iterator[str | bytes]:
        self._made = self._make(self._note)
        return self._made

    def close(self) -> None:
        """Follow no more, at once: what the end of its client left in a circle would follow until
        the cycle collector comes. Idempotent."""
        close = getattr(self._made, "close", None)
        if close is not None:
            close()

    def _note(self, subscription: Subscription) -> None:
        if self.client is not None:
            self.client.subscription = subscription
            self.welcome()
            if self.client.reason is not None:  # it has left already
                subscription.end(self.client.reason)


class PieceBody:
    """The pieces of an iterable, each as soon as it is there, until the end of either side.

    ``raises``: whether the iterable's own errors go on to the server, once the client was told.
    """

    def __init__(
        self,
        request: Request,
        state: State,
        pieces: Iterable[str | bytes],
        every: float | None,
        form: EventFormat | None,
        raises: bool,
    ) -> None:
        environ, settings = request.environ, state.settings
        self._state = state
        self._raises = raises
        self._pieces = pieces
        self.every = every
        self._form = form
        self._sock = sockets.client_socket(environ, settings.send_buffer)
        self._source = texts(pieces)
        self._first: str | None = ""
        self._arrival = state.admit(environ)
        self._client = RequestStream(
            state.registry,
            settings,
            self._sock,
            form,
            peer=self._arrival.address.text,
            body=unread_body(request),
        )
        state.introduce(self._client, self._arrival)
        if isinstance(pieces, Followed):
            pieces.client = self._client
            pieces.welcome = partial(state.welcome, self._client, self._arrival.asked)
        self._is_listed = False
        is_chunked = environ.get("SERVER_PROTOCOL") == "HTTP/1.1"
        self.passage = Passage(self._sock, is_chunked=is_chunked)

    def begin(self, start: Start, at: float) -> None:
        """Wait for the first piece, then call ``start``; at ``at`` it is called in any case.

        Raises:
            HubClosed: If the server is about to stop.
            Exception: What the iterable raised, if ``start`` was not called.
        """
        self._enter()
        aside = self._client.aside = self._make_aside(start, at)
        try:
            self._first = self._pull()
        except Exception as error:
            if aside is None or not aside.is_begun:
                raise
            self._source = _raise(error)  # it is told in the stream
        if aside is None:
            start()
        else:
            aside.begin()

    def _make_aside(self, start: Start, at: float) -> Aside | None:
        if self._sock is None:
            return None
        beat = self._form.heartbeat if self._form else b""
        aside = Aside(self._sock, start, at=at, beat=beat)
        aside.may_beat = self.passage.is_open and self._form is not None
        return aside

    def _enter(self) -> None:
        if not self._is_listed:
            self._state.registry.add(self._client)
            self._is_listed = True
            self._state.welcome(self._client, self._arrival.asked)

    def close(self) -> None:
        """Let go of everything, also if nothing was asked for. Idempotent."""
        self._let_go("The response was not asked for.")

    def __iter__(self) -> Iterator[bytes]:
        client, form = self._client, self._form
        reason: StreamingError | str = ClientGone("The client left.")
        try:
            self._enter()  # it may be asked for by an extension that has wrapped it
            yield from self._paced()
            reason = "The end."
            if form and (last := formats.close(form)):
                yield client.hand(last)
        except (HubClosed, TooManyClients, TooMuch, ProducerFailed, Recalled, Revoked) as refusal:
            reason = refusal
            yield from self._give_up(refusal)
        except ClientGone as gone:
            reason = gone
        except Exception as error:
            _log.exception("A streamed answer failed")
            reason = f"The producer failed: {type(error).__name__}"
            yield from self._give_up(StreamingError("The answer failed."))
            if self._raises:
                raise source_of(error) from None
        except GeneratorExit:  # the server could not write
            reason = client.reason or reason
            raise
        finally:
            self._let_go(reason)

    def _paced(self) -> Iterator[bytes]:
        client, form = self._client, self._form
        piece, is_proven = self._first, form is None or self._sock is None
        while piece is not None:
            if piece:  # not the beginning of a character, or nothing behind the last
                text = _utf8(piece)
                client.count(1, len(text))
                data = client.hand(form.event("message", piece) if form else text)
                if form is None or is_proven:
                    yield data
                else:
                    yield from self.passage.prove(data, form.heartbeat)
                    is_proven = True
                    self._use(self.passage)
                client.is_taken()
                yield from self.pause()
            piece = self._pull()
            client.check()

    def _use(self, passage: Passage) -> None:
        """It is known now what reaches the client beside the generator."""
        sock, aside = self._sock, self._client.aside
        if sock is not None and passage.is_clear:
            aside = self._make_aside(lambda: lambda data: sock.sendall(passage.frame(data)), 0.0)
            if aside is not None:
                aside.begin()
        if aside is not None:
            aside.may_beat = passage.is_open
        self._client.aside = aside

    def pause(self) -> Iterator[bytes]:
        """Wait behind a piece; heartbeats that fall due meanwhile."""
        until = time.monotonic() + (self.every or 0.0)
        while (left := until - time.monotonic()) > 0:
            if beat := self._client.wait(left):
                yield self._client.hand(beat)
                self._client.is_taken()

    def _pull(self) -> str | None:
        """The next piece, None at the end; others may write meanwhile."""
        aside = self._client.aside
        if aside is not None:
            aside.lend()
        try:
            return next(self._source, None)
        except OSError as error:  # its network or disk; the client has not left
            raise ProducerError(f"{type(error).__name__}: {error}") from error
        finally:
            if aside is not None:
                aside.recall()

    def _give_up(self, error: StreamingError) -> Iterator[bytes]:
        """Say that this is not all. Plain text has no other way than to break off."""
        if self._form is None:
            if self._sock is not None:
                sockets.shut(self._sock)
            return
        if last := formats.farewell(self._form, error, spread_retry()):
            yield self._client.hand(last)
        if self._sock is not None and error.status == 503:
            sockets.shut(self._sock, socket.SHUT_RD)

    def _let_go(self, reason: StreamingError | str) -> None:
        self._state.registry.remove(self._client, self._client.reason or reason)
        self._close_pieces()

    def __del__(self) -> None:
        self._close_pieces()  # an extension has put another response in the place of ours

    def _close_pieces(self) -> None:
        pieces, self._pieces = self._pieces, ()
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


class ProducerError(Exception):
    """An error of the network or disk in a producer, told apart from one of the client's."""


def source_of(error: Exception) -> Exception:
    """What the producer raised itself."""
    cause = error.__cause__ if isinstance(error, ProducerError) else None
    return cause if isinstance(cause, Exception) else error


def _nobody() -> None:
    """Nobody has asked for these pieces."""


def _raise(error: Exception) -> Iterator[str]:
    yield from ()
    raise error


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
