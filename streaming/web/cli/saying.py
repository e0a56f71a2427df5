"""What commands say: lines and tables for people, JSON for programs."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence

import click


def say(value: Mapping[str, object], text: str, *, as_json: bool) -> None:
    """One thing: ``text``, or ``value`` as a line of JSON."""
    click.echo(json.dumps(value) if as_json else text)


def say_rows(rows: Sequence[Mapping[str, object]], *, as_json: bool, nothing: str) -> None:
    """Things of one kind: a table, or a line of JSON each. ``nothing`` says that there are none."""
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
    elif not rows:
        note(nothing)
    else:
        for line in _table(rows):
            click.echo(line)


def note(text: str) -> None:
    """A word beside the output, for whoever sits before the terminal."""
    click.echo(text, err=True)


def printable(text: str) -> str:
    """``text`` on one line, with nothing in it that a terminal would obey."""
    return "".join(c if _is_shown(c) else c.encode("unicode_escape").decode() for c in text)


def _is_shown(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"


def _table(rows: Sequence[Mapping[str, object]]) -> list[str]:
    heads = [name.upper() for name in rows[0]]
    cells = [heads, *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            text + " " * (width - _width(text)) for text, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in cells
    ]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return _cell(" ".join(value))
    return "-" if value is None or value == "" else printable(str(value))


def _width(text: str) -> int:
    """Columns of a terminal."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
