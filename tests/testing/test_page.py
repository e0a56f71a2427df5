"""docs/testing.md: its tests run, in both languages."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["testing.md", "testing.zh-CN.md"]


def blocks(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_the_example_of_the_page_passes(page: str, tmp_path: Path) -> None:
    (example,) = blocks(page)
    (tmp_path / "test_example.py").write_text(example, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "streaming.testing.plugin"]
    command += ["-p", "no:xdist", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert f"{example.count('def test_')} passed" in done.stdout, done.stdout + done.stderr
