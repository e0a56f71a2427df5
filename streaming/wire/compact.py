"""JSON as it stands inside events and frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

# made once
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def compact(value: Mapping[str, object]) -> str:
    """JSON without spaces, Unicode as it is.

    Raises:
        TypeError: If it holds an object of Python's that JSON has no form for.
        ValueError: If it holds NaN, an infinite number, or itself.
        RecursionError: If it is nested too deeply.
    """
    return _encode(value)


def parse(text: str) -> Any:
    """The value in ``text``, which ``compact`` can write and UTF-8 can carry.

    Raises:
        ValueError: If there is none.
    """
    try:
        value = _decode(text)
    except RecursionError as error:
        raise ValueError("The JSON is nested too deeply.") from error
    if "\\u" in text:
        _encode(value).encode()  # halves of surrogate pairs
    return value


_INFINITE = float("inf")


def _number(text: str) -> float:
    number = float(text)
    if abs(number) == _INFINITE:
        raise ValueError(f"{text:.40} is too large.")
    return number


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON.")


_decode = json.JSONDecoder(parse_float=_number, parse_constant=_refuse).decode


def escaped(text: str) -> bytes:
    """A text, or a stretch of one, as it stands between the quotes of a JSON string."""
    return _encode(text)[1:-1].encode()
