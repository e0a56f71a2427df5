"""Guides that are there in two languages say the same: same headings, code, tables and tests."""

import re
from pathlib import Path

import pytest

from tests.test_pages import check_tests

DOCS = Path(__file__).parents[1] / "docs"
GUIDES = ["tutorial", "background-jobs", "servers"]


def read(name: str, ending: str) -> str:
    return (DOCS / f"{name}{ending}").read_text("utf-8")


def shape(text: str) -> list[str]:
    """Code as it stands but for its comments, the rest by its kind; tables with what is code."""
    found = []
    for block in re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL):
        if block.startswith("```"):
            found.append(re.sub(r"  # .*| // .*", "", block))
            continue
        for line in block.splitlines():
            if heading := re.match(r"#+ ", line):
                found.append(heading[0])
            elif line.startswith(("    ", "<!-- ")):
                found.append(line)
            elif line.startswith("|"):
                found.append(f"row of {line.count('|')}")
            found += re.findall(r"<!-- tests/.*? -->", line)
    return found


@pytest.mark.parametrize("name", GUIDES)
def test_both_languages_have_the_same_headings_code_tables_and_tests(name: str) -> None:
    english, chinese = read(name, ".md"), read(name, ".zh-CN.md")
    assert shape(english) == shape(chinese)
    assert f"]({name}.zh-CN.md)" in english
    assert f"]({name}.md)" in chinese


@pytest.mark.parametrize("name", GUIDES)
def test_the_tests_that_a_guide_names_exist(name: str) -> None:
    text = read(name, ".md")
    for named in re.findall(r"<!-- (tests/.*?) -->", text):
        check_tests(named)
    for file in re.findall(r"`(tests/[\w/]+\.py)`", text):
        assert (DOCS.parent / file).is_file(), file


def test_the_shape_of_a_page_sees_what_was_changed() -> None:
    page = "# A\n\n| a | b |\n|---|---|\n\n```python\nx = 1  # one\n```\n\n    run\n\nText.\n"
    assert shape(page) == shape(page.replace("# A", "# B").replace("one", "two"))
    for old, new in [("# A", "## A"), ("x = 1", "x = 2"), ("a | b", "a"), ("    run", "    go")]:
        assert shape(page) != shape(page.replace(old, new)), old
