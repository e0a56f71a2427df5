"""JSON objects of strangers: UTF-8, no name twice, no numbers that JSON does not have."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextvars import ContextVar
from typing import Any, NoReturn

from ..errors import InvalidRequest

LIGHT = 1024
"""Characters that cost little, whatever they are."""

NAMES = 32
"""Names in a flat object that is dense with them."""

_SPACE = r"[ \t\r\n]*+"
_TEXT = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PAIR = rf"{_SPACE}{_TEXT}{_SPACE}:{_SPACE}(?:{_TEXT}|[-+.\w]{{1,64}}+){_SPACE}"
_FEW = re.compile(rf"{_SPACE}\{{{_PAIR}(?:,{_PAIR}){{0,{NAMES - 1}}}+\}}{_SPACE}", re.DOTALL)
"""What looks like an object of a few names with texts and numbers."""


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object in ``text``.

    Raises:
        InvalidRequest: If it is none, or an object in it has a name twice: one reader would take
            the first, another the last.
    """
    return _parse(text, _NESTED)


def parse_sparse_object(text: str) -> dict[str, Any]:
    """``parse_object`` for a few names with texts and numbers; cheap to refuse.

    Raises:
        InvalidRequest: As there, or if it is long, and little of that is in a few texts.
    """
    _check_sparse(text)
    return _parse(text, _NESTED)


def parse_flat_object(text: str) -> dict[str, Any]:
    """``parse_sparse_object`` that has no other in it.

    Raises:
        InvalidRequest: As there, or if it has.
    """
    _check_sparse(text)
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


def _check_sparse(text: str) -> None:
    """Return if parsing ``text`` does not take long for its length: a microsecond for ten bytes."""
    if len(text) <= LIGHT:
        return
    is_dense = text.count("[") + text.count("{") + text.count(",") > len(text) // 16
    if is_dense and not _FEW.fullmatch(text):
        raise InvalidRequest(
            f"The JSON object has too much in it: send up to {NAMES} names with texts and numbers."
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
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
