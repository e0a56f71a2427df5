"""``STREAMING_*`` configuration keys, read once into a frozen ``Settings``."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, Literal, NoReturn, Self

from .errors import ConfigurationError, InvalidMessage
from .logs import Retention
from .names import check_pattern
from .wire.addresses import Proxies
from .wire.origins import parse_origin

Policy = Literal["replay", "latest", "disconnect"]
"""What happens when a subscriber falls behind: it reads on; it skips to the newest message; or it
is ended with ``Lagged`` where the others are told of a gap."""

_RUNS: Mapping[str, Any] = {
    "messages": 1_000_000,
    "size": 16 * 1024 * 1024,
    "age": 24 * 3600.0,
    "after_end": 3600.0,
}
"""What the channels of runs (``run:*``) keep where nothing else is said of them."""

_OWN: Mapping[str, Any] = {
    "messages": 10_000,  # as many as keys
    "size": 8 * 1024 * 1024,
    "age": 720.0,
    "key_window": 660.0,
}
"""What the package's own channels keep: more than the life of a ticket, so that it is known which
of them were used or taken back."""

_NO_PAGES = frozenset({"ws", "wss", "ftp", "file"})
"""Schemes that no page's origin has."""

_HEADER = re.compile(r"[!#$%&'+.^_`|~0-9A-Za-z-]+")
"""A header's name (RFC 9110 section 5.1); a star means all of them to browsers, but not always."""

_NAMES = "channel names or patterns such as 'job:*'"

_PASSWORD = re.compile(r"(://[^/@]*:).*@")


@dataclass(frozen=True, slots=True)
class Settings:
    """How the extension works. Durations are seconds, sizes bytes; None switches a thing off.

    Every field is the configuration key ``STREAMING_`` plus its name in capitals.
    """

    log: str = "memory:"
    """Where messages live: a log URL."""

    message_size: int = 1024 * 1024
    """Most bytes of text in one message that is published."""

    frame_size: int = 64 * 1024
    """Most bytes of a message that a client sends over a WebSocket, before and after
    decompression, in however many fragments."""

    retention_messages: int = 1000
    """Messages a channel keeps."""

    retention_size: int = 8 * 1024 * 1024
    """Bytes of text a channel keeps."""

    retention_age: float | None = 3600.0
    """Seconds a message is kept."""

    retention_after_end: float | None = 3600.0
    """Seconds that a channel which has ended is kept, with all it holds."""

    retention_channels: int = 10_000
    """Channels kept while nobody follows them."""

    retention_total: int | None = 1024 * 1024 * 1024
    """Bytes that the log holds in all channels together: text in memory, the file with SQLite.
    Beyond that the oldest goes first, and where nothing can go publishing is refused. Redis has
    ``maxmemory``."""

    retentions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What is kept of channels with these names, or names that fit a pattern (``job:*``): some of
    ``messages``, ``size``, ``age`` and ``after_end``; the rest is as above."""

    key_window: float = 120.0
    """Seconds for which a repeated idempotency key appends nothing."""

    policies: Mapping[str, Policy] = field(default_factory=dict)
    """What happens to subscribers that fall behind, by channel or pattern: ``replay`` (default),
    ``latest`` or ``disconnect``."""

    clients: int | None = 10_000
    """Streams and WebSockets that one worker holds; more are answered with 503, or told to come
    back in the stream."""

    clients_per_identity: int | None = 100
    """How many of them one identity may have."""

    clients_per_address: int | None = 1000
    """How many of them may come from one address, of IPv6 from one network (/64). Not counted is
    who may be a proxy that ``trusted_proxies`` does not name: whoever has no public address."""

    commands: float | None = 100.0
    """What a client may ask for in a second: frames of ``streaming.v1.json``, messages of ``chat``;
    ten seconds' worth at once. Ten times as much over all connections of an identity, or of the
    strangers at one address, and with what they publish over HTTP."""

    channel_messages: float | None = 1000.0
    """Messages that all clients of a worker together may publish into one channel in a second; ten
    seconds' worth at once. What the application itself publishes is not counted."""

    replay: int | None = 4 * 1024 * 1024
    """Bytes of the past that an identity, or the strangers at one address, may be sent in a second:
    history, and what was missed; a minute's worth at once."""

    rooms: int | None = 3000
    """Rooms that the connections of one identity, or of the strangers at one address, may be in,
    counted for each connection."""

    runs: int = 100
    """Producers of ``Streaming.run`` that one worker has at work at the same time, and as many that
    wait for their turn; more are refused with 503."""

    lifetime: float | None = None
    """Seconds after which a client has to connect again, and is asked who it is again; a tenth more
    or less, drawn for each. It resumes where it was."""

    recheck: float | None = None
    """Seconds after which the application is asked again, for each client, who it is and whether it
    still may; a tenth more or less. Who may not has to connect again, and is refused then."""

    heartbeat: float | None = 15.0
    """Seconds of silence after which a stream sends a comment, and a WebSocket a ping."""

    pong_timeout: float | None = 20.0
    """Seconds after a ping by which a WebSocket client must have been heard of."""

    send_timeout: float | None = 60.0
    """Seconds a client may take none of what it is sent before its connection is cut."""

    send_buffer: int | None = 128 * 1024
    """Bytes the kernel keeps for a client that does not take them; None leaves it to the kernel,
    which lets it grow to megabytes."""

    trusted_proxies: Collection[str] = ()
    """Whose ``X-Forwarded-For`` says where a client is: addresses, networks (``10.0.0.0/8``), and
    ``unix`` for whoever comes over a Unix socket."""

    origins: Collection[str] = ()
    """Origins (``https://example.org``, ``https://*.example.org`` for its sub-domains) besides the
    own host whose pages may open WebSockets and read streams; ``*`` for all, without cookies."""

    headers: Collection[str] = ()
    """Names of headers of the application's own (``X-Api-Key``) that those pages may send."""

    public: Collection[str] = ()
    """Channels, or patterns of them (``ticker:*``), that strangers may read where the application
    has no ``authorize``; never those that begin with ``private:`` or ``user:``."""

    parameters: Collection[str] = ()
    """Query parameters of the application's own (``token``) on the blueprint's addresses, for
    ``authorize`` or a hook to read; others that mean nothing are refused with 400."""

    compression: bool = False
    """Whether WebSockets accept permessage-deflate (some 100 KB for each that uses it)."""

    direct_writes: bool = True
    """Whether the pump may write to sockets itself where it can. Switch it off if a WSGI
    middleware changes response bodies."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The settings that an application's configuration gives.

        Raises:
            ConfigurationError: If a ``STREAMING_`` key is unknown or its value cannot be used.
        """
        known = {f"STREAMING_{f.name.upper()}": f.name for f in fields(cls)}
        values: dict[str, Any] = {}
        for key, value in config.items():
            if not key.startswith("STREAMING_"):
                continue
            if key not in known:
                name = key.removeprefix("STREAMING_").lower()
                near = get_close_matches(name, known.values(), 1)
                hint = f" Known: {', '.join(known)}."
                if near:
                    hint = f" Did you mean STREAMING_{near[0].upper()}?"
                raise ConfigurationError(f"There is no setting {key}.{hint}")
            values[known[key]] = value
        return cls(**values)._checked()

    @property
    def retention(self) -> Retention:
        """The part of the settings that logs need."""
        keep = Retention(
            messages=self.retention_messages,
            size=self.retention_size,
            age=self.retention_age,
            after_end=self.retention_after_end,
            channels=self.retention_channels,
            total=self.retention_total,
            key_window=self.key_window,
        )
        named = dict(self.retentions)
        named["streaming:*"] = _OWN
        named["streaming:ui:*"] = {"messages": 1}
        named["streaming:clients:*"] = {"age": 60.0}
        named["run:*"] = {**_RUNS, **named.get("run:*", {})}
        return replace(keep, named={name: replace(keep, **own) for name, own in named.items()})

    def _checked(self) -> Self:
        for name in ("message_size", "frame_size"):
            self._check(name, int, optional=False)
        for name in ("retention_messages", "retention_size", "retention_channels", "runs"):
            self._check(name, int, optional=False)
        for name in (
            "retention_total",
            "clients",
            "clients_per_identity",
            "clients_per_address",
            "replay",
            "rooms",
        ):
            self._check(name, int, optional=True)
        self._check("send_buffer", int, optional=True, most=2**31 - 1)  # a C int, to the kernel
        self._check("key_window", (int, float), optional=False)
        for name in ("retention_age", "retention_after_end"):
            self._check(name, (int, float), optional=True)
        for name in ("heartbeat", "pong_timeout", "send_timeout", "lifetime", "recheck"):
            self._check(name, (int, float), optional=True)
        for name in ("commands", "channel_messages"):
            self._check(name, (int, float), optional=True, unit="number")
        for name in ("compression", "direct_writes"):
            if not isinstance(getattr(self, name), bool):
                self._refuse(name, "True or False, not a text or a number")
        if not isinstance(self.parameters, list | tuple | set | frozenset) or not all(
            isinstance(name, str) and name for name in self.parameters
        ):
            self._refuse("parameters", "a list of names such as ['token']")
        if not isinstance(self.headers, list | tuple | set | frozenset) or not all(
            isinstance(name, str) and _HEADER.fullmatch(name) for name in self.headers
        ):
            self._refuse("headers", "a list of names of headers such as ['X-Api-Key']")
        self._check_log()
        self._check_trusted_proxies()
        self._check_origins()
        self._check_public()
        self._check_policies()
        self._check_retentions()
        return self

    def _check_log(self) -> None:
        log = self.log
        is_known = isinstance(log, str) and log.startswith(("sqlite:///", "redis"))
        if log != "memory:" and not is_known:
            self._refuse(
                "log",
                "a log URL: 'memory:', 'sqlite:///streaming.db' (three slashes and a path) or "
                "'redis://host:6379'",
            )

    def _check_trusted_proxies(self) -> None:
        wanted = "a list of addresses and networks such as ['127.0.0.1', '10.0.0.0/8', 'unix']"
        if not isinstance(self.trusted_proxies, list | tuple | set | frozenset):
            self._refuse("trusted_proxies", wanted)
        for name in self.trusted_proxies:
            try:
                Proxies([name])
            except ValueError as error:
                raise ConfigurationError(
                    f"STREAMING_TRUSTED_PROXIES has {name!r:.100}: {error}. It must be {wanted}."
                ) from error

    def _check_origins(self) -> None:
        wanted = "a list of origins such as ['https://example.org']"
        if not isinstance(self.origins, list | tuple | set | frozenset):
            self._refuse("origins", wanted)
        for origin in self.origins:
            if origin != "*" and not _is_origin(origin):
                raise ConfigurationError(
                    f"STREAMING_ORIGINS has {origin!r:.100}; an origin is scheme, host and port as "
                    "browsers send them, such as 'https://example.org' or 'http://localhost:3000': "
                    "no path, no user. A star stands alone, for all, or for the sub-domains of a "
                    "domain with a dot: 'https://*.example.org'."
                )

    def _check_public(self) -> None:
        public = self.public
        if not isinstance(public, list | tuple | set | frozenset) or not all(
            map(_is_pattern, public)
        ):
            self._refuse("public", f"a list of {_NAMES}")
        for name in public:
            if name.startswith(("private:", "user:")):
                self._refuse("public", "a list without private:… and user:…, which never are")

    def _check_policies(self) -> None:
        wanted = f"a dict of {_NAMES} and 'replay', 'latest' or 'disconnect' for each"
        if not isinstance(self.policies, Mapping):
            self._refuse("policies", wanted)
        for name, policy in self.policies.items():
            if not _is_pattern(name) or policy not in ("replay", "latest", "disconnect"):
                self._refuse_of("policies", name, policy, wanted)

    def _check_retentions(self) -> None:
        known = {"messages": int, "size": int, "age": (int, float), "after_end": (int, float)}
        wanted = f"a dict of {_NAMES}, and for each a dict of some of {', '.join(map(repr, known))}"
        if not isinstance(self.retentions, Mapping):
            self._refuse("retentions", wanted)
        for name, own in self.retentions.items():
            if not _is_pattern(name) or not isinstance(own, Mapping) or not set(own) <= set(known):
                self._refuse_of("retentions", name, own, wanted)
            for key, value in own.items():
                kind = known[key]
                if better := _better(value, kind, optional=kind is not int):
                    self._refuse_of("retentions", name, {key: value}, f"{better} for {key!r}")

    def _check(
        self,
        name: str,
        kind: Any,
        *,
        optional: bool,
        most: int | None = None,
        unit: str = "number of seconds",
    ) -> None:
        if wanted := _better(getattr(self, name), kind, optional=optional, most=most, unit=unit):
            self._refuse(name, wanted)

    @staticmethod
    def _refuse_of(setting: str, name: object, value: object, wanted: str) -> NoReturn:
        raise ConfigurationError(
            f"STREAMING_{setting.upper()} has {value!r:.50} for {name!r:.50}; it must be {wanted}."
        )

    def _refuse(self, name: str, wanted: str) -> NoReturn:
        value = _PASSWORD.sub(r"\1***@", f"{getattr(self, name)!r}")
        raise ConfigurationError(f"STREAMING_{name.upper()} is {value:.100}; it must be {wanted}.")


def _better(
    value: object,
    kind: Any,
    *,
    optional: bool,
    most: int | None = None,
    unit: str = "number of seconds",
) -> str:
    """What would be right in place of a number; nothing if this one is."""
    if value is None and optional:
        return ""
    what, bound = ("whole number", 2**53) if kind is int else (unit, 10**9)
    bound = most or bound
    if not isinstance(value, bool) and isinstance(value, kind) and 0 < value <= bound:
        return ""
    most_said = f", at most {bound}" if isinstance(value, kind) and value > bound else ""
    return f"a {what} above 0{most_said}" + ", or None" * optional


def _is_pattern(name: object) -> bool:
    """Whether it is a channel's name, or the beginning of some and ``*``."""
    try:
        check_pattern(name)  # type: ignore[arg-type]  # it is what the application wrote
    except InvalidMessage:
        return False
    return True


def _is_origin(text: object) -> bool:
    """Whether a page's browser may send it, or what ``*.`` in it stands for; a slash behind it is
    forgiven."""
    origin = parse_origin(text.removesuffix("/")) if isinstance(text, str) else None
    if origin is None or origin.scheme in _NO_PAGES:
        return False
    domain = origin.host.removeprefix("*.")
    return "*" not in domain and (domain == origin.host or _is_domain(domain))


def _is_domain(name: str) -> bool:
    """Whether all below it may be one's own: not a whole ``org``, and no part of an address."""
    *first, last = name.split(".")
    return name == "localhost" or (all((*first, last)) and bool(first) and not last.isdigit())
