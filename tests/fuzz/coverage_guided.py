"""The same properties with inputs that atheris (libFuzzer) finds by what code they reach.

    python -m tests.fuzz.coverage_guided SECONDS [PART OF A NAME]

tries each property for so many seconds, one after the other; the last line sums up.
"""

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
LARGEST = 8192
"""Bytes from which an input is made."""


def properties() -> Iterator[tuple[str, str]]:
    """Module and name of each."""
    for file in sorted(HERE.glob("test_*.py")):
        for line in file.read_text("utf-8").splitlines():
            if line.startswith("def test_"):
                yield f"tests.fuzz.{file.stem}", line.removeprefix("def ").partition("(")[0]


def attack(module: str, name: str, seconds: str, folder: str) -> None:
    """Try one property; ends this process."""
    import atheris

    with atheris.instrument_imports(include=["streaming"]):
        importlib.import_module("tests.fuzz.conftest")  # the profile
        found = getattr(importlib.import_module(module), name)
    limits = [f"-max_total_time={seconds}", f"-max_len={LARGEST}", "-rss_limit_mb=2000"]
    limits += ["-timeout=20", f"-artifact_prefix={folder}/", "-print_final_stats=1", folder]
    atheris.Setup([sys.argv[0], *limits], found.hypothesis.fuzz_one_input)
    atheris.Fuzz()


def main(seconds: str, part: str = "") -> int:
    """Try all whose names have ``part`` in them; the number of those that do not hold."""
    failed, tried = [], 0
    for module, name in properties():
        if part not in f"{module}.{name}":
            continue
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "tests.fuzz.coverage_guided", "--one"]
            done = subprocess.run(
                [*command, module, name, seconds, folder],
                cwd=HERE.parents[1],
                env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
                capture_output=True,
                text=True,
                errors="replace",
            )
        said = done.stdout + done.stderr
        runs = [int(line.split()[-1]) for line in said.splitlines() if "executed_units" in line]
        tried += sum(runs)
        print(f"{'holds' if not done.returncode else 'FAILS'} {sum(runs):8} {name}", flush=True)
        if done.returncode:
            failed.append(name)
            print(said[-4000:])
    print(f"{tried} inputs tried; does not hold: {', '.join(failed) or 'nothing'}")
    return len(failed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        attack(*sys.argv[2:])
    else:
        try:
            import atheris  # noqa: F401
        except ImportError:
            sys.exit("atheris is needed, on CPython up to 3.13: .venv/bin/pip install atheris")
        sys.exit(min(main(*sys.argv[1:]), 1))
