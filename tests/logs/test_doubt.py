"""streaming/logs/doubt.py: who has not beaten while nobody could is not taken for dead."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from streaming.errors import LogUnavailable
from streaming.logs import Log, Member, Retention
from streaming.logs.doubt import Doubt
from tests.clock import Clock
from tests.homes import SHARED
from tests.polling import wait_until

SHORT = 0.2
"""A lease that a test can wait out."""

Opener = Callable[[], Log]


@pytest.fixture(params=SHARED)
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store once more, as another process would."""
    with SHARED[request.param](tmp_path) as again:
        yield lambda: again(Retention(), lease=SHORT)


def refuse(*_: Any, **__: Any) -> NoReturn:
    raise LogUnavailable("Nothing can be written.")


@contextmanager
def unable_to_write(*logs: Any) -> Iterator[None]:
    """None of these can say that it lives, and each has tried."""
    with pytest.MonkeyPatch.context() as refused:
        for log in logs:
            if hasattr(log.process, "turns"):
                refused.setattr(log.process.turns, "write", refuse)
            else:
                refused.setattr(log.process.commands, "run", refuse)
            with pytest.raises(LogUnavailable):
                log.beat()
        yield


def be_in_doubt_for(log: Any, lease: float) -> None:
    owner, name = (
        (log.process, "doubt") if hasattr(log.process, "turns") else (log.process.rooms, "_doubt")
    )
    setattr(owner, name, Doubt(lease))


def test_who_could_not_beat_takes_nobody_for_dead_that_could_not_either(
    open_again: Opener,
) -> None:
    one, two, third = open_again(), open_again(), open_again()
    ann, bob = Member("ann"), Member("bob")
    one.enter("a", ann)
    two.enter("a", bob)
    be_in_doubt_for(two, 1000.0)
    with unable_to_write(two):
        wait_until(lambda: not third.members("a"), "nobody has beaten for a lease")
    assert two.members("a") == [ann, bob]
    assert two.find("a", "ann") == ann
    assert two.enter("a", ann, says=False) == ann
    assert two.beat() == []
    assert one.find("a", "ann", own=True) == ann


def test_behind_a_standstill_of_all_nobody_is_taken_for_dead(open_again: Opener) -> None:
    one, two, third = open_again(), open_again(), open_again()
    ann, bob = Member("ann"), Member("bob")
    one.enter("a", ann)
    two.enter("a", bob)
    be_in_doubt_for(two, 1000.0)
    wait_until(lambda: not third.members("a"), "nobody has beaten for a lease")
    two.note_standstill()
    assert two.beat() == []
    assert two.members("a") == [ann, bob]
    assert one.find("a", "ann", own=True) == ann


def test_who_has_died_meanwhile_is_taken_out_a_lease_later(open_again: Opener) -> None:
    dead, living, third = open_again(), open_again(), open_again()
    dead.enter("a", Member("ann"))
    living.enter("a", Member("bob"))
    with unable_to_write(living):
        wait_until(lambda: not third.members("a"), "nobody has beaten for a lease")
    assert wait_until(living.beat, "ann is taken out") == [("a", "ann")]


def test_who_has_left_is_not_among_those_that_could_not_beat(open_again: Opener) -> None:
    gone, living, third = open_again(), open_again(), open_again()
    gone.enter("a", Member("ann"))
    living.enter("a", Member("bob"))
    be_in_doubt_for(living, 1000.0)
    with unable_to_write(living):
        gone.close()
        wait_until(lambda: not third.members("a"), "nobody has beaten for a lease")
    assert living.members("a") == [Member("bob")]


def test_doubt_lasts_for_a_lease_behind_the_first_answer_and_then_no_longer() -> None:
    clock = Clock()
    doubt = Doubt(10.0, clock)
    assert not doubt.lasts()
    doubt.note()
    clock.now += 1000.0  # nobody has asked since
    assert doubt.lasts()
    clock.now += 9.0
    assert doubt.lasts()
    doubt.note()
    assert doubt.lasts()
    clock.now += 9.0
    assert doubt.lasts(), "it was away again"
    clock.now += 1.0
    assert not doubt.lasts()


def test_what_fails_for_another_reason_casts_no_doubt() -> None:
    doubt = Doubt(10.0)
    with pytest.raises(KeyError), doubt.noted():
        raise KeyError
    assert not doubt.lasts()
    with pytest.raises(LogUnavailable), doubt.noted():
        raise LogUnavailable("The log is away.")
    assert doubt.lasts()
