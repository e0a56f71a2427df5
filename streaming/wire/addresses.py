"""Whose address a request has: its peer's, or what trusted proxies say of it."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import NamedTuple

LONGEST = 60
"""Characters of the longest address that is read: of IPv6 45, and the name of an interface."""

UNIX = "unix"
"""What stands for whoever comes over a Unix socket."""

_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")


class Address(NamedTuple):
    """Where a client is."""

    text: str
    """For people to read."""
    group: str | None
    """Whom it is counted with: an address, of IPv6 a network (/64). None where nobody can tell it
    from others: it may be a proxy that speaks for all."""
    is_own: bool
    """Whether it is a program of this machine, for which no proxy speaks."""


class Proxies:
    """Those whose ``X-Forwarded-For`` is believed.

    Args:
        names: Addresses, networks, and ``unix`` for whoever comes over a Unix socket.

    Raises:
        ValueError: If one is none of these, has bits behind its network, or is everybody.
    """

    def __init__(self, names: Collection[str] = ()) -> None:
        self._networks = tuple(_network(name) for name in names if name != UNIX)
        self._is_unix = UNIX in names
        self._is_known = bool(names)

    def address(self, peer: str, forwarded: str | None) -> Address:
        """Where the client is whose request came from ``peer`` (``REMOTE_ADDR``) and says
        ``forwarded`` (``X-Forwarded-For``, of several all, joined by commas).

        Each proxy adds whom it heard on the right. So that is read from there, for as long as
        whoever has said it is trusted; what is no address ends it at the last that is known.
        """
        found = _parse(peer)
        is_proxy = self._trusts(found)
        is_own = not forwarded and (found is None or found.is_loopback)
        if is_proxy and forwarded:
            for text in reversed(forwarded.split(",")):
                nearest = _read(text)
                if nearest is None:
                    break
                found, is_proxy = nearest, self._trusts(nearest)
                if not is_proxy:
                    break
        if found is None:
            return Address(peer[:100], None, is_own)
        is_one = not is_own and not is_proxy and (self._is_known or found.is_global)
        return Address(str(found), _group(found) if is_one else None, is_own)

    def _trusts(self, found: IPv4Address | IPv6Address | None) -> bool:
        if found is None:
            return self._is_unix
        return any(found in network for network in self._networks)


def _network(name: str) -> IPv4Network | IPv6Network:
    if not isinstance(name, str):
        raise ValueError("a network is a text")
    network = ip_network(name)
    if not network.prefixlen:
        raise ValueError("that is everybody, whose word cannot count")
    return network


def _read(text: str) -> IPv4Address | IPv6Address | None:
    """One of those in ``X-Forwarded-For``; some proxies add a port."""
    text = text.strip(" \t")
    found = _WITH_PORT.fullmatch(text)
    return _parse(found[1] or found[2] if found else text)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    return _parse_short(text) if len(text) <= LONGEST else None


@lru_cache(1000)
def _parse_short(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _group(found: IPv4Address | IPv6Address) -> str:
    if isinstance(found, IPv4Address):
        return str(found)
    return str(ip_network((int(found), 64), strict=False))
