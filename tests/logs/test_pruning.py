"""Messages that are let go of before their time: one suite for every log."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from streaming.errors import ChannelEnded
from streaming.logs import Log, Retention, SqliteLog
from streaming.logs.sqlite import history
from streaming.message import Position
from tests.homes import HOMES, SHARED, Open

MUCH = 1 << 30


@pytest.fixture(params=HOMES)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    with HOMES[request.param](tmp_path) as open_log:
        yield open_log(Retention())


@pytest.fixture(params=SHARED)
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store once more, as another process would; closes all after the test."""
    with SHARED[request.param](tmp_path) as again:
        yield lambda: again(Retention())


def texts(log: Log, after: Position) -> list[str]:
    return [m.data for m in log.read("a", after, limit=1000, size=MUCH).messages]


def test_nothing_of_it_is_held_and_its_ids_go_on(log: Log) -> None:
    start = log.tail("a")
    first, second = (log.append("a", text) for text in ("one", "two"))
    log.append("b", "of another")
    assert log.prune("a") == 2
    assert log.tail("a") == log.tail("a", 100) == second.id
    page = log.read("a", second.id, limit=10, size=MUCH)
    assert (list(page.messages), page.gap) == ([], None)
    for place in (start, first.id):
        page = log.read("a", place, limit=10, size=MUCH)
        assert page.gap is not None
        assert (page.gap.requested, page.gap.oldest, page.position) == (place, None, second.id)
    third = log.append("a", "three")
    assert (third.id.epoch, third.id.offset) == (second.id.epoch, 3)
    assert texts(log, second.id) == ["three"]
    page = log.read("a", first.id, limit=10, size=MUCH)
    assert page.gap is not None
    assert (page.gap.oldest, list(page.messages)) == (third.id, [third])
    assert log.prune("a") == 1
    assert log.read("b", log.tail("b", 1), limit=10, size=MUCH).messages[0].data == "of another"


def test_what_is_not_there_is_no_trouble(log: Log) -> None:
    mark = log.tail("a")
    assert log.prune("a") == 0
    assert mark.is_mark
    assert log.read("a", mark, limit=10, size=MUCH).gap is None
    log.append("a", "text")
    assert (log.prune("a"), log.prune("a")) == (1, 0)


def test_an_ended_channel_stays_ended(log: Log) -> None:
    first = log.append("a", "text")
    last = log.append("a", "{}", event="end", last=True)
    assert log.prune("a") == 2
    with pytest.raises(ChannelEnded):
        log.append("a", "late")
    for place in (first.id, last.id):
        page = log.read("a", place, limit=10, size=MUCH)
        assert (list(page.messages), page.position, page.ended) == ([], last.id, True)
        assert (page.gap is None) == (place == last.id)


def test_a_repetition_is_known_still(log: Log) -> None:
    first = log.append("a", "text", key="k")
    assert log.prune("a") == 1
    assert log.append("a", "text", key="k").id == first.id
    assert log.append("a", "more").id.offset == 2


def test_others_see_that_it_is_gone(open_again: Open) -> None:
    one, two = open_again(), open_again()
    first = one.append("a", "text")
    place = Position(first.id.epoch, 0)
    assert texts(two, place) == ["text"]
    assert one.prune("a") == 1
    assert texts(two, place) == []
    two.append("a", "more")
    assert texts(one, place) == ["more"]


def test_a_channel_that_was_forgotten_and_begins_anew_meanwhile_keeps_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "TRIM", 1)
    with closing(SqliteLog(tmp_path / "log.db", Retention(channels=1))) as log:
        for n in range(3):
            log.append("a", f"{n}")
        write = log.process.turns.write

        def write_and_forget(work: Any) -> Any:
            found = write(work)
            monkeypatch.setattr(log.process.turns, "write", write)
            log.append("b", "pushes the other out")
            log.append("a", "new")
            return found

        monkeypatch.setattr(log.process.turns, "write", write_and_forget)
        assert log.prune("a") == 1
        assert texts(log, log.tail("a", 9)) == ["new"]


def test_much_goes_too_a_little_at_a_time(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "TRIM", 3)
    start = log.tail("a")
    for n in range(10):
        log.append("a", f"{n}")
    assert log.prune("a") == 10
    log.append("a", "new")
    assert texts(log, start) == ["new"]
