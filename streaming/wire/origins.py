"""Origins of pages and the ``Host`` of a request, as parsed (RFC 6454, RFC 3986 section 3.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 300
"""Characters of the longest origin that is read; a host's name has at most 253."""

# Without the comma, which the grammar allows: two headers sent as one are joined by it.
_HOST = r"((?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+|\[[0-9A-Fa-f:.]+\])"
_ORIGIN = re.compile(rf"([A-Za-z][A-Za-z0-9+.-]*)://{_HOST}(?::([0-9]{{1,5}}))?")
_AUTHORITY = re.compile(rf"{_HOST}(?::([0-9]{{0,5}}))?")

_PORTS = {"http": 80, "https": 443}
_PAGES = {"ws": "http", "wss": "https"}  # what a page is loaded with that opens it


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port, so that two are equal exactly if they are the same origin.

    What cannot be read has no ``Origin``: None is not one, and must never be compared with another.
    """

    scheme: str
    host: str
    port: int | None

    def covers(self, page: Origin) -> bool:
        """Whether ``page`` is it or, where its host begins with ``*.``, one of the sub-domains of
        what follows, at any depth: not that itself."""
        if not self.host.startswith("*."):
            return self == page
        start = page.host.removesuffix(self.host[1:])
        is_below = start not in ("", page.host) and "*" not in start
        return is_below and (self.scheme, self.port) == (page.scheme, page.port)

    def __str__(self) -> str:
        port = "" if self.port == _PORTS.get(self.scheme) else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


def parse_origin(text: str) -> Origin | None:
    """The origin that ``text`` is the serialization of (RFC 6454 section 6.2); None if of none.

    ``null``, a path, a user, a query or a fragment make it none.
    """
    found = _ORIGIN.fullmatch(text) if len(text) <= LONGEST else None
    return _origin(found[1], found[2], found[3]) if found else None


def parse_host(text: str, scheme: str) -> Origin | None:
    """The origin of what is asked for with ``Host: text`` over ``scheme`` (RFC 9110 section 7.2).

    None if it cannot be read. An underscore in a name is fine: networks of containers have them.
    """
    found = _AUTHORITY.fullmatch(text) if len(text) <= LONGEST else None
    scheme = scheme.lower()
    return _origin(_PAGES.get(scheme, scheme), found[1], found[2]) if found else None


def _origin(scheme: str, host: str, port: str | None) -> Origin | None:
    scheme = scheme.lower()
    number = int(port) if port else _PORTS.get(scheme)
    return None if (number or 0) > 65535 else Origin(scheme, host.lower(), number)
