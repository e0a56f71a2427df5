"""streaming/web/worker.py: draining under a server that runs no hook when a worker is to stop."""

import threading
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from streaming import ConfigurationError, LogUnavailable, Member, drain_worker, watch_worker
from streaming.hub.runs import new_id
from streaming.logs import SqliteLog
from streaming.own import Alive
from streaming.web import state
from streaming.web import worker as draining
from tests.hub.test_runs import Gate
from tests.polling import PATIENCE, wait_until
from tests.sites import make_app, serve


@dataclass
class Config:
    """The part of gunicorn's configuration that is looked at."""

    workers: int = 1
    graceful_timeout: int = 10


@dataclass
class Worker:
    """The part of a gunicorn worker that is looked at."""

    alive: bool = True
    cfg: Config = field(default_factory=Config)


@pytest.fixture(autouse=True)
def only_apps_of_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "states", Alive())


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "streaming drain"]


def test_all_streams_end_properly_once_the_worker_is_to_stop() -> None:
    worker = Worker()
    with serve(make_app()) as one, serve(make_app()) as two:
        watch_worker(worker)
        with one.get("/streaming/events?channel=a") as client, two.json() as socket:
            assert client.next_event().event == "ready"  # type: ignore[union-attr]
            assert socket.ask(type="subscribe", channel="a")["type"] == "ready"
            assert not one.state.hub.closed.is_set()
            worker.alive = False
            assert [event.event for event in client.events()] == ["restart"]
            assert client.ending == "whole"
            opcode, frame = socket.socket.recv_data_frame(control_frame=True)
            assert (opcode, int.from_bytes(frame.data[:2])) == (8, 1012)


def test_the_watcher_is_a_daemon_that_goes_with_the_worker() -> None:
    worker = Worker()
    watch_worker(worker)
    (thread,) = watchers()
    assert thread.daemon
    worker.alive = False
    wait_until(lambda: not watchers(), "the watcher to go")


def test_a_worker_that_lives_drains_nothing() -> None:
    worker, looks = Worker(), threading.Event()

    class Counting(Worker):
        def __getattribute__(self, name: str) -> object:
            looks.set()
            return super().__getattribute__(name)

    app = make_app()
    worker = Counting()
    watch_worker(worker)
    for _ in range(2):
        looks.clear()
        assert looks.wait(PATIENCE)
    assert not app.extensions["streaming"].hub.closed.is_set()
    worker.alive = False
    wait_until(app.extensions["streaming"].hub.closed.is_set, "the drain")


def test_several_workers_with_a_log_in_memory_are_refused_and_told_what_to_set() -> None:
    app = make_app()
    with pytest.raises(ConfigurationError, match=r"3 workers .* STREAMING_LOG=memory:") as refused:
        watch_worker(Worker(cfg=Config(workers=3)))
    assert "sqlite:///" in str(refused.value)
    assert "redis://" in str(refused.value)
    assert not watchers()
    del app


def test_several_workers_may_share_a_file(tmp_path: Path) -> None:
    app = make_app(log=f"sqlite:///{tmp_path / 'log.db'}")
    worker = Worker(cfg=Config(workers=3))
    watch_worker(worker)
    worker.alive = False
    wait_until(lambda: not watchers(), "the watcher to go")
    app.extensions["streaming"].hub.log.close()


def test_at_its_exit_a_worker_lets_go_of_its_logs(tmp_path: Path) -> None:
    app = make_app(log=f"sqlite:///{tmp_path / 'log.db'}")
    log = app.extensions["streaming"].hub.log
    log.enter("room", Member("ann"))
    drain_worker()
    other = SqliteLog(tmp_path / "log.db")
    assert other.members("room") == []
    other.close()
    with pytest.raises(LogUnavailable):
        log.append("a", "text")


def test_at_its_exit_a_worker_waits_until_all_rooms_know_who_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "PATIENCE", PATIENCE)
    app = make_app(log=f"sqlite:///{tmp_path / 'log.db'}")
    presence = app.extensions["streaming"].presence
    for n in range(200):
        presence.join("room", str(n))
    drain_worker()
    with closing(SqliteLog(tmp_path / "log.db")) as other:
        start = other.tail("room:presence", 1000)
        told = other.read("room:presence", start, limit=1000, size=1 << 20).messages
        assert [message.event for message in told] == ["join"] * 200 + ["leave"] * 200
        assert other.beat() == []


class Unseen(Worker):
    """A worker whose watcher has not looked since it is to stop."""

    may_look = False

    def __getattribute__(self, name: str) -> object:
        if name == "alive" and threading.current_thread() in watchers() and not self.may_look:
            return True
        return super().__getattribute__(name)


def test_a_worker_that_ends_before_its_watcher_looked_lets_its_runs_come_to_their_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(draining, "_deadlines", {})
    app, gate, looks = make_app(), Gate(), []
    making = app.extensions["streaming"].runs.making
    app.extensions["streaming"].runs.start(gate, (), id=new_id(), context=nullcontext)

    def look() -> bool:
        looks.append(1)
        if len(looks) == 2:  # it waits
            gate.give("the end")
        return bool(making.made)

    monkeypatch.setattr(draining, "is_making", look)
    worker = Unseen(cfg=Config(graceful_timeout=600))
    watch_worker(worker)
    worker.alive = False
    drain_worker()
    assert making.ended() == {"done": 1}
    (until,) = draining._deadlines.values()
    worker.may_look = True
    wait_until(lambda: not watchers(), "the watcher to go")
    assert list(draining._deadlines.values()) == [until], "it counts from when it was seen first"
