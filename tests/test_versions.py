"""The versions that are promised: pyproject.toml names them, `make test-versions` tries them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = {"redis-py": "redis"}


def tried() -> dict[str, str]:
    """Names and versions of what the lowest run installs."""
    said = subprocess.run(
        [sys.executable, ".ci/lowest.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return dict(line.split("==") for line in said.split())


def row(page: str) -> str:
    (found,) = re.findall(r"^\| `make test-versions`.*", (ROOT / page).read_text("utf-8"), re.M)
    return str(found).split("<!--")[0]


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_each_version_that_the_readme_names_is_the_lowest_that_is_tried(page: str) -> None:
    lowest = tried()
    named = dict(re.findall(r"\b([A-Za-z][\w-]+) (\d[\d.]*\d)", row(page).split("Python")[0]))
    assert len(named) == 6
    for name, version in named.items():
        assert lowest[NAMES.get(name, name.lower())] == version, name


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_each_python_that_the_readme_names_is_tried_where_it_is(page: str) -> None:
    (loop,) = re.findall(r"^for version in (.*); do", (ROOT / ".ci/versions").read_text(), re.M)
    assert set(re.findall(r"3\.1[2-9]", row(page))) == set(loop.split())


def test_a_package_that_every_application_needs_has_a_lowest_version() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    (needed,) = re.findall(r"^dependencies = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert len(re.findall(r'"[\w-]+(?:\[\w+\])?>=[\d.]+"', needed)) == len(needed.split())
