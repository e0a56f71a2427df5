"""docs/dependencies.md and `.ci/audit.py`: what is argued, and what is asked."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.test_versions import ROOT, tried

PAGES = ["docs/dependencies.md", "docs/dependencies.zh-CN.md"]
ADVISORY = re.compile(r"CVE-\d{4}-\d{4,6}|SNYK-[A-Z0-9-]+")


def table(page: str) -> dict[str, str]:
    """Packages and their lowest versions."""
    return dict(re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|", (ROOT / page).read_text("utf-8"), re.M))


@pytest.mark.parametrize("page", PAGES)
def test_each_lowest_version_is_argued_and_no_other(page: str) -> None:
    assert table(page) == tried()


def test_both_languages_name_the_same_advisories() -> None:
    here, there = (ADVISORY.findall((ROOT / page).read_text("utf-8")) for page in PAGES)
    assert here == there
    assert len(here) > 10


@pytest.mark.parametrize("page", PAGES)
def test_each_advisory_that_is_not_asked_for_is_argued(page: str) -> None:
    argued = (ROOT / page).read_text("utf-8").rpartition("|\n")[2]
    left_out = ADVISORY.findall((ROOT / ".ci/audit.py").read_text("utf-8"))
    assert left_out
    assert set(left_out) == set(ADVISORY.findall(argued))


ANSWERS = """
import json, os, re, sys
def value(name): return sys.argv[sys.argv.index(name) + 1]
pinned = [line.split("==") for line in open(value("--requirement")).read().split()]
answers = json.loads(os.environ["ANSWERS"])[value("--vulnerability-service")]
if answers is None: sys.exit("ConnectionError")
asked = [{"name": n, "version": v, **answers.get(n, answers["*"])} for n, v in pinned]
print(json.dumps({"dependencies": asked, "fixes": []}))
"""
"""Says as pip-audit would what it is told to; a real one needs the Internet."""

CLEAN: dict[str, Any] = {"vulns": []}
UNKNOWN = {"skip_reason": "Dependency not found on PyPI and could not be audited"}
KNOWN = {"vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": [], "description": ""}]}


def audit(tmp_path: Path, **answers: Any) -> subprocess.CompletedProcess[str]:
    """The audit, where the sources answer so."""
    (tmp_path / "pip_audit").mkdir()
    (tmp_path / "pip_audit/__init__.py").touch()
    (tmp_path / "pip_audit/__main__.py").write_text(ANSWERS)
    env = {"PYTHONPATH": str(tmp_path), "ANSWERS": json.dumps(answers)}
    command = [sys.executable, str(ROOT / ".ci/audit.py")]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


def test_what_is_known_of_a_version_fails_and_is_named(tmp_path: Path) -> None:
    done = audit(tmp_path, pypi={"*": CLEAN, "werkzeug": KNOWN})
    assert done.returncode == 1
    assert "werkzeug 3.1.0: PYSEC-1, CVE-1" in done.stdout


def test_a_clean_audit_counts_what_it_has_asked_for(tmp_path: Path) -> None:
    done = audit(tmp_path, pypi={"*": CLEAN})
    assert done.returncode == 0
    (count,) = re.findall(r"^audit: 0 known in (\d+) versions \(pypi\)$", done.stdout, re.M)
    assert int(count) > 2 * len(tried())


def test_another_source_is_asked_where_the_first_does_not_know_all(tmp_path: Path) -> None:
    done = audit(tmp_path, pypi={"*": CLEAN, "gevent": UNKNOWN}, osv={"*": CLEAN, "flask": KNOWN})
    assert done.returncode == 1
    assert "(osv)" in done.stdout


@pytest.mark.parametrize("pypi", [None, {"*": UNKNOWN}])
def test_where_no_source_answers_nothing_counts_as_audited(tmp_path: Path, pypi: Any) -> None:
    done = audit(tmp_path, pypi=pypi, osv=None)
    assert done.returncode == 3
    assert "no advisory source could be reached" in done.stdout
