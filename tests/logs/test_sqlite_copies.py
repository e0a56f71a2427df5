"""streaming/logs/sqlite/: an older copy is put in the place of a file that is in use, at the worst
moment: while a process notices that something is wrong with its files, and lets go of them."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from streaming.errors import LogUnavailable
from streaming.logs import SqliteLog
from streaming.logs.sqlite import connection, pauses
from streaming.message import Position

MUCH = 1 << 30

PutBack = Callable[[], None]

MOMENTS = {
    "before anybody looks": None,
    "once it is noticed that something is wrong": (pauses, "alone"),
    "once all is let go": (connection.Connection, "begin"),
    "while what is there is opened": (connection, "prepare"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "log.db"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteLog]:
    with closing(SqliteLog(path)) as log:
        yield log


@pytest.fixture
def known(log: SqliteLog, path: Path, tmp_path: Path) -> Position:
    """The last place that is in the copy; what came after it will be lost."""
    log.append("a", "first")
    place = log.append("a", "known").id
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(tmp_path / "copy")) as copy:
        db.backup(copy)
    log.append("a", "lost")
    return place


@pytest.fixture(params=["moved there", "written over it"])
def put_back(request: pytest.FixtureRequest, path: Path, tmp_path: Path) -> PutBack:
    """Puts the copy into the place of the file, once."""

    def put_back() -> None:
        if (tmp_path / "copy").exists():
            if request.param == "written over it":
                shutil.copyfile(tmp_path / "copy", path)
                (tmp_path / "copy").unlink()
            else:
                os.replace(tmp_path / "copy", path)

    return put_back


def before(what: tuple[object, str], act: PutBack, patch: pytest.MonkeyPatch) -> None:
    """Call ``act`` in the moment before ``what`` is done."""
    do = getattr(*what)

    def act_and_do(*arguments: object) -> object:
        act()
        return do(*arguments)

    patch.setattr(*what, act_and_do)


@pytest.mark.parametrize("sides", [("-wal", "-shm"), ("-shm",), ("-wal",)], ids="+".join)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_copy_put_back_in_steps_is_a_gap_in_whatever_moment_it_is_looked_at(
    log: SqliteLog,
    path: Path,
    known: Position,
    put_back: PutBack,
    moment: str,
    sides: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for side in sides:
        Path(f"{path}{side}").unlink()
    when = MOMENTS[moment]
    if when is None:
        put_back()
    else:
        before(when, put_back, monkeypatch)
    use(log)
    new = log.append("a", "new").id
    assert new.epoch != known.epoch
    with closing(SqliteLog(path)) as other:  # what is in use is what lies there
        for each in (log, other):
            page = each.read("a", known, limit=9, size=MUCH)
            assert page.gap is not None, "something came after it"
            assert [message.data for message in page.messages] == ["first", "known", "new"]
        assert other.append("a", "newer").id == Position(new.epoch, new.offset + 1)
        assert log.tail("a") == other.tail("a")


def use(log: SqliteLog) -> None:
    """Look into it, as its watch does, until that is possible."""
    for _ in range(3):
        try:
            log.tail("a")
        except LogUnavailable:
            continue
        return
    raise AssertionError("it is not usable any more")
