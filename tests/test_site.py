"""docs/write_site.py, docs/check_site.py: all pages are on the site, as GitHub shows them."""

from pathlib import Path

import pytest
import write_site
from check_site import Elements, check
from markdown_it import MarkdownIt
from write_site import DOCS, GROUPS, Source, anchors, deepened


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_every_page_stands_in_the_navigation_of_both_languages(language: str) -> None:
    first, *groups = Source(language).navigation()
    shown = [*first.values(), *(page for group in groups for page in next(iter(group.values())))]
    pages = {f"{page.name.split('.')[0]}.md" for page in DOCS.glob("*.md")}
    assert sorted(shown) == sorted(pages | {"repository-examples-readme.md"}), (
        "a page that is new has its place in GROUPS"
    )
    assert {next(iter(group)) for group in groups} <= {title for both in GROUPS for title in both}


def test_links_lead_to_the_same_place_in_the_language_of_the_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {
        "index.md": "# A\n\n[中文](index.zh-CN.md)\n\n[c](c.md#four) [d](../d.py)\n",
        "../README.md": "# R\n\n[b](docs/b.md#two)\n",
        "index.zh-CN.md": "# 甲\n\n[English](index.md)\n\n[c](c.md#四) [d](../d.py)\n",
        "b.md": "# B\n\n## Two\n\n[c](c.md#four) [r](../README.md#r)\n\n```\n[x](c.md)\n```\n",
        "c.md": "# C\n\n## Three\n\n## Four\n",
        "c.zh-CN.md": "# 丙\n\n## 三\n\n## 四\n\n- 五，\n  六\n",
        "../d.py": "",
    }
    docs = tmp_path / "docs"
    docs.mkdir()
    for name, text in pages.items():
        (docs / name).write_text(text, "utf-8")
    for name, folder in (("DOCS", docs), ("ROOT", tmp_path), ("BUILD", tmp_path / "build")):
        monkeypatch.setattr(write_site, name, folder)
    monkeypatch.setattr(write_site, "GROUPS", {("x", "x"): ["b", "c", "not-there"]})
    written = {}
    for language in ("en", "zh-CN"):
        source = Source(language)
        source.write()
        written |= {(language, p.name): p.read_text("utf-8") for p in source.folder.glob("*.md")}
        assert (source.folder / "files/d.py").is_file()
    assert len(written) == 8
    assert written["en", "index.md"] == "# A\n\n[c](c.md#four) [d](files/d.py)\n"
    assert written["zh-CN", "index.md"] == "# 甲\n\n[c](c.md#四) [d](files/d.py)\n"
    assert written["zh-CN", "b.md"].startswith("# B\n\n> 这一页还没有中文版。\n")
    assert "[c](c.md#四) [r](repository-readme.md#r)" in written["zh-CN", "b.md"]
    assert written["zh-CN", "c.md"].endswith("- 五，六\n"), "no space where the line broke"
    assert "[b](b.md#two)" in written["en", "repository-readme.md"]
    assert "```\n[x](c.md)\n```" in written["zh-CN", "b.md"]


def test_a_place_is_named_as_on_github() -> None:
    assert "redis-several-machines" in anchors(DOCS / "configuration.md")
    assert "in-gunicornconfpy" in anchors(DOCS / "api.md")


DEEP = "- a\n  - b\n\n  c\n- d\n\n      e\n1. f\n\n   g\n2. h\ni\n\n    k\n"


def test_what_belongs_to_an_item_stays_with_it() -> None:
    assert deepened(DEEP) == (
        "- a\n    - b\n\n    c\n\n- d\n\n        e\n\n1. f\n\n    g\n\n2. h\ni\n\n    k\n"
    )
    wanted, shown = (
        Elements(MarkdownIt("commonmark").render(text)).counts for text in (DEEP, deepened(DEEP))
    )
    assert wanted == shown


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ("<article><p>Text:<ul><li>one</ul><table></table></article>", ""),
        ("<article><p>Text: - one<table></table></article><ul><li></ul>", "0 <li> instead of 1"),
        ("<article><ul><li>one</ul></article>", "0 <table> instead of 1"),
        ("<script src='//cdn.example/x.js'></script>", "fetches //cdn.example/x.js"),
        ("<link rel=stylesheet href='https://fonts.example/x'>", "fetches https://fonts.example/x"),
    ],
)
def test_what_the_site_shows_otherwise_or_fetches_from_elsewhere_is_found(
    html: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(html, "utf-8")
    (tmp_path / "page.md").write_text("Text:\n- one\n\n<table></table>\n", "utf-8")
    found = "\n".join(check(tmp_path, tmp_path))
    assert said in found
    assert bool(said) == bool(found)


def test_a_style_that_fetches_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text("a { background: url( 'https://cdn.example/x.png') }")
    assert list(check(tmp_path, tmp_path))
    (tmp_path / "x.css").write_text("a { background: url('x.png') }")
    assert not list(check(tmp_path, tmp_path))
