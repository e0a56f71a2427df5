"""A page and its Chinese twin: the same headings, code, tables and links, in the same order."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from write_site import anchors, twin

ROOT = Path(__file__).parent.parent
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md"))]
PAGES += sorted((ROOT / "docs").glob("*.md"))
PAGES = [page for page in PAGES if not page.name.endswith(".zh-CN.md")]

COMMENT = re.compile(r"(?:^| +)(?:#|//|<!--).*$", re.MULTILINE)
TEXT = re.compile(r"""(['"]).*?\1|(?<=data: )[^{].*""")
CHINESE = re.compile(r"[\u3000-\u9fff\uff00-\uffef]")


def test_every_page_has_a_chinese_twin() -> None:
    assert [page.name for page in PAGES if twin(page, "zh-CN") == page] == []


def test_no_twin_is_without_its_page() -> None:
    for page in [*ROOT.glob("*.zh-CN.md"), *(ROOT / "docs").glob("*.zh-CN.md")]:
        assert twin(page, "en") in PAGES, page.name


def in_chinese(page: Path, link: str) -> str:
    """A link of an English page as its twin has it."""
    path, _, place = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if target.suffix != ".md" or "://" in link or twin(target, "zh-CN") == target:
        return link
    if place:
        number = anchors(target).index(place)
        place = "".join(anchors(twin(target, "zh-CN"))[number : number + 1])
    name = twin(target, "zh-CN").name if path else ""
    return path[: len(path) - len(Path(path).name)] + name + f"#{place}" * bool(place)


def shape(page: Path, language: str) -> list[str]:
    """What both have alike, in order; what moves within a sentence is sorted."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))
    found = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "heading_open":
            found.append("#" * int(token.tag[1]))
        elif token.type in ("fence", "code_block"):
            lines = COMMENT.sub("", token.content).splitlines()
            found += [f"```{token.info}", *(f"| {line.rstrip()}" for line in lines if line.strip())]
        elif token.type in ("tr_open", "td_open", "th_open", "bullet_list_open", "list_item_open"):
            found.append(token.tag)
        elif token.type == "inline":
            found += sorted(links(page, token, language))
            # "**x：**y" is no emphasis: it does not close between "：" and a letter
            found += ["**" for child in token.children or () if child.type == "strong_open"]
            if before and before.type == "td_open":  # prose may name a thing again, or say "it"
                found += sorted(
                    {c.content for c in token.children or () if c.type == "code_inline"}
                )
    return found


def links(page: Path, text: Token, language: str) -> Iterator[str]:
    """The links of a text, as the twin has them."""
    for token in text.children or ():
        if token.type != "link_open":
            continue
        link = unquote(str(token.attrs["href"]))
        if link in (twin(page, "en").name, twin(page, "zh-CN").name):
            yield "(the other language)"
        else:
            yield f"({in_chinese(page, link) if language == 'en' else link})"


def check_twin(page: Path) -> None:
    """Fail if a page and its twin are not alike."""
    other = twin(page, "zh-CN")
    english, chinese = shape(page, "en"), shape(other, "zh-CN")
    for n, (line, its) in enumerate(zip(english, chinese, strict=False)):
        if its.startswith("| ") and CHINESE.search(its):  # code that says something
            english[n], chinese[n] = TEXT.sub("…", line), TEXT.sub("…", its)
    assert chinese == english
    assert "(the other language)" in english


@pytest.mark.parametrize(
    "page", [page for page in PAGES if twin(page, "zh-CN") != page], ids=lambda page: page.stem
)
def test_both_say_the_same_in_the_same_order(page: Path) -> None:
    check_twin(page)


ENGLISH = """# A

[中文](a.zh-CN.md)

Read [b](b.md#two), then [`c`](c.py).

| key | meaning |
|---|---|
| `x` | as [here](#code) |

## Code

```python
say("hello")  # a word
```
"""
CHINESE_ONE = """# 甲

[English](a.md)

先读 [`c`](c.py)，再读 [乙](b.zh-CN.md#二)。

| 键 | 含义 |
|---|---|
| `x` | 见[这里](#代码) |

## 代码

```python
say("你好")  # 打招呼
```
"""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("", ""),
        ("## 代码", "### 代码"),
        ("## 代码", "代码"),
        ("[English](a.md)", ""),
        ("](b.zh-CN.md#二)", "](b.md#two)"),
        ("](#代码)", "](#甲)"),
        ("[`c`](c.py)", "`c`"),
        ("| `x` | 见", "| `x` | 一\n| `y` | 见"),
        ("| `x` | 见", "| x | 见"),
        ("say(", "print("),
        ("```python", "```"),
        ('say("你好")', 'say("goodbye")'),
    ],
)
def test_what_a_twin_says_otherwise_is_found(right: str, wrong: str, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(ENGLISH, "utf-8")
    (tmp_path / "a.zh-CN.md").write_text(CHINESE_ONE.replace(right, wrong), "utf-8")
    (tmp_path / "b.md").write_text("# B\n\n## Two\n", "utf-8")
    (tmp_path / "b.zh-CN.md").write_text("# 乙\n\n## 二\n", "utf-8")
    if not right:
        check_twin(tmp_path / "a.md")
        return
    with pytest.raises(AssertionError):
        check_twin(tmp_path / "a.md")
