"""The wheel as a user gets it: what is in it, and the README's own lines run from it."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import streaming
from tests.live.clients import RawClient
from tests.live.harness import flask_run
from tests.live.server import ROOT, environment

BUILD_DEADLINE = 240.0
SAMPLES = ["extension", "blueprint"]
EXTRAS = {"redis", "prometheus_client", "pytest", "opentelemetry"}
IMPORT_ALL = """
import importlib, pkgutil, streaming
for module in pkgutil.walk_packages(streaming.__path__, "streaming.", onerror=lambda name: None):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        print(error.name)
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=BUILD_DEADLINE,
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built the way it is published: a source distribution first, and the wheel from that. `WHEEL`
    names one that was built so before, beside its source distribution."""
    if built := os.environ.get("WHEEL"):
        return Path(built)
    out = tmp_path_factory.mktemp("dist")
    source = out / "source"  # setuptools writes beside it, where others read the package's metadata
    left = (".*", "*.egg-info", "__pycache__", "build", "dist", "instance", "node_modules")
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*left))
    run(sys.executable, "-m", "build", "--outdir", out, source, cwd=out)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh virtual environment in which only the wheel was installed."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    executable = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", executable, "install", wheel, cwd=folder)
    return executable


def sample(name: str) -> str:
    """The README's code block behind the marker of this name."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"<!-- test: {name} -->\s*```python\n(.*?)```", readme, re.DOTALL)
    assert len(found) == 1, f"README.md has {len(found)} samples marked {name}"
    return str(found[0])


def test_the_wheel_has_the_version_that_the_package_says(wheel: Path) -> None:
    assert wheel.name.startswith(f"flask_streaming-{streaming.__version__}-")


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    files = {name for name in names if ".dist-info/" not in name}
    here = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "streaming").rglob("*")
        if path.suffix in {".py", ".js", ".typed"}
    }
    assert files == here
    assert "streaming/py.typed" in files
    assert "streaming/static/index.js" in files
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_source_distribution_holds_what_the_wheel_is_built_of_and_no_half_of_the_rest(
    wheel: Path,
) -> None:
    (archive,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(archive) as held:
        paths = [Path(*Path(member.name).parts[1:]) for member in held if member.isfile()]
    beside = {str(path) for path in paths if path.parts[0] != "streaming"}
    assert {name for name in beside if "egg-info" not in name} == {
        *("CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md"),
        *("MANIFEST.in", "PKG-INFO", "pyproject.toml", "setup.cfg"),
    }


def test_every_module_needs_what_is_installed_with_it_or_an_extra(
    python: Path, tmp_path: Path
) -> None:
    missing = run(python, "-c", IMPORT_ALL, cwd=tmp_path).split()
    assert set(missing) <= EXTRAS


def test_mypy_strict_knows_the_installed_package(python: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests/live/typed_app.py", tmp_path / "app.py")
    options = ("--strict", "--python-executable", python, "--cache-dir", os.devnull)
    run(sys.executable, "-m", "mypy", *options, "app.py", cwd=tmp_path)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_of_the_readme_is_short(name: str) -> None:
    lines = [line for line in sample(name).splitlines() if line.strip()]
    assert len(lines) < 10, lines


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_of_the_readme_runs_from_the_wheel(
    python: Path, tmp_path: Path, name: str
) -> None:
    code = sample(name)
    (tmp_path / "sample.py").write_text(code, encoding="utf-8")
    given = re.search(r"url_prefix=[\"']([^\"']+)", code)
    prefix = given.group(1) if given else "/streaming"
    with flask_run("sample", cwd=tmp_path, python=str(python)) as server:
        with RawClient(f"{server.url}{prefix}/events?channel=news") as client:
            assert client.status == 200
            ready = client.next_event()
            assert ready is not None
            assert ready.event == "ready"
        with RawClient(f"{server.url}{prefix}/static/index.js") as client:
            assert client.status == 200
            assert "javascript" in client.headers["content-type"]
            client.read_all()
