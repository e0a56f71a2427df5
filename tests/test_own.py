"""streaming/own.py: what each process has of its own, and all that have it behind a fork."""

import gc
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask

from streaming import Member, Streaming
from streaming.hub import keeper
from streaming.hub.hub import Hub
from streaming.hub.presence import Presence
from streaming.logs import open_log
from streaming.own import Alive, Own
from tests.greenlets import ROOT, in_greenlets
from tests.homes import SHARED_URLS
from tests.polling import PATIENCE, wait_until
from tests.witness import seen_by, watching

LATE = """
import threading
from streaming.hub.hub import Hub
from streaming.logs import open_log
from streaming.hub.presence import Presence
hub = Hub(open_log("memory:"))
presence = Presence(hub)
hub.publish("a", "early")
presence.join("room", "early")
presence.leave("room", "early")
from gevent import monkey
monkey.patch_all()
import time
turns = []
def turn():
    while len(turns) < 100:
        time.sleep(0.001)
        turns.append(1)
other = threading.Thread(target=turn)
other.start()
presence.join("room", "late")
with hub.subscribe("a", history=1) as sub:
    assert [m.data for m in sub.take(20)] == ["early"]
    later = threading.Thread(target=lambda: hub.publish("a", "late"))
    later.start()
    assert [m.data for m in sub.take(20)] == ["late"]
assert [m.id for m in presence.members("room")] == ["late"]
assert not hub.closed.wait(0.1)
other.join(20)
assert len(turns) == 100
presence.leave("room", "late")
print("passed")
"""

LOCKS = """
import threading, time
from streaming.errors import LogUnavailable
from streaming.logs.followers import Followers
from streaming.logs.memory import MemoryLog
from streaming.logs.sqlite.files import Files
from streaming.web.health import Health
class Slow:
    def check(self):
        time.sleep(0.05)
        raise LogUnavailable("slow")
health = Health(Slow())
owns = [health._lock, MemoryLog()._lock, Followers()._lock, Files("/nowhere/log.db").lock]
from gevent import monkey
monkey.patch_all()
assert {type(own()) for own in owns} == {type(threading.Lock())}
refused = []
def check():
    try: health.check()
    except LogUnavailable: refused.append(1)
threads = [threading.Thread(target=check) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(refused) == 3
print("passed")
"""


def in_child(work: Callable[[], object]) -> int:
    """Do this in a forked child; its exit code, 0 if it went well."""
    pid = os.fork()
    if pid == 0:  # no pytest in here: leave by _exit, whatever happens
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            os.write(2, f"in the child: {error!r}\n".encode())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_first_use_makes_it_and_all_others_get_the_same() -> None:
    made: list[object] = []
    own = Own(lambda: made.append(object()) or made[-1])
    assert made == []
    assert own() is own() is made[0]
    assert len(made) == 1


def test_threads_that_come_first_together_get_the_same() -> None:
    gate = threading.Barrier(8)

    def make() -> object:
        gate.wait(PATIENCE)
        return object()

    own: Own[object] = Own(make)
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(own())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [own()] * 8


def test_a_forked_child_makes_another_and_its_parent_keeps_its_own() -> None:
    own: Own[object] = Own(object)
    mine = own()

    def look() -> None:
        assert own() is not mine
        assert own() is own()

    assert in_child(look) == 0
    assert own() is mine


@pytest.mark.parametrize("code", [LATE, LOCKS], ids=["a hub", "locks"])
def test_what_was_made_before_threads_became_greenlets_holds_up_nobody(code: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (child.stdout, child.stderr) == ("passed\n", "")


def fork_in_use(home: str) -> None:
    """A process that follows, publishes and has a member, and its child that does the same."""
    with (
        tempfile.TemporaryDirectory() as folder,
        SHARED_URLS[home](Path(folder)) as url,
        closing(open_log(url)) as log,
        watching(Hub(log)) as witness,
    ):
        hub = witness.hub
        presence = Presence(hub)
        presence.join("room", "parent")
        hub.publish("a", "before")
        seen_by(witness, "before")

        def listed() -> list[str]:
            return [member.id for member in presence.members("room")]

        def work() -> None:
            with watching(hub) as own:
                hub.publish("a", "from the child")
                seen_by(own, "from the child")
            presence.join("room", "child")
            assert listed() == ["parent", "child"]
            assert len(presence) == 1
            presence.close()
            wait_until(lambda: presence.is_idle, "the child's member has left")
            assert listed() == ["parent"]
            log.close()

        assert in_child(work) == 0
        seen_by(witness, "from the child")
        hub.publish("a", "after")
        seen_by(witness, "after")
        assert witness.texts == ["before", "from the child", "after"]
        assert (listed(), witness.gaps) == (["parent"], [])
        presence.leave("room", "parent")


@pytest.mark.parametrize("home", SHARED_URLS)
def test_a_forked_child_does_everything_and_its_parent_goes_on(home: str) -> None:
    fork_in_use(home)


@pytest.mark.parametrize("home", SHARED_URLS)
@in_greenlets
def test_a_child_forked_among_greenlets_does_everything_and_its_parent_goes_on(home: str) -> None:
    fork_in_use(home)


@pytest.mark.parametrize("home", SHARED_URLS)
def test_a_child_that_ends_takes_out_nobody_elses_members(home: str, tmp_path: Path) -> None:
    with SHARED_URLS[home](tmp_path) as url, closing(open_log(url)) as log:
        log.enter("room", Member("parent"))

        def work() -> None:
            log.enter("room", Member("child"))
            log.close()

        assert in_child(work) == 0
        assert [member.id for member in log.members("room")] == ["parent"]


@in_greenlets
def test_a_child_forked_among_greenlets_does_not_end_its_parents_runs() -> None:
    keeper.LOOK = 0.01
    with tempfile.TemporaryDirectory() as folder:
        app = Flask("app")
        app.config["STREAMING_LOG"] = f"sqlite:///{folder}/log.db"
        streaming, goes_on = Streaming(app), threading.Event()

        def produce() -> Iterator[str]:
            goes_on.wait(PATIENCE)
            yield "all of it"

        def look_on() -> None:
            for _ in range(100):
                time.sleep(0.01)

        with app.app_context():
            run = streaming.run(produce, on_disconnect=0.2)
            with streaming.subscribe(run.channel):
                (made,) = app.extensions["streaming"].runs.making.made.values()
                wait_until(lambda: made.lonely < time.monotonic(), "it is seen that somebody reads")
                assert in_child(look_on) == 0
                goes_on.set()
                answer = wait_until(lambda: run.answer().is_over and run.answer(), "it is made")
            assert (answer.state, answer.text) == ("done", "all of it")
            state = app.extensions["streaming"]
            state.close()
            wait_until(lambda: not state.runs.making.made and state.presence.is_idle, "all is over")
            state.hub.log.close()


def test_whoever_goes_through_what_is_alive_is_not_disturbed_by_those_who_come() -> None:
    class One:
        """Something that lets another come while it is looked at."""

    alive: Alive[One] = Alive()
    kept = [One() for _ in range(3)]
    for one in kept:
        alive.add(one)
    for number, one in enumerate(alive):
        assert one in kept
        other = One()
        thread = threading.Thread(target=alive.add, args=[other])
        thread.start()
        thread.join(PATIENCE)
        kept.append(other)
        assert len(list(alive)) == 4 + number
    del kept[:], one, other
    gc.collect()
    assert list(alive) == []
