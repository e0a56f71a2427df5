"""What a server has read of its client's bytes beyond the request, for whom they are meant."""

from __future__ import annotations

import io
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

MOST = 64 * 1024
"""Bytes taken at once; no server reads as many ahead."""


def take_ahead(environ: Mapping[str, Any], sock: socket.socket) -> bytes:
    """The bytes behind a request without a body that its server has read already; once.

    They lie in gunicorn's "unreader", in the file that Werkzeug's server reads from, or nowhere:
    our own worker leaves them to the kernel. Never blocks.
    """
    source = environ.get("wsgi.input")
    unreader = getattr(getattr(source, "reader", None), "unreader", None)
    if unreader is not None:
        data: bytes = unreader.buf.getvalue()
        unreader.buf = io.BytesIO()
        return data
    if not isinstance(source, io.BufferedReader):
        return b""
    timeout = sock.gettimeout()
    sock.settimeout(0)  # where nothing lies in the file it asks the socket
    try:
        with suppress(OSError):  # TLS has nothing for us
            return source.read1(MOST) or b""
        return b""
    finally:
        sock.settimeout(timeout)
