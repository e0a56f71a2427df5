"""streaming/hub/keeper.py: behind a time in which nobody could beat, nobody is taken for dead."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from streaming.errors import LogUnavailable
from streaming.hub import keeper, making
from streaming.hub.keeper import READERS
from streaming.hub.making import PREFIX
from streaming.logs import Member, MemoryLog
from streaming.logs.doubt import Doubt
from streaming.message import Position
from tests.hub.standstill import stand_still
from tests.hub.test_runs import Engine, Gate
from tests.polling import PATIENCE, wait_until
from tests.shortage import no_thread_at_first


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "LOOK", 0.02)


class Shaken(MemoryLog):
    """A log that is away, and in which nobody has beaten since, when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.stale: set[str] = set()
        """Rooms whose members look dead."""
        self.looks = 0
        """At such rooms."""

    def members(self, room: str) -> list[Member]:
        self._try()
        if room not in self.stale:
            return super().members(room)
        self.looks += 1
        return []

    def tail(self, channel: str, history: int = 0) -> Position:
        self._try()
        return super().tail(channel, history)

    def _try(self) -> None:
        if self.is_away:
            raise LogUnavailable("The log is away.")


def shake(log: Shaken, room: str, who: Engine, ask: Callable[[], object] | None = None) -> None:
    """Be away until this process has noticed, by itself or as somebody asks; then back, and nobody
    in ``room`` has beaten."""
    log.is_away = True
    if ask is not None:
        with pytest.raises(LogUnavailable):
            ask()
    wait_until(lambda: who.runs._keeper.doubt._is_away, "it has noticed")
    log.stale.add(room)
    log.is_away = False


@pytest.fixture
def log() -> Shaken:
    return Shaken()


@pytest.fixture
def one(log: Shaken) -> Iterator[Engine]:
    """The process that makes the run."""
    engine = Engine(log)
    yield engine
    engine.stop()


@pytest.fixture
def other(log: Shaken) -> Iterator[Engine]:
    """Another one, with or without a reader."""
    engine = Engine(log)
    yield engine
    engine.stop()


@pytest.fixture
def gate() -> Gate:
    return Gate()


def goes_on(log: Shaken, one: Engine, id: str, gate: Gate) -> None:
    """Check that the run goes on, however often somebody looks, and comes to its end."""
    before = log.looks
    wait_until(lambda: log.looks >= before + 3, "it is looked at")
    log.stale.clear()
    assert one.runs.answer(id).state == "running"
    gate.give("the end")
    one.wait(id)


@contextmanager
def read_by(engine: Engine, id: str) -> Iterator[None]:
    """Somebody reads the run to its end, and it is known who."""
    thread = threading.Thread(target=lambda: list(engine.runs.messages(id)))
    thread.start()
    wait_until(lambda: engine.presence, "it holds a place among the readers")
    yield
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_run_that_is_read_elsewhere_goes_on_though_its_maker_could_not_beat(
    log: Shaken, one: Engine, other: Engine, gate: Gate
) -> None:
    id = one.start(gate)
    with read_by(other, id):
        shake(log, making.MADE, other)
        goes_on(log, one, id, gate)


def test_a_run_whose_maker_could_not_beat_goes_on_for_who_has_asked_meanwhile(
    log: Shaken, one: Engine, other: Engine, gate: Gate
) -> None:
    id = one.start(gate)
    place = log.tail(PREFIX + id)
    for ask in (
        lambda: other.runs.answer(id),
        lambda: other.runs.is_read(id, place),
        lambda: other.runs.kept(10),
    ):
        other.runs._keeper.doubt = Doubt(PATIENCE)
        shake(log, making.MADE, other, ask)
        assert other.runs.answer(id).state == "running"
        assert not other.runs.is_read(id, place)
        assert [answer.state for answer in other.runs.kept(10)] == ["running"]
    log.stale.clear()
    gate.give("the end")
    one.wait(id)


def test_a_run_goes_on_though_its_readers_process_could_not_beat(
    log: Shaken, one: Engine, other: Engine, gate: Gate
) -> None:
    id = one.start(gate, on_disconnect="cancel")
    made = one.runs.making.made[id]
    with read_by(other, id):
        wait_until(lambda: made.lonely <= time.monotonic(), "its reader was seen")
        shake(log, READERS + id, one)
        goes_on(log, one, id, gate)


def test_a_run_goes_on_behind_a_standstill_of_the_whole_machine(
    log: Shaken, one: Engine, other: Engine, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = one.start(gate)
    with read_by(other, id):
        happen = partial(log.stale.add, making.MADE)  # nobody could beat
        stand_still(monkeypatch, other.runs._keeper, happen).set()
        goes_on(log, one, id, gate)


def test_so_does_one_whose_readers_are_elsewhere(
    log: Shaken, one: Engine, other: Engine, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = one.start(gate, on_disconnect="cancel")
    made = one.runs.making.made[id]
    with read_by(other, id):
        wait_until(lambda: made.lonely <= time.monotonic(), "its reader was seen")
        stand_still(monkeypatch, one.runs._keeper, partial(log.stale.add, READERS + id)).set()
        goes_on(log, one, id, gate)


def test_who_asks_behind_a_standstill_before_anybody_has_noticed_is_not_told_of_a_death(
    log: Shaken, one: Engine, other: Engine, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, own = one.start(gate), Gate()
    mine = other.start(own)
    happen = partial(log.stale.add, making.MADE)
    let_go = stand_still(monkeypatch, other.runs._keeper, happen)
    assert other.runs.answer(id).state == "running"
    let_go.set()
    log.stale.clear()
    for engine, run, its in ((one, id, gate), (other, mine, own)):
        its.give("the end")
        engine.wait(run)


def test_behind_that_a_run_whose_maker_has_died_is_ended_all_the_same(
    log: Shaken, one: Engine, other: Engine, gate: Gate
) -> None:
    other.runs._keeper.doubt = Doubt(0.05)
    id = one.start(gate)
    with read_by(other, id):
        shake(log, making.MADE, other)
    assert other.runs.answer(id).state == "interrupted"


def test_behind_that_a_run_that_nobody_reads_any_more_is_stopped_all_the_same(
    log: Shaken, one: Engine, gate: Gate
) -> None:
    one.runs._keeper.doubt = Doubt(0.05)
    id = one.start(gate, on_disconnect="cancel")
    made = one.runs.making.made[id]
    made.lonely = time.monotonic()  # as if its reader had left just now
    one.runs._keeper.doubt.note()
    assert one.wait(id, "stopped").detail == "Nobody listened."


def test_that_the_log_was_away_takes_no_time_from_a_first_reader(
    log: Shaken, one: Engine, gate: Gate
) -> None:
    id = one.start(gate, on_disconnect="cancel")
    made = one.runs.making.made[id]
    shake(log, READERS + id, one)
    wait_until(lambda: log.looks >= 3, "it is looked at")
    assert made.lonely > time.monotonic() + making.FIRST / 2
    gate.give("the end")
    one.wait(id)


def test_who_wakes_it_while_no_thread_can_be_had_for_another_has_one(
    one: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, looked = one.runs._keeper, threading.Event()
    monkeypatch.setattr(keeper._making, "try_again", looked.set)
    with no_thread_at_first("run keeper", keeper.wake):
        keeper.wake()
    assert looked.wait(PATIENCE), "nobody looks"
