"""README.md: behind each sentence stand the tests that try to break it, in both languages."""

import re
from pathlib import Path

import pytest

from tests.test_pages import check_tests

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "README.zh-CN.md"]

BOUND = re.compile(r"<!-- (tests/.*?|no promise) -->")
END = ("## Read on", "## 接着读")  # what follows are links, which tests/test_pages.py tries


def units(text: str) -> list[tuple[str, list[str]]]:
    """Each paragraph, entry and row that says something, and what is written behind it."""
    for end in END:
        text = text.split(end)[0]
    text = re.sub(r"^```.*?^```\n", "\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(    .*|#.*|<!-- test: \w+ -->)\n", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"^\|.*\|\n\|[-|]+\|\n", "\n", text, flags=re.MULTILINE)  # heads of tables
    parts = re.split(r"\n\s*\n|\n(?=- |\| )", text)
    return [(part.strip(), BOUND.findall(part)) for part in parts if part.strip()]


def read(page: str) -> list[tuple[str, list[str]]]:
    return units((ROOT / page).read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_behind_every_promise_stand_tests_that_exist(page: str) -> None:
    found = read(page)
    assert len(found) > 30
    for said, tried in found:
        assert len(tried) == 1, f"no test stands behind: {said[:60]}"
        if tried != ["no promise"]:
            check_tests(tried[0])


def test_both_languages_promise_the_same_in_the_same_order() -> None:
    english, chinese = ([tried for _, tried in read(page)] for page in PAGES)
    assert english == chinese


def test_what_is_no_promise_is_short_and_has_no_number_in_it() -> None:
    for page in PAGES:
        for said, tried in read(page):
            if tried == ["no promise"]:
                words = re.sub(r"\]\(.*?\)|<!--.*?-->", "", said)
                assert len(words) < 330, words
                assert not re.search(r"\d", words), words


def test_the_reader_of_promises_sees_paragraphs_entries_and_rows() -> None:
    text = (
        "# Title\n\nOne line\nand another. <!-- tests/a.py::test_a -->\n\n    make run\n\n"
        "| a | b |\n|---|---|\n| c | d <!-- no promise --> |\n| e | f |\n\n"
        "- one\n  <!-- tests/a.py::test_a, tests/b.mjs::b -->\n- two\n\n"
        "<!-- test: x -->\n```python\n\nno text\n```\nBehind it.\n## Read on\n- link\n"
    )
    assert [tried for _, tried in units(text)] == [
        ["tests/a.py::test_a"],
        ["no promise"],
        [],
        ["tests/a.py::test_a, tests/b.mjs::b"],
        [],
        [],
    ]


def test_every_extra_that_a_page_names_is_there() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    there = set(re.findall(r"^(\w+) = \[", project, re.MULTILINE))
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        named = re.findall(r"pip install [^`\n]*\[([\w,]+)\]", page.read_text("utf-8"))
        assert {extra for each in named for extra in each.split(",")} <= there, page.name
