"""streaming/web/unheard.py: a script that publishes where nobody can hear it is told so."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
from flask import Flask
from streaming import Streaming
app = Flask("script")
app.config.update({config})
streaming = Streaming(app)
with app.app_context():
    {before}
    for n in range(3):
        streaming.publish("news", str(n))
    {after}
"""


def said(config: str = "{}", before: str = "pass", after: str = "pass") -> str:
    text = SCRIPT.format(config=config, before=before, after=after)
    command = [sys.executable, "-c", text]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr
    return ran.stderr


def test_a_script_that_publishes_into_its_own_memory_is_told_so_once_at_its_end() -> None:
    text = said()
    assert text.count("STREAMING_LOG=memory:") == 1
    assert "(messages: 3)" in text
    assert "sqlite:////full/path" in text


def test_two_applications_of_one_process_are_one_word() -> None:
    second = "other = Flask('other'); two = Streaming(other); "
    second += "ctx = other.app_context(); ctx.push(); two.publish('a', 'x'); ctx.pop()"
    assert said(after=second).count("STREAMING_LOG=memory:") == 1


def test_a_child_of_multiprocessing_is_told_so_too() -> None:
    work = "import multiprocessing as m\n"
    work += "def work():\n"
    work += "    with app.app_context(): streaming.publish('a', 'x'); streaming.publish('a', 'y')\n"
    work += "child = m.get_context('fork').Process(target=work); child.start(); child.join()"
    text = SCRIPT.partition("with app")[0].format(config="{}") + work
    ran = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, timeout=60)
    assert ran.stderr.count(b"STREAMING_LOG=memory:") == 1
    assert b"(messages: 2)" in ran.stderr


def test_what_a_parent_has_published_before_it_forks_is_its_childs_too() -> None:
    fork = "import os; os.fork() or os._exit(0); os.wait()"
    assert said(after=fork) == ""
    text = said(after=fork + "; streaming.publish('a', 'x')")
    assert "(messages: 1)" in text


@pytest.mark.parametrize(
    "how",
    [
        {"before": "keep = streaming.subscribe('news')"},
        {"before": "app.test_client().get('/')"},
        {"config": "{'TESTING': True}"},
    ],
)
def test_whoever_had_somebody_to_hear_it_is_told_nothing(how: dict[str, str]) -> None:
    assert said(**how) == ""


def test_a_script_that_publishes_into_a_shared_log_is_told_nothing(tmp_path: Path) -> None:
    assert said(config=repr({"STREAMING_LOG": f"sqlite:///{tmp_path / 'log.db'}"})) == ""
