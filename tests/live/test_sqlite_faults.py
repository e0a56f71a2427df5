"""Real processes on one SQLite file that is removed, cut, written over, filled up and locked."""

import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from streaming.errors import LogUnavailable
from streaming.logs import SqliteLog
from streaming.logs.sqlite import checkpoints, connection
from streaming.logs.sqlite.checkpoints import LEFT_OVER
from streaming.message import Message, Position
from tests.alone import ALONE
from tests.greenlets import ROOT
from tests.listener import Listener
from tests.polling import PATIENCE, wait_until

WORKER = """
import json, sys, threading
from streaming.errors import LogUnavailable
from streaming.logs import Retention, SqliteLog
from streaming.logs.sqlite import arrival
name, path, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
arrival.WAIT = options.get("wait", arrival.WAIT)
log = SqliteLog(path, Retention(**options.get("retention", {})))
bell, is_quiet, is_over = (threading.Event() for _ in range(3))
says, reads, writes = (threading.Lock() for _ in range(3))
def say(*what):
    with says: print(json.dumps(what), flush=True)
def publish():
    n = 0
    while not is_quiet.wait(options.get("pause", 0.005)):
        n += 1
        text = f"{name}:{n}" + "." * options.get("size", 0)
        with writes:
            try: say("ack", str(log.append("a", text).id), f"{name}:{n}")
            except LogUnavailable as error: say("refused", str(error))
def read(place):
    while True:
        last = is_over.is_set()
        try:
            with reads: page = log.read("a", place, limit=1000, size=1 << 30)
        except LogUnavailable as error:
            say("unread", str(error))
        else:
            if page.gap: say("gap", str(page.gap.requested), str(page.gap.oldest))
            for message in page.messages: say("got", str(message.id), message.data.rstrip("."))
            place = page.position
            if last and not page.more: break
        bell.wait(0.05); bell.clear()
log.follow("a", lambda *_: bell.set())
while True:
    try: place = log.tail("a")
    except LogUnavailable as error: say("refused", str(error))  # it is damaged, for example
    else: break
say("tail", str(place))
threads = [threading.Thread(target=read, args=[place])]
if options.get("publishes", True): threads.append(threading.Thread(target=publish))
for thread in threads: thread.start()
while sys.stdin.readline().strip() == "hold":
    with reads, writes:
        say("held")
        sys.stdin.readline()
is_quiet.set()
for thread in threads[1:]: thread.join()
say("quiet")
sys.stdin.readline()
is_over.set()
threads[0].join()
say("end", str(log.tail("a")))
log.close()
"""


class Worker:
    """A process that publishes to channel ``a`` and reads it, and says what happens to it."""

    def __init__(self, name: str, path: Path, **options: object) -> None:
        self.name, self.path = name, path
        self.lines: list[list[str]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-c", ALONE + WORKER, name, str(path), json.dumps(options)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def said(self, what: str) -> list[list[str]]:
        return [line for line in list(self.lines) if line[0] == what]

    def goes_on(self, count: int = 30) -> None:
        """Wait until ``count`` more messages were acknowledged. A damaged file is moved away, as
        the error says: who cuts it while something is moved into it may leave half of that there.
        """
        before = len(self.said("ack"))

        def is_there() -> bool:
            last = self.lines[-1] if self.lines else [""]
            if last[0] == "refused" and "Move it away" in last[1] and self.path.exists():
                self.path.replace(side(self.path, ".damaged"))
            return len(self.said("ack")) >= before + count

        wait_until(is_there, f"{self.name} goes on", 3 * PATIENCE)

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()


def finish(workers: list[Worker]) -> None:
    """Let all stop publishing, then read to the end."""
    for worker in workers:
        worker.say("quiet")
    for worker in workers:
        wait_until(lambda worker=worker: worker.said("quiet"), f"{worker.name} is quiet")
    for worker in workers:
        worker.say("end")
    for worker in workers:
        wait_until(lambda worker=worker: worker.said("end"), f"{worker.name} ends")
        assert worker.process.wait(20) == 0
        worker._reader.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


Start = Callable[..., Worker]


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Starts a worker on the file."""
    started: list[Worker] = []

    def start_it(name: str, at: Path = path, **options: object) -> Worker:
        started.append(Worker(name, at, **options))
        return started[-1]

    yield start_it
    for worker in started:
        worker.process.kill()
        worker.process.wait()
        worker._reader.join()
        for pipe in (worker.process.stdin, worker.process.stdout):
            assert pipe is not None
            pipe.close()


def side(path: Path, suffix: str) -> Path:
    return Path(f"{path}{suffix}")


def remove(*suffixes: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        for suffix in suffixes:
            side(path, suffix).unlink(missing_ok=True)

    return damage


def cut(share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        size = side(path, "-wal").stat().st_size
        os.truncate(side(path, "-wal"), int(size * share))

    return damage


def write_over(path: Path) -> None:
    """As ``cp copy log.db`` does: into the same inode."""
    shutil.copyfile(side(path, ".copy"), path)


def replace(path: Path) -> None:
    """As ``mv copy log.db`` does, with the files of before beside it."""
    side(path, ".copy").replace(path)


def tidily(put_back: Callable[[Path], None]) -> Callable[[Path], None]:
    """As one does who takes away first what does not belong to the copy."""

    def damage(path: Path) -> None:
        remove("-wal", "-shm")(path)
        put_back(path)

    return damage


DAMAGES = {
    "without -wal": remove("-wal"),
    "without -shm": remove("-shm"),
    "without both": remove("-wal", "-shm"),
    "without the file": remove(""),
    "without any": remove("", "-wal", "-shm"),
    "-wal cut to nothing": cut(0),
    "-wal cut in half": cut(0.5),
    "a copy written over it": write_over,
    "a copy in its place": replace,
    "a copy written over it, the others deleted": tidily(write_over),
    "a copy in its place, the others deleted": tidily(replace),
}
AT_ONCE = {name: damage for name, damage in DAMAGES.items() if "written over" not in name}
"""What is done in a moment. Whatever a worker does while ``cp`` writes is between two files and may
be lost, as docs/deployment.md says: that is tested between two writes of the workers only."""

IN_ITS_PLACE = [damage for name, damage in DAMAGES.items() if "in its place" in name]


@pytest.mark.parametrize("damage", AT_ONCE.values(), ids=AT_ONCE)
@pytest.mark.parametrize("newcomer", [False, True], ids=["", "and a newcomer"])
def test_who_is_told_yes_is_read_by_all_though_files_vanish_in_part(
    path: Path, start: Start, damage: Callable[[Path], None], newcomer: bool
) -> None:
    with closing(SqliteLog(path)) as log:
        log.append("a", "first")
    workers = [start(name) for name in "xyz"]
    for worker in workers:
        worker.goes_on()
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(f"{path}.copy")) as copy:
        db.backup(copy)
    for worker in workers:
        worker.goes_on(5)
    if newcomer and damage in IN_ITS_PLACE:
        # Others have another file open: a newcomer cannot know what they have lost, and continues
        # the copy. So only those who have come further than that are told.
        copied = [len(worker.said("ack")) for worker in workers]
        for worker in workers:
            worker.goes_on(1)
            wait_until(lambda worker=worker: has_read(worker, workers, copied), "it reads on")
    damage(path)
    if newcomer:
        workers.append(start("new"))
    for worker in workers:
        worker.goes_on(40)
    late = start("late", publishes=False)
    wait_until(lambda: late.said("got"), "it reads")
    finish([*workers, late])
    for worker in workers:
        missed_nothing_unsaid(worker, workers)
    ends = {Position.parse(worker.said("end")[0][1]).epoch for worker in [*workers, late]}
    assert len(ends) == 1, "all are in one epoch"
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def has_read(reader: Worker, writers: list[Worker], since: list[int]) -> bool:
    """Whether it has read something that one of them published since they had been told that."""
    seen = {text for _, _, text in reader.said("got")}
    return any(
        text in seen
        for writer, count in zip(writers, since, strict=True)
        for _, _, text in writer.said("ack")[count:]
    )


def missed_nothing_unsaid(reader: Worker, writers: list[Worker]) -> None:
    """What was acknowledged since the reader came was read by it, or lies before a gap; and what
    was acknowledged last was read by it in any case."""
    seen = [text for _, _, text in reader.said("got")]
    came = Position.parse(reader.said("tail")[0][1])
    for writer in writers:
        said = [(Position.parse(place), text) for _, place, text in writer.said("ack")]
        told = {
            text
            for at, text in said
            if (at.epoch, at.offset) > (came.epoch, came.offset) and at.epoch == came.epoch
        } | {text for _, text in (said[-15:] if reader.name in "xyz" else said[-1:])}
        missed = told - set(seen)
        if missed:
            assert reader.said("gap"), f"{reader.name} missed {len(missed)} of {writer.name} unsaid"
        if not side(reader.path, ".damaged").exists():
            assert not missed & {text for _, text in said[-15:]}
    if not reader.said("gap"):
        twice = [line for line in reader.said("got") if seen.count(line[2]) > 1]
        assert not twice, f"{reader.name} got some twice"


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_an_accident_between_two_writes_costs_nothing_that_is_still_there(
    path: Path, start: Start, damage: Callable[[Path], None]
) -> None:
    # who has let go waits until the other has too, however long that is stopped
    workers = [start(name, pause=0.05, wait=PATIENCE) for name in "xy"]
    for worker in workers:
        worker.goes_on(5)
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(f"{path}.copy")) as copy:
        db.backup(copy)
    for worker in workers:
        worker.say("hold")
        wait_until(lambda worker=worker: worker.said("held"), f"{worker.name} does nothing")
    damage(path)
    for worker in workers:
        worker.say("go on")
    for worker in workers:
        worker.goes_on(20)
    finish(workers)
    for worker in workers:
        missed_nothing_unsaid(worker, workers)
        if damage in (DAMAGES[f"without {what}"] for what in ("-wal", "-shm", "both")):
            assert not worker.said("gap"), "all of it was still in the hands of the workers"
    assert not side(path, ".damaged").exists()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_what_others_may_do_to_the_file_is_not_taken_for_an_accident(
    path: Path, start: Start
) -> None:
    workers = [start(name, size=3000, pause=0.0005) for name in "xy"]
    for worker in workers:
        worker.goes_on()
    with closing(sqlite3.connect(path, isolation_level=None, timeout=PATIENCE)) as db:
        for n in range(10):
            for mode in ("TRUNCATE", "RESTART", "PASSIVE"):
                db.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
            if n % 5 == 0:
                db.execute("VACUUM")
            with closing(sqlite3.connect(f"{path}.copy")) as copy:
                db.backup(copy)
            with closing(sqlite3.connect(path, timeout=PATIENCE)) as other:
                other.execute("SELECT count(*) FROM messages").fetchone()
            for worker in workers:
                worker.goes_on(3)
            workers[n % 2].process.kill()
            workers[n % 2].process.wait()
            workers[n % 2] = start(f"{'xy'[n % 2]}{n}", size=3000, pause=0.0005)
            workers[n % 2].goes_on(3)
    finish(workers)
    places = [Position.parse(line[1]) for worker in workers for line in worker.said("ack")]
    assert len({place.epoch for place in places}) == 1
    with closing(SqliteLog(path)) as log:
        assert {place.epoch for place in places} == {log.tail("a").epoch}
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT past FROM life").fetchone() == ("",), "one life from the start"


# Disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False
    )
    assert mounted.returncode == 0, "this test mounts a small disk: it wants root"
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def held(log: SqliteLog, channel: str = "a") -> list[str]:
    page = log.read(channel, log.tail(channel, 10**9), limit=10**6, size=1 << 30)
    return [message.data for message in page.messages]


def test_a_disk_smaller_than_what_is_kept_holds_the_newest(disk: Path) -> None:
    with closing(SqliteLog(disk / "log.db")) as log:
        for n in range(2000):
            log.append("ab"[n % 2], f"{n}:" + "x" * (n % 9000))
        for n, channel in ((1998, "a"), (1999, "b")):
            last = [int(text.partition(":")[0]) for text in held(log, channel)]
            assert last == list(range(n - 2 * len(last) + 2, n + 2, 2)), "no hole"
            assert len(last) > 10
        log.check()


def test_a_disk_that_others_have_filled_refuses_and_goes_on_with_all_that_was_acknowledged(
    disk: Path,
) -> None:
    with closing(SqliteLog(disk / "log.db")) as log, closing(SqliteLog(disk / "log.db")) as other:
        told: list[str] = []
        log.follow("a", lambda channel, message: told.append(channel))
        sent = [str(n) for n in range(10)]
        for text in sent:
            log.append("a", text)
        fill(disk / "ballast")
        refused = []
        for n in range(50):
            text = f"{n}" * 500
            try:
                log.append("a", text)
                sent.append(text)
            except LogUnavailable as error:
                refused.append(str(error))
        assert refused
        assert all("disk is full" in text for text in refused)
        assert held(other) == sent, "reading goes on"
        with pytest.raises(LogUnavailable, match="disk is full"):
            log.check()
        (disk / "ballast").unlink()
        other.append("a", "after")
        assert held(log) == [*sent, "after"]
        wait_until(lambda: len(told) >= len(sent) + 1, "it is told")
        log.check()


def test_a_folder_that_may_only_be_read_refuses_and_goes_on_when_it_may_be_written(
    disk: Path,
) -> None:
    with closing(SqliteLog(disk / "log.db")) as log:
        first = log.append("a", "first").id
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with closing(SqliteLog(disk / "log.db")) as log:
        listener = Listener()
        log.follow("a", listener)
        counts = []
        for _ in range(30):
            with pytest.raises(LogUnavailable, match="Check"):
                log.append("a", "refused")
            with pytest.raises(LogUnavailable, match="Check"):
                log.check()
            counts.append(len(os.listdir("/proc/self/fd")))
        assert min(counts[10:]) <= max(counts[:10])  # the watch opens some now and then
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        second = log.append("a", "second").id
        assert (second.epoch, second.offset) == (first.epoch, 2)
        assert held(log) == ["first", "second"]
        assert listener.wait(), "who follows is told"


def fill(ballast: Path) -> None:
    """Write until nothing more goes in; the log may write at the same time."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * max(free(ballast.parent), 1))


def free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def test_refused_writes_to_a_file_that_may_only_be_read_leak_nothing(tmp_path: Path) -> None:
    code = """
import json, os, sys
from streaming.errors import LogUnavailable
from streaming.logs import SqliteLog
path = sys.argv[1]
warm = SqliteLog(path + ".warm")  # who is nobody cannot load modules everywhere
warm.append("a", "text"); warm.close()
os.setgid(65534); os.setuid(65534)
log = SqliteLog(path)
first = log.append("a", "first").id
reader, log = log, SqliteLog(path)
os.chmod(path, 0o444)
counts, told = [], set()
for _ in range(60):
    try: log.append("a", "refused"); told.add("accepted")
    except LogUnavailable as error:
        told.add("written" if "cannot be written" in str(error) else str(error))
    assert reader.tail("a") == first
    counts.append(len(os.listdir("/proc/self/fd")))
os.chmod(path, 0o644)
log.append("a", "second")
print(json.dumps([counts[5], counts[-1], sorted(told), reader.tail("a").offset]))
"""
    folder = Path("/tmp") / f"streaming-{os.getpid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    try:
        ran = subprocess.run(
            [sys.executable, "-c", code, folder / "log.db"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        shutil.rmtree(folder)
    assert ran.returncode == 0, ran.stderr
    early, late, told, offset = json.loads(ran.stdout)
    assert (late, told, offset) == (early, ["written"], 2)


def test_a_damaged_file_refuses_with_what_to_do_and_goes_on_once_it_is_moved(
    path: Path, start: Start
) -> None:
    workers = [start(name) for name in "xy"]
    for worker in workers:
        worker.goes_on()
    size = path.stat().st_size
    with path.open("r+b") as file:  # in place, as a bad disk does
        file.write(b"?" * size)
    for worker in workers:
        wait_until(
            lambda worker=worker: any("Move it away" in line[1] for line in worker.said("refused")),
            f"{worker.name} is refused",
        )
    late = start("late")
    path.replace(side(path, ".damaged"))
    for worker in [*workers, late]:
        worker.goes_on(40)
    finish([*workers, late])
    for worker in workers:
        missed_nothing_unsaid(worker, [*workers, late])


# The write-ahead log


def test_large_messages_in_a_hurry_do_not_let_the_log_beside_the_file_grow(
    path: Path, start: Start
) -> None:
    workers = [start(name, size=1_000_000, pause=0.001) for name in "xyz"]
    sizes = []

    def is_done() -> bool:
        if side(path, "-wal").exists():
            sizes.append(side(path, "-wal").stat().st_size)
        return all(len(worker.said("ack")) >= 80 for worker in workers)

    wait_until(is_done, "240 MB are written", 6 * PATIENCE)
    finish(workers)
    # most of the time: while the machine stops somebody who reads, nothing can be moved
    assert statistics.median(sizes) < 5 * LEFT_OVER


def test_a_foreign_reader_bounds_what_is_written_and_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "MOST", 4_000_000)
    code = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN"); print(db.execute("SELECT count(*) FROM messages").fetchone(), flush=True)
sys.stdin.readline(); db.execute("COMMIT")
"""
    with closing(SqliteLog(path)) as log:
        log.append("a", "text")
        command = [sys.executable, "-c", code, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"(1,)\n"
            sent, refused = 0, ""
            while not refused and sent < 50:
                try:
                    log.process.turns.write(writes(log), patience=0.2)
                    sent += 1
                except LogUnavailable as error:
                    refused = str(error)
            assert f"process {reader.pid}" in refused
            assert side(path, "-wal").stat().st_size < 6_000_000
            reader.communicate(b"go on\n")
        assert log.append("a", "text").id.offset == sent + 2
        for _ in range(9):
            log.append("a", "x" * 500_000)
        assert side(path, "-wal").stat().st_size < 6_000_000


def writes(log: SqliteLog) -> Callable[[sqlite3.Connection], object]:
    draft = Message("a", "x" * 500_000, Position("", 0), size=500_000)
    return lambda db: log._history.append(
        db, draft, log.process.writer.now(), lambda *_: None, last=False
    )


# Locks


def test_a_stopped_process_that_holds_the_file_is_named_in_time(path: Path) -> None:
    code = """
import os, signal, sys
from streaming.logs import SqliteLog
log = SqliteLog(sys.argv[1])
log.append("a", "first")
def stop(db):
    print("there", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
log.process.turns.write(stop)
print(log.append("a", "after").id.offset, flush=True)
"""
    command = [sys.executable, "-c", code, str(path)]
    with (
        closing(SqliteLog(path)) as log,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder,
    ):
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "there\n"
            wait_until(lambda: is_stopped(holder.pid), "it is stopped")
            for use in (lambda: log.append("a", "refused"), log.check):
                began = time.monotonic()
                with pytest.raises(LogUnavailable, match=f"process {holder.pid}, which is stopped"):
                    use()
                assert time.monotonic() - began < connection.PATIENCE + PATIENCE
            assert held(log) == ["first"], "reading goes on"
            holder.send_signal(signal.SIGCONT)
            assert holder.stdout.readline() in ("2\n", "3\n")
            assert log.append("a", "second").id.offset in (2, 3)
        finally:
            holder.kill()


# Limits of the process


def test_a_file_that_has_come_to_its_limit_refuses_and_keeps_what_was_acknowledged(
    path: Path,
) -> None:
    code = """
import json, os, resource, sys
from streaming.errors import LogUnavailable
from streaming.logs import SqliteLog
log, sent, told = SqliteLog(sys.argv[1]), [], []
log.append("a", "first")
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
def fill(most):
    for n in range(len(sent), len(sent) + most):
        try: sent.append(log.append("a", f"{n}" * 900).id.offset)
        except LogUnavailable as error: told.append(str(error))
fill(240)
before, refused, fds = len(sent), len(told), len(os.listdir("/proc/self/fd"))
fill(50)
assert len(os.listdir("/proc/self/fd")) <= fds
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
fill(50)
log.close()
print(json.dumps([before, refused, sorted(set(told))[0], sent, len(told)]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    before, refused, told, sent, _ = json.loads(ran.stdout)
    assert 0 < refused < 240
    assert "quota" in told
    assert len(sent) >= before + 50, "it goes on by itself"
    with closing(SqliteLog(path)) as log:
        offsets = {n: len(text) for n, text in enumerate(held(log), 1)}
        assert set(sent) <= set(offsets)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
