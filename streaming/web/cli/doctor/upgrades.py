"""WebSockets through a proxy: whether they are opened, and by which pages."""

from __future__ import annotations

from collections.abc import Iterator

from .finding import Finding
from .visit import NGINX, Visit

FOREIGN = "https://foreign.invalid"
"""An origin that nobody has."""

ORIGINS = "deployment.md#behind-a-proxy-proxyfix-and-streaming_origins"


def look_at_sockets(how: Visit) -> Iterator[Finding]:
    """What becomes of WebSockets."""
    with how.talk() as talk:
        if not talk.is_open or not talk.is_welcomed(how.wait):
            yield Finding(
                "upgrade",
                f"A WebSocket is not opened: the answer is {talk.status}.",
                "There are no WebSockets: the proxy does not pass them on, or the server has none.",
                "nginx: proxy_http_version 1.1, and the headers Upgrade and Connection; other "
                "proxies have a switch for it.",
                NGINX,
            )
            return
    with how.talk(how.address.origin) as talk:
        is_own, own_status = talk.is_open, talk.status
    with how.talk(FOREIGN) as talk:
        is_foreign = talk.is_open
    if not is_own:
        yield Finding(
            "own-origin",
            f"A page of {how.address.origin} may open no WebSocket: {own_status}.",
            "The app does not know how browsers call it.",
            "Have the proxy pass Host and X-Forwarded-Proto on, and tell the app to trust it "
            f"(ProxyFix); or STREAMING_ORIGINS = [{how.address.origin!r}].",
            ORIGINS,
        )
    if is_foreign:
        yield Finding(
            "foreign-origin",
            "A page of any other site may open WebSockets.",
            "It does so with the cookies of your users, and reads what they may read.",
            "Take '*' out of STREAMING_ORIGINS, and do not have the proxy change Origin.",
            ORIGINS,
        )
