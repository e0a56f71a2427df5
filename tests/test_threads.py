"""streaming/threads.py: threads of the operating system beside greenlets use all that these do."""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from streaming import InvalidMessage, LogUnavailable, Streaming, current_run, threads
from streaming.hub.hub import Hub
from streaming.hub.presence import Presence
from streaming.logs import Log, Retention
from tests.broken_log import BrokenLog
from tests.greenlets import in_greenlets
from tests.homes import HOMES
from tests.polling import PATIENCE, wait_until
from tests.test_own import in_child
from tests.witness import seen_by, watching

MANY = 200


def pool() -> Any:
    """gevent's own threads."""
    import gevent

    return gevent.get_hub().threadpool


def native(work: Callable[[], object]) -> Callable[[], None]:
    """Start a thread as a C extension does; what is returned waits for it as a greenlet does."""
    from gevent import monkey

    over: list[BaseException | None] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            over.append(error)
        else:
            over.append(None)

    monkey.get_original("_thread", "start_new_thread")(run, ())

    def join() -> None:
        wait_until(lambda: over, "the thread is done")
        if over[0] is not None:
            raise over[0]

    return join


@contextmanager
def opened(home: str) -> Iterator[Log]:
    with tempfile.TemporaryDirectory() as folder, HOMES[home](Path(folder)) as open_empty:
        yield open_empty(Retention())


def test_where_threads_are_threads_all_is_done_in_the_callers() -> None:
    here: list[int] = []
    look = threads.from_any_thread(lambda: here.append(threading.get_native_id()))
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert here == [thread.native_id]
    assert not threads.are_greenlets()
    assert not threads.is_here()
    assert not threads.is_elsewhere()


@in_greenlets
def test_a_thread_of_the_system_is_told_from_a_greenlet() -> None:
    def look() -> tuple[bool, bool, bool]:
        return threads.are_greenlets(), threads.is_here(), threads.is_elsewhere()

    assert look() == (True, True, False)
    assert pool().apply(look) == (True, False, True)
    assert pool().apply(threads.from_any_thread(look)) == (True, True, False)
    seen: list[object] = []
    other = threading.Thread(target=lambda: seen.append(look()))
    other.start()
    other.join()
    assert seen == [(True, True, False)]


@pytest.mark.parametrize("home", HOMES)
@in_greenlets
def test_threads_of_a_pool_publish_beside_greenlets_and_nothing_is_lost(home: str) -> None:
    with opened(home) as log, watching(Hub(log)) as witness:
        hub = witness.hub

        def publish(name: str, n: int) -> None:
            assert hub.publish("a", f"{name}:{n}").data == f"{name}:{n}"

        def publish_all(name: str) -> None:
            for n in range(MANY // 4):
                publish(name, n)

        greenlets = [threading.Thread(target=publish_all, args=(f"greenlet {g}",)) for g in "abcd"]
        for greenlet in greenlets:
            greenlet.start()
        jobs = [pool().spawn(publish_all, f"pool {p}") for p in "abcd"]
        joins = [native(lambda s=s: publish_all(f"native {s}")) for s in "ab"]
        for join in joins:
            join()
        for job in jobs:
            job.get(timeout=PATIENCE)
        for greenlet in greenlets:
            greenlet.join()
        names = [f"greenlet {g}" for g in "abcd"] + [f"pool {p}" for p in "abcd"]
        names += [f"native {s}" for s in "ab"]
        wait_until(lambda: len(witness.texts) >= len(names) * MANY // 4, "all has arrived")
        for name in names:
            own = [text for text in witness.texts if text.startswith(f"{name}:")]
            assert own == [f"{name}:{n}" for n in range(MANY // 4)]
        assert witness.gaps == []


@pytest.mark.parametrize("home", HOMES)
@in_greenlets
def test_a_thread_of_a_pool_may_do_all_that_a_greenlet_may(home: str) -> None:
    with opened(home) as log:
        hub = Hub(log)
        presence = Presence(hub)

        def work() -> list[str]:
            with hub.subscribe(["a", "room:presence"]) as sub:
                presence.join("room", "ann", "somebody")
                assert [m.id for m in presence.members("room")] == ["ann"]
                assert "somebody" in presence.roster("room").page()
                hub.publish("a", "text", key="k")
                assert hub.publish("a", "text", key="k").id.offset == 1
                seen: list[str] = []
                while len(seen) < 2:
                    seen += [item.event for item in sub.take(PATIENCE)]  # type: ignore[union-attr]
                presence.leave("room", "ann")
                while len(seen) < 3:
                    seen += [item.event for item in sub.take(PATIENCE)]  # type: ignore[union-attr]
                assert sub.take(0.01) == []
            log.check()
            page = log.read("a", log.tail("a", 5), limit=5, size=1000)
            assert [message.data for message in page.messages] == ["text"]
            hub.close()
            presence.close()
            assert hub.closed.is_set()
            log.close()
            return sorted(seen)

        for _ in range(2):
            hub.log.tail("a")  # a greenlet has used it
        job = pool().spawn(work)
        assert job.get(timeout=PATIENCE) == ["join", "leave", "message"]


@in_greenlets
def test_what_is_raised_reaches_the_thread_that_called() -> None:
    log = BrokenLog()
    log.tail("a")
    with pytest.raises(InvalidMessage, match="channel"):
        native(lambda: Hub(log).publish("no channel", "text"))()
    log.broken = {"tail"}
    with pytest.raises(LogUnavailable, match="away"):
        native(lambda: log.tail("a"))()


@in_greenlets
def test_a_thread_is_refused_in_time_if_the_greenlets_are_held_up() -> None:
    from gevent import monkey

    stand_still = monkey.get_original("time", "sleep")
    threads.BEGIN = 0.2
    with opened("memory") as log:
        hub = Hub(log)
        first = hub.publish("a", "first")
        refused: list[LogUnavailable] = []

        def publish() -> None:
            try:
                hub.publish("a", "never")
            except LogUnavailable as error:
                refused.append(error)

        join = native(publish)
        until = time.monotonic() + PATIENCE
        while not refused and time.monotonic() < until:
            stand_still(0.01)  # and no greenlet has a turn
        assert "held up" in str(refused[0])
        assert "nothing was done" in str(refused[0])
        join()
        threads.BEGIN = PATIENCE
        assert log.tail("a") == first.id
        pool().apply(hub.publish, ("a", "goes on"))
        assert log.tail("a").offset == 2


@in_greenlets
def test_a_thread_waits_for_a_bounded_time_only() -> None:
    threads.LIMIT = 0.1
    threads.note_greenlets()
    is_over = threading.Event()
    with pytest.raises(LogUnavailable, match="may be done all the same"):
        native(threads.from_any_thread(is_over.wait))()
    is_over.set()


@in_greenlets
def test_a_thread_that_comes_before_all_greenlets_is_told_what_to_do() -> None:
    hub = Hub(BrokenLog())
    with pytest.raises(LogUnavailable, match="no greenlet of this process has used streaming"):
        native(lambda: hub.publish("a", "text"))()
    hub.publish("a", "text")
    assert pool().apply(hub.publish, ("a", "text")).id.offset == 2


@in_greenlets
def test_an_application_that_is_set_up_in_a_greenlet_may_be_used_by_a_thread_first() -> None:
    app = Flask("app")
    app.testing = True
    streaming = Streaming(app)

    def publish() -> None:
        with app.app_context():
            assert streaming.publish("a", "text").id.offset == 1

    native(publish)()


@in_greenlets
def test_a_thread_may_begin_a_run_and_work_for_one() -> None:
    app = Flask("app")
    app.testing = True
    streaming = Streaming(app)

    def produce(word: str) -> None:
        run = current_run()
        native(lambda: run.say(word))()
        native(lambda: run.wait(0.01))()

    def begin() -> None:
        with app.app_context():
            run = streaming.run(produce, "said")
            answer = wait_until(lambda: run.answer().is_over and run.answer(), "it is made")
            assert (answer.state, answer.text) == ("done", "said")
            assert [one.id for one in streaming.runs()] == [run.id]
            assert run.stop().state == "done"

    native(begin)()


@in_greenlets
def test_a_forked_child_has_greenlets_of_its_own_to_ask() -> None:
    with opened("memory") as log, watching(Hub(log)) as witness:
        hub = witness.hub
        native(lambda: hub.publish("a", "parent"))()  # gevent's pool may hang in a child
        seen_by(witness, "parent")

        def work() -> None:
            hub.publish("a", "greenlet")
            native(lambda: hub.publish("a", "thread"))()
            assert log.tail("a").offset == 3

        assert in_child(work) == 0
        assert witness.texts == ["parent"]
        assert os.getpid() == threading.get_native_id()
