"""Print ``docs/api.zh-CN.md``: what ``docs/api.md`` says, in the words of ``docs/api.zh-CN.json``.

The file has the Chinese of each text, by its English: a docstring that changes has none until
somebody has looked at it. Code stays as it is. ``make docs-api`` writes the page.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parent
TEXTS = DOCS / "api.zh-CN.json"

NAMED = re.compile(r"(- `[^`]+`|`[^`]+`)(?:: | – )(.+)")
"""``- `name`: text`` of a list, or ```name: type` – text`` of an attribute."""


class Chinese:
    """The texts, and which of them were wanted."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts
        self.unused = set(texts)
        self.missing: list[str] = []

    def of(self, english: str) -> str:
        """The Chinese of a text; the text itself if there is none."""
        self.unused.discard(english)
        if english not in self._texts:
            self.missing.append(english)
        return self._texts.get(english, english)


def blocks(page: str) -> Iterator[str]:
    """Code as it is; of what else there is each paragraph, item, row or heading as one line."""
    for part in re.split(r"(^```.*?^```$)", page, flags=re.DOTALL | re.MULTILINE):
        if part.startswith("```"):
            yield part
            continue
        for paragraph in part.split("\n\n"):
            lines = re.split(r"\n(?=[-|#])", paragraph.strip("\n"))
            yield from (" ".join(line.split()) for line in lines if line)
            yield ""


def translated(page: str, chinese: Chinese) -> str:
    """The page in Chinese."""
    lines: list[str] = []
    for block in blocks(page):
        if block or (lines and lines[-1]):
            lines.append(said(block, chinese))
    return "\n".join(lines).rstrip() + "\n"


def said(block: str, chinese: Chinese) -> str:
    """A block in Chinese."""
    if not block or block.startswith(("```", "|---", "### ")):
        return block
    if block.startswith("[中文]"):
        return "[English](api.md)"
    if block.startswith("|"):
        cells = [cell.strip() for cell in block.split("|")[1:-1]]
        is_name = re.compile(r"`\w+`|\d*|[A-Z]\w+")
        cells = [cell if is_name.fullmatch(cell) else chinese.of(cell) for cell in cells]
        return f"| {' | '.join(cells)} |"
    if heading := re.fullmatch(r"(#+) (.*)", block):
        return f"{heading[1]} {chinese.of(heading[2])}"
    if named := NAMED.fullmatch(block):
        return f"{named[1]}：{chinese.of(named[2])}"
    return chinese.of(block)


if __name__ == "__main__":
    words = Chinese(json.loads(TEXTS.read_text("utf-8")))
    sys.stdout.write(translated((DOCS / "api.md").read_text("utf-8"), words))
    sys.exit("\n".join(f"No Chinese for: {text}" for text in words.missing) or None)
