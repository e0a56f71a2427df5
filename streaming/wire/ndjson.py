"""Newline-delimited JSON: one object per line, UTF-8, every line ended by LF.

JSON (RFC 8259) escapes line breaks inside strings, so an LF is always the end of a line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NoReturn

from ..errors import InvalidMessage, ProtocolError

MIMETYPE = "application/x-ndjson"

HEARTBEAT = b"\n"
"""An empty line, which readers skip."""


def encode(value: Mapping[str, object]) -> bytes:
    """``value`` as one line of compact JSON with its LF.

    Raises:
        InvalidMessage: If it holds something JSON has no form for (NaN, half a surrogate pair,
            an object of Python's, itself).
    """
    try:
        return (_print(dict(value)) + "\n").encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessage(f"The value cannot be written as JSON: {error}") from error


_print = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Decoder:
    """Bytes in, objects out. A last line without LF was cut off and never comes out."""

    def __init__(self, *, max_size: int = 1 << 20) -> None:
        """``max_size`` bounds a line, in bytes."""
        self._max_size = max_size
        self._fault: tuple[str, int] | None = None
        self._line = bytearray()

    def feed(self, data: bytes) -> list[dict[str, object]]:
        """The objects whose lines ``data`` completes; empty lines are skipped.

        Raises:
            ProtocolError: If a line is too long or not a JSON object. The objects before it are
                returned first, so it may be the next call that raises; so does every later one.
        """
        values: list[dict[str, object]] = []
        if self._fault is None:
            try:
                self._read(data, values)
            except ProtocolError as fault:
                self._fault = str(fault), fault.close_code
                self._line.clear()
        if self._fault is not None and not values:
            raise ProtocolError(*self._fault)
        return values

    def _read(self, data: bytes, values: list[dict[str, object]]) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            if self._line:
                line = bytes(self._line) + line
                self._line.clear()
            self._check_size(len(line))
            if line and not line.isspace():
                values.append(_parse(line))
        self._line += rest
        self._check_size(len(self._line))

    def _check_size(self, size: int) -> None:
        if size > self._max_size:
            raise ProtocolError(f"A line of more than {self._max_size} bytes.", 1009)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_scan = json.JSONDecoder(parse_constant=_refuse).decode


def _parse(line: bytes) -> dict[str, object]:
    try:
        value: object = _scan(line.decode())
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"A line is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ProtocolError(f"A line is JSON but not an object: {line[:60]!r}")
    return value
