"""`.ci/release.py`: what is in the way of a release is said; nothing is uploaded, no tag is set."""

import json
import re
import runpy
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import streaming

ROOT = Path(__file__).parents[1]
RELEASE: dict[str, Any] = runpy.run_path(str(ROOT / ".ci/release.py"))
TODAY = date(2030, 1, 2)
CHANGELOG = (
    "# Changelog\n\n## [1.2.3] - 2030-01-02\n\n### Added\n\n- It.\n\n## [1.2.2] - 2029-12-01\n"
)


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def write(folder: Path, changes: dict[str, str]) -> None:
    for name, text in changes.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder that may be released."""
    write(
        tmp_path,
        {
            "streaming/__init__.py": '__version__ = "1.2.3"\n',
            "browser/package.json": json.dumps({"version": "1.2.3"}),
            "CHANGELOG.md": CHANGELOG,
        },
    )
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "x")
    return tmp_path


def refusals(folder: Path) -> list[str]:
    found: Callable[..., list[str]] = RELEASE["refusals"]
    return found(folder, TODAY)


def test_nothing_is_in_the_way_of_a_project_that_is_ready(project: Path) -> None:
    assert refusals(project) == []


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("streaming/__init__.py", '__version__ = "1.2.4"\n', "browser/package.json says 1.2.3"),
        ("streaming/__init__.py", '__version__ = "1.2.4"\n', "begins with 1.2.3, and not"),
        ("streaming/__init__.py", '__version__ = "1.2.3.dev1"\n', "no release"),
        ("CHANGELOG.md", CHANGELOG.replace("2030-01-02", "Unreleased"), "dates 1.2.3 Unreleased"),
        ("CHANGELOG.md", CHANGELOG.replace("01-02", "01-01"), "today is 2030-01-02"),
        ("CHANGELOG.md", CHANGELOG.replace("- It.", ""), "says nothing of 1.2.3"),
        ("CHANGELOG.md", "# Changelog\n", "begins with nothing"),
    ],
)
def test_a_release_that_contradicts_itself_is_refused(
    project: Path, file: str, text: str, reason: str
) -> None:
    write(project, {file: text})
    git(project, "commit", "--quiet", "--all", "--message", "x")
    assert any(reason in said for said in refusals(project)), refusals(project)


def test_what_is_not_committed_is_in_no_release(project: Path) -> None:
    write(project, {"streaming/new.py": "\n"})
    (said,) = refusals(project)
    assert "streaming/new.py" in said


def test_a_version_is_released_once(project: Path) -> None:
    git(project, "tag", "v1.2.3")
    (said,) = refusals(project)
    assert "v1.2.3 is there already" in said


def test_what_is_left_is_said_and_not_done() -> None:
    made = [Path(f"dist/flask-streaming-1.2.3{end}") for end in (".tgz", ".whl", ".tar.gz")]
    said = RELEASE["farewell"]("1.2.3", made)
    source = (ROOT / ".ci/release.py").read_text("utf-8")
    for command in ("git tag", "git push", "twine upload", "npm publish"):
        assert said.count(command) == 1
        assert source.count(command) == 1, "in the farewell alone"


def test_the_changelog_keeps_a_changelogs_form() -> None:
    """https://keepachangelog.com/en/1.1.0/: versions with dates, in kinds of changes."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[0].startswith(f"[{streaming.__version__}] - ")
    for heading in headings:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - (Unreleased|\d{4}-\d\d-\d\d)", heading)
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_a_release_is_looked_at_before_it_is_tested_and_built_behind_it() -> None:
    command = ["make", "--dry-run", "--always-make", "release"]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    steps = ["release.py look", "ruff check", "-m pytest", "node --test", "release.py build"]
    places = [said.index(step) for step in steps]
    assert places == sorted(places)
    assert "'.[release,test]'" in said
