"""Write the defaults of ``Settings`` into the tables of ``docs/configuration.md`` and of its twin.

What a setting means stands in the pages, in each language by hand; what it is comes from the code.
``make docs-api`` calls this; ``tests/test_configuration_page.py`` holds that nothing would change.
"""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from streaming.settings import Settings

DOCS = Path(__file__).resolve().parent
PAGES = {"configuration.md": " ({})", "configuration.zh-CN.md": "（{}）"}
"""The pages, and how each puts something in brackets."""

ROW = re.compile(r"^\| `STREAMING_(\w+)` \| [^|]* \|(?=[^|]*\|[^|]*\|$)", re.MULTILINE)
"""The beginning of a setting's row: its key and its default, of four columns."""

DEFAULTS = {field.name.upper(): getattr(Settings(), field.name) for field in fields(Settings)}


def default(name: str, brackets: str) -> str:
    """A default as Python writes it, and large sizes as people read them."""
    value = DEFAULTS[name]
    text = f"`{value!r}`".replace("'", '"')
    if isinstance(value, int) and value >= 2**16 and value % 2**10 == 0:
        power, unit = next((p, u) for p, u in ((30, "GiB"), (20, "MiB"), (10, "KiB")) if value >> p)
        text += brackets.format(f"{value >> power} {unit}")
    return text


def filled(page: str) -> str:
    """The page as it should be.

    Raises:
        KeyError: If it has a row for a setting that there is not.
    """
    text = (DOCS / page).read_text("utf-8")
    return ROW.sub(
        lambda row: f"| `STREAMING_{row[1]}` | {default(row[1], PAGES[page])} |",
        text,
    )


if __name__ == "__main__":
    for each in PAGES:
        (DOCS / each).write_text(filled(each), "utf-8")
