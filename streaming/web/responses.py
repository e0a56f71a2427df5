"""Iterables and subscriptions in, Flask generator responses out: SSE, NDJSON and plain text."""

from __future__ import annotations

import codecs
import logging
import time
from collections.abc import Iterable, Iterator

from flask import Request, Response

from ..clients import formats
from ..clients.client import StreamClient, spread_retry
from ..clients.formats import NDJSON, SSE, EventFormat
from ..errors import ClientGone, HubClosed, StreamingError
from ..hub.hub import check_channels
from ..hub.subscription import Subscription
from ..message import Cursor, Gap, Message
from .state import State
from .tail import HandedOver, hand_over

HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
"""No cache keeps a stream, no proxy collects or compresses it."""

_log = logging.getLogger(__name__)


class ProducerError(Exception):
    """An error of the network or disk in a producer, told apart from one of the client's."""


def choose_format(request: Request, *, text: bool = False) -> EventFormat | None:
    """The format a client asks for with ``Accept``; None for plain text.

    Plain text is the first choice where ``text`` offers it, Server-Sent Events otherwise.
    """
    if not text and request.environ.get("HTTP_ACCEPT", "*/*") in ("*/*", SSE.mimetype):
        return SSE  # what nearly every client says; parsing the header costs more than the rest
    offers: dict[str, EventFormat | None] = {"text/plain": None} if text else {}
    offers |= {SSE.mimetype: SSE, NDJSON.mimetype: NDJSON}
    first = next(iter(offers))
    return offers[request.accept_mimetypes.best_match(offers, first) or first]


def event_stream(
    request: Request,
    state: State,
    channels: Iterable[str],
    *,
    after: str | None = None,
    history: int = 0,
) -> Response:
    """A response that follows ``channels``, resuming behind ``after``.

    Raises:
        InvalidMessage: If a channel name is not well formed.
        InvalidRequest: If there are no channels or too many.
        InvalidCursor: If ``after`` cannot be read.
        TooManyClients: If this worker has as many as it takes.
    """
    names = check_channels(channels)
    if after is not None:
        Cursor.parse(after)
    state.registry.check_room()
    form = choose_format(request) or SSE
    client = StreamClient(request.environ, state.settings, form)

    return _response(_follow(client, state, names, after, history), form.mimetype)


def _follow(
    client: StreamClient, state: State, names: tuple[str, ...], after: str | None, history: int
) -> Iterator[bytes]:
    """The body of an event stream, until its end or until it goes to rest."""
    assert client.form is not None
    form, subscription, is_over = client.form, None, True
    reason: StreamingError = ClientGone("The client left.")
    try:
        state.registry.add(client)
        subscription = state.hub.subscribe(names, after=after, history=history, bell=client.bell)
        client.subscription = subscription
        client.outlet.cork()
        yield client.hand(formats.ready(form, names, subscription.id))
        client.outlet.uncork()
        client.release()
        while is_over:
            client.check()
            items = subscription.read_on()
            if items:
                yield client.hand(_encode(form, subscription, items))
                continue
            client.lend()
            if hand_over(client, subscription, state):
                is_over = False
            elif beat := client.rest():
                yield client.hand(beat)
    except (ClientGone, OSError) as gone:
        reason = gone if isinstance(gone, ClientGone) else ClientGone(str(gone))
    except StreamingError as error:
        reason = error
        _close(subscription)
        yield client.hand(formats.farewell(form, error, spread_retry()))
        client.outlet.stop_reading()
    finally:
        if is_over:
            _close(subscription)
            state.registry.remove(client, client.reason or reason)
    if not is_over:
        raise HandedOver


def _close(subscription: Subscription | None) -> None:
    """Nothing is written any more behind the back of whoever says the last word."""
    if subscription is not None:
        subscription.close()


def stream_response(
    request: Request,
    state: State,
    pieces: Iterable[str | bytes],
    *,
    every: float | None = None,
    form: EventFormat | None = None,
) -> Response:
    """A response that sends each piece as soon as ``pieces`` gives it.

    Plain text without ``form``. ``every`` is the pause after each piece in seconds; while pausing,
    a client that leaves ends the stream at once, and otherwise at the next piece. The iterable is
    closed at the end, whatever the end is. It is asked for a piece only when the one before is
    with the kernel, so a slow client slows it down.
    """
    state.registry.check_room()
    client = StreamClient(request.environ, state.settings, form)

    def body() -> Iterator[bytes]:
        reason: StreamingError | str = ClientGone("The client left.")
        try:
            state.registry.add(client)
            yield from _paced(client, _texts(pieces), every, form)
            reason = "The end."
            if form:
                yield client.hand(formats.close(form))
        except HubClosed as closed:
            reason = closed
            if form:
                yield client.hand(formats.farewell(form, closed, spread_retry()))
                client.outlet.stop_reading()
            else:
                client.outlet.cut()  # plain text has no other way to say that this is not all
        except (ClientGone, OSError) as gone:
            reason = gone if isinstance(gone, ClientGone) else ClientGone(str(gone))
        except Exception as error:
            _log.exception("A streamed answer failed")
            reason = f"The producer failed: {type(error).__name__}"
            if form:
                yield client.hand(
                    formats.close(form, StreamingError("The answer failed.").problem())
                )
            else:
                client.outlet.cut()
        except GeneratorExit:  # the server could not write
            reason = client.reason or reason
            raise
        finally:
            state.registry.remove(client, reason)
            close = getattr(pieces, "close", None)
            if close is not None:
                close()

    return _response(body(), form.mimetype if form else "text/plain")


def _paced(
    client: StreamClient, source: Iterator[str], every: float | None, form: EventFormat | None
) -> Iterator[bytes]:
    while True:
        client.lend()
        try:
            piece = next(source, None)
        except OSError as error:  # its network or disk; the client has not left
            raise ProducerError(f"{type(error).__name__}: {error}") from error
        client.outlet.finish()
        client.check()
        if piece is None:
            return
        if not piece:
            continue  # the beginning of a character, or nothing behind the last
        yield client.hand(form.event("message", piece) if form else _utf8(piece))
        until = time.monotonic() + (every or 0)
        while every and (beat := client.pause(until - time.monotonic())):
            yield client.hand(beat)


def _texts(pieces: Iterable[str | bytes]) -> Iterator[str]:
    """The pieces as text; bytes are decoded without ever cutting a character."""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    for piece in pieces:
        yield piece if isinstance(piece, str) else decode(piece)
    yield decode(b"", True)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _encode(form: EventFormat, sub: Subscription, items: list[Message | Gap]) -> bytes:
    several = len(sub.channels) > 1
    blocks = []
    for item in items:
        if isinstance(item, Gap):
            blocks.append(form.gap(item, sub.step(item)))
        elif several:
            blocks.append(form.encode_at(item, sub.step(item)))
        else:
            blocks.append(item.encoded(form))
    return b"".join(blocks)


def _response(body: Iterator[bytes], mimetype: str) -> Response:
    return Response(body, mimetype=mimetype, headers=HEADERS, direct_passthrough=True)
