"""What a built site must be: it shows what GitHub shows, and fetches nothing from elsewhere.

Links and anchors are the generator's to check. It reads another Markdown than GitHub does, in
which a list may turn into a paragraph without a word; so the elements of each page are counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

from markdown_it import MarkdownIt

COUNTED = {"h1", "h2", "h3", "h4", "h5", "ul", "ol", "li", "table", "tr", "th", "td", "pre"}
COUNTED |= {"code", "blockquote", "em", "strong"}
FETCHED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}
FOREIGN = re.compile(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""")


class Elements(HTMLParser):
    """The elements of a page's text, and what the page fetches."""

    def __init__(self, html: str, *, within: str | None = None) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.fetched: list[str] = []
        self._within = within
        self._is_text = within is None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_text |= tag == self._within
        if self._is_text and tag in COUNTED:
            self.counts[tag] += 1
        if address := dict(attrs).get(FETCHED.get(tag, "")):
            self.fetched.append(address)

    def handle_endtag(self, tag: str) -> None:
        self._is_text &= tag != self._within


def check(source: Path, site: Path) -> Iterator[str]:
    """What is wrong with the site that was made from the pages of a folder."""
    for page in sorted(source.glob("*.md")):
        github = MarkdownIt("commonmark").enable("table").render(page.read_text("utf-8"))
        wanted = Elements(github).counts
        shown = Elements((site / f"{page.stem}.html").read_text("utf-8"), within="article").counts
        for tag in sorted(wanted.keys() | shown.keys()):
            if wanted[tag] != shown[tag]:
                yield f"{page}: {shown[tag]} <{tag}> instead of {wanted[tag]}"
    for file in sorted(site.glob("*.html")):
        for address in Elements(file.read_text("utf-8")).fetched:
            place = urlsplit(address)
            if place.netloc or not (site / place.path.lstrip("/")).exists():
                yield f"{file}: fetches {address}"
    for file in sorted(site.rglob("*.css")):
        if FOREIGN.search(file.read_text("utf-8")):
            yield f"{file}: fetches from elsewhere"
