"""Build ``docs/*.md`` as a site in both languages, with zensical: ``make docs``.

A page is ``docs/<page>.md``, its Chinese twin ``docs/<page>.zh-CN.md``; ``GROUPS`` has their order.
Each language is a site of its own, since a site has one language to search in. A page without a
twin is shown in English on the Chinese site, and says so.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from check_site import check

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
BUILD = ROOT / "build"

GROUPS = {
    ("Start", "入门"): ["quickstart", "tutorial", "../examples/README"],
    ("Guides", "指南"): [
        *("logins", "security", "runs", "background-jobs", "browser-client"),
        *("testing", "command-line"),
    ],
    ("Deployment", "部署"): ["servers", "deployment", "observing", "troubleshooting", "benchmarks"],
    ("Reference", "参考"): ["api", "configuration", "protocols", "architecture", "dependencies"],
    ("Coming from", "迁移"): ["from-flask-sse", "from-flask-socketio", "from-sse-starlette"],
}
"""The pages in their order. One that is not there yet is left out."""

LANGUAGES = ("en", "zh-CN")

EXTENSIONS: dict[str, Any] = {
    "pymdownx.highlight": {"pygments_lang_class": True},
    "pymdownx.superfences": {},
    "tables": {},
    "toc": {
        "permalink": True,
        # the anchors that GitHub makes
        "slugify": {"object": "pymdownx.slugs.slugify", "kwds": {"case": "lower"}},
    },
}

LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(?:#([^)\s]+))?(?=\))")
UNBROKEN = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef])\n *(?=[\u3000-\u9fff\uff00-\uffef])")
"""The end of a line within Chinese, which browsers show as a space."""

FENCE = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)


def twin(page: Path, language: str) -> Path:
    """The page in a language, where it is there."""
    stem = page.name.split(".")[0]
    other = page.with_name(f"{stem}.md" if language == "en" else f"{stem}.{language}.md")
    return other if other.is_file() else page


def there(stems: list[str]) -> list[Path]:
    """Those pages of a group that are there."""
    pages = [(DOCS / f"{stem}.md").resolve() for stem in stems]
    return [page for page in pages if page.is_file()]


def name_of(page: Path) -> str:
    """What a page is called on the site, where those from outside the folder do not meet others."""
    if page.parent == DOCS:
        return page.name
    return "-".join(["repository", *page.relative_to(ROOT).parts]).lower()


def deepened(text: str) -> str:
    """The same in zensical's Markdown: what belongs to an item of a list is four spaces deep, and
    an item of several paragraphs ends with an empty line."""
    lines: list[str] = []
    more, has_paragraphs = 0, False
    for line in text.splitlines():
        marker = re.match(r"([-*] |\d+\. )", line)
        if marker:
            if has_paragraphs and lines[-1]:
                lines.append("")
            more, has_paragraphs = 4 - len(marker[1]), False
        elif line.startswith("  "):
            has_paragraphs |= not lines[-1]
            line = " " * more + line
        elif line:
            more, has_paragraphs = 0, False
        lines.append(line)
    return "\n".join(lines) + "\n"


@functools.cache
def anchors(page: Path) -> list[str]:
    """The places of a page that a link can name, as GitHub makes them of its headings."""
    text = FENCE.sub("", page.read_text("utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return [title.replace(" ", "-") for title in plain]


class Source:
    """What one language's site is made from."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.folder = BUILD / "docs-source" / language
        self.site = BUILD / "docs" / language if language == "zh-CN" else BUILD / "docs"
        self._pages: set[str] = set()

    def write(self) -> None:
        """Write the pages, and what they link to."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for group in (["index"], *GROUPS.values()):
            for page in there(group):
                self._page(page)

    def navigation(self) -> list[dict[str, Any]]:
        """The groups and their pages."""
        nav: list[dict[str, Any]] = [{"flask-streaming": "index.md"}]
        for titles, stems in GROUPS.items():
            if pages := there(stems):
                nav.append({titles[LANGUAGES.index(self.language)]: [name_of(p) for p in pages]})
        return nav

    def _page(self, page: Path) -> str:
        """Write a page, in this language if it can be; its name."""
        shown = twin(page, self.language)
        name = name_of(twin(page, "en"))
        if name in self._pages:
            return name
        self._pages.add(name)
        text = re.sub(r"<!--.*?-->", "<!-- -->", shown.read_text("utf-8"), flags=re.DOTALL)
        text = re.sub(r"^\[(中文|English)\]\(.*\)\n\n?", "", text, flags=re.MULTILINE)
        if self.language == "zh-CN" and shown == twin(shown, "en"):
            text = re.sub(r"\A(# .*\n)", r"\1\n> 这一页还没有中文版。\n", text)
        parts = [
            part if part.startswith("```") else UNBROKEN.sub("", part) for part in FENCE.split(text)
        ]
        parts[::2] = (
            LINK.sub(lambda link: self._target(shown, *link.groups()), p) for p in parts[::2]
        )
        (self.folder / name).write_text(deepened("".join(parts)), "utf-8")
        return name

    def _target(self, page: Path, link: str, place: str | None) -> str:
        """Where a page's link leads on the site: to a page, or to a file beside the pages."""
        target = (page.parent / link).resolve()
        if target.suffix == ".md" and target.is_file():
            named, there = anchors(target), anchors(twin(target, self.language))
            if place in named and place not in there:
                place = there[named.index(place)]  # a twin has the same headings in its language
            return self._page(target) + (f"#{place}" if place else "")
        if target.is_file():
            name = target.relative_to(ROOT).as_posix()
            copy = self.folder / "files" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(target, copy)
            return f"files/{name}"
        return link  # the build says that it leads nowhere

    def build(self) -> None:
        """Write the site.

        Raises:
            CalledProcessError: If a link or an anchor leads nowhere.
        """
        other = LANGUAGES[not LANGUAGES.index(self.language)]
        config = {
            "site_name": "flask-streaming",
            "docs_dir": os.path.relpath(self.folder, BUILD),
            "site_dir": os.path.relpath(self.site, BUILD),
            "use_directory_urls": False,  # so that the files can be read without a server
            "nav": self.navigation(),
            "theme": theme(self.language),
            "markdown_extensions": EXTENSIONS,
            "extra_css": ["theme.css"],
            "extra": {
                "generator": False,
                "alternate": [{"name": NAMES[other], "link": "", "lang": other}],
                "other": {
                    "name": NAMES[other],
                    "lang": other,
                    "site": "zh-CN/" if other == "zh-CN" else "../",
                },
            },
        }
        shutil.copyfile(DOCS / "theme" / "theme.css", self.folder / "theme.css")
        file = BUILD / f"docs-{self.language}.yml"
        file.write_text(json.dumps(config, ensure_ascii=False, indent=1), "utf-8")
        zensical = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
        subprocess.run(
            [*zensical, "--config-file", file], check=True, env={**os.environ, "NO_COLOR": "1"}
        )


NAMES = {"en": "English", "zh-CN": "中文"}
TOGGLES = {"en": ("Dark", "Light", "As the system"), "zh-CN": ("深色", "浅色", "跟随系统")}


def theme(language: str) -> dict[str, Any]:
    """How the site looks; nothing of it is fetched from elsewhere."""
    dark, light, system = TOGGLES[language]
    return {
        "language": "en" if language == "en" else "zh",
        "custom_dir": os.path.relpath(DOCS / "theme", BUILD),
        "font": False,
        "features": [
            *("content.code.copy", "navigation.footer", "navigation.sections", "navigation.top"),
            *("search.highlight", "toc.follow"),
        ],
        "palette": [
            {
                "media": "(prefers-color-scheme)",
                "toggle": {"icon": "lucide/sun-moon", "name": light},
            },
            {
                "media": "(prefers-color-scheme: light)",
                "scheme": "default",
                "toggle": {"icon": "lucide/sun", "name": dark},
            },
            {
                "media": "(prefers-color-scheme: dark)",
                "scheme": "slate",
                "toggle": {"icon": "lucide/moon", "name": system},
            },
        ],
    }


if __name__ == "__main__":
    shutil.rmtree(BUILD / "docs", ignore_errors=True)
    wrong: list[str] = []
    for source in map(Source, LANGUAGES):
        source.write()
        source.build()
        wrong += check(source.folder, source.site)
    sys.exit("\n".join(wrong) or None)
