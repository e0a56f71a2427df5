"""What holds under threads holds where threads are greenlets: whole files once more."""

import os
import signal

import pytest

from tests.greenlets import ROOT, in_greenlets, run_file

FILES = [
    "clients/test_client.py",
    "clients/test_deadlines.py",
    "clients/test_farewell.py",
    "clients/test_inlet.py",
    "clients/test_intake.py",
    "clients/test_line.py",
    "clients/test_pongs.py",
    "clients/test_registry.py",
    "clients/test_requested.py",
    "clients/test_websocket.py",
    "hub/test_runs.py",
    "web/test_chat.py",
    "web/test_promises.py",
    "web/test_protocol.py",
    "web/test_responses.py",
    "web/test_shortage.py",
    "web/test_runs.py",
    "web/test_slow_bodies.py",
    "web/test_sock.py",
    "web/test_storm.py",
    "web/test_talk.py",
]


@pytest.mark.parametrize("name", FILES)
def test_what_holds_under_threads_holds_in_greenlets(name: str) -> None:
    run_file(str(ROOT / "tests" / name))


@in_greenlets
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_how_a_process_died_that_said_nothing_is_told() -> None:
    with pytest.raises(AssertionError, match=f"without a word: -{signal.SIGKILL}"):
        dies()
