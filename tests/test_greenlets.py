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


seen: list[str] = []


@in_greenlets
def leaves_something_behind() -> None:
    assert seen == []
    seen.append("this")


def test_what_one_test_leaves_behind_the_next_does_not_see() -> None:
    leaves_something_behind()
    leaves_something_behind()


def test_why_a_module_cannot_be_imported_is_told() -> None:
    def away() -> None: ...

    away.__module__ = "tests.away"
    with pytest.raises(AssertionError, match="No module named 'tests"):
        in_greenlets(away)()


@in_greenlets
def ends_its_parent() -> None:
    os.kill(os.getppid(), signal.SIGKILL)


def test_a_test_that_ends_the_others_parent_fails_and_the_next_gets_another() -> None:
    with pytest.raises(AssertionError, match="ends_its_parent ended its parent"):
        ends_its_parent()
    leaves_something_behind()
