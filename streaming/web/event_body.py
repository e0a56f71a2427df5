"""A subscription as the body of a response: what the server iterates over."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from typing import TypeVar

from flask import Request

from ..clients import formats, sockets
from ..clients.client import spread_retry
from ..clients.formats import EventFormat
from ..clients.outlet import RETRY
from ..clients.requested import RequestStream
from ..clients.stream import EventStream
from ..errors import ClientGone, LogUnavailable, StreamingError
from ..hub.encodings import LARGE, LargeMessage
from ..hub.sink import encode_blocks
from ..hub.subscription import Subscription
from ..message import Gap, Message
from .passage import GIVEN, Passage
from .requests import unread_body
from .state import State

Kind = TypeVar("Kind", EventStream, RequestStream)


class EventBody:
    """A stream of events, until its end or until it goes on without its request.

    Begins with ``opening``, or with an event that says where it stands.
    """

    def __init__(
        self,
        request: Request,
        state: State,
        form: EventFormat,
        names: tuple[str, ...],
        after: str | None,
        history: int,
        opening: bytes = b"",
        is_checked: bool = False,
    ) -> None:
        environ, settings = request.environ, state.settings
        self._environ = environ
        self._state = state
        self._form = form
        self._names = names
        self._after = after
        self._history = history
        self._opening = opening
        self._arrival = state.admit(environ)
        self._is_checked = is_checked
        self._sock = sockets.client_socket(environ, settings.send_buffer)
        is_chunked = environ.get("SERVER_PROTOCOL") == "HTTP/1.1"
        self._may = is_chunked and settings.direct_writes
        self.passage = Passage(self._sock, is_chunked=is_chunked)
        self._unread = unread_body(request)

    def __iter__(self) -> Iterator[bytes]:
        client, form, is_given = self._client(), self._form, False
        reason: StreamingError = ClientGone("The client left.")
        subscription: Subscription | None = None
        try:
            self._state.registry.add(client)
            account = self._state.replays.account(self._arrival.holder)
            if account and self._opening:
                account.charge(1, len(self._opening))
            subscription = client.subscription = self._state.hub.subscribe(
                self._names,
                after=self._after,
                history=self._history,
                bell=client.bell,
                replayed=account.charge if account else None,
            )
            self._state.welcome(client, self._arrival.asked)
            opening = self._opening or formats.ready(form, self._names, subscription.id)
            first = client.hand(opening)
            if isinstance(client, EventStream):
                yield from self.passage.prove(first, form.heartbeat)
                is_given = self.passage.is_clear and client.start(subscription)
                self._environ[GIVEN] = is_given
            else:
                yield first
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
            stream = EventStream(
                state.registry,
                state.settings,
                sock,
                self._form,
                peer=self._arrival.address.text,
                body=self._unread,
            )
            return self._known(stream)
        return self._request_stream()

    def _stay(self, client: EventStream | RequestStream) -> RequestStream:
        """A client whose connection could not be given away, or never can be."""
        if isinstance(client, RequestStream):
            return client
        other = self._request_stream()
        other.bell, other.subscription = client.bell, client.subscription
        self._state.registry.replace(client, other)
        self._state.welcome(other, self._arrival.asked)  # an order may have reached the first alone
        return other

    def _request_stream(self) -> RequestStream:
        stream = RequestStream(
            self._state.registry,
            self._state.settings,
            self._sock,
            self._form,
            peer=self._arrival.address.text,
            body=self._unread,
        )
        return self._known(stream)

    def _known(self, client: Kind) -> Kind:
        client.is_checked = self._is_checked
        self._state.introduce(client, self._arrival)
        return client


def _follow(client: RequestStream, sub: Subscription, form: EventFormat) -> Iterator[bytes]:
    """Read the log and give it to the server, until the stream is ended.

    Raises:
        StreamingError: The reason.
    """
    client.is_taken()
    while True:
        data = None
        for data in _next_pieces(client, sub, form):
            yield client.hand(data)  # the end of the stream has to wait for that of an event
        if data is not None:
            client.is_taken()
        if beside := client.wait() if data is None else client.take_soon():
            yield client.hand(beside)
            client.is_taken()


def _next_pieces(client: RequestStream, sub: Subscription, form: EventFormat) -> Iterator[bytes]:
    """What the log holds next, in bounded pieces."""
    with sub.encodings.turnstile:
        items = sub.read_on()
        gaps = [form.gap(item, sub.step(item)) for item in items if isinstance(item, Gap)]
        messages = [item for item in items if isinstance(item, Message)]
        others = sub.tell_all(messages)
        client.count(len(messages), sum([message.size for message in messages]))
        if not messages:
            pieces: Iterable[bytes] = ()
        elif messages[0].size > LARGE:
            pieces = _spans(client, sub.encodings.message(messages[0], form), messages[0], others)
        else:
            pieces = (encode_blocks(form, messages, client.id, others),)
    del items, messages
    yield from gaps
    yield from pieces


def _spans(
    client: RequestStream, encoded: LargeMessage, message: Message, others: bytes | None
) -> Iterator[bytes]:
    """A large message; the server, which writes them, puts the ends around each."""
    before, behind = encoded.form.around(message, False, others)
    del message
    yield before
    for index in range(encoded.count):
        while True:
            try:
                with encoded.encodings.turnstile:
                    span = encoded.span(index)
                break
            except LogUnavailable:
                client.wait(RETRY)
        yield span
    yield behind
