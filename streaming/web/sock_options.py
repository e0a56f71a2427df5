"""flask-sock's configuration key, ``SOCK_SERVER_OPTIONS``, as far as it means something here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flask import Flask

from ..errors import ConfigurationError
from ..settings import Settings

KEY = "SOCK_SERVER_OPTIONS"

_IGNORED = {
    "receive_bytes": "what has come is read at once",
    "thread_class": "no connection has a thread of its own",
    "event_class": "no connection has a thread of its own",
    "selector_class": "gunicorn's worker decides how it waits",
}
_KNOWN = ("ping_interval", "max_message_size", "subprotocols", *_IGNORED)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What holds for an application's routes."""

    settings: Settings
    subprotocols: tuple[str, ...] = ()


def options_of(app: Flask, settings: Settings) -> Options:
    """The options of ``app``, read at the first call.

    Raises:
        ConfigurationError: If they cannot be used.
    """
    options = app.extensions.get(__name__)
    if not isinstance(options, Options):
        options = app.extensions[__name__] = read_options(app.config, settings)
    return options


def read_options(config: Mapping[str, Any], settings: Settings) -> Options:
    """``settings`` with what ``SOCK_SERVER_OPTIONS`` says; what means nothing here is logged.

    Raises:
        ConfigurationError: If a key is unknown there too, or its value cannot be used.
    """
    given = config.get(KEY) or {}
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{KEY} is {given!r:.100}; it must be a dict.")
    if unknown := given.keys() - set(_KNOWN):
        raise ConfigurationError(
            f"{KEY} has no key {min(unknown, key=str)!r}; known: {', '.join(_KNOWN)}."
        )
    for key in given.keys() & _IGNORED.keys():
        _log.warning("%s: %r means nothing here: %s. Take it out.", KEY, key, _IGNORED[key])
    changes: dict[str, Any] = {}
    if "ping_interval" in given:
        changes["heartbeat"] = _number(given, "ping_interval", (int, float))
    if "max_message_size" in given:
        if not given["max_message_size"]:
            _log.warning(
                "%s: no limit by 'max_message_size' is not to be had here. "
                "STREAMING_FRAME_SIZE holds: %d bytes.",
                KEY,
                settings.frame_size,
            )
        else:
            changes["frame_size"] = _number(given, "max_message_size", int)
    return Options(replace(settings, **changes) if changes else settings, _names(given))


def _number(given: Mapping[str, Any], key: str, kind: Any) -> Any:
    value = given[key]
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if value is not None and not (is_number and value >= 0):
        raise ConfigurationError(f"{KEY}: {key!r} is {value!r:.100}; it must be a number.")
    return value or None


def _names(given: Mapping[str, Any]) -> tuple[str, ...]:
    names = given.get("subprotocols") or ()
    names = (names,) if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
        raise ConfigurationError(f"{KEY}: 'subprotocols' is {names!r:.100}; it must be names.")
    return tuple(names)
