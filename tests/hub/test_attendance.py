"""streaming/hub/attendance.py: one member, of several connections and of several processes."""

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streaming import InvalidMessage, LogUnavailable, Member, Message
from streaming.hub import attendance
from streaming.hub.hub import Hub
from streaming.hub.presence import Presence
from streaming.logs import Log, Retention, SqliteLog
from tests.homes import SHARED
from tests.hub.rooms import Gate, Homes, Told
from tests.hub.standstill import stand_still
from tests.polling import wait_until


@pytest.fixture
def log() -> Homes:
    return Homes()


@pytest.fixture
def hub(log: Homes) -> Hub:
    return Hub(log)


@pytest.fixture
def here(hub: Hub) -> Iterator[Presence]:
    here = Presence(hub)
    yield here
    here.close()
    wait_until(lambda: here.is_idle, "everybody has left")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats that follow each other at once."""
    monkeypatch.setattr(attendance, "BEAT", 0.01)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does something else meanwhile refuses nobody."""
    monkeypatch.setattr(attendance, "PATIENCE", 60.0)


@pytest.fixture(params=SHARED)
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Log, Log]]:
    """Two processes with one home."""
    with SHARED[request.param](tmp_path) as again:
        yield again(Retention()), again(Retention())


JOINED = ("join", {"id": "ann", "info": ""})
LEFT = ("leave", {"id": "ann"})


# Several connections of one process


def test_a_member_of_several_connections_is_told_once_and_leaves_with_the_last(
    hub: Hub, here: Presence
) -> None:
    with Told(hub) as told:
        assert here.join("r", "ann", connection="one")
        assert not here.join("r", "ann", connection="two")
        assert not here.join("r", "ann")
        assert here.members("r") == [Member("ann", connections=3)]
        for count, connection in ((2, "two"), (1, "")):
            here.leave("r", "ann", connection=connection)
            assert here.members("r") == [Member("ann", connections=count)]
        assert told.all == [JOINED]
        here.leave("r", "ann", connection="one")
        assert here.members("r") == []
        assert told.all == [JOINED, LEFT]


def test_a_connection_joins_once_and_leaves_once_however_often_it_says_so(
    hub: Hub, here: Presence
) -> None:
    with Told(hub) as told:
        for connection in ("one", "two", "one", "one"):
            here.join("r", "ann", connection=connection)
        assert here.members("r") == [Member("ann", connections=2)]
        for connection in ("one", "one", "never", ""):
            here.leave("r", "ann", connection=connection)
        assert here.members("r") == [Member("ann")]
        assert told.all == [JOINED]


def test_what_was_said_last_counts_also_when_the_one_that_said_it_has_left(
    hub: Hub, here: Presence
) -> None:
    with Told(hub) as told:
        here.join("r", "ann", "phone", name="Ann", connection="one")
        here.join("r", "ann", "desk", name="Ann", connection="two")
        here.leave("r", "ann", connection="two")
        assert here.members("r") == [Member("ann", "desk", "Ann")]
        here.join("r", "ann", "desk", name="Anna", connection="one")
        assert here.members("r") == [Member("ann", "desk", "Anna")]
        assert told.all == [
            ("join", {"id": "ann", "info": "phone", "name": "Ann"}),
            ("join", {"id": "ann", "info": "desk", "name": "Ann"}),
            ("join", {"id": "ann", "info": "desk", "name": "Anna"}),
        ]


@pytest.mark.parametrize("name", ["x" * 101, "\ud800", 7, None])
def test_a_name_that_cannot_be_told_is_refused(here: Presence, name: Any) -> None:
    with pytest.raises(InvalidMessage):
        here.join("r", "ann", name=name)
    assert here.members("r") == []


def test_a_connection_that_leaves_while_the_log_is_away_is_counted_out_later(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    here.join("r", "ann", connection="one")
    here.join("r", "ann", connection="two")
    with Told(hub) as told:
        log.broken = {"enter"}
        here.leave("r", "ann", connection="one")
        assert here.members("r") == [Member("ann", connections=2)]
        log.broken = set()
        wait_until(lambda: here.members("r") == [Member("ann")], "the right number")
        here.leave("r", "ann", connection="two")  # it may be left to the beat to tell
        wait_until(lambda: told.all and told.all[-1] == LEFT, "the last event is the leave")


@pytest.mark.parametrize("broken", ["enter", "answer"])
def test_a_connection_that_could_not_join_is_not_counted_and_the_others_stay(
    quick: None, log: Homes, hub: Hub, here: Presence, broken: str
) -> None:
    here.join("r", "ann", "phone", connection="one")
    with Told(hub) as told:
        log.broken = {broken}
        with pytest.raises(LogUnavailable):
            here.join("r", "ann", "phone", connection="two")
        log.broken = set()
        as_before = [Member("ann", "phone")]
        wait_until(lambda: here.members("r") == as_before, "the log has it as it is here")
        assert all(event == "join" for event, _ in told.all)
        here.leave("r", "ann", connection="two")
        assert here.members("r") == [Member("ann", "phone")]
        here.leave("r", "ann", connection="one")
        wait_until(lambda: here.members("r") == [], "all have left")


def test_a_connection_that_leaves_while_another_joins_is_counted_out_behind_it(
    log: Homes, hub: Hub, here: Presence
) -> None:
    here.join("r", "ann", connection="one")
    gate = log.gates["enter"]
    gate.shut()
    joining = threading.Thread(target=lambda: here.join("r", "ann", connection="two"), daemon=True)
    joining.start()
    wait_until(lambda: gate.waiting, "the second is joining")
    here.leave("r", "ann", connection="one")
    gate.open()
    joining.join()
    assert here.members("r") == [Member("ann")]
    with Told(hub) as told:
        here.leave("r", "ann", connection="two")
        assert told.all == [LEFT]


def come_and_go(
    here: Presence, names: list[str], seed: int, *, stay: Callable[[str], bool]
) -> Callable[[], None]:
    """Connections of one member that join and leave at random; in the end those ``stay`` says."""
    chance = random.Random(seed)

    def run() -> None:
        for _ in range(30):
            name = chance.choice(names)
            if chance.random() < 0.5:
                here.join("r", "ann", connection=name)
            else:
                here.leave("r", "ann", connection=name)
        for name in names:
            if stay(name):
                here.join("r", "ann", connection=name)
            else:
                here.leave("r", "ann", connection=name)

    return run


def run_all(*works: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("staying", [0, 3])
def test_many_connections_come_and_go_at_once_and_in_the_end_all_is_as_it_was_left(
    hurry: None, hub: Hub, here: Presence, seed: int, staying: int
) -> None:
    with Told(hub) as told:
        run_all(
            *[
                come_and_go(
                    here,
                    [f"{who}.{n}" for n in range(3)],
                    seed * 10 + who,
                    stay=lambda name, who=who: who < staying and name.endswith(".0"),
                )
                for who in range(4)
            ]
        )
        assert here.members("r") == ([Member("ann", connections=staying)] if staying else [])
        events = [event for event, _ in told.all]
        assert events == [("join", "leave")[n % 2] for n in range(len(events))]
        assert not events or events[-1] == ("join" if staying else "leave")


# Several processes


def test_a_member_of_two_processes_is_there_until_both_have_taken_it_out(
    two: tuple[Log, Log],
) -> None:
    hubs = [Hub(log) for log in two]
    one, other = map(Presence, hubs)
    with Told(hubs[0]) as told:
        assert one.join("r", "ann", "phone")
        assert not other.join("r", "ann", "desk")
        one.join("r", "ann", "desk", connection="tab")
        assert one.members("r") == other.members("r") == [Member("ann", "desk", connections=3)]
        one.leave("r", "ann")
        one.leave("r", "ann", connection="tab")
        assert one.members("r") == other.members("r") == [Member("ann", "desk")]
        other.leave("r", "ann")
        assert one.members("r") == other.members("r") == []
        told.wait_for(
            ("join", {"id": "ann", "info": "phone"}), ("join", {"id": "ann", "info": "desk"}), LEFT
        )


class Gated(SqliteLog):
    """Where a ``leave`` waits before it is told, and what is stored may not be answered."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = Gate()
        self.is_silent = False

    def append(self, channel: str, data: str, **how: Any) -> Message:  # type: ignore[override]
        if how["event"] == "leave":
            self.gate.pass_through()
        return super().append(channel, data, **how)

    def leave(self, room: str, member: str) -> bool:
        is_gone = super().leave(room, member)
        if self.is_silent:
            raise LogUnavailable("The answer is lost.")
        return is_gone


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[tuple[Gated, Gated]]:
    logs = Gated(tmp_path / "log.db"), Gated(tmp_path / "log.db")
    yield logs
    for log in logs:
        log.close()


def test_who_comes_back_elsewhere_before_its_leave_is_told_is_there_to_all(
    gated: tuple[Gated, Gated],
) -> None:
    """As a page that is loaded again, and gets the other worker."""
    hubs = [Hub(log) for log in gated]
    one, other = map(Presence, hubs)
    gate = gated[0].gate
    with Told(hubs[1]) as told:
        one.join("r", "ann", "Ann")
        gate.shut()
        leaving = threading.Thread(target=lambda: one.leave("r", "ann"), daemon=True)
        leaving.start()
        wait_until(lambda: gate.waiting, "the leave is stored")
        assert other.join("r", "ann", "Anna")
        gate.open()
        leaving.join()
        anna = ("join", {"id": "ann", "info": "Anna"})
        told.wait_for(("join", {"id": "ann", "info": "Ann"}), anna, LEFT, anna)
        other.leave("r", "ann")


def test_a_leave_whose_answer_was_lost_is_not_told_where_another_process_has_the_member(
    quick: None, gated: tuple[Gated, Gated]
) -> None:
    hubs = [Hub(log) for log in gated]
    one, other = map(Presence, hubs)
    one.join("r", "ann")
    other.join("r", "ann")
    with Told(hubs[1]) as told:
        gated[0].is_silent = True
        one.leave("r", "ann")
        gated[0].is_silent = False
        wait_until(lambda: one.is_idle, "it is made up for")
        assert LEFT not in told.all
        other.leave("r", "ann")
        assert told.all[-1] == LEFT


def test_a_process_of_which_the_log_has_lost_a_member_that_another_has_enters_it_again(
    quick: None, two: tuple[Log, Log]
) -> None:
    hubs = [Hub(log) for log in two]
    one, other = map(Presence, hubs)
    one.join("r", "ann", "phone", connection="one")
    one.join("r", "ann", "phone", connection="two")
    other.join("r", "ann", "desk")
    with Told(hubs[0]) as told:
        two[0].leave("r", "ann")  # as if it had been taken for dead
        both = [Member("ann", "desk", connections=3)]
        wait_until(lambda: other.members("r") == both, "it is there again")
        other.leave("r", "ann")
        assert one.members("r") == [Member("ann", "desk", connections=2)]
        assert told.all == []
        one.leave("r", "ann", connection="one")
        one.leave("r", "ann", connection="two")
        told.wait_for(LEFT)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("staying", [0, 1])
def test_whoever_comes_and_goes_in_two_processes_at_once_the_last_event_says_what_is_so(
    two: tuple[Log, Log], seed: int, staying: int
) -> None:
    hubs = [Hub(log) for log in two]
    one, other = map(Presence, hubs)
    with Told(hubs[0]) as told:
        run_all(
            come_and_go(one, ["tab"], seed, stay=lambda name: bool(staying)),
            come_and_go(other, ["tab"], seed + 100, stay=lambda name: False),
        )
        assert one.members("r") == other.members("r") == [Member("ann")] * staying
        ended = JOINED if staying else LEFT
        wait_until(lambda: told.all and told.all[-1] == ended, f"{ended} as the last")
    one.leave("r", "ann", connection="tab")


class Noted(Homes):
    """A log that writes down what it hears of the process."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def beat(self) -> list[tuple[str, str]]:
        self.heard.append("beat")
        return super().beat()

    def note_standstill(self) -> None:
        self.heard.append("standstill")

    def members(self, room: str) -> list[Member]:
        self.heard.append("asked")
        return super().members(room)


@pytest.mark.parametrize("is_asked", [False, True])
def test_the_log_hears_of_a_standstill_before_it_is_told_or_asked_who_lives(
    quick: None, monkeypatch: pytest.MonkeyPatch, is_asked: bool
) -> None:
    log = Noted()
    here = Presence(Hub(log))
    here.join("r", "ann")
    let_go = stand_still(monkeypatch, here._own())
    log.heard.clear()
    if is_asked:
        here.members("r")
    let_go.set()
    wait_until(lambda: "beat" in log.heard, "it beats")
    assert log.heard[:2] == ["standstill", "asked" if is_asked else "beat"]
    here.close()
    wait_until(lambda: here.is_idle, "everybody has left")
