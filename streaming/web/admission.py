"""The ticket of a request: taken out of its URL, so that no log has it, and taken once."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from urllib.parse import unquote_plus

from flask import Flask, Request, has_request_context, request

from .issued import keys_of
from .tickets import PREFIX, Keys, Ticket

PARAMETER = "ticket"
"""What the parameter of the URL is called."""

MASK = "***"
"""What stands in the place of a ticket afterwards."""

_SENT = "streaming.ticket.sent"
"""Where in the WSGI environment the text stands that was sent."""

_TAKEN = "streaming.ticket"
"""Where in the WSGI environment the ticket stands, once it was taken."""

_IN_URL = re.compile(r"(?<=[?&])ticket=([^&#\s\"]*)")

_DERIVED = ("args", "values", "url", "full_path")
"""What a request has worked out of its URL."""


def hide(app: Flask, **_: object) -> None:
    """Take a ticket of ours out of the URL of the request that begins: servers write it into their
    logs, and so does whoever reports errors. A parameter of the application's own that is called so
    stays. A receiver of Flask's signal, which comes before all hooks."""
    if b"ticket" in request.query_string:
        _hide(request)


def _hide(asking: Request) -> None:
    sent = asking.args.getlist(PARAMETER)
    if not any(text.startswith(PREFIX) for text in sent):
        return
    for name in ("werkzeug", "gunicorn.error"):  # they write what they have read themselves
        logging.getLogger(name).addFilter(_MASKED)
    environ = asking.environ
    environ[_SENT] = _Secret(sent[0] if len(sent) == 1 else "")  # of several, none
    for name in ("QUERY_STRING", "RAW_URI", "REQUEST_URI"):
        if name in environ:
            environ[name] = mask(environ[name])
    asking.query_string = environ["QUERY_STRING"].encode("latin-1")
    for name in _DERIVED:
        asking.__dict__.pop(name, None)


def mask(url: str) -> str:
    """A URL, what is behind its question mark, or a line with one in it, without our tickets."""
    return _IN_URL.sub(_masked, f"?{url}")[1:]


def _masked(found: re.Match[str]) -> str:
    is_ours = unquote_plus(found[1]).startswith(PREFIX)
    return f"{PARAMETER}={MASK}" if is_ours else found[0]


class _Secret(str):
    """A text that whoever prints all he has does not print."""

    def __repr__(self) -> str:
        return MASK


class _Masked(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Everything passes, without tickets."""
        if isinstance(record.args, tuple):
            record.args = tuple(mask(a) if isinstance(a, str) else a for a in record.args)
        return True


_MASKED = _Masked()


def take_ticket(
    asking: Request, app: Flask, take: Callable[[Keys, str], Ticket], *, is_ours: bool = False
) -> Ticket | None:
    """The ticket of a request, taken: it is used with this, if it is good once. None if there is
    none. With ``is_ours`` the parameter can mean nothing else.

    Raises:
        InvalidTicket: If it is none or not good any more.
        LogUnavailable: If the log cannot be reached.
    """
    environ = asking.environ
    if _TAKEN not in environ:
        text = environ.get(_SENT)
        if text is None and is_ours and PARAMETER in asking.args:
            text = ""
        environ[_TAKEN] = None if text is None else take(keys_of(app), text)
    ticket: Ticket | None = environ[_TAKEN]
    return ticket


def taken_ticket() -> Ticket | None:
    """The ticket that the current request has shown, if it was asked for it."""
    ticket: Ticket | None = None
    if has_request_context():
        ticket = request.environ.get(_TAKEN)
    return ticket
