"""JSON objects of strangers: UTF-8, no name twice, no numbers that JSON does not have."""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import Any, NoReturn

from ..errors import InvalidRequest


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object in ``text``.

    Raises:
        InvalidRequest: If it is none, or an object in it has a name twice: one reader would take
            the first, another the last.
    """
    return _parse(text, _NESTED)


def parse_flat_object(text: str) -> dict[str, Any]:
    """The JSON object in ``text``, which has no other in it; cheap to refuse.

    Raises:
        InvalidRequest: If it is none, has another in it, or has a name twice.
    """
    _objects.set(0)
    return _parse(text, _FLAT)


def _parse(text: str, decoder: json.JSONDecoder) -> dict[str, Any]:
    try:
        value = decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"This is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest("This is JSON, but not a JSON object.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(f"The JSON object has {twice!r:.60} twice.")
    return value


def _only(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if _objects.get():
        raise InvalidRequest("The JSON object has another one in it.")
    _objects.set(1)
    return _unique(pairs)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON.")


_objects: ContextVar[int] = ContextVar("objects")  # in the text that is being read
_NESTED = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
_FLAT = json.JSONDecoder(object_pairs_hook=_only, parse_constant=_refuse)
