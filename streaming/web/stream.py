"""``stream``: any iterable as a response."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Response, request

from ..clients.formats import EventFormat
from .responses import choose_format, stream_response
from .state import current_state
from .surroundings import look_at_stream


def stream(
    pieces: Iterable[str | bytes], *, every: float | None = None, form: EventFormat | None = None
) -> Response:
    """A response that sends each piece of any iterable as soon as it is there.

    Plain text, NDJSON or Server-Sent Events by the client's ``Accept``, or the given ``form``.
    Bytes are decoded as UTF-8 without cutting a character; a piece of another type fails the
    answer. ``every``: seconds to pause after each piece. The iterable is closed when the client
    leaves: during a pause at once, otherwise when it gives its next piece. Errors in it are logged
    and end the stream, and are raised with ``app.testing`` or by ``PROPAGATE_EXCEPTIONS``.

    Raises:
        TypeError: If ``pieces`` is none: bytes, a dict, an async generator, a function not called.
    """
    form = form or choose_format(request, text=True)
    state = current_state()
    look_at_stream(request.environ, state)
    return stream_response(request, state, pieces, every=every, form=form)
