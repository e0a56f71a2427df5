"""streaming/__init__.py: what the package promises by name, and that nobody leans on more."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import streaming

ROOT = Path(__file__).parent.parent

USERS = [
    ROOT / "app.py",
    ROOT / "gunicorn.conf.py",
    ROOT / "bench" / "app.py",
    *sorted((ROOT / "demo").glob("*.py")),
    *sorted((ROOT / "examples").rglob("*.py")),
]
"""Programs that use the package as everybody else does."""

PAGES = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [page for page in PAGES if not page.name.startswith("api.")]  # signatures are no programs


def imported(source: str) -> Iterator[tuple[str, str]]:
    """Module and name of each import from the package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "streaming":
            yield from ((node.module or "", alias.name) for alias in node.names)
        if isinstance(node, ast.Import):
            yield from ((a.name, "") for a in node.names if a.name.split(".")[0] == "streaming")


def check_imports(source: str) -> int:
    """Fail if something that is not public is imported; how much is."""
    found = list(imported(source))
    for module, name in found:
        assert module == "streaming", f"{module} is a room of the package, and no promise"
        assert not name or name in streaming.__all__, f"{name} is not public"
    return len(found)


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def test_every_name_of_the_window_is_there_once() -> None:
    assert len(set(streaming.__all__)) == len(streaming.__all__) <= 40
    for name in streaming.__all__:
        assert hasattr(streaming, name), name


def test_nothing_else_stands_in_the_window() -> None:
    names = {
        name
        for name, value in vars(streaming).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert names <= set(streaming.__all__)


def test_everything_public_says_what_it_is() -> None:
    for name in streaming.__all__:
        value = getattr(streaming, name)
        if callable(value) and name != "Take":
            assert value.__doc__, name


def test_the_page_says_what_the_docstrings_say() -> None:
    command = [sys.executable, ROOT / "docs" / "write_api.py"]
    written = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "api.md").read_text("utf-8") == written, "make docs-api writes it anew"


def test_the_page_has_every_public_name_and_what_may_be_done_with_it() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    for name in streaming.__all__:
        assert f"\n### {name}\n" in page or f"| `{name}` |" in page, name
    for kind, owner in ((streaming.Streaming, "streaming"), (streaming.Publisher, "publisher")):
        for name in vars(kind):
            assert name.startswith("_") or f"{owner}.{name}" in page, name
    for line in page.splitlines():
        assert "def " not in line, "code of ours was taken for a docstring"


def test_the_version_is_said_in_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", streaming.__version__)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "version" not in project["project"]
    assert f"## [{streaming.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.mark.parametrize("file", USERS, ids=lambda file: str(file.relative_to(ROOT)))
def test_our_own_programs_use_public_names_only(file: Path) -> None:
    check_imports(file.read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pages_show_public_names_only(page: Path) -> None:
    for block in python_blocks(page):
        check_imports(block)


def test_the_reader_of_imports_sees_all_kinds_of_them() -> None:
    for source in (
        "from streaming.hub import Hub",
        "import streaming.web.sock",
        "def f():\n    from streaming import Hub",
    ):
        with pytest.raises(AssertionError):
            check_imports(source)
    assert check_imports("from streaming import Streaming, stream\nimport streaming, os") == 3
    assert sum(check_imports(block) for page in PAGES for block in python_blocks(page)) > 20
