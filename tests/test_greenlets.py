"""tests/greenlets.py: how tests run where threads are greenlets."""

import os
import signal

import pytest

from tests.greenlets import in_greenlets


@in_greenlets
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_how_a_process_died_that_said_nothing_is_told() -> None:
    with pytest.raises(AssertionError, match=f"without a word: -{signal.SIGKILL}"):
        dies()
