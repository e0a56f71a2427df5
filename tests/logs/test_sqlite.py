"""streaming/logs/sqlite/: what is special about a file, its processes, and their accidents."""

import json
import logging
import os
import random
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from flask import Flask

from streaming import Streaming
from streaming.errors import ChannelEnded, ConfigurationError, LogUnavailable
from streaming.logs import Member, Retention, SqliteLog, open_log
from streaming.logs.contract import LEASE
from streaming.logs.sqlite import (
    checkpoints,
    connection,
    forgetting,
    process,
    rooms,
    schema,
    wakeups,
)
from streaming.logs.sqlite.connection import Connection
from streaming.logs.sqlite.turns import GROUP, Turns
from streaming.message import Message, Position
from tests.alone import ALONE
from tests.clock import Clock
from tests.greenlets import ROOT, in_greenlets
from tests.listener import Listener, follow
from tests.polling import PATIENCE, wait_until

MUCH = 1 << 30
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STARTS = 3 * PATIENCE
"""Seconds for what another process does, which has to start first, beside others that do."""

MANY = int(os.environ.get("MANY", "20000"))
"""Messages of the test that looks whether anything grows; a million is what is promised."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "log.db"


@pytest.fixture
def open_file(path: Path) -> Iterator[Callable[..., SqliteLog]]:
    """Opens the file once more, with ``Retention`` and ``SqliteLog`` keywords."""
    opened: list[SqliteLog] = []

    def open_it(**options: object) -> SqliteLog:
        own = {k: options.pop(k) for k in ("clock", "lease", "synchronous") if k in options}
        opened.append(SqliteLog(path, Retention(**options), **own))  # type: ignore[arg-type]
        return opened[-1]

    yield open_it
    for log in opened:
        log.close()


@pytest.fixture
def log(open_file: Callable[..., SqliteLog]) -> SqliteLog:
    return open_file()


Opener = Callable[..., SqliteLog]


def texts(log: SqliteLog, channel: str = "a") -> list[str]:
    """All that is held of a channel."""
    page = log.read(channel, log.tail(channel, 10**9), limit=10**6, size=MUCH)
    return [message.data for message in page.messages]


def count(log: SqliteLog, table: str) -> int:
    rows = log.process.reader.read(lambda db: db.execute(f"SELECT count(*) FROM {table}"))
    return int(rows.fetchone()[0])


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def child(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Another process that runs ``code`` with ``log``, a log at its first argument."""
    start = (
        "import os, sys, time\nfrom streaming.logs import *\nfrom streaming.logs import SqliteLog\n"
        "from streaming.logs.sqlite import connection, turns\n"
        "for wait in (connection.Connection.read, turns.Turns.write):\n"
        f"    wait.__kwdefaults__['patience'] = {PATIENCE}\n"  # see conftest.py
        "log = SqliteLog(sys.argv[1])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", ALONE + start + code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# Where it lies


def test_nothing_is_opened_or_made_before_the_first_use(path: Path) -> None:
    log = SqliteLog(path)
    assert not path.parent.exists()
    log.close()
    assert not path.parent.exists()


def test_a_url_gives_the_path_relative_to_the_folder_or_absolute(tmp_path: Path) -> None:
    relative = open_log("sqlite:///sub/x.db", folder=str(tmp_path))
    absolute = open_log(f"sqlite:///{tmp_path}/y.db?synchronous=FULL", folder="/nowhere")
    assert isinstance(relative, SqliteLog)
    assert isinstance(absolute, SqliteLog)
    assert relative.path == str(tmp_path / "sub" / "x.db")
    assert (absolute.path, absolute.synchronous) == (str(tmp_path / "y.db"), "full")
    assert relative.append("a", "text").id.offset == 1
    relative.close()
    assert (tmp_path / "sub" / "x.db").exists()


def test_an_application_keeps_a_relative_path_in_its_instance_folder(tmp_path: Path) -> None:
    app = Flask("app", instance_path=str(tmp_path))
    app.config["STREAMING_LOG"] = "sqlite:///streaming.db"
    Streaming(app)
    hub = app.extensions["streaming"].hub
    assert str(hub.publish("a", "text").id).endswith("-1")
    assert (tmp_path / "streaming.db").exists()
    hub.log.close()


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("sqlite:", "sqlite:///streaming.db"),
        ("sqlite://host/x.db", "sqlite:///streaming.db"),
        ("sqlite:///", "sqlite:///streaming.db"),
        ("sqlite:///:memory:", "memory:"),
        ("sqlite:///x.db?mode=ro", "synchronous"),
        ("sqlite:///x.db?synchronous=no", "normal"),
        ("mysql://x", "sqlite:///path"),
    ],
)
def test_a_url_that_cannot_be_is_refused_with_what_can(url: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=hint):
        open_log(url)


@pytest.mark.parametrize(("name", "number"), [("off", 0), ("normal", 1), ("full", 2)])
def test_synchronous_is_what_sqlite_is_told(open_file: Opener, name: str, number: int) -> None:
    log = open_file(synchronous=name)
    log.append("a", "text")

    def ask(db: sqlite3.Connection) -> object:
        return db.execute("PRAGMA synchronous").fetchone()[0]

    assert log.process.turns.write(ask) == log.process.reader.read(ask) == number


def test_the_file_is_in_wal_mode_and_knows_its_version(log: SqliteLog, path: Path) -> None:
    log.append("a", "text")
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]
    assert rows(path, "PRAGMA user_version") == [(schema.VERSION,)]


# Files that are none of ours


def test_a_file_that_is_no_database_is_left_as_it_is(log: SqliteLog, path: Path) -> None:
    path.parent.mkdir()
    path.write_text("a letter to somebody " * 1000)
    for use in (lambda: log.append("a", "text"), lambda: log.tail("a"), log.check):
        with pytest.raises(LogUnavailable, match="no SQLite file"):
            use()
    log.unfollow("a", follow(log, "a"))
    assert path.read_text() == "a letter to somebody " * 1000
    path.unlink()
    assert log.append("a", "text").id.offset == 1


def test_a_database_of_something_else_is_left_as_it_is(log: SqliteLog, path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE users (id)")
    before = path.read_bytes()
    with pytest.raises(LogUnavailable, match="a file of its own"):
        log.append("a", "text")
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [schema.BEFORE - 1, schema.VERSION + 1])
def test_a_file_of_another_version_is_refused(log: SqliteLog, path: Path, version: int) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(LogUnavailable, match=f"version {version}"):
        log.append("a", "text")


def make_as_before(path: Path) -> None:
    """A file as version 6 left it, with a message in it."""
    with closing(SqliteLog(path)) as log:
        log.append("a", "text")
    with closing(sqlite3.connect(path)) as db:
        db.executescript("ALTER TABLE messages DROP COLUMN trace; PRAGMA user_version = 6;")


def test_a_file_of_the_version_before_is_brought_to_this_one_with_all_it_holds(
    log: SqliteLog, path: Path
) -> None:
    make_as_before(path)
    assert texts(log) == ["text"]
    assert rows(path, "PRAGMA user_version") == [(schema.VERSION,)]
    assert log.append("a", "later", traceparent=TRACE).traceparent == TRACE
    # its processes may still be at work, and write what they know
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "INSERT INTO messages (id, at, size, event, sender, key, data)"
            " SELECT max(id) + 1, 0, 4, 'message', NULL, NULL, 'last' FROM messages"
        )
        db.execute("UPDATE channels SET newest = newest + 1")
        db.commit()
    page = log.read("a", log.tail("a", 3), limit=9, size=MUCH)
    assert [m.data for m in page.messages] == ["text", "later", "last"]
    assert [m.traceparent for m in page.messages] == [None, TRACE, None]


def test_several_processes_bring_a_file_to_this_version_at_once(path: Path) -> None:
    make_as_before(path)
    logs = [SqliteLog(path) for _ in range(4)]
    seen: list[list[str]] = []
    threads = [threading.Thread(target=lambda log=log: seen.append(texts(log))) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [["text"]] * 4
    for log in logs:
        log.close()


def test_a_path_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = SqliteLog(tmp_path / "file" / "log.db")
    with pytest.raises(LogUnavailable, match=r"log\.db"):
        log.check()
    log.close()


def test_a_file_that_another_process_makes_meanwhile_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(sqlite3.Connection):
        """Another process makes the tables after the first statement."""

        def execute(self, *arguments: object) -> sqlite3.Cursor:
            cursor = super().execute(*arguments)  # type: ignore[arg-type]
            if not (tmp_path / "made").exists():
                (tmp_path / "made").touch()
                with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as db:
                    schema.prepare(db, str(tmp_path / "log.db"), time.monotonic)
            return cursor

    with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None, factory=Slow)) as db:
        schema.prepare(db, str(tmp_path / "log.db"), time.monotonic)
        assert db.execute("SELECT count(*) FROM messages").fetchone() == (0,)


# Accidents


def test_a_full_disk_is_told_to_everybody_and_nothing_is_half_done(log: SqliteLog) -> None:
    log.append("a", "first", key="k")

    def limit(pages: int) -> Callable[[sqlite3.Connection], object]:
        return lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone()

    log.process.turns.write(limit(1))  # as many as there are
    refused, told = 0, []

    def write(n: int) -> None:
        for _ in range(20):
            try:
                log.append("a", "x" * 5000, key=f"{n}")
            except LogUnavailable as error:
                told.append(str(error))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = len(told)
    assert refused > 0
    assert all("disk is full" in text for text in told)
    held = texts(log)
    assert held[0] == "first"
    assert count(log, "messages") == len(held)
    assert count(log, "keys") == len(held)
    log.process.turns.write(limit(1 << 30))
    assert log.append("a", "after").id.offset == len(held) + 1


def test_tables_that_contradict_each_other_are_a_damaged_file(log: SqliteLog, path: Path) -> None:
    log.append("a", "text")
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE messages SET id = id + 1")
        db.commit()
    with pytest.raises(LogUnavailable, match="Move it away"):
        log.append("a", "text")


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE life",
        "DELETE FROM life",
        "DROP TABLE life; CREATE TABLE life (id)",
        "DROP TABLE life; CREATE TABLE life AS SELECT NULL id, 1.0 shift, 'n1' epoch, '' past",
        "DROP TABLE life; CREATE TABLE life AS SELECT 'x' id, 'x' shift, 'n1' epoch, '' past",
    ],
)
def test_a_file_whose_life_cannot_be_read_is_damaged(
    open_file: Opener, path: Path, damage: str
) -> None:
    open_file().append("a", "text")
    with closing(sqlite3.connect(path)) as db:
        db.executescript(damage)
    log = open_file()
    for use in (lambda: log.append("a", "text"), lambda: log.tail("a"), log.check):
        with pytest.raises(LogUnavailable, match="Move it away"):
            use()
    path.replace(f"{path}.damaged")
    assert log.append("a", "text").id.offset == 1


@pytest.mark.parametrize("with_its_side_files", [True, False])
def test_a_file_that_is_deleted_begins_anew_and_everybody_is_told(
    open_file: Opener, path: Path, with_its_side_files: bool
) -> None:
    one, two = open_file(), open_file()
    before = one.append("a", "old").id
    listener = follow(two, "a")
    for suffix in ("", "-wal", "-shm") if with_its_side_files else ("",):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    after = one.append("a", "new")
    assert after.id.offset == 1
    assert after.id.epoch != before.epoch
    assert listener.wait()
    for log in (one, two):
        page = log.read("a", before, limit=10, size=MUCH)
        assert page.gap is not None
        assert list(page.messages) == [after]
    one.close()
    assert two.append("a", "still").id == Position(after.id.epoch, 2)
    assert rows(path, "SELECT data FROM messages") == [("new",), ("still",)]


def test_a_file_that_is_replaced_by_an_older_one_is_noticed(
    open_file: Opener, path: Path, tmp_path: Path
) -> None:
    log = open_file()
    old = log.append("a", "old")
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(tmp_path / "copy")) as copy:
        db.backup(copy)
    log.append("a", "lost")
    listener = follow(log, "a")
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    os.replace(tmp_path / "copy", path)
    assert listener.wait()
    assert log.tail("a").offset == old.id.offset
    page = log.read("a", old.id, limit=10, size=MUCH)
    assert page.gap is not None, "something came after it"
    assert [message.data for message in page.messages] == ["old"]


def test_a_file_written_over_just_after_something_was_moved_into_it_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT", 1)
    with closing(SqliteLog(path)) as log:
        log.append("a", "1")
        shutil.copyfile(path, f"{path}.copy")
        first, last = log.tail("a"), log.append("a", "2").id
        shutil.copyfile(f"{path}.copy", path)
        new = log.append("a", "new").id
        assert new.epoch != last.epoch
        for place in (first, last):  # also for whoever had not come to what is lost
            assert log.read("a", place, limit=9, size=MUCH).gap is not None


def test_a_file_locked_for_long_is_given_up_in_time_and_works_again(
    log: SqliteLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = log.append("a", "text").id
    errors: list[Exception] = []

    def write() -> None:
        try:
            log.process.turns.write(lambda db: log.process.live(db, 1.0), patience=0.2)
        except Exception as error:
            errors.append(error)

    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        threads = [threading.Thread(target=write) for _ in range(20)]
        for thread in threads:
            thread.start()
        assert log.tail("a") == head, "reading goes on meanwhile"
        for thread in threads:
            thread.join(PATIENCE)
        db.execute("ROLLBACK")
    assert [type(error) for error in errors] == [LogUnavailable] * 20
    assert "locked by another process" in str(errors[0])
    assert log.append("a", "text").id.offset == 2


@in_greenlets
def test_other_greenlets_run_while_the_file_is_locked() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.db"
        with closing(SqliteLog(path)) as log, closing(sqlite3.connect(path)) as db:
            log.append("a", "text")
            db.isolation_level = None
            db.execute("BEGIN IMMEDIATE")
            appended: list[Message] = []
            threads = [
                threading.Thread(target=lambda: appended.append(log.append("a", "waited")))
                for _ in range(10)
            ]
            for thread in threads:
                thread.start()
            for _ in range(20):  # what these sleeps take, the appends cannot take from them
                time.sleep(0.005)
            assert not appended
            db.execute("ROLLBACK")
            for thread in threads:
                thread.join()
            assert sorted(m.id.offset for m in appended) == list(range(2, 12))


@in_greenlets
def test_a_greenlet_that_appends_without_end_lets_timers_run() -> None:
    with tempfile.TemporaryDirectory() as folder, closing(SqliteLog(f"{folder}/log.db")) as log:
        stopped = threading.Event()

        def write() -> None:
            while not stopped.is_set():
                log.append("a", "text")

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(20):
            time.sleep(0.001)
        stopped.set()
        writer.join()


# Groups


def test_what_waits_together_is_committed_together(log: SqliteLog, path: Path) -> None:
    log.append("a", "first")
    before = log.process.writer.commits
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        threads = [
            threading.Thread(target=lambda n=n: log.append("a", str(n))) for n in range(GROUP)
        ]
        for thread in threads:
            thread.start()
        pending = log.process.turns._pending
        wait_until(lambda: len(pending) == GROUP, "all wait")
        db.execute("ROLLBACK")
    for thread in threads:
        thread.join()
    assert log.process.writer.commits - before == 1
    assert sorted(texts(log)[1:], key=int) == [str(n) for n in range(GROUP)]


def test_one_bad_request_fails_alone(tmp_path: Path) -> None:
    settled: list[object] = []
    writer = Connection(str(tmp_path / "log.db"), "off")
    turns = Turns(writer, lambda db, requests, size: None, settled.extend)
    turns.write(lambda db: db.execute("CREATE TABLE t (n UNIQUE)") and None)
    results: dict[int, object] = {}

    def write(name: int, n: int) -> None:
        try:
            results[name] = turns.write(
                lambda db: db.execute("INSERT INTO t VALUES (?) RETURNING n", (n,)).fetchone()[0]
            )
        except Exception as error:
            results[name] = error

    threads = [threading.Thread(target=write, args=(k, n)) for k, n in enumerate([1, 2, 2, 3])]
    with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        for thread in threads:
            thread.start()
        wait_until(lambda: len(turns._pending) == 4, "all wait")
        db.execute("ROLLBACK")
    for thread in threads:
        thread.join()
    failed = [n for n, result in results.items() if isinstance(result, sqlite3.IntegrityError)]
    assert len(failed) == 1
    assert {r for n, r in results.items() if n not in failed} == {1, 2, 3}
    assert sorted(n for n in settled if isinstance(n, int)) == [1, 2, 3]
    writer.close()


# Several processes


def test_processes_that_open_a_new_file_at_once_share_it(path: Path, log: SqliteLog) -> None:
    code = "sys.stdin.readline()\nfor n in range(30): log.append('a', sys.argv[2])\nlog.close()"
    others = [child(code, path, n) for n in range(4)]
    for other in others:
        assert other.stdin is not None
        other.stdin.write("go\n")
        other.stdin.flush()
    for other in others:
        other.communicate(timeout=STARTS)
        assert other.returncode == 0
    assert sorted(texts(log)) == sorted(str(n) for n in range(4) for _ in range(30))
    assert log.tail("a").offset == 120


def test_a_message_of_another_process_wakes_a_listener_here(log: SqliteLog, path: Path) -> None:
    listener = follow(log, "a")
    other = child("sys.stdin.readline(); print(log.append('a', 'from afar').id); log.close()", path)
    said, _ = other.communicate("go\n", timeout=STARTS)
    assert listener.wait()
    assert texts(log) == ["from afar"]
    assert said.strip() == str(log.tail("a"))


def test_what_was_acknowledged_survives_a_kill(path: Path, log: SqliteLog) -> None:
    code = (
        "import threading\n"
        "def write(name):\n"
        "    n = 0\n"
        "    while True:\n"
        "        n += 1\n"
        "        message = log.append('a', f'{name}:{n}' + '.' * (n % 3000))\n"
        "        os.write(1, f'{message.id} {name}:{n}\\n'.encode())\n"
        "for name in 'xyz': threading.Thread(target=write, args=(name,)).start()\n"
    )
    acknowledged: dict[str, str] = {}
    for _ in range(3):
        with child(code, path) as victim:
            assert victim.stdout is not None
            lines = [victim.stdout.readline() for _ in range(100)]
            victim.send_signal(signal.SIGKILL)
            lines += victim.stdout.readlines()  # ``communicate`` loses what ``readline`` has read
        acknowledged |= dict(line.split() for line in lines if line.endswith("\n"))
    place = log.tail("a", 10**6)
    page = log.read("a", place, limit=10**6, size=MUCH)
    held = {str(m.id): m for m in page.messages}
    assert [m.id.offset for m in page.messages] == [
        place.offset + n for n in range(1, len(page.messages) + 1)
    ]
    newest = log.tail("a")
    for printed, name in acknowledged.items():
        position = Position.parse(printed)
        assert position.epoch == newest.epoch
        if position.offset > place.offset:  # else retention has taken it
            assert held[printed].data.rstrip(".") == name
    for message in page.messages:
        n = int(message.data.rstrip(".").partition(":")[2])
        assert message.data.endswith("." * (n % 3000)), "half a message"
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def test_an_end_that_was_acknowledged_survives_a_kill(path: Path, log: SqliteLog) -> None:
    code = (
        "log.append('a', 'text'); log.append('a', '{}', event='end', last=True)\n"
        "print('ended', flush=True); time.sleep(600)"
    )
    victim = child(code, path)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "ended\n"
    victim.kill()
    victim.communicate()
    with pytest.raises(ChannelEnded):
        log.append("a", "late")
    assert log.read("a", log.tail("a"), limit=1, size=1).ended


def test_members_and_sockets_of_a_killed_process_are_cleared_away(
    open_file: Opener, path: Path
) -> None:
    code = (
        "log.append('a', 'text'); log.follow('a', print); log.enter('room', Member('ann'))\n"
        "wake = sys.argv[1] + '-wake'\n"
        "while not (os.path.isdir(wake) and os.listdir(wake)): time.sleep(0.01)\n"
        "print('there', flush=True); time.sleep(600)"
    )
    victim = child(code, path)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "there\n"
    log = open_file(lease=0.2)
    victim.kill()
    victim.communicate()
    assert len(os.listdir(f"{path}-wake")) == 1
    assert wait_until(log.beat, "ann is taken out") == [("room", "ann")]
    wait_until(lambda: count(log, "follows") == 0, "it follows no more")
    log.append("a", "text")
    assert os.listdir(f"{path}-wake") == []


def test_members_that_a_closed_log_still_had_are_told_by_the_next_beat(open_file: Opener) -> None:
    one, two = open_file(), open_file()
    one.enter("room", Member("ann"))
    one.close()
    assert two.members("room") == []
    assert two.beat() == [("room", "ann")]
    assert two.beat() == []


def test_a_clock_that_is_put_back_does_not_let_the_dead_live_on(open_file: Opener) -> None:
    clock = Clock()
    dead, living = open_file(clock=clock), open_file(clock=clock)
    dead.enter("room", Member("ann"))
    clock.now -= 900
    assert living.beat() == []
    clock.now += LEASE + 1
    assert living.members("room") == []
    assert living.beat() == [("room", "ann")]


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of day, as the machine has it."""
    calendar = Clock()
    calendar.now = 1e9
    monkeypatch.setattr(schema.time, "time", calendar)
    return calendar


DAY = 86_400.0


@pytest.mark.parametrize("jump", [-DAY, -20.0, 20.0, DAY])
def test_a_clock_that_is_put_right_takes_no_key_no_member_and_no_message(
    open_file: Opener, calendar: Clock, jump: float
) -> None:
    steady = Clock()
    one = open_file(clock=steady, age=3600.0)
    message = one.append("a", "text", key="k")
    one.enter("room", Member("ann"))
    calendar.now += jump
    two = open_file(clock=steady, age=3600.0)
    assert two.beat() == []
    assert two.members("room") == [Member("ann")]
    assert two.append("a", "text", key="k") == message
    assert texts(two) == ["text"]
    steady.now += 121
    assert two.append("a", "text", key="k").id.offset == 2, "its window has passed"
    assert two.beat() == [("room", "ann")], "one has not beaten since"
    steady.now += 3601
    assert texts(two) == []


@pytest.mark.parametrize("jump", [-DAY, 60.0])
def test_a_machine_that_starts_with_another_time_of_day_goes_on_in_that_of_the_file(
    open_file: Opener, calendar: Clock, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = Clock(), Clock()
    log = open_file(clock=before)
    log.append("a", "old", key="k")
    log.close()
    calendar.now += jump
    after.now = 3.0
    monkeypatch.setattr(schema, "_life", lambda path: "another boot")
    log = open_file(clock=after)
    assert texts(log) == ["old"]
    assert log.append("a", "old", key="k").id.offset == 1
    after.now += 121
    assert log.append("a", "new", key="k").id.offset == 2
    after.now += 3601
    assert texts(log) == []


def test_the_processes_of_a_machine_have_one_steady_clock(path: Path, log: SqliteLog) -> None:
    log.append("a", "text")
    code = "log.append('b', ''); print(log.process.writer.now()); log.close()"
    before = log.process.writer.now()
    said, _ = child(code, path).communicate(timeout=STARTS)
    assert before <= float(said) <= log.process.writer.now()


def test_a_forked_child_has_connections_and_a_watch_of_its_own(log: SqliteLog) -> None:
    log.append("a", "from the parent")
    listener = follow(log, "a")
    pid = os.fork()
    if pid == 0:  # no pytest in here: leave by _exit, whatever happens
        try:
            own = follow(log, "a")
            log.append("a", "from the child")
            heard = own.wait() and texts(log) == ["from the parent", "from the child"]
            log.close()
            os._exit(0 if heard else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert listener.wait()
    assert log.append("a", "again").id.offset == 3
    assert texts(log)[1] == "from the child"


def test_what_a_forked_child_ends_has_ended_for_its_parent(log: SqliteLog) -> None:
    log.append("a", "from the parent")
    pid = os.fork()
    if pid == 0:
        try:
            log.append("a", "{}", event="end", last=True)
            log.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with pytest.raises(ChannelEnded):
        log.append("a", "late")


def test_a_child_forked_in_the_midst_of_writes_can_write(log: SqliteLog) -> None:
    follow(log, "a")
    is_over = threading.Event()

    def write() -> None:
        while not is_over.is_set():
            log.append("a", "from the parent")

    writer = threading.Thread(target=write)
    writer.start()
    codes = []
    for n in range(30):
        pid = os.fork()
        if pid == 0:
            try:
                log.append("b", str(n))
                os._exit(0)
            finally:
                os._exit(1)
        codes.append(os.waitpid(pid, 0)[1])
    is_over.set()
    writer.join()
    assert codes == [0] * 30
    assert texts(log, "b") == [str(n) for n in range(30)]


# Waking


def test_a_group_is_told_message_by_message(log: SqliteLog, path: Path) -> None:
    log.append("a", "first")
    listener = follow(log, "a")
    wait_until(lambda: log.process.looks, "it listens")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        threads = [threading.Thread(target=lambda n=n: log.append("a", str(n))) for n in range(20)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(log.process.turns._pending) == 20, "all wait")
        db.execute("ROLLBACK")
    for thread in threads:
        thread.join()
    assert [m.id.offset for m in listener.messages] == list(range(2, 22))


def test_who_follows_while_the_file_is_away_hears_when_it_is_back(
    open_file: Opener, path: Path
) -> None:
    path.parent.mkdir()
    path.write_text("no database " * 1000)
    one, two = open_file(), open_file()
    listener = follow(two, "a", "b")
    path.unlink()
    one.append("a", "text")
    wait_until(lambda: "a" in listener.channels, "it is heard of")


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[SqliteLog], None]]:
    """No watch looks by itself or is woken, but by calling this."""
    send = wakeups.Wakeups.send
    monkeypatch.setattr(process, "BACKSTOP", 1000.0)
    monkeypatch.setattr(wakeups.Wakeups, "send", lambda self, own: None)
    folders: list[wakeups.Wakeups] = []

    def wake(log: SqliteLog) -> None:
        folders.append(wakeups.Wakeups(f"{log.path}-wake"))
        send(folders[-1], None)

    yield wake
    monkeypatch.setattr(process, "BACKSTOP", 0.5)
    for folder in folders:
        folder.close()


Wake = Callable[[SqliteLog], None]


def test_own_appends_are_told_at_once_with_the_message_and_only_once(
    open_file: Opener, silence: Wake
) -> None:
    one, two = open_file(), open_file()
    listener = follow(one, "a", "b")
    wait_until(lambda: one.process.looks, "it listens")
    settle(one)
    message = one.append("a", "text", key="k")
    assert listener.calls == [("a", message)]
    assert one.append("a", "again", key="k") == message
    looks = one.process.looks
    silence(one)
    wait_until(lambda: one.process.looks > looks, "the watch has seen it")
    assert listener.calls == [("a", message)]
    two.append("a", "of another")
    silence(one)
    wait_until(lambda: len(listener.calls) > 1, "it is heard of")
    assert listener.calls[1] == ("a", None)


def test_what_an_older_file_got_before_it_was_noticed_is_heard_of(
    open_file: Opener, path: Path, tmp_path: Path, silence: Wake
) -> None:
    one, two = open_file(), open_file()
    one.append("a", "kept")
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(tmp_path / "copy")) as copy:
        db.backup(copy)
    for n in range(10):
        one.append("b", f"lost {n}")
    listener = follow(two, "a", "b")
    wait_until(lambda: two.process.looks, "it listens")
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    os.replace(tmp_path / "copy", path)
    message = one.append("a", "new")
    for n in range(20):  # the numbers go beyond those of before
        one.append("c", str(n))
    silence(two)
    wait_until(lambda: "a" in listener.channels, "it is heard of")
    page = two.read("a", two.tail("a", 1), limit=1, size=MUCH)
    assert list(page.messages) == [message]


def test_what_is_forgotten_before_it_was_noticed_is_heard_of(
    open_file: Opener, silence: Wake
) -> None:
    one, two = open_file(channels=3), open_file(channels=3)
    mark = two.tail("a")
    listener = follow(two, "a", "other:9")
    wait_until(lambda: two.process.looks, "it listens")
    settle(two)
    one.append("a", "text")
    for n in range(10):
        one.append(f"other:{n}", "text")
    assert one.tail("a").is_mark
    silence(two)
    wait_until(lambda: listener.channels == {"a", "other:9"}, "it is heard of")
    assert two.read("a", mark, limit=1, size=MUCH).gap is not None
    wait_until(lambda: count(one, "follows") == 1, "what is still there is noted")


def test_a_watch_that_ends_and_begins_again_misses_nothing(
    open_file: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "BACKSTOP", 0.001)
    one, two = open_file(), open_file()
    for n in range(200):
        listener = follow(two, "a")
        one.append("a", str(n))
        assert listener.wait(), n
        two.unfollow("a", listener)
        if n % 2:
            wait_until(lambda: two.process._watch is None, "the watch has ended")


def test_a_lost_datagram_delays_and_loses_nothing(
    open_file: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = open_file(), open_file()
    listener = follow(two, "a")
    monkeypatch.setattr(wakeups.Wakeups, "send", lambda self, own: None)
    one.append("a", "text")
    assert listener.wait()


def test_a_wake_up_does_not_wait_for_the_next_look(
    open_file: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "BACKSTOP", 1000.0)
    one, two = open_file(), open_file()
    listener = follow(two, "a")
    wait_until(lambda: two.process.looks, "it listens")
    for _ in range(10):
        one.append("a", "text")
        assert listener.wait()


@in_greenlets
def test_greenlets_are_woken_as_threads_are() -> None:
    process.BACKSTOP = 1000.0
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/log.db"
        with closing(SqliteLog(path)) as one, closing(SqliteLog(path)) as two:
            listener = follow(two, "a")
            wait_until(lambda: two.process.looks, "it listens")
            for n in range(3):
                other = child("log.append('a', sys.argv[2]); log.close()", path, n)
                assert listener.wait(STARTS)
                assert texts(one)[-1] == str(n)
                other.communicate()


def test_a_path_too_long_for_a_socket_wakes_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "BACKSTOP", 1000.0)
    path = tmp_path / ("x" * 120) / "log.db"
    with closing(SqliteLog(path)) as one, closing(SqliteLog(path)) as two:
        listener = follow(two, "a")
        ear = two.process._ear
        assert ear is not None
        wait_until(lambda: two.process.looks, "it listens")
        assert not ear.is_deaf
        one.append("a", "text")
        assert listener.wait()


def test_without_unix_sockets_it_polls(open_file: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(wakeups.socket, "AF_UNIX")
    one, two = open_file(), open_file()
    listener = follow(two, "a")
    one.append("a", "text")
    assert listener.wait()


def test_the_sockets_are_for_this_user_only_and_go_with_their_process(
    log: SqliteLog, path: Path
) -> None:
    folder = Path(f"{path}-wake")
    listener = follow(log, "a")
    wait_until(lambda: folder.exists() and os.listdir(folder), "it listens")
    assert folder.stat().st_mode & 0o077 == 0
    log.unfollow("a", listener)
    wait_until(lambda: not os.listdir(folder), "it listens no more")
    log.follow("a", listener)
    wait_until(lambda: os.listdir(folder), "it listens again")


def test_a_socket_that_was_tidied_away_comes_back(
    open_file: Opener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = open_file(), open_file()
    listener = follow(two, "a")
    folder = Path(f"{path}-wake")
    (name,) = wait_until(lambda: folder.exists() and os.listdir(folder), "it listens")
    shutil.rmtree(folder.rename(f"{folder}.gone"))  # or it comes back between two steps
    one.append("a", "text")
    assert listener.wait()
    wait_until(lambda: folder.exists() and os.listdir(folder) == [name], "it listens again")


def test_an_idle_watch_does_not_turn_in_circles(log: SqliteLog) -> None:
    listener = follow(log, "a")
    log.append("a", "text")
    assert listener.wait()
    looks = log.process.looks
    wait_until(lambda: log.process.looks > looks + 1, "it has looked, and there was nothing")
    listener.wait(0)
    before, began = log.process.looks, time.monotonic()
    assert not listener.wait(1.0)
    most = (time.monotonic() - began) / process.BACKSTOP + 2
    assert log.process.looks - before <= most


def test_the_watch_outlives_a_file_that_cannot_be_read(
    open_file: Opener, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = open_file(), open_file()
    listener = follow(two, "a")
    broken = path.with_suffix(".broken")
    broken.write_text("no database " * 1000)
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    with caplog.at_level(logging.WARNING):
        os.replace(broken, path)
        wait_until(lambda: "waits" in caplog.text, "it tells")
    path.unlink()
    one.append("a", "text")
    assert listener.wait()


def test_closing_lets_go_of_every_file(path: Path) -> None:
    def opened() -> list[str]:
        found = []
        for fd in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):  # it was closed just now
                found.append(os.readlink(f"/proc/self/fd/{fd}"))
        return [name for name in found if str(path) in name or name.startswith("socket:")]

    before = set(opened())
    for _ in range(3):
        log = SqliteLog(path)
        listener = follow(log, "a")
        log.append("a", "text")
        assert listener.wait()
        log.close()
        with pytest.raises(LogUnavailable, match="closed"):
            log.append("a", "text")
    # who closes waits for the watch for a while, and it ends by itself
    wait_until(lambda: set(opened()) <= before, "all files are let go of")
    assert os.listdir(f"{path}-wake") == []
    assert rows(path, "SELECT * FROM workers") == rows(path, "SELECT * FROM follows") == []


# What goes


def test_a_message_is_held_for_its_age_and_no_longer(open_file: Opener) -> None:
    clock = Clock()
    log = open_file(clock=clock, age=60.0)
    place = log.tail("a")
    log.append("a", "old")
    clock.now += 30
    log.append("a", "young")
    clock.now += 30
    assert texts(log) == ["old", "young"]
    clock.now += 1
    page = log.read("a", place, limit=10, size=MUCH)
    assert page.gap is not None
    assert [m.data for m in page.messages] == ["young"]
    clock.now += 60
    page = log.read("a", place, limit=10, size=MUCH)
    assert page.gap is not None
    assert (page.gap.oldest, list(page.messages), page.position.offset) == (None, [], 2)
    assert log.append("a", "next").id.offset == 3
    assert count(log, "messages") == 1


def test_a_key_is_forgotten_when_its_window_has_passed(open_file: Opener) -> None:
    clock = Clock()
    log = open_file(clock=clock, key_window=120.0)
    first = log.append("a", "one", key="k")
    clock.now += 120
    assert log.append("a", "one", key="k") == first
    clock.now += 1
    assert log.append("a", "one", key="k").id.offset == 2
    assert count(log, "keys") == 1


def test_keys_go_with_their_window_though_no_more_come(open_file: Opener) -> None:
    clock = Clock()
    log = open_file(clock=clock, key_window=120.0)
    for n in range(10):
        log.append("a", "text", key=str(n))
    clock.now += 121
    for _ in range(5):
        log.append("a", "text")
    assert count(log, "keys") == 0


def test_a_channel_remembers_a_bounded_number_of_keys(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "MAX_KEYS", 20)
    for n in range(50):
        log.append("a", "", key=str(n))
    assert count(log, "keys") == 20
    assert log.append("a", "", key="49").id.offset == 50
    assert log.append("a", "", key="0").id.offset == 51


def test_an_idle_channel_is_forgotten_when_all_of_it_has_aged(open_file: Opener) -> None:
    clock = Clock()
    log = open_file(clock=clock, age=60.0)
    before = log.append("a", "text").id
    clock.now += 61
    log.append("new", "text")
    log.append("new", "text")
    assert rows(Path(log.path), "SELECT name FROM channels") == [("new",)]
    assert count(log, "messages") == 2
    page = log.read("a", before, limit=10, size=MUCH)
    assert page.gap is not None
    assert page.position.is_mark


def test_a_channel_stays_as_long_as_the_process_that_follows_it_lives(open_file: Opener) -> None:
    clock = Clock()
    log = open_file(clock=clock, channels=5)
    before = log.append("a", "text").id
    log.process.turns.write(lambda db: another_follows(db, ["a"], log.process.writer.now()))
    for n in range(20):
        log.append(f"other:{n}", "text")
    assert log.tail("a") == before
    clock.now += LEASE + 1
    for n in range(20):
        log.append(f"more:{n}", "text")
    assert log.tail("a").is_mark
    assert count(log, "follows") == count(log, "workers") == 0
    whole(log)


def another_follows(db: sqlite3.Connection, channels: list[str], now: float) -> None:
    rooms.live(db, "another process", now, now)
    for channel in channels:
        assert rooms.follow(db, "another process", channel)


def whole(log: SqliteLog) -> None:
    """What is counted is so, and all that is passed is followed."""

    def look(db: sqlite3.Connection) -> None:
        unfollowed, passed = db.execute("SELECT unfollowed, passed FROM life").fetchone()
        found = db.execute(
            "SELECT count(*), ifnull(min(seq), 1 << 60) FROM channels"
            " WHERE id NOT IN (SELECT channel FROM follows)"
        ).fetchone()
        assert (unfollowed, found[1] > passed) == (found[0], True)
        lost = "SELECT * FROM follows WHERE channel NOT IN (SELECT id FROM channels)"
        assert db.execute(lost).fetchall() == []

    log.process.reader.read(look)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_counted_stays_right_whatever_happens(
    open_file: Opener, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "AT_ONCE", 3)
    chance, clock, listener = random.Random(seed), Clock(), Listener()
    logs = [open_file(clock=clock, channels=5, age=100.0) for _ in range(3)]
    followed: list[tuple[SqliteLog, str]] = []
    for _ in range(400):
        log, channel = chance.choice(logs), f"a{chance.randrange(30)}"
        if chance.random() < 0.5:
            log.append(channel, "text")
        elif chance.random() < 0.5:
            log.follow(channel, listener)
            followed.append((log, channel))
        elif followed and chance.random() < 0.9:
            log, channel = followed.pop(chance.randrange(len(followed)))
            log.unfollow(channel, listener)
        else:
            clock.now += chance.choice([1.0, LEASE + 1])
            log.beat()
        whole(log)
    for log, channel in followed:
        log.unfollow(channel, listener)
    for log in logs:
        wait_until(lambda log=log: not log.process._follows.is_untold, "all is noted")
    for n in range(100):
        logs[0].append(f"more:{n}", "text")
    whole(logs[0])
    assert count(logs[0], "follows") == 0
    assert count(logs[0], "channels") == 5


def test_a_new_channel_costs_the_same_however_many_there_are(open_file: Opener) -> None:
    log = open_file(channels=100, synchronous="off")
    costs: list[int] = []

    def watch(db: sqlite3.Connection) -> None:
        db.set_progress_handler(lambda: costs.append(1) and None, 10)

    def cost(name: str) -> int:
        costs.clear()
        log.append(name, "text")
        return len(costs)

    for n in range(150):
        log.append(f"a{n}", "text")
    log.process.turns.write(watch)
    few = max(cost(f"b{n}") for n in range(50))
    names = [f"followed{n}" for n in range(2000)]
    log.process.turns.write(lambda db: db.set_progress_handler(None, 0))
    for name in names:
        log.append(name, "text")
        now = log.process.writer.now()
        log.process.turns.write(lambda db, name=name, now=now: another_follows(db, [name], now))
    assert count(log, "channels") > 2000
    log.process.turns.write(watch)
    assert max(cost(f"c{n}") for n in range(400)) < 2 * few
    log.process.turns.write(lambda db: db.set_progress_handler(None, 0))
    whole(log)


def test_what_a_dead_process_followed_is_cleared_away_in_portions(
    open_file: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "AT_ONCE", 5)
    clock = Clock()
    log = open_file(clock=clock)
    names = [f"a{n}" for n in range(20)]
    for name in names:
        log.append(name, "text")
    log.process.turns.write(lambda db: another_follows(db, names, log.process.writer.now()))
    clock.now += LEASE + 1
    left = [20]
    for n in range(5):
        log.append(f"new{n}", "text")
        left.append(count(log, "follows"))
        whole(log)
    assert left == [20, 15, 10, 5, 0, 0]
    assert count(log, "workers") == 0


def test_a_process_taken_for_dead_that_enters_somebody_follows_as_before(
    open_file: Opener,
) -> None:
    clock = Clock()
    stopped, other = open_file(clock=clock), open_file(clock=clock)
    other.append("a", "text")
    follow(stopped, "a")
    wait_until(lambda: count(other, "follows") == 1 and stopped.process._beat_at, "it is noted")
    stopped.process._beat_at = float("inf")  # its watch does not beat either
    clock.now += LEASE + 1
    other.beat()
    assert count(other, "follows") == 0
    stopped.enter("room", Member("ann"))
    stopped.append("b", "text")
    assert count(other, "follows") == 1, "the next that enters somebody would hide it for good"


# What is followed, in the file


def test_a_channel_that_comes_to_be_while_it_is_followed_is_noted(open_file: Opener) -> None:
    one, two = open_file(), open_file()
    listener = follow(one, "own", "of-another")
    one.append("own", "text")
    assert count(one, "follows") == 1, "in the same turn"
    two.append("of-another", "text")
    wait_until(lambda: count(one, "follows") == 2, "it is noted")
    for channel in ("own", "of-another"):
        one.unfollow(channel, listener)
    wait_until(lambda: count(one, "follows") == 0, "it is followed no more")


def test_a_channel_that_was_there_is_noted_when_it_is_followed(log: SqliteLog) -> None:
    log.append("a", "text")
    one, two = follow(log, "a"), follow(log, "a")
    wait_until(lambda: count(log, "follows") == 1, "it is noted")
    log.unfollow("a", one)
    log.append("b", "text")
    assert count(log, "follows") == 1
    log.unfollow("a", two)
    log.append("b", "text")
    assert count(log, "follows") == 0


def test_what_is_followed_is_noted_again_in_another_file(open_file: Opener, path: Path) -> None:
    one, two = open_file(), open_file()
    one.append("a", "text")
    listener = follow(two, "a")
    wait_until(lambda: count(one, "follows") == 1, "it is noted")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    one.append("a", "text")
    assert listener.wait()
    wait_until(lambda: count(one, "follows") == 1, "it is noted there too")


def test_what_is_followed_is_noted_however_much_it_is(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "AT_ONCE", 7)
    names = [f"a{n}" for n in range(50)]
    for name in names:
        log.append(name, "text")
    listener = follow(log, *names)
    wait_until(lambda: count(log, "follows") == 50, "all are noted")
    for name in names[1:]:
        log.unfollow(name, listener)
    wait_until(lambda: count(log, "follows") == 1, "one is left")
    whole(log)


class Failure(Exception):
    pass


def fail(db: sqlite3.Connection) -> None:
    raise Failure


def test_a_turn_that_fails_is_made_up_for_by_the_next(log: SqliteLog) -> None:
    log.append("a", "text")
    log.append("b", "text")
    follows, listener = log.process._follows, Listener()
    follows.add("a", listener)  # here no watch helps
    with pytest.raises(Failure):
        log.process.turns.write(fail)
    assert (count(log, "follows"), follows.is_untold) == (0, True)
    follows.add("b", listener)
    settle(log)
    assert count(log, "follows") == 2
    follows.remove("a", listener)
    with pytest.raises(Failure):
        log.process.turns.write(fail)
    follows.add("made-up", listener)
    settle(log)
    assert count(log, "follows") == 1


def settle(log: SqliteLog) -> None:
    """Some turns, until the file has been told everything."""
    for _ in range(9):
        log.process.turns.write(lambda db: None)
    assert not log.process._follows.is_untold


def test_what_changes_during_a_turn_is_noted_by_the_next(log: SqliteLog) -> None:
    log.append("a", "text")
    follows, listener = log.process._follows, Listener()
    follows.add("a", listener)
    log.process.turns.write(lambda db: follows.remove("a", listener))
    settle(log)
    assert count(log, "follows") == 0
    follows.add("a", listener)
    settle(log)
    follows.remove("a", listener)
    log.process.turns.write(lambda db: follows.add("a", listener))
    settle(log)
    assert count(log, "follows") == 1


def test_a_process_taken_for_dead_notes_again_what_was_cleared_away(
    open_file: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "AT_ONCE", 3)
    clock = Clock()
    stopped, other = open_file(clock=clock), open_file(clock=clock)
    follows, listener = stopped.process._follows, Listener()
    for n in range(10):
        stopped.append(f"a{n}", "text")
        follows.add(f"a{n}", listener)
    settle(stopped)
    assert count(other, "follows") == 10
    clock.now += LEASE + 1
    other.append("new", "text")
    assert count(other, "follows") == 7
    stopped.check()
    follows.remove("a0", listener)
    settle(stopped)
    assert count(other, "follows") == 9
    whole(other)


# Nothing is written for reading


@pytest.fixture
def unchanged(log: SqliteLog, path: Path) -> Iterator[SqliteLog]:
    """Another process's log on a file with a message; it must be the same after the test."""
    log.append("a", "text")
    with closing(sqlite3.connect(path)) as db:

        def state() -> tuple[object, ...]:
            version = db.execute("PRAGMA data_version").fetchone()
            return version, path.read_bytes(), Path(f"{path}-wal").read_bytes()

        before = state()
        reader = SqliteLog(path)
        yield reader
        assert state() == before
        reader.close()
        assert state() == before
        log.append("a", "more")
        assert state() != before, "this would be noticed"


def test_what_is_made_up_leaves_the_file_as_it_is(unchanged: SqliteLog) -> None:
    for n in range(100):
        name = f"made-up{n}"
        mark = unchanged.tail(name, n)
        unchanged.read(name, mark, limit=10, size=MUCH)
        unchanged.read(name, Position("0123abcd", n), limit=10, size=MUCH)
        unchanged.unfollow(name, follow(unchanged, name))
        assert unchanged.members(name) == []
        assert not unchanged.leave(name, "ann")
    assert texts(unchanged) == ["text"]


def test_following_what_is_made_up_leaves_no_rows(unchanged: SqliteLog) -> None:
    names = [f"made-up{n}" for n in range(MANY)]
    listener = follow(unchanged, *names)
    looks = unchanged.process.looks
    wait_until(lambda: not unchanged.process._follows.is_untold, "all are looked up")
    wait_until(lambda: unchanged.process.looks > looks + 1, "the watch goes on")
    assert count(unchanged, "follows") == count(unchanged, "workers") == 0
    assert count(unchanged, "channels") == 1
    for name in names:
        unchanged.unfollow(name, listener)
    assert listener.calls == []


def test_readers_and_strangers_do_not_wait_for_a_writer(log: SqliteLog, path: Path) -> None:
    log.append("a", "text")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        mark = log.tail("made-up")
        assert log.read("made-up", mark, limit=1, size=1).gap is None
        assert log.members("room") == []
        assert not log.leave("room", "ann")
        log.unfollow("made-up", follow(log, "made-up"))
        assert texts(log) == ["text"]
        db.execute("ROLLBACK")


def test_the_number_of_channels_ever_made_is_not_limited(
    open_file: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "CHANNELS", 40)
    log = open_file(channels=5)
    for n in range(300):
        message = log.append(f"run:{n}", str(n))
        assert message.id.offset == 1
        assert texts(log, f"run:{n}") == [str(n)]


def test_nothing_grows_over_many_messages_in_many_channels(open_file: Opener) -> None:
    keep, channels = 5, max(MANY // 100, 100)
    log = open_file(messages=keep, channels=channels // 2, synchronous="off", key_window=1e-9)
    step = MANY // 4
    pages: list[int] = []

    def write(first: int) -> None:
        for n in range(first, first + step, 8):
            for i in range(n, n + 8):
                key = secrets.token_hex(4) if i % 5 == 0 else None
                log.append(f"c{i * 7919 % channels}", f"{i}" * 10, key=key)

    for quarter in range(4):
        threads = [threading.Thread(target=write, args=(quarter * step,))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = log.process.reader.read(lambda db: db.execute("PRAGMA page_count").fetchone())
        pages.append(found[0])
        assert count(log, "channels") <= channels // 2
        assert count(log, "messages") <= (keep + 1) * channels
        assert count(log, "keys") <= (keep + 1) * channels
        assert os.path.getsize(f"{log.path}-wal") <= 2 * connection.LEFT_OVER
    assert pages[3] <= pages[1] * 1.2 + 50


def test_members_know_their_place_across_a_restart_of_another(open_file: Opener) -> None:
    one, two = open_file(), open_file()
    one.enter("a", Member("ann"))
    two.enter("a", Member("bob"))
    two.close()
    three = open_file()
    three.enter("a", Member("bob", json.dumps({"since": 1})))
    assert one.members("a") == [Member("ann"), Member("bob", '{"since": 1}')]


# What a file forgets


def test_after_a_restart_of_the_machine_ids_are_good_and_nothing_is_told_twice(
    open_file: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_file()
    ids = [before.append("a", str(n)).id for n in range(1, 6)]
    before.close()
    monkeypatch.setattr(schema, "_life", lambda path: "another boot")
    after = open_file()
    page = after.read("a", ids[2], limit=10, size=MUCH)
    assert page.gap is None
    assert [m.data for m in page.messages] == ["4", "5"]
    assert page.position.epoch != ids[0].epoch
    head = after.read("a", ids[4], limit=10, size=MUCH)
    assert (list(head.messages), head.gap, head.position) == ([], None, page.position)
    assert after.append("a", "6").id.offset == 6


def test_an_end_outlives_a_restart_of_the_machine(
    open_file: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_file()
    first = before.append("a", "text").id
    last = before.append("a", "{}", event="end", last=True).id
    before.close()
    monkeypatch.setattr(schema, "_life", lambda path: "another boot")
    after = open_file()
    page = after.read("a", first, limit=10, size=MUCH)
    assert ([m.event for m in page.messages], page.gap, page.ended) == (["end"], None, True)
    page = after.read("a", last, limit=10, size=MUCH)
    assert (list(page.messages), page.gap, page.ended) == ([], None, True)
    with pytest.raises(ChannelEnded):
        after.append("a", "late")


def test_a_channel_whose_end_a_power_cut_took_has_not_ended(
    open_file: Opener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_file()
    first = log.append("a", "text").id
    log.close()
    kept = path.read_bytes()
    log = open_file()
    last = log.append("a", "{}", event="end", last=True).id
    log.close()
    path.write_bytes(kept)
    monkeypatch.setattr(schema, "_life", lambda path: "another boot")
    log = open_file()
    assert not log.read("a", first, limit=10, size=MUCH).ended
    assert log.append("a", "on").id.offset == 2
    page = log.read("a", last, limit=10, size=MUCH)
    assert page.gap is not None
    assert ([m.data for m in page.messages], page.ended) == (["on"], False)


def test_whoever_saw_what_a_power_cut_took_is_told_of_a_gap_and_nobody_else(
    open_file: Opener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_file()
    ids = [log.append("a", str(n)).id for n in range(1, 4)]
    log.close()
    kept = path.read_bytes()
    log = open_file()
    ids += [log.append("a", str(n)).id for n in range(4, 7)]
    log.close()
    path.write_bytes(kept)  # the disk never got the last three
    monkeypatch.setattr(schema, "_life", lambda path: "another boot")
    log = open_file()
    again = [log.append("a", f"new {n}").id for n in range(4, 8)]
    assert again[0].offset == ids[3].offset
    ahead = log.read("a", ids[5], limit=10, size=MUCH)
    assert ahead.gap is not None
    assert ahead.gap.requested == ids[5]
    assert ahead.gap.oldest == again[0]
    assert [m.data for m in ahead.messages] == ["new 4", "new 5", "new 6", "new 7"]
    behind = log.read("a", ids[1], limit=10, size=MUCH)
    assert behind.gap is None
    assert [m.data for m in behind.messages] == ["3", "new 4", "new 5", "new 6", "new 7"]


def test_a_copy_put_back_in_place_of_the_file_begins_new_epochs(
    open_file: Opener, path: Path
) -> None:
    log = open_file()
    first = log.append("a", "1").id
    log.close()
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    log = open_file()
    lost = log.append("a", "2").id
    log.close()
    copy.replace(path)
    log = open_file()
    log.append("a", "another 2")
    assert log.read("a", lost, limit=10, size=MUCH).gap is not None
    page = log.read("a", first, limit=10, size=MUCH)
    assert (page.gap, [m.data for m in page.messages]) == (None, ["another 2"])


def test_epochs_of_many_lives_are_remembered_up_to_a_bound(
    open_file: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    for life in range(schema.PAST + 2):
        monkeypatch.setattr(schema, "_life", lambda path, life=life: f"life {life}")
        log = open_file()
        ids.append(log.append("a", str(life)).id)
        log.close()
    log = open_file()
    gaps = [log.read("a", place, limit=99, size=MUCH).gap is not None for place in ids]
    assert gaps == [True] + [False] * (schema.PAST + 1)


def test_processes_of_one_life_share_its_epochs(open_file: Opener) -> None:
    assert open_file().append("a", "1").id.epoch == open_file().append("a", "2").id.epoch


# Marks, and what a file forgets


def test_a_mark_is_good_after_a_restart_of_the_machine(
    open_file: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_file()
    before.append("b", "text")
    mark = before.tail("a")
    before.close()
    monkeypatch.setattr(schema, "_life", lambda path: "another boot")
    after = open_file()
    page = after.read("a", mark, limit=10, size=MUCH)
    assert (list(page.messages), page.gap) == ([], None)
    assert page.position.is_same(after.tail("a"))
    assert not page.position.is_same(mark)
    message = after.append("a", "text")
    for place in (mark, page.position):
        page = after.read("a", place, limit=10, size=MUCH)
        assert (list(page.messages), page.gap) == ([message], None)


def test_a_mark_given_behind_what_a_power_cut_left_is_a_gap_and_no_other(
    open_file: Opener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_file()
    log.append("b", "text")
    early = log.tail("a")
    log.close()
    kept = path.read_bytes()
    log = open_file()
    log.append("a", "lost")
    log.append("b", "lost")
    late = log.tail("c")
    log.close()
    path.write_bytes(kept)  # the disk never got the last two
    monkeypatch.setattr(schema, "_life", lambda path: "another boot")
    log = open_file()
    new = {channel: log.append(channel, "new") for channel in "dca"}
    for channel in "ac":
        page = log.read(channel, late, limit=10, size=MUCH)
        assert page.gap is not None
        assert list(page.messages) == [new[channel]]
        page = log.read(channel, early, limit=10, size=MUCH)
        assert (page.gap, list(page.messages)) == (None, [new[channel]])
    assert log.read("e", late, limit=10, size=MUCH).gap is not None
    assert log.read("e", early, limit=10, size=MUCH).gap is None


def test_marks_of_many_lives_are_remembered_up_to_a_bound(
    open_file: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = []
    for life in range(schema.PAST + 2):
        monkeypatch.setattr(schema, "_life", lambda path, life=life: f"life {life}")
        log = open_file()
        marks.append(log.tail("a"))
        log.append("b", "text")
        log.close()
    log = open_file()
    gaps = [log.read("a", mark, limit=9, size=MUCH).gap is not None for mark in marks]
    assert gaps == [True] + [False] * (schema.PAST + 1)


def test_a_mark_that_is_younger_than_its_channel_is_a_gap(log: SqliteLog) -> None:
    message = log.append("a", "text")
    page = log.read("a", log.tail("b"), limit=9, size=MUCH)
    assert page.gap is not None
    assert list(page.messages) == [message]


def test_a_mark_of_a_file_that_is_gone_is_a_gap(log: SqliteLog, path: Path) -> None:
    mark = log.tail("a")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    page = log.read("a", mark, limit=9, size=MUCH)
    assert page.gap is not None
    assert log.read("a", page.position, limit=9, size=MUCH).gap is None


def test_the_first_message_of_another_file_is_not_told_as_the_first_of_all(
    log: SqliteLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who follows stands at a mark of the file before, and only a read tells what that means."""
    monkeypatch.setattr(process, "BACKSTOP", 1000.0)
    listener = follow(log, "a")
    wait_until(lambda: log.process.looks, "the watch has looked")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    message = log.append("a", "text")
    assert listener.calls == [("a", None), ("a", message)]
    again = log.append("a", "again")
    assert listener.calls[2:] == [("a", again)]
    log.unfollow("a", listener)


def test_a_channel_that_was_followed_for_long_is_not_forgotten_unsaid(open_file: Opener) -> None:
    log = open_file(channels=3)
    listener = follow(log, "a")
    mark = log.tail("a")
    log.append("a", "text")
    later = log.tail("made-up")
    for n in range(10):
        log.append(f"other:{n}", "text")
    log.unfollow("a", listener)
    log.append("other:9", "text")
    assert not log.tail("a").is_mark, "it was in use up to now"
    for n in range(10):
        log.append(f"more:{n}", "text")
    assert log.tail("a").is_mark
    assert log.read("a", mark, limit=9, size=MUCH).gap is not None
    assert later.is_mark
    assert log.read("a", log.tail("a"), limit=9, size=MUCH).gap is None
