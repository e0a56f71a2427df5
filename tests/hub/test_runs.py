"""streaming/hub/runs.py: answers that are made outside any request."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from streaming.errors import HubClosed, LogUnavailable, RunStopped, TooManyRuns, UnknownRun
from streaming.hub import keeper, making
from streaming.hub.generation import SLICE, Generation, Phase, current_run
from streaming.hub.hub import Hub
from streaming.hub.making import PREFIX
from streaming.hub.parts import Answer, Part
from streaming.hub.presence import Presence
from streaming.hub.runs import Runs, id_of_key, new_id
from streaming.logs import Heard, MemoryLog, Retention
from streaming.message import Gap, Message, Position
from streaming.names import END
from tests.broken_log import BrokenLog
from tests.greenlets import in_greenlets, is_green, run_file
from tests.homes import HOMES
from tests.polling import PATIENCE, wait_until
from tests.shortage import no_thread


class Engine:
    """The runs of one log, as one process has them."""

    def __init__(self, log: Any, most: int = 10) -> None:
        self.hub = Hub(log)
        self.presence = Presence(self.hub)
        self.closed: list[object] = []
        self.runs = Runs(self.hub, self.presence, most=most, hang_up=self.hang_up)
        self.hub.watch(PREFIX, self.runs.note_reader)

    def hang_up(self, upstream: Any) -> None:
        self.closed.append(upstream)
        upstream.close()

    def start(self, producer: Any, *args: Any, id: str | None = None, **how: Any) -> str:
        id = id or new_id()
        self.runs.start(producer, args, id=id, context=nullcontext, **how)
        return id

    def wait(self, id: str, state: str = "done") -> Answer:
        """The run once it is over."""

        def is_over() -> Answer | None:
            answer = self.runs.answer(id)
            return answer if answer.is_over else None

        answer = wait_until(is_over, f"{id} is over")
        assert answer.state == state, answer
        return answer

    def stop(self) -> None:
        self.runs.making.close()
        self.hub.close()
        self.runs.making.interrupt()
        self.presence.close()
        wait_until(lambda: self.runs.making.made == {}, "no run is made any more")
        wait_until(lambda: self.presence.is_idle, "all members have left")


Engines = Callable[..., Engine]


@pytest.fixture(params=HOMES)
def engines(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Engines]:
    """Makes engines on empty logs, one home after the other."""
    monkeypatch.setattr(keeper, "LOOK", 0.02)
    made: list[Engine] = []
    with HOMES[request.param](tmp_path) as open_log, ExitStack() as stack:

        def make(**how: Any) -> Engine:
            made.append(Engine(open_log(Retention(messages=100_000, size=1 << 26)), **how))
            stack.callback(made[-1].stop)
            return made[-1]

        yield make


@pytest.fixture
def engine(engines: Engines) -> Engine:
    return engines()


class Gate:
    """An upstream that gives a piece when the test says so, and ends when it is closed."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._turn = threading.Condition()
        self.is_closed = False
        self.given = 0

    def give(self, *pieces: str) -> None:
        with self._turn:
            self._pieces.extend(pieces)
            self._turn.notify_all()

    def __iter__(self) -> Iterator[str]:
        while True:
            with self._turn:
                until = time.monotonic() + PATIENCE
                while not self._pieces and not self.is_closed:
                    assert time.monotonic() < until
                    self._turn.wait(1.0)
                if self.is_closed:
                    raise ConnectionError("closed")
                piece = self._pieces.pop(0)
            self.given += 1
            if piece == "the end":
                return
            yield piece

    def close(self) -> None:
        with self._turn:
            self.is_closed = True
            self._turn.notify_all()


def test_what_a_producer_says_is_there_for_all_who_ask(engine: Engine) -> None:
    def answer(name: str, count: int) -> Iterator[str | bytes | Part]:
        yield f"hello {name} "
        yield "你".encode()[:2]
        yield "你".encode()[2:]
        yield Part("reasoning", "hm")
        for n in range(count):
            yield Part("data", {"n": n})
        yield "bye"

    id = engine.start(answer, "Ada", 3)
    found = engine.wait(id)
    assert found.text == "hello Ada 你bye"
    assert [part.kind for part in found.parts] == ["text", "reasoning", *["data"] * 3, "text"]
    assert found.started <= (found.ended or "")
    texts = [item.data for item in engine.runs.messages(id) if item.event == "text"]  # type: ignore[union-attr]
    assert "".join(texts) == found.text
    (listed,) = engine.runs.kept(10)
    assert (listed.id, listed.state, listed.parts) == (id, "done", [])


@pytest.mark.parametrize(
    ("producer", "text"),
    [
        (lambda: "all at once", "all at once"),
        (lambda: None, ""),
        (lambda: ["a", "b"], "ab"),
        (["a", b"b"], "ab"),
        (lambda: current_run().say("spoken"), "spoken"),
    ],
    ids=["text", "nothing", "list", "iterable", "a function that speaks"],
)
def test_a_producer_may_be_any_function_or_iterable(
    engine: Engine, producer: Any, text: str
) -> None:
    assert engine.wait(engine.start(producer)).text == text


def test_who_reads_along_gets_all_of_it_once_wherever_it_begins(engine: Engine) -> None:
    gate = Gate()
    id = engine.start(gate)
    found: dict[int, list[Message | Gap]] = {}

    def read(n: int) -> None:
        found[n] = list(engine.runs.messages(id))

    readers = []
    for n in range(5):
        readers.append(threading.Thread(target=read, args=(n,)))
        readers[-1].start()
        gate.give(f"{n} ")
    gate.give("the end")
    for reader in readers:
        reader.join(PATIENCE)
    for items in found.values():
        assert "".join(i.data for i in items if i.event == "text") == "0 1 2 3 4 "  # type: ignore[union-attr]
        assert items[-1].event == "end"  # type: ignore[union-attr]
    ids = [str(item.id) for item in found[0]]  # type: ignore[union-attr]
    for cut, id_ in enumerate(ids):
        rest = list(engine.runs.messages(id, id_))
        assert [str(item.id) for item in rest] == ids[cut + 1 :]  # type: ignore[union-attr]


def test_pieces_that_come_in_a_hurry_are_written_together(engine: Engine) -> None:
    id = engine.start(lambda: (f"{n} " for n in range(5000)))
    assert engine.wait(id).text == "".join(f"{n} " for n in range(5000))
    assert len(list(engine.runs.messages(id))) < 1000


def test_a_long_piece_is_written_in_several_messages_and_no_character_is_cut(
    engine: Engine,
) -> None:
    text = "你好😀" * SLICE
    id = engine.start([text])
    assert engine.wait(id).text == text
    assert len(list(engine.runs.messages(id))) >= 5


def test_a_stop_keeps_what_was_said_and_closes_what_is_read_from(engine: Engine) -> None:
    gate = Gate()
    id = engine.start(gate)
    gate.give("one ")
    wait_until(lambda: engine.runs.answer(id).text == "one ", "the first piece")
    answer = engine.runs.stop(id)
    assert (answer.state, answer.text) == ("stopped", "one ")
    wait_until(lambda: gate.is_closed, "the upstream is closed")
    wait_until(lambda: engine.runs.making.made == {}, "nothing is made")
    assert engine.runs.stop(id).state == "stopped"
    assert engine.closed == [gate]


def test_a_stop_between_the_first_message_and_the_first_look_is_noticed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = engine.hub.log.follow

    def stop_and_follow(channel: str, heard: Heard) -> None:
        engine.runs.stop(channel.removeprefix(PREFIX))  # it is known by its key already
        follow(channel, heard)

    monkeypatch.setattr(engine.hub.log, "follow", stop_and_follow)
    id = engine.start(Gate())
    wait_until(lambda: engine.runs.making.made == {}, "its maker has noticed", PATIENCE / 2)
    assert engine.wait(id, "stopped").text == ""


def test_a_generator_is_closed_at_its_next_piece(engine: Engine) -> None:
    gate, closed = Gate(), threading.Event()

    def answer() -> Iterator[str]:
        try:
            yield from gate
        finally:
            closed.set()

    id = engine.start(answer)
    gate.give("one")
    wait_until(lambda: engine.runs.answer(id).text == "one", "the first piece")
    engine.runs.stop(id)
    wait_until(lambda: engine.runs.making.made == {}, "its maker knows")
    assert not closed.is_set()
    gate.give("two")
    assert closed.wait(PATIENCE)
    assert engine.wait(id, "stopped").text == "one"


def test_a_function_can_ask_whether_it_is_stopped_or_wait_for_it(engine: Engine) -> None:
    seen: list[object] = []

    def answer() -> None:
        run = current_run()
        run.say("one")
        seen.append(run.is_stopped)
        seen.append(run.wait(PATIENCE))
        seen.append(run.is_stopped)
        with pytest.raises(RunStopped):
            run.say("two")
        seen.append("refused")

    id = engine.start(answer)
    wait_until(lambda: engine.runs.answer(id).text == "one", "the first piece")
    engine.runs.stop(id)
    wait_until(lambda: len(seen) == 4, "the function ends")
    assert seen == [False, True, True, "refused"]


def test_an_upstream_inside_a_generator_is_closed_while_it_is_waited_for(engine: Engine) -> None:
    gate, ended = Gate(), threading.Event()

    def answer() -> Iterator[str]:
        try:
            yield from current_run().closes(gate)
        finally:
            ended.set()

    id = engine.start(answer)
    gate.give("one")
    wait_until(lambda: engine.runs.answer(id).text == "one", "the first piece")
    engine.runs.stop(id)
    assert ended.wait(PATIENCE)
    assert engine.runs.answer(id).state == "stopped", "what breaks then is no failure"


class Handing:
    """A lock behind which an upstream is handed over each time, once the run is over."""

    def __init__(self, work: Generation) -> None:
        self.given: list[Gate] = []
        self._work, self._lock, self._is_giving = work, threading.Lock(), False

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if self._work.phase is Phase.OVER and not self._is_giving:
            self._is_giving = True
            self.given.append(self._work.closes(Gate()))
            self._is_giving = False


def test_an_upstream_that_is_handed_over_while_its_run_ends_is_closed(engine: Engine) -> None:
    def answer() -> None:
        current_run().wait(PATIENCE)

    id = engine.start(answer)
    work = engine.runs.making.made[id].work
    handing = Handing(work)
    work._lock = handing  # type: ignore[assignment]
    engine.runs.stop(id)
    wait_until(lambda: engine.runs.making.made == {}, "its maker knows")
    assert len(handing.given) >= 2
    wait_until(lambda: all(gate.is_closed for gate in handing.given), "all are closed", 5)


class Refusal(Exception):
    def __init__(self, status: int, after: str | None = None) -> None:
        super().__init__("secret words of theirs")
        self.status_code = status
        self.response = type("R", (), {"headers": {"Retry-After": after} if after else {}})()


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ValueError("secret"), {"status": 500}),
        (Refusal(401), {"status": 502}),
        (Refusal(429, "7"), {"status": 429, "retry_after": "7"}),
        (Refusal(503), {"status": 503}),
    ],
)
def test_a_failure_is_told_in_our_words(
    engine: Engine, error: Exception, failure: dict[str, Any]
) -> None:
    def answer() -> Iterator[str]:
        yield "one"
        raise error

    found = engine.wait(engine.start(answer), "failed")
    assert found.failure == failure
    assert found.text == "one"
    assert "secret" not in str(found.describe())


def test_something_that_is_no_piece_fails_the_run(engine: Engine) -> None:
    assert engine.wait(engine.start([5]), "failed").text == ""


@pytest.mark.parametrize(
    ("producer", "args"),
    [
        (5, ()),
        ({"a": 1}, ()),
        (b"bytes", ()),
        (["a"], ("argument",)),
        (lambda question: question, ()),
    ],
)
def test_what_is_no_producer_is_refused_where_it_is_given(
    engine: Engine, producer: Any, args: tuple[Any, ...]
) -> None:
    with pytest.raises(TypeError):
        engine.start(producer, *args)
    assert engine.runs.making.made == {}


def test_of_many_who_begin_the_same_run_one_makes_it(engine: Engine) -> None:
    made, id = [], id_of_key("key", "secret")

    def answer() -> str:
        made.append(1)
        return "once"

    barrier, begun = threading.Barrier(10), []

    def begin() -> None:
        barrier.wait()
        begun.append(engine.runs.start(answer, (), id=id, context=nullcontext))

    threads = [threading.Thread(target=begin) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert engine.wait(id).text == "once"
    assert (sum(begun), len(begun), made) == (1, 10, [1])
    assert not engine.runs.start(answer, (), id=id, context=nullcontext), "and later"
    assert made == [1]


def test_more_than_may_work_wait_for_their_turn_and_more_than_that_are_refused(
    engines: Engines,
) -> None:
    engine = engines(most=2)
    gates = [Gate() for _ in range(4)]
    ids = [engine.start(gate) for gate in gates]
    assert [engine.runs.answer(id).state for id in ids] == [*["running"] * 2, *["queued"] * 2]
    with pytest.raises(TooManyRuns):
        engine.start(Gate())
    engine.runs.stop(ids[2])
    gates[0].give("a", "the end")
    assert engine.wait(ids[0]).text == "a"
    wait_until(lambda: engine.runs.answer(ids[3]).state == "running", "its turn has come")
    assert engine.wait(ids[2], "stopped").text == ""
    for n in (1, 3):
        gates[n].give("b", "the end")
        assert engine.wait(ids[n]).text == "b"


def test_a_run_goes_on_alone_unless_it_is_not_to(engine: Engine) -> None:
    gates = {how: Gate() for how in ("continue", "cancel", 0.05)}
    ids = {how: engine.start(gate, on_disconnect=how) for how, gate in gates.items()}
    for how, gate in gates.items():
        gate.give("one")
        reader = engine.runs.messages(ids[how])
        while next(reader).event != "text":  # type: ignore[union-attr]
            pass
        wait_until(lambda how=how: _has_been_seen(engine, ids[how]), "its reader was seen")
        reader.close()  # type: ignore[attr-defined]
    for how in ("cancel", 0.05):
        assert engine.wait(ids[how], "stopped").detail == "Nobody listened."  # type: ignore[index]
        wait_until(lambda how=how: gates[how].is_closed, "the upstream is closed")  # type: ignore[index]
    gates["continue"].give("two", "the end")
    assert engine.wait(ids["continue"]).text == "onetwo"


def _has_been_seen(engine: Engine, id: str) -> bool:
    made = engine.runs.making.made[id]
    return made.patience is None or made.lonely <= time.monotonic()


def test_a_run_that_nobody_ever_listened_to_has_time_for_its_first_reader(engine: Engine) -> None:
    gate = Gate()
    id = engine.start(gate, on_disconnect="cancel")
    made = engine.runs.making.made[id]
    assert made.lonely > time.monotonic() + making.FIRST / 2
    made.lonely = 0.0  # as if the time were over
    assert engine.wait(id, "stopped").text == ""


def test_a_run_whose_process_has_died_is_interrupted_for_who_asks_and_who_reads(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    id = engine.start(gate)
    gate.give("one")
    wait_until(lambda: engine.runs.answer(id).text == "one", "the first piece")
    other = Engine(engine.hub.log)
    reader: list[Message | Gap] = []
    thread = threading.Thread(target=lambda: reader.extend(other.runs.messages(id)))
    thread.start()
    wait_until(lambda: other.presence, "it holds a place among the readers")
    made = engine.runs.making.made[id]
    engine.presence.release(making.MADE, made.seat)  # as its beat would
    thread.join(PATIENCE)
    assert [item.event for item in reader if isinstance(item, Message)] == ["start", "text", "end"]
    assert other.runs.answer(id).state == "interrupted"
    wait_until(lambda: gate.is_closed, "and whoever made it after all makes it no more")
    other.stop()


def test_nothing_begins_in_a_process_that_is_about_to_stop(engine: Engine) -> None:
    engine.runs.making.close()
    with pytest.raises(HubClosed):
        engine.start(["a"])


@pytest.mark.parametrize("id", ["0" * 32, "never"])
def test_an_unknown_run_is_unknown(engine: Engine, id: str) -> None:
    for use in (engine.runs.answer, engine.runs.stop):
        with pytest.raises(UnknownRun):
            use(id)
    with pytest.raises(UnknownRun):
        engine.runs.is_read(id, Position("e", 1))


def test_an_answer_that_was_pruned_with_its_end_is_no_longer_kept(engine: Engine) -> None:
    id = engine.start(lambda: iter(["text"]))
    engine.wait(id)
    assert engine.hub.prune(PREFIX + id)
    for ask in (engine.runs.answer, engine.runs.stop):
        with pytest.raises(UnknownRun):
            ask(id)
    assert engine.runs.kept(10) == []


def test_ids_are_not_guessed_and_those_of_keys_depend_on_the_secret() -> None:
    assert len({new_id() for _ in range(100)}) == 100
    assert id_of_key("a", "s") == id_of_key("a", b"s") != id_of_key("a", "t")
    assert id_of_key("a", "") != id_of_key("b", "")
    assert len(id_of_key("a" * 1000, "s" * 1000)) == 32


class Away(MemoryLog):
    """A log that fails while the test says so, before or behind what it did."""

    def __init__(self) -> None:
        super().__init__()
        self.before = self.behind = 0

    def append(self, channel: str, data: str, **how: Any) -> Message:
        if self.before:
            self.before -= 1
            raise LogUnavailable("away")
        message = super().append(channel, data, **how)
        if self.behind and how.get("event") != "start":
            self.behind -= 1
            raise LogUnavailable("It may be stored.")
        return message


@pytest.mark.parametrize("kind", ["before", "behind"])
def test_a_log_that_is_away_delays_a_run_and_neither_loses_nor_doubles_a_piece(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LOOK", 0.02)
    log = Away()
    engine = Engine(log)

    def answer() -> Iterator[str]:
        for n in range(20):
            setattr(log, kind, 2)
            yield f"{n} "
            with suppress(AssertionError):
                wait_until(lambda: not getattr(log, kind), "it was tried", 0.05)

    id = engine.start(answer)
    assert engine.wait(id).text == "".join(f"{n} " for n in range(20))
    assert log.channels(PREFIX) == [PREFIX + id]
    engine.stop()


def test_a_stop_that_was_heard_counts_also_if_the_log_is_away_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "LOOK", 0.02)
    log, gate = BrokenLog(), Gate()
    engine = Engine(log)
    id = engine.start(gate)
    gate.give("one")
    wait_until(lambda: engine.runs.answer(id).text == "one", "the first piece")
    asked = len(log.calls)
    log.broken = {"tail"}
    log.append(PREFIX + id, "{}", event=END, last=True)
    wait_until(lambda: f"tail:{PREFIX}{id}" in log.calls[asked:], "its maker has heard it")
    log.broken = set()
    wait_until(lambda: gate.is_closed, "the upstream is closed, though silent", PATIENCE / 2)
    engine.stop()


def test_a_producer_that_is_faster_than_the_log_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "LOOK", 0.02)
    log, said = Away(), []
    engine = Engine(log)

    def answer() -> Iterator[str]:
        log.before = 10**6
        for n in range(200):
            said.append(n)
            yield "x" * 1000

    id = engine.start(answer)
    wait_until(lambda: len(said) > 60, "it has said what may wait")
    before = len(said)
    assert before < 80
    log.before = 0
    assert len(engine.wait(id).text) == 200_000
    engine.stop()


@pytest.mark.parametrize("name", ["streaming runs", "run 0"])
def test_a_run_for_which_there_is_no_thread_fails_and_keeps_no_place(
    engines: Engines, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    engine, start = engines(most=1), threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith(name):
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        id = engine.start(["never"], id="0" * 32)
    assert engine.wait(id, "failed").text == ""
    assert engine.wait(engine.start(["now"])).text == "now"


def test_a_producer_that_does_not_come_back_keeps_its_place(engines: Engines) -> None:
    engine, gate = engines(most=1), Gate()

    def answer() -> Iterator[str]:
        yield from gate  # which nobody was told to close

    first = engine.start(answer)
    gate.give("one")
    wait_until(lambda: engine.runs.answer(first).text == "one", "the first piece")
    engine.runs.stop(first)
    second = engine.start(["two"])
    assert engine.runs.answer(second).state == "queued"
    gate.give("the end")
    assert engine.wait(second).text == "two"


@pytest.mark.parametrize("name", ["streaming announcements", "sqlite log watch"])
def test_a_run_for_which_nobody_can_listen_fails_and_keeps_no_place(
    engines: Engines, name: str
) -> None:
    engine = engines(most=1)
    with no_thread(name) as refused:
        for _ in range(3):
            id, tried = engine.start(["a"]), len(refused)
            engine.wait(id, "failed" if tried else "done")
            wait_until(lambda: engine.runs.making.made == {}, "it is not made any more")
            refused.clear()
    assert engine.wait(engine.start(["a"])).text == "a"


@in_greenlets
def test_a_producer_may_speak_from_a_thread_of_the_system() -> None:
    from gevent import get_hub  # the package imports it nowhere

    engine = Engine(MemoryLog())
    assert engine.runs.kept(1) == []  # a greenlet comes first
    pool = get_hub().threadpool

    def answer() -> None:
        run = current_run()
        for n in range(20):
            pool.apply(run.say, (f"{n} ",))
        assert pool.apply(run.wait, (0.01,)) is False

    id = pool.apply(engine.start, (answer,))
    assert engine.wait(id).text == "".join(f"{n} " for n in range(20))
    assert pool.apply(engine.runs.stop, (id,)).state == "done"
    engine.stop()


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
