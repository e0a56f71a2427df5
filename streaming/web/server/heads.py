"""The head of a plain request. What is not plain is gunicorn's to read, or to refuse.

Plain is a strict part of HTTP/1.1 (RFC 9112): what browsers send when they ask for something.
Nothing in it needs a judgement, so nothing passes here that gunicorn's own parser would refuse.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Container
from typing import Any

from gunicorn.http.message import Request

_HEAD = re.compile(
    r"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[!\"$-~]*+) (HTTP/1\.1)\r\n"
    r"((?:[!#$%&'*+\-.^`|~0-9A-Za-z]++:[\t -~\x80-\xff]*+\r\n)++)\r\n"
)
"""No fragment in the target, no underscore in a name, no folded line; every line ends in CRLF."""

LONGEST = 8190
"""Bytes of a plain head, at most."""

_BODY = frozenset({"CONTENT-LENGTH", "TRANSFER-ENCODING", "EXPECT"})


class PlainRequest(Request):  # type: ignore[misc]  # gunicorn has no types
    """A request without a body, as gunicorn's hooks, log and error pages know requests."""

    version = (1, 1)
    fragment = ""
    proxy_protocol_info: dict[str, object] = {}  # noqa: RUF012  # nobody fills it
    _expected_100_continue = False
    is_answered = False
    """Whether the answer is out and another request may follow on the connection."""
    behind = 0
    """Bytes that were seen behind it."""

    def __init__(
        self, cfg: Any, peer: Any, method: str, uri: str, headers: list[tuple[str, str]]
    ) -> None:
        # not Request's own, which reads from a socket
        self.cfg = cfg
        self.unreader = None
        self.peer_addr = self.remote_addr = peer
        self.req_number = 1
        self.method = method
        self.uri = uri
        self.path, _, self.query = uri.partition("?")
        self.headers = headers
        self.trailers: list[tuple[str, str]] = []
        self.scheme = "http"
        self.must_close = False
        self.body = io.BytesIO()


_NOT_PLAIN = None, 0


class Reader:
    """Reads heads by the rules of one configuration."""

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg
        self._script_name = os.environ.get("SCRIPT_NAME", "")
        self._schemes: dict[str, str] = cfg.secure_scheme_headers
        self._trusted: Container[str] = cfg.forwarded_allow_ips
        self._most: int = _limit(cfg.limit_request_fields)
        self._longest_line: int = _limit(cfg.limit_request_line)
        self.longest: int = min(LONGEST, _limit(cfg.limit_request_field_size))
        """Bytes of a plain head."""

    def read(self, data: bytes, peer: Any) -> tuple[PlainRequest | None, int]:
        """The request that ``data`` begins with and the bytes of its head; None and 0 if it is
        not plain or not all there."""
        found = _HEAD.match(data.decode("latin-1"))
        if found is None or found.end() > self.longest or found.end(3) > self._longest_line:
            return _NOT_PLAIN
        method, uri, _, fields = found.groups()
        headers, names = [], set()
        for line in fields.split("\r\n")[:-1]:
            name, _, value = line.partition(":")
            name = name.upper()
            headers.append((name, value.strip(" \t")))
            names.add(name)
        if len(names) < len(headers) or len(names) > self._most or not names.isdisjoint(_BODY):
            return _NOT_PLAIN
        request = PlainRequest(self._cfg, peer, method, uri, headers)
        if not request.path.startswith(self._script_name):
            return _NOT_PLAIN
        if not names.isdisjoint(self._schemes) and not self._apply_scheme(request):
            return _NOT_PLAIN
        request.behind = len(data) - found.end()
        return request, found.end()

    def _apply_scheme(self, request: PlainRequest) -> bool:
        """Believe a proxy that says how it was reached; False where gunicorn has to decide."""
        peer = request.peer_addr
        told = [pair for pair in request.headers if pair[0] in self._schemes]
        if len(told) > 1 or (isinstance(peer, tuple) and not self._trusts(peer[0])):
            return False
        name, value = told[0]
        request.scheme = "https" if value == self._schemes[name] else "http"
        return True

    def _trusts(self, ip: str) -> bool:
        return ip in self._trusted or "*" in self._trusted  # networks are gunicorn's to compare


def _limit(value: int) -> int:
    """A limit of gunicorn's; 0 is none, and then ours holds."""
    return value if value > 0 else LONGEST
