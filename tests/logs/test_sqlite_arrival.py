"""streaming/logs/sqlite/arrival.py: who comes to a file just after an accident, before others look.

The others are processes that do nothing by themselves, so each step is done when the test says so.
"""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from streaming.errors import LogUnavailable
from streaming.logs import SqliteLog
from streaming.logs.sqlite import arrival, connection
from streaming.logs.sqlite.arrival import alone
from streaming.message import Position
from tests.alone import ALONE
from tests.greenlets import ROOT

MUCH = 1 << 30

WORKER = """
import json, sys
from streaming.errors import LogUnavailable
from streaming.logs import SqliteLog
from streaming.message import Position
log = SqliteLog(sys.argv[1])
for line in sys.stdin:
    verb, *words = json.loads(line)
    try:
        if verb == "append": said = str(log.append("a", *words).id)
        elif verb == "follow": said = log.follow("a", lambda *_: None)
        elif verb == "close": said = log.close()
        else:
            page = log.read("a", Position.parse(*words), limit=1000, size=1 << 30)
            said = page.gap is not None, [message.data for message in page.messages]
    except LogUnavailable as error: said = f"refused: {error}"
    print(json.dumps(said), flush=True)
"""


class Worker:
    """A process that has the log open and does what it is told."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ALONE + WORKER, str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str) -> object:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(words), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def append(self, text: str) -> Position:
        return Position.parse(str(self("append", text)))

    def read(self, place: Position) -> tuple[bool, list[str]]:
        """Whether there is a gap, and what is there."""
        gap, texts = self("read", str(place))  # type: ignore[misc]
        return gap, texts

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


Start = Callable[[], Worker]


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Starts a process on a file that holds one message."""
    with closing(SqliteLog(path)) as log:
        log.append("a", "kept")
    started: list[Worker] = []

    def start_it() -> Worker:
        started.append(Worker(path))
        return started[-1]

    yield start_it
    for worker in started:
        worker.end()


def remove(*suffixes: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        for suffix in suffixes:
            Path(f"{path}{suffix}").unlink(missing_ok=True)

    return damage


def cut(share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        os.truncate(f"{path}-wal", int(os.stat(f"{path}-wal").st_size * share))

    return damage


DAMAGES = {
    "without -wal": remove("-wal"),
    "without -shm": remove("-shm"),
    "without both": remove("-wal", "-shm"),
    "-wal cut to nothing": cut(0),
    "-wal cut in half": cut(0.5),
}

CUT, HALF = DAMAGES["-wal cut to nothing"], DAMAGES["-wal cut in half"]

in_part = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)


@in_part
def test_who_comes_before_anybody_has_looked_does_not_go_on_with_the_numbers_of_before(
    start: Start, damage: Callable[[Path], None], path: Path
) -> None:
    old, other = start(), start()
    lost = [old.append(f"old {n}") for n in range(3)]
    assert other.read(lost[1]) == (False, ["old 2"])
    damage(path)
    newcomer = start()
    new = [newcomer.append("new 0")]
    assert newcomer.read(lost[0])[0], "it has fewer than were given out"
    new += [newcomer.append(f"new {n}") for n in range(1, 5)]
    for worker in (newcomer, old, other):
        for place in lost:
            gap, texts = worker.read(place)
            assert gap, "it has more than were given out"
            assert texts[-5:] == [f"new {n}" for n in range(5)]
    assert {place.epoch for place in new}.isdisjoint({place.epoch for place in lost})
    after = [worker.append("after") for worker in (old, other, newcomer)]
    assert {place.epoch for place in after} == {new[0].epoch}, "one new life, not two"
    assert len({place.offset for place in after}) == 3


@in_part
def test_who_comes_when_others_have_let_go_does_not_go_on_with_the_numbers_of_before(
    start: Start, damage: Callable[[Path], None], path: Path
) -> None:
    """They have seen it with a connection that was not open before, or was, and are not back."""
    old = start()
    lost = [old.append(f"old {n}") for n in range(3)]
    damage(path)
    old("read", str(lost[0]))
    old("append", "refused or not")
    newcomer = start()
    new = [newcomer.append(f"new {n}") for n in range(5)]
    assert {place.epoch for place in new}.isdisjoint({place.epoch for place in lost})
    for n, place in enumerate(lost):
        gap, texts = newcomer.read(place)
        assert old.read(place) == (gap, texts)
        assert texts[-5:] == [f"new {n}" for n in range(5)]
        assert gap or texts[:-6] == ["old 1", "old 2"][n:]
        assert gap == (damage in (CUT, HALF)), "the others leave all in the hands of the worker"
    assert old.append("after").epoch == new[0].epoch


@in_part
def test_who_comes_when_others_have_closed_does_not_go_on_with_the_numbers_of_what_is_lost(
    start: Start, damage: Callable[[Path], None], path: Path
) -> None:
    old, newcomer = start(), start()
    lost = [old.append(f"old {n}") for n in range(3)]
    damage(path)
    old("close")
    newcomer.append("new")
    for n, place in enumerate(lost):
        gap, texts = newcomer.read(place)
        assert gap or texts == [*("old 1", "old 2")[n:], "new"]
        assert texts[-1] == "new"


@pytest.mark.parametrize("what", ["without -shm", "without both"])
def test_who_comes_waits_for_those_who_look_by_themselves_and_so_nothing_is_lost(
    start: Start, path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "WAIT", 30.0)
    old = start()
    places = [old.append(f"old {n}") for n in range(3)]
    old("follow")
    DAMAGES[what](path)
    with closing(SqliteLog(path)) as newcomer:
        page = newcomer.read("a", places[0], limit=9, size=MUCH)
        assert page.gap is None
        assert [message.data for message in page.messages] == ["old 1", "old 2"]
    old("close")


def test_who_comes_is_refused_while_somebody_opens_the_file_or_lets_go_of_it(
    start: Start, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(SqliteLog(path)) as log:
        with alone(str(path)), pytest.raises(LogUnavailable, match="just opening"):
            log.process.turns.write(lambda db: None, patience=0.1)
        assert log.append("a", "text").id.offset == 2
    assert sorted(each.name for each in path.parent.iterdir() if each.is_file()) == ["log.db"]


def test_a_file_that_is_moved_away_while_it_is_opened_begins_anew(
    start: Start, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = connection.prepare

    def prepare_late(*arguments: object) -> object:
        if not Path(f"{path}.away").exists():
            path.replace(f"{path}.away")
        return prepare(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(connection, "prepare", prepare_late)
    with closing(SqliteLog(path)) as log:
        assert log.append("a", "text").id.offset == 1


def test_what_is_lost_is_a_gap_also_for_those_who_had_not_come_to_it(
    start: Start, path: Path
) -> None:
    """The file that is left ends where they are."""
    old = start()
    place = old.append("read by all")
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint").fetchall()
    old.append("read by nobody")
    os.truncate(f"{path}-wal", 0)
    newcomer = start()
    newcomer.append("new")
    assert newcomer.read(place) == (True, ["kept", "read by all", "new"])


@in_part
def test_what_is_in_the_file_already_is_not_lost(
    start: Start, damage: Callable[[Path], None], path: Path
) -> None:
    old = start()
    places = [old.append(f"old {n}") for n in range(2)]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA wal_checkpoint").fetchone()[0] == 0
        damage(path)
    newcomer = start()
    gap, texts = newcomer.read(places[0])
    if damage in (DAMAGES["without -shm"], DAMAGES["without both"]):
        assert gap, "nobody can tell"
    else:
        assert (gap, texts) == (False, ["old 1"])
    new = newcomer.append("new")
    assert newcomer.read(places[1])[1][-1] == "new"
    assert old.append("after").offset == new.offset + 1


def test_who_lets_go_or_comes_with_whole_files_costs_no_epoch(start: Start) -> None:
    """Of all that end and begin, in any order."""
    one, two = start(), start()
    places = [one.append("1"), two.append("2")]
    one("close")
    three = start()
    places.append(three.append("3"))
    two.process.kill()
    three.process.kill()
    three.process.wait()
    four = start()
    places.append(four.append("4"))
    four("close")
    places.append(start().append("5"))
    assert len({place.epoch for place in places}) == 1


def test_a_log_that_is_just_begun_anew_is_not_taken_for_torn(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says that it has no frames, and a moment later how many of these are in the file."""
    with closing(SqliteLog(path)) as log:
        log.append("a", "the file is there")
    with closing(SqliteLog(path)) as log:
        log.append("a", "text")
        files = log.process.writer._files
        assert files is not None
        now = files.index()
        assert now is not None
        anew = now._replace(frames=0, salt=b"another!", saved=9, begun=9)
        monkeypatch.setattr(arrival, "is_held", lambda *_: True)
        monkeypatch.setattr(arrival, "read_index", lambda shm: anew)
        assert arrival.look(str(path), files._main) is arrival.Found.FIT


def test_whoever_closes_as_the_last_is_alone_with_the_files(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite removes them one after the other: who came in between would find half of them."""
    log, drop, found = SqliteLog(path), connection.Connection.drop, []

    def look_and_drop(self: connection.Connection) -> None:
        if self._db is not None:
            with pytest.raises(sqlite3.OperationalError, match="just opening"), alone(str(path)):
                pass
            found.append(self)
        drop(self)

    log.append("a", "text")
    log.tail("a")
    monkeypatch.setattr(arrival, "PATIENCE", 0.01)
    monkeypatch.setattr(connection.Connection, "drop", look_and_drop)
    log.close()
    assert len(found) == 2


def test_whoever_closes_does_not_wait_for_one_who_is_alone_for_ever(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "PATIENCE", 0.01)
    log = SqliteLog(path)
    log.append("a", "text")
    with alone(str(path)):
        log.close()
    assert [each.name for each in path.parent.iterdir() if each.is_file()] == ["log.db"]
