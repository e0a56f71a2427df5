"""Log URLs that name a Redis server, a Sentinel's service or a Cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, NoReturn, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from ...errors import ConfigurationError

FORMS = (
    "redis://[user:password@]host[:port][/db], "
    "redis+sentinel://[user:password@]host[:port],host[:port]/service[/db], "
    "redis+cluster://[user:password@]host[:port],host[:port]; rediss… for TLS"
)

OPTIONS = ("prefix", "ssl_ca_certs", "ssl_cert_reqs", "sentinel_username", "sentinel_password")

_SCHEME = re.compile(r"(rediss?)(?:\+(sentinel|cluster))?")
_NODE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class RedisURL:
    """What a log URL says."""

    kind: Literal["server", "sentinel", "cluster"]
    nodes: tuple[tuple[str, int], ...]
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    service: str = ""
    db: int = 0
    options: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def prefix(self) -> str:
        """What all names of this log begin with."""
        return self.options.get("prefix", "streaming:")

    def key(self, channel: str, kind: str) -> str:
        """The name in Redis of something that belongs to a channel; its node is the channel's."""
        return f"{self.prefix}{{{channel}}}:{kind}"

    def channel(self, key: str) -> str:
        """The channel that something of this name belongs to."""
        return key[len(self.prefix) + 1 :].partition("}")[0]

    def __str__(self) -> str:
        """The URL without its secrets."""
        scheme = f"redis{'s' * self.tls}{'' if self.kind == 'server' else '+' + self.kind}"
        nodes = ",".join(f"[{h}]:{p}" if ":" in h else f"{h}:{p}" for h, p in self.nodes)
        path = f"/{self.service}" * bool(self.service) + f"/{self.db}" * bool(self.db)
        return f"{scheme}://{nodes}{path}"

    @classmethod
    def parse(cls, url: str) -> Self:
        """The URL that was written as ``url``.

        Raises:
            ConfigurationError: If it is not one of ``FORMS``.
        """
        try:
            parts = urlsplit(url)
            query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:
            _refuse("cannot be read")
        scheme = _SCHEME.fullmatch(parts.scheme)
        if not scheme:
            _refuse(f"begins with {parts.scheme!r}")
        kind = scheme[2] or "server"
        user, _, hosts = parts.netloc.rpartition("@")
        username, colon, password = user.partition(":")
        nodes = tuple(
            _node(text, 26379 if kind == "sentinel" else 6379) for text in hosts.split(",")
        )
        if kind == "server" and len(nodes) > 1:
            _refuse("names several servers (redis+sentinel or redis+cluster take a list)")
        options = dict(query)
        _check_options(options, kind, tls=scheme[1] == "rediss")
        service, db = _path(parts.path, kind)
        return cls(
            kind,  # type: ignore[arg-type]  # the pattern names the three
            nodes,
            scheme[1] == "rediss",
            unquote(username) or None,
            unquote(password) if colon else None,
            service,
            db,
            options,
        )


def _node(text: str, port: int) -> tuple[str, int]:
    found = _NODE.fullmatch(text)
    if not found or int(found[2] or port) > 65535:
        _refuse(f"has {text!r} where host:port belongs")
    return found[1].strip("[]"), int(found[2] or port)


def _path(path: str, kind: str) -> tuple[str, int]:
    """The service of a Sentinel, and the number of the database."""
    parts = [unquote(part) for part in path.split("/")[1:]]
    if parts and not parts[-1]:
        parts.pop()
    service = parts.pop(0) if kind == "sentinel" and parts else ""
    if kind == "sentinel" and not service:
        _refuse("does not name the service that the sentinels watch")
    if len(parts) > (kind != "cluster") or (parts and not re.fullmatch("[0-9]{1,6}", parts[0])):
        _refuse(f"has a path ({path!r}) that says nothing here")
    return service, int(parts[0]) if parts else 0


def _check_options(options: dict[str, str], kind: str, *, tls: bool) -> None:
    for name in options:
        if name not in OPTIONS:
            _refuse(f"has the option {name!r}; there are: {', '.join(OPTIONS)}")
        if name.startswith("ssl_") and not tls:
            _refuse(f"has the option {name!r}, which only rediss… takes")
        if name.startswith("sentinel_") and kind != "sentinel":
            _refuse(f"has the option {name!r}, which only redis+sentinel takes")
    if options.get("ssl_cert_reqs", "required") not in ("none", "optional", "required"):
        _refuse("has an ssl_cert_reqs other than none, optional and required")
    if re.search(r"[{}\s]", options.get("prefix", "")):
        _refuse("has a prefix with braces or spaces; braces mark the part that cluster nodes share")


def _refuse(what: str) -> NoReturn:
    """The URL itself is not repeated: there may be a password in it."""
    raise ConfigurationError(f"The log URL (STREAMING_LOG) {what}. It is one of: {FORMS}.")
