"""docs/security.md: each attack names the tests that show what happens, and they are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["docs/security.md", "docs/security.zh-CN.md"]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def attacks(page: str) -> list[list[tuple[str, str]]]:
    """For each row of the table: files and names of its tests."""
    text = (ROOT / page).read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and line.count("|") >= 4]
    return [TEST.findall(row) for row in rows[1:]]  # the first is the head


@pytest.mark.parametrize("page", PAGES)
def test_every_attack_names_tests_and_they_are_there(page: str) -> None:
    assert len(attacks(page)) > 15
    for named in attacks(page):
        assert named, "a row that shows nothing"
        for file, name in named:
            source = (ROOT / file).read_text("utf-8")
            assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), f"{file}::{name}"


def test_both_languages_name_the_same_tests() -> None:
    assert attacks(PAGES[0]) == attacks(PAGES[1])


def test_the_reader_of_tests_sees_all_of_a_row() -> None:
    row = "| a | b | `tests/web/test_x.py::test_one` `tests/test_y.py::test_two` |"
    assert TEST.findall(row) == [
        ("tests/web/test_x.py", "test_one"),
        ("tests/test_y.py", "test_two"),
    ]
