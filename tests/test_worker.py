"""streaming/worker.py: draining under a server that runs no hook when a worker is to stop."""

import threading
import weakref
from dataclasses import dataclass

import pytest

from streaming import state, watch_worker
from tests.sites import make_app, serve, wait_until


@dataclass
class Worker:
    """The part of a gunicorn worker that is looked at."""

    alive: bool = True


@pytest.fixture(autouse=True)
def only_apps_of_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_states", weakref.WeakSet())


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
        assert looks.wait(5)
    assert not app.extensions["streaming"].hub.closed.is_set()
    worker.alive = False
    wait_until(app.extensions["streaming"].hub.closed.is_set, "the drain")
