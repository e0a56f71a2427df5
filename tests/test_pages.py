"""The pages for readers: what they claim is tried by tests that exist, in both languages."""

import ast
import functools
import re
from pathlib import Path

import pytest
from write_site import anchors, twin

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

TROUBLES = ["troubleshooting.md", "troubleshooting.zh-CN.md"]


@functools.cache
def names_in(file: str) -> frozenset[str]:
    """The names of the tests in a file, Python's or node's."""
    text = (ROOT / file).read_text("utf-8")
    if file.endswith(".mjs"):
        return frozenset(re.findall(r"^\s*test\(\s*[`\"'](.*?)[`\"'],", text, re.MULTILINE))
    return frozenset(n.name for n in ast.parse(text).body if isinstance(n, ast.FunctionDef))


def check_tests(named: str) -> None:
    """Fail if one of ``file::test, file::test`` does not exist."""
    for each in named.split(", "):
        file, _, name = each.strip().partition("::")
        assert (ROOT / file).is_file(), each
        assert name in names_in(file), each
        assert name.startswith("test_") or file.endswith(".mjs"), each


def entries(page: str) -> list[tuple[str, str]]:
    """Each entry of a page and the tests behind it."""
    text = (DOCS / page).read_text("utf-8")
    parts = re.split(r"^(?=- |## )", text, flags=re.MULTILINE)
    found = []
    for part in parts:
        if part.startswith("- "):
            tried = re.findall(r"<!-- (.*?) -->", part)
            found.append((part, tried[0] if len(tried) == 1 else ""))
    return found


@pytest.mark.parametrize("page", TROUBLES)
def test_every_trouble_is_tried_by_tests_that_exist(page: str) -> None:
    found = entries(page)
    assert len(found) > 20
    for entry, tried in found:
        assert tried, f"no test stands behind: {entry[:60]}"
        check_tests(tried)


def test_both_languages_have_the_same_troubles_in_the_same_order() -> None:
    english, chinese = ([tried for _, tried in entries(page)] for page in TROUBLES)
    assert english == chinese
    for page in TROUBLES:
        (first,) = set(TROUBLES) - {page}
        assert f"]({first})" in (DOCS / page).read_text("utf-8")


def named(page: Path) -> list[str]:
    """The tests that a page names, in its order."""
    return re.findall(r"<!-- (tests/.*?) -->", page.read_text("utf-8"))


@pytest.mark.parametrize(
    "page", [page for page in DOCS.glob("*.md") if named(page)], ids=lambda page: page.name
)
def test_the_tests_that_a_page_names_exist_and_are_those_of_its_twin(page: Path) -> None:
    for each in named(page):
        check_tests(each)
    assert named(page) == named(twin(page, "en"))


@pytest.mark.parametrize("name", ["nothing.py::test_x", "tests/test_pages.py::test_x"])
def test_a_test_that_does_not_exist_is_found_out(name: str) -> None:
    with pytest.raises(AssertionError):
        check_tests(name)


MADE = {"dist/"}
LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(#[^)\s]*)?\)")


@pytest.mark.parametrize(
    "page",
    [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *(ROOT / "examples").glob("*.md")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for path, place in LINK.findall(page.read_text("utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if place and target.suffix == ".md":
            assert place[1:] in anchors(target), f"{path}{place}"


def test_every_test_file_that_the_table_of_servers_names_is_there() -> None:
    for page in ("servers.md", "servers.zh-CN.md"):
        files = re.findall(r"`(tests/[\w/]+\.py)`", (DOCS / page).read_text("utf-8"))
        assert len(files) > 10
        assert all((ROOT / file).is_file() for file in files), page


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "CONTRIBUTING.zh-CN.md"])
def test_every_file_that_contributors_are_told_of_is_there(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    named = [path for path in re.findall(r"`([a-z]+/[\w./-]*)`", text) if path not in MADE]
    assert len(named) > 10
    for path in named:
        assert (ROOT / path).exists() or (ROOT / "streaming" / path).exists(), path
