"""What all channels of a log hold together is bounded; the oldest goes first."""

import os
import random
from contextlib import closing
from pathlib import Path

import pytest

from streaming.errors import LogUnavailable
from streaming.logs import Log, MemoryLog, Retention, SqliteLog
from tests.listener import follow

KIB = 1024


def texts(log: Log, channel: str) -> list[str]:
    """What is held of a channel."""
    head = log.tail(channel, 10_000)
    return [m.data for m in log.read(channel, head, limit=10_000, size=1 << 30).messages]


def test_channels_that_nobody_follows_go_first_and_the_longest_unused_of_them() -> None:
    log = MemoryLog(Retention(total=100))
    follow(log, "followed")
    for name in ("followed", "a", "b", "c"):
        log.append(name, "x" * 25)
    log.append("a", "")  # used again
    log.append("d", "y" * 25)
    assert [texts(log, name) for name in "acd"] == [["x" * 25, ""], ["x" * 25], ["y" * 25]]
    assert texts(log, "b") == []
    assert texts(log, "followed") == ["x" * 25]


def test_then_goes_the_past_of_the_channel_that_is_appended_to() -> None:
    log = MemoryLog(Retention(total=100))
    follow(log, "a", "b")
    log.append("b", "x" * 40)
    for n in range(50):
        log.append("a", f"{n:20}")
    assert texts(log, "a") == [f"{n:20}" for n in range(47, 50)]
    assert texts(log, "b") == ["x" * 40]


def test_where_nothing_can_go_appending_fails_and_changes_nothing() -> None:
    log = MemoryLog(Retention(total=100))
    follow(log, "a", "b", "c")
    log.append("a", "x" * 100)
    for name in ("b", "c"):
        with pytest.raises(LogUnavailable, match="100 bytes of at most 100"):
            log.append(name, "y")
    with pytest.raises(LogUnavailable):
        log.append("a", "y" * 101)
    assert (log.channels(), texts(log, "a")) == (["a"], ["x" * 100])
    log.append("a", "z" * 90)  # its own past goes
    log.append("b", "y" * 10)
    assert (texts(log, "a"), texts(log, "b")) == (["z" * 90], ["y" * 10])


def test_what_is_counted_is_what_is_held() -> None:
    """Whatever becomes of channels: trimmed, grown old, ended, forgotten, followed."""
    now, dice = [0.0], random.Random(7)
    keep = Retention(messages=5, size=60, age=3.0, after_end=2.0, channels=3, total=200)
    log = MemoryLog(keep, clock=lambda: now[0])
    listener = follow(log, "a0", "a1")
    refused = 0
    for n in range(5_000):
        name = f"a{dice.randrange(8)}"
        try:
            if dice.random() < 0.1:
                log.append(name, "the end", event="end", last=True)
            else:
                log.append(name, "x" * dice.randrange(70), key=dice.choice([None, f"{n % 9}"]))
        except LogUnavailable:
            refused += 1
        except Exception as error:
            assert "has ended" in str(error)  # noqa: PT017 - most do not
        if dice.random() < 0.2:
            log.tail(name)
        now[0] += dice.random()
        there = log._channels.values()
        held = [message.size for place in there for message in place.held[place.gone :]]
        assert log._size == sum(place.size for place in there) == sum(held) <= 200
    assert refused < 5_000
    log.close()
    assert log._size == 0
    del listener


def test_a_file_stays_within_its_total_and_keeps_the_newest(tmp_path: Path) -> None:
    path, total = tmp_path / "log.db", 2048 * KIB
    with closing(SqliteLog(path, Retention(total=total))) as log:
        for n in range(3_000):
            log.append(f"c{n % 10}", f"{n}:" + "x" * 10_000)
        for n in range(2_990, 3_000):
            assert texts(log, f"c{n % 10}")[-1].startswith(f"{n}:")
        assert len(texts(log, "c0")) > 5
        assert os.stat(path).st_size <= total


def fill(log: Log, names: list[str]) -> None:
    """Into each channel one message: the newest stays."""
    for n in range(200):
        log.append(f"c{n}", "x" * 20_000)
        names.append(f"c{n}")


def test_a_file_that_is_full_of_what_must_stay_refuses(tmp_path: Path) -> None:
    keep = Retention(total=1024 * KIB)
    with closing(SqliteLog(tmp_path / "log.db", keep)) as log:
        names: list[str] = []
        with pytest.raises(LogUnavailable, match="STREAMING_RETENTION_TOTAL"):
            fill(log, names)
        assert 20 < len(names) < 60
        assert [len(texts(log, name)) for name in names] == [1] * len(names)
