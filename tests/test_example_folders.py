"""The examples' common form: small, listed in both languages, tried in a browser."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGES = ["README.md", "README.zh-CN.md"]
LINES = 120
START = ["app.py", "serve.sh"]
FOLDERS = sorted({path.parent for name in START for path in EXAMPLES.glob(f"*/{name}")})


def files_of(folder: Path) -> list[Path]:
    """What is written there; not what a run has left behind."""
    left = {"__pycache__", "build", "instance", "node_modules", "package-lock.json"}
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and not left & set(path.relative_to(folder).parts)
    ]


def commands(page: str) -> dict[str, list[str]]:
    """What a page tells to run, by example."""
    rows = re.findall(r"^\| \[(\w+)\]\(\1/\S*\) \|.*\|(.*)\|$", page, re.MULTILINE)
    return {name: re.findall(r"`([^`]+)`", cell) for name, cell in rows}


@pytest.mark.parametrize("folder", [*FOLDERS, EXAMPLES / "shared"], ids=lambda path: path.name)
def test_an_example_is_read_in_a_few_minutes(folder: Path) -> None:
    lines = sum(len(path.read_text("utf-8").splitlines()) for path in files_of(folder))
    assert 0 < lines < LINES


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_an_example_says_how_it_is_run_as_both_pages_do(folder: Path) -> None:
    begun = [path for path in files_of(folder) if path.name in START]
    source = "\n".join(path.read_text("utf-8") for path in begun)
    english, chinese = (commands((EXAMPLES / page).read_text("utf-8")) for page in PAGES)
    assert english[folder.name], "a command"
    assert english[folder.name] == chinese[folder.name]
    for command in english[folder.name]:
        assert re.search(rf"^#? *{re.escape(command)}$", source, re.MULTILINE), "so its file"


def test_both_pages_list_every_example_in_one_order_and_nothing_else() -> None:
    english, chinese = (list(commands((EXAMPLES / page).read_text("utf-8"))) for page in PAGES)
    assert english == chinese
    assert set(english) == {folder.name for folder in FOLDERS}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_an_example_is_tried_in_a_browser(folder: Path) -> None:
    tests = [path.read_text("utf-8") for path in (ROOT / "tests/live").glob("test_example*.py")]
    named = re.compile(rf"examples[./]{folder.name}[./]|@example\(\"{folder.name}\"\)")
    assert any(named.search(text) and "open_windows" in text for text in tests)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_page_loads_nothing_from_elsewhere_and_makes_no_markup_of_text(folder: Path) -> None:
    for path in files_of(folder):
        if path.suffix in (".html", ".js", ".jsx"):
            text = path.read_text("utf-8")
            assert not re.search(r"""(src|href|from|import)\s*[=(]?\s*["'](https?:)?//""", text)
            assert not re.search(r"innerHTML|insertAdjacentHTML|\|\s*safe\b", text), path
