"""The README's commands: what `make` does by these names, and how the demo runs then."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.clients import RawClient, post_json
from tests.live.server import ROOT, Server, environment, free_port
from tests.polling import PATIENCE, wait_until

CONFTEST = ROOT / "tests/fuzz/conftest.py"
FUZZED = sorted(CONFTEST.parent.glob("test_*.py"))


def commands(target: str, *arguments: str) -> str:
    """What `make` would run, if everything had to be installed first."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", target, *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout


def test_make_run_serves_the_demo_at_the_port_that_is_asked_for() -> None:
    serve = "gunicorn --config gunicorn.conf.py --bind 127.0.0.1:{} app:app"
    assert serve.format(8000) in commands("run")
    assert serve.format(9000) in commands("run", "PORT=9000")
    assert "pip install --quiet --editable '.[demo]'" in commands("run")


def test_make_dev_reloads_and_debugs() -> None:
    assert "flask --app app run --debug" in commands("dev")


def test_make_lint_checks_style_and_types() -> None:
    said = commands("lint")
    assert "ruff check ." in said
    assert "ruff format --check ." in said
    assert "mypy --strict" in said


def test_make_docs_builds_the_site_strictly() -> None:
    said = commands("docs")
    assert "pip install --quiet --editable '.[docs]'" in said
    assert "python docs/write_site.py" in said
    assert '"--strict"' in (ROOT / "docs/write_site.py").read_text("utf-8")


def test_make_test_installs_what_it_needs_and_runs_all() -> None:
    said = commands("test")
    assert ".ci/tools chromium nginx openssl redis-server" in said
    assert "pip install --quiet --editable '.[jobs,test]'" in said
    assert "npm install" in said
    assert "pytest" in said
    assert "tests/live" in said
    assert "node --test" in said


def test_make_soak_tries_a_million_inputs_from_a_seed_that_is_said() -> None:
    said = commands("soak", "SEED=7")
    assert 'echo "SEED=7"' in said
    assert "FUZZ=soak" in said
    assert "--hypothesis-seed=7" in said
    properties = [file.read_text("utf-8").count("@given") for file in FUZZED]
    (each,) = re.findall(r"^CI, SOAK = .*, ([\d_]+)$", CONFTEST.read_text("utf-8"), re.MULTILINE)
    assert sum(properties) * int(each) >= 1_000_000


def test_make_fuzz_says_what_to_install_where_atheris_is_not() -> None:
    assert "-m tests.fuzz.coverage_guided 3" in commands("fuzz", "SECONDS=3")
    hidden = "import sys; sys.modules['atheris'] = None; sys.argv = ['x', '1']; import runpy; "
    hidden += "runpy.run_module('tests.fuzz.coverage_guided', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", hidden], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "pip install atheris" in done.stderr


def test_a_tool_that_cannot_be_installed_is_named() -> None:
    done = subprocess.run(
        ["/bin/sh", ROOT / ".ci/tools", "sh", "no-such-tool"],
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "no-such-tool" in done.stderr


def test_gunicorn_starts_a_worker_for_each_cpu_on_a_log_that_outlives_them(tmp_path: Path) -> None:
    for name in ("app.py", "gunicorn.conf.py", "demo", "templates", "static", "streaming"):
        (tmp_path / name).symlink_to(ROOT / name)
    port = free_port()
    server = Server(
        "gunicorn app:app",
        [sys.executable, "-m", "gunicorn", "app:app"],
        port=port,
        cwd=tmp_path,
        env={"PORT": str(port), "PYTHONPATH": str(tmp_path)},
    )
    url = "/streaming/events?channel=news&history=1"
    with server:
        cpus = len(os.sched_getaffinity(0))
        wait_until(lambda: len(server.worker_pids()) == cpus, "a worker for each CPU")
        assert post_json(server.url + "/streaming/channels/news", {"data": "kept"})[0] == 201
        server.terminate()
        server.start()
        with RawClient(server.url + url) as client:
            events = [client.next_event(), client.next_event()]
        assert [event.data for event in events if event is not None][1:] == ["kept"]
    assert (tmp_path / "instance/streaming.db").exists()


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_every_command_of_the_readme_is_there(page: str) -> None:
    named = re.findall(
        r"^(?:    |\| `)make ([\w-]+)", (ROOT / page).read_text("utf-8"), re.MULTILINE
    )
    assert {"run", "test", "test-versions", "soak", "fuzz", "audit", "dev", "docs", "lint"} == set(
        named
    )
    for name in named:
        assert commands(name)
