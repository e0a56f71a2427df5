"""Markdown, block by block as it is written, as trees that a page builds its nodes from.

There is no HTML on the way, so there is none to clean: a page makes each element itself, of those
it knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from streaming import Part

LONGEST = 8 * 1024
"""Characters of a block; a longer one is shown as it is."""

LONGEST_CODE = 64 * 1024
"""Characters of a block of code."""

COLUMNS = 24
"""Strokes in a line; a wider table is shown as it is."""

Node = str | list[Any]
"""A text, or an element: ``["p", "text", ["em", "text"]]``. Behind the tag may be a dict: ``a``
has a ``href``, ``ol`` may have a ``start``, ``pre`` a ``language``."""

_PARSER = MarkdownIt("commonmark", {"html": False, "maxNesting": 12})
_PARSER.enable(["table", "strikethrough"])
_WITHOUT_TABLES = MarkdownIt("commonmark", {"html": False, "maxNesting": 12})

_FENCES = ("```", "~~~")
_CONTINUES = re.compile(r"\s|[-*+]\s|\d+[.)]\s")
"""How a line begins that belongs to a list, or to code that is indented."""

_TAGS = {
    "paragraph": "p",
    "bullet_list": "ul",
    "ordered_list": "ol",
    "list_item": "li",
    "blockquote": "blockquote",
    "table": "table",
    "thead": "thead",
    "tbody": "tbody",
    "tr": "tr",
    "th": "th",
    "td": "td",
    "strong": "strong",
    "em": "em",
    "s": "s",
    "hr": "hr",
    "hardbreak": "br",
}

_SAFE = ("https://", "http://", "mailto:")
"""What a link may begin with: nothing that runs, nothing that is ours."""


def with_blocks(pieces: Iterable[str | Part]) -> Iterator[str | Part]:
    """``pieces``, and behind each block of their text a part ``data`` with its nodes.

    ``{"markdown": nodes, "end": n}``: these follow those before, and are the text up to ``n``.
    """
    blocks = Blocks()
    for piece in pieces:
        yield piece
        if isinstance(piece, str) and (nodes := blocks.feed(piece)):
            yield Part("data", {"markdown": nodes, "end": blocks.end})
    if nodes := blocks.finish():
        yield Part("data", {"markdown": nodes, "end": blocks.end})


class Blocks:
    """The blocks of a text that comes in pieces, each as soon as nothing can be added to it."""

    def __init__(self) -> None:
        self._text = ""  # of the blocks that are not finished
        self.end = 0
        """Where the finished ones end in all the text, in UTF-16 units as JavaScript counts."""

    def feed(self, piece: str) -> list[Node]:
        """The blocks that are finished with this piece."""
        self._text += piece
        is_code = self._text.lstrip("\n").startswith(_FENCES)
        if len(self._text) > (LONGEST_CODE if is_code else LONGEST):
            return self._cut([["p", self._text]], len(self._text))
        if "\n" not in piece:
            return []
        lines = [f"{line}\n" for line in self._text.split("\n")[:-1]]
        if not _may_finish(lines, is_code):
            return []
        blocks = _parse("".join(lines))
        count = len(lines)
        if blocks and not _is_finished(blocks[-1], count):
            count = _span(blocks.pop())[0]
        return self._cut(_all_made(blocks), sum(map(len, lines[:count]))) if blocks else []

    def finish(self) -> list[Node]:
        """The blocks that are left when there is no more text."""
        return self._cut(_all_made(_parse(self._text)), len(self._text))

    def _cut(self, nodes: list[Node], size: int) -> list[Node]:
        self.end += len(self._text[:size].encode("utf-16-le")) // 2
        self._text = self._text[size:]
        return nodes


def _may_finish(lines: list[str], is_code: bool) -> bool:
    """Whether it is worth a look: each is at all that is not finished yet."""
    last = next((line for line in reversed(lines) if line.strip()), "")
    if is_code or last.startswith(_FENCES):
        return last.startswith(_FENCES)
    return lines[-1].strip() == "" and not _CONTINUES.match(last)


def _parse(text: str) -> list[SyntaxTreeNode]:
    text = text.replace("\r", " ")  # which the parser would count as a line of its own
    is_wide = any(line.count("|") > COLUMNS for line in text.split("\n"))
    parser = _WITHOUT_TABLES if is_wide else _PARSER  # rows are filled up to the widest
    return SyntaxTreeNode(parser.parse(text)).children


def _is_finished(block: SyntaxTreeNode, lines: int) -> bool:
    """Whether no further line can belong to the last of the blocks of so many lines."""
    start, end = _span(block)
    if block.type == "fence":
        return end - start == block.content.count("\n") + 2  # it is closed
    if block.type in ("bullet_list", "ordered_list", "code_block"):
        return False  # goes on behind an empty line
    return end < lines


def _span(block: SyntaxTreeNode) -> tuple[int, int]:
    """The first line of a block, and the first that is not in it."""
    return block.map or (0, 0)


def _all_made(nodes: list[SyntaxTreeNode]) -> list[Node]:
    return [made for node in nodes for made in _made(node)]


def _children(node: SyntaxTreeNode) -> list[Node]:
    nodes: list[Node] = []
    for made in _all_made(node.children):
        if isinstance(made, str) and nodes and isinstance(nodes[-1], str):
            nodes[-1] += made
        else:
            nodes.append(made)
    return nodes


def _made(node: SyntaxTreeNode) -> Iterator[Node]:
    """The nodes for one of the parser's. What a page cannot show stays text."""
    kind = node.type
    if kind == "text":
        if node.content:
            yield node.content
    elif kind == "softbreak":
        yield "\n"
    elif kind in ("fence", "code_block"):
        language = node.info.split()
        yield ["pre", *([{"language": language[0]}] if language else []), node.content]
    elif kind == "code_inline":
        yield ["code", node.content]
    elif kind == "heading":  # the page has its own three above them
        yield [f"h{min(int(node.tag[1]) + 3, 6)}", *_children(node)]
    elif kind == "image":
        yield from _link(str(node.attrs.get("src", "")), [node.content or "…"])
    elif kind == "link":
        yield from _link(str(node.attrs.get("href", "")), _children(node))
    elif kind in _TAGS and not (kind == "paragraph" and node.hidden):
        start = {"start": node.attrs["start"]} if "start" in node.attrs else None
        yield [_TAGS[kind], *([start] if start else []), *_children(node)]
    else:
        yield from _children(node)


def _link(href: str, children: list[Node]) -> Iterator[Node]:
    if href.lower().startswith(_SAFE):
        yield ["a", {"href": href}, *children]
    else:
        yield from children
