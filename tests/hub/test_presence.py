"""streaming/hub/presence.py: who is in a room, over all processes."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from streaming import HubClosed, InvalidMessage, LogUnavailable, Member, TooManyClients
from streaming.hub import attendance
from streaming.hub.hub import Hub
from streaming.hub.presence import (
    INFO_SIZE,
    Presence,
    is_presence_channel,
    presence_channel,
    room_of,
)
from tests.greenlets import in_greenlets
from tests.hub.rooms import Homes, Told
from tests.polling import PATIENCE, wait_until
from tests.shortage import no_thread, no_thread_at_first


@pytest.fixture
def log() -> Homes:
    return Homes()


@pytest.fixture
def hub(log: Homes) -> Hub:
    return Hub(log)


@pytest.fixture
def here(hub: Hub) -> Iterator[Presence]:
    """The presence of this process; everybody has left at the end."""
    here = Presence(hub)
    yield here
    here.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats that follow each other at once."""
    monkeypatch.setattr(attendance, "BEAT", 0.01)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """No beat, unless somebody asks for it."""
    monkeypatch.setattr(attendance, "BEAT", 1000.0)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does something else meanwhile refuses nobody."""
    monkeypatch.setattr(attendance, "PATIENCE", 1000.0)


def wait_for_beats(log: Homes, count: int) -> None:
    until = log.beats + count
    wait_until(lambda: log.beats >= until, f"{count} beats")


def beating() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "presence beat"]


def started(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def finish(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def done_or_waiting(here: Presence, *threads: threading.Thread) -> None:
    """Wait until each of them has come as far as it can."""
    wait_until(
        lambda: sum(thread.is_alive() for thread in threads) == len(here._own()._freed._waiters),  # type: ignore[attr-defined]
        "they have done it, or wait for each other",
    )


def test_who_joins_is_listed_and_told_and_who_leaves_too(hub: Hub, here: Presence) -> None:
    with Told(hub) as told:
        assert here.join("r", "ann", "Ann")
        assert here.join("r", "bob")
        assert here.members("r") == [Member("ann", "Ann"), Member("bob")]
        here.leave("r", "ann")
        assert here.members("r") == [Member("bob")]
        assert told.all == [
            ("join", {"id": "ann", "info": "Ann"}),
            ("join", {"id": "bob", "info": ""}),
            ("leave", {"id": "ann"}),
        ]


def test_only_what_changes_is_told(hub: Hub, here: Presence) -> None:
    with Told(hub) as told:
        assert here.join("r", "ann", "Ann")
        assert not here.join("r", "ann", "Ann")
        assert not here.join("r", "ann", "Anna")
        here.leave("r", "ann")
        here.leave("r", "ann")
        here.leave("r", "nobody")
        assert told.all == [
            ("join", {"id": "ann", "info": "Ann"}),
            ("join", {"id": "ann", "info": "Anna"}),
            ("leave", {"id": "ann"}),
        ]


def test_two_processes_see_the_members_of_both(log: Homes) -> None:
    hubs = Hub(log), Hub(log)
    one, two = map(Presence, hubs)
    with Told(hubs[0]) as told:
        one.join("r", "ann")
        two.join("r", "bob", "安 😀")
        assert one.members("r") == two.members("r") == [Member("ann"), Member("bob", "安 😀")]
        assert (len(one), len(two)) == (1, 1)
        two.leave("r", "bob")
        one.leave("r", "ann")
        assert [event for event, _ in told.all] == ["join", "join", "leave", "leave"]


def test_whoever_subscribes_first_and_asks_then_misses_nobody(hub: Hub, here: Presence) -> None:
    """State first, then event: at each event the list has it already."""
    for n in range(50):
        with Told(hub) as told:
            joining = threading.Thread(target=here.join, args=("r", f"m{n}"))
            joining.start()
            listed = {member.id for member in here.members("r")}
            joining.join()
            heard = {value["id"] for _, value in told.all}
            assert f"m{n}" in listed | heard
        here.leave("r", f"m{n}")


def test_the_thread_lives_only_while_there_are_members(slow: None, here: Presence) -> None:
    assert not beating()
    here.join("r", "ann")
    here.join("s", "ann")
    assert len(beating()) == 1
    here.leave("r", "ann")
    assert len(beating()) == 1
    here.leave("s", "ann")
    wait_until(lambda: not beating(), "no thread, without waiting for the next beat")
    here.join("r", "ann")
    assert len(beating()) == 1


def test_leaving_nothing_starts_no_thread(here: Presence) -> None:
    here.leave("r", "ann")
    assert not beating()


def test_who_only_asks_beats_too_or_the_dead_would_stay_where_nobody_else_is(
    slow: None, log: Homes, hub: Hub, here: Presence
) -> None:
    log.enter("r", Member("lost"))
    log.dead = [("r", "lost")]
    with Told(hub) as told:
        assert here.members("r") == [Member("lost")]
        told.wait_for(("leave", {"id": "lost"}))
    assert here.members("r") == []
    wait_until(lambda: not beating(), "no thread, after one round")
    for _ in range(100):
        here.members("r")
    assert log.beats == 1  # and not once for each question


def test_a_process_with_members_beats(quick: None, log: Homes, here: Presence) -> None:
    here.join("r", "ann")
    wait_until(lambda: log.beats >= 3, "three beats")


def test_without_a_thread_for_the_beat_nobody_joins_and_the_next_one_tries_again(
    quick: None, log: Homes, here: Presence
) -> None:
    with no_thread("presence beat"):
        for _ in range(2):
            with pytest.raises(TooManyClients):
                here.join("r", "ann")
        assert here.members("r") == []
        assert len(here) == 0
    here.join("r", "bob")
    wait_for_beats(log, 2)
    assert here.members("r") == [Member("bob")]
    here.leave("r", "bob")
    wait_until(lambda: here.is_idle, "ann is not waited for")


def test_without_a_thread_for_the_beat_who_asks_is_told_and_the_next_one_beats(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    log.enter("r", Member("lost"))
    log.dead = [("r", "lost")]
    with no_thread("presence beat"):
        assert here.members("r") == [Member("lost")]
    here.members("r")
    wait_until(lambda: here.members("r") == [], "the dead are taken out")


def test_who_joins_while_no_thread_can_be_had_for_another_has_a_beat(
    quick: None, log: Homes, here: Presence
) -> None:
    with (
        no_thread_at_first("presence beat", lambda: here.join("r", "bob")),
        pytest.raises(TooManyClients),
    ):
        here.join("r", "ann")
    wait_for_beats(log, 2)
    assert here.members("r") == [Member("bob")]


def test_the_members_of_a_process_that_died_are_told_to_have_left(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    for n in range(3):
        log.enter("r", Member(f"lost{n}"))  # by a process that is gone
    here.join("r", "ann")
    with Told(hub) as told:
        log.dead = [("r", f"lost{n}") for n in range(3)]
        wait_until(lambda: len(told.all) == 3, "three leaves")
        assert all(event == "leave" for event, _ in told.all)
        assert {value["id"] for _, value in told.all} == {"lost0", "lost1", "lost2"}
        assert here.members("r") == [Member("ann")]


def beats_during(
    owner: object, verb: str, log: Homes, here: Presence, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """How many beats there were at each call of what takes until the next one is due."""
    do, seen = getattr(owner, verb), []

    def is_due() -> bool:
        return time.monotonic() - here._own()._beaten >= attendance.BEAT

    def slow(*args: object, **how: object) -> object:
        result = do(*args, **how)
        seen.append(log.beats)
        wait_until(is_due, "the next beat is due")
        return result

    monkeypatch.setattr(owner, verb, slow)
    return seen


def check_beaten_in_between(seen: list[int]) -> None:
    wait_until(lambda: len(seen) >= 3, "all three")
    assert seen[0] < seen[1] < seen[2]


def test_whoever_has_many_dead_to_tell_beats_meanwhile(
    quick: None, log: Homes, here: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.join("r", "ann")
    seen = beats_during(here._own()._tidings, "left", log, here, monkeypatch)
    for n in range(3):
        log.enter("r", Member(f"lost{n}"))  # by a process that is gone
    log.dead = [("r", f"lost{n}") for n in range(3)]
    check_beaten_in_between(seen)


def test_whoever_has_many_to_enter_again_beats_meanwhile(
    quick: None, log: Homes, here: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        here.join("r", f"m{n}")
    seen = beats_during(log, "enter", log, here, monkeypatch)
    log.forget_everybody()
    check_beaten_in_between(seen)


def test_whoever_has_many_to_take_out_late_beats_meanwhile(
    quick: None, log: Homes, here: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        here.join("r", f"m{n}")
    log.broken = {"leave"}
    for n in range(3):
        here.leave("r", f"m{n}")
    seen = beats_during(log, "leave", log, here, monkeypatch)
    log.broken = set()
    check_beaten_in_between(seen)


def test_the_dead_are_told_later_if_the_log_goes_away_in_between(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    log.enter("r", Member("lost"))
    here.join("r", "ann")
    with Told(hub) as told:
        log.broken = {"append"}
        log.dead = [("r", "lost")]
        wait_until(lambda: here.members("r") == [Member("ann")], "the dead to be taken out")
        assert told.all == []
        log.broken.clear()
        told.wait_for(("leave", {"id": "lost"}))


def test_one_that_was_taken_for_dead_and_came_back_before_it_was_told_is_there_again(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    log.enter("r", Member("slow", "Slow"))
    here.join("r", "ann")
    with Told(hub) as told:
        log.broken = {"append"}
        log.dead = [("r", "slow")]
        wait_until(lambda: here.members("r") == [Member("ann")], "the slow one to be taken out")
        log.enter("r", Member("slow", "Slow"))  # its process puts it back
        log.broken.clear()
        told.wait_for(("leave", {"id": "slow"}), ("join", {"id": "slow", "info": "Slow"}))


def test_a_process_that_was_taken_for_dead_enters_its_members_again(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    here.join("r", "ann", "Ann")
    here.join("r", "bob")
    here.join("s", "cat")
    with Told(hub) as told:
        log.forget_everybody()
        both = [("join", {"id": "ann", "info": "Ann"}), ("join", {"id": "bob", "info": ""})]
        wait_until(lambda: sorted(told.all, key=str) == sorted(both, key=str), "both, once")
        wait_until(lambda: here.members("s") == [Member("cat")], "the other room too")


def test_nobody_comes_back_who_left_meanwhile(quick: None, log: Homes, here: Presence) -> None:
    """While the beat enters all again, some leave; none of them may stay behind as a ghost."""
    for n in range(30):
        ids = [f"m{n}.{i}" for i in range(10)]
        for each in ids:
            here.join("r", each)
        log.forget_everybody()
        for each in ids:
            here.leave("r", each)
        wait_until(lambda: here.members("r") == [], "an empty room")
    wait_until(lambda: not beating(), "no thread")
    assert here.members("r") == []


def test_nobody_joins_while_the_log_is_away(quick: None, log: Homes, here: Presence) -> None:
    log.broken = {"enter"}
    with pytest.raises(LogUnavailable):
        here.join("r", "ann")
    assert len(here) == 0
    wait_until(lambda: not beating(), "no thread for nobody")


def test_a_join_that_could_not_be_told_is_taken_back(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    log.broken = {"append"}
    with pytest.raises(LogUnavailable):
        here.join("r", "ann")
    assert len(here) == 0
    log.broken.clear()
    wait_until(lambda: here.members("r") == [], "her to be taken out again")
    assert here.join("r", "ann")


def test_new_info_that_could_not_be_told_leaves_the_member_as_it_was(
    log: Homes, hub: Hub, here: Presence
) -> None:
    here.join("r", "ann", "Ann")
    log.broken = {"enter"}
    with pytest.raises(LogUnavailable):
        here.join("r", "ann", "Anna")
    log.broken.clear()
    assert here.members("r") == [Member("ann", "Ann")]
    with Told(hub) as told:
        here.join("r", "ann", "Anna")
        assert told.all == [("join", {"id": "ann", "info": "Anna"})]


@pytest.mark.parametrize("broken", ["leave", "append"])
def test_leaving_while_the_log_is_away_is_made_up_for(
    quick: None, log: Homes, hub: Hub, here: Presence, broken: str
) -> None:
    here.join("r", "ann")
    with Told(hub) as told:
        log.broken = {broken}
        here.leave("r", "ann")
        assert told.all == []
        assert len(beating()) == 1
        log.broken.clear()
        told.wait_for(("leave", {"id": "ann"}))
    assert here.members("r") == []
    wait_until(lambda: not beating(), "no thread")


def test_who_joins_again_while_being_taken_out_is_there(
    quick: None, log: Homes, hub: Hub, here: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    # which finds one of thousands only after hours
    monkeypatch.setattr(attendance.Attendance, "_is_listed", lambda self: True)
    gate = log.gates["left"]
    with Told(hub) as told:
        gate.is_shut, log.broken = True, {"append"}
        with pytest.raises(LogUnavailable):
            here.join("r", "ann")
        wait_until(lambda: gate.waiting, "the beat takes her out")
        log.broken = set()
        joining = started(lambda: here.join("r", "ann"))
        done_or_waiting(here, joining)
        gate.open()
        finish(joining)
        wait_until(lambda: not here._own()._parting, "nothing is left to do")
        assert here.members("r") == [Member("ann")]
        assert told.all == [("leave", {"id": "ann"}), ("join", {"id": "ann", "info": ""})]


@pytest.mark.parametrize("step", ["left", "leave"])
def test_whoever_comes_back_in_the_midst_of_a_leave_is_there_to_all(
    log: Homes, hub: Hub, here: Presence, step: str
) -> None:
    here.join("r", "ann")
    gate = log.gates[step]
    with Told(hub) as told:
        gate.shut()
        leaving = started(lambda: here.leave("r", "ann"))
        wait_until(lambda: gate.waiting, "she is leaving")
        joining = started(lambda: here.join("r", "ann"))
        done_or_waiting(here, joining)
        gate.open()
        finish(leaving, joining)
        assert here.members("r") == [Member("ann")]
        assert told.all == [("leave", {"id": "ann"}), ("join", {"id": "ann", "info": ""})]


def test_a_leave_that_the_beat_makes_up_for_is_told_once_and_before_she_comes_back(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    here.join("r", "ann")
    log.broken, gate = {"append"}, log.gates["leave"]
    here.leave("r", "ann")
    with Told(hub) as told:
        gate.shut()
        wait_until(lambda: gate.waiting, "the beat is about to tell")
        log.broken = set()
        leaving = started(lambda: here.leave("r", "ann"))
        joining = started(lambda: here.join("r", "ann"))
        wait_until(lambda: gate.waiting == 2 or not leaving.is_alive(), "it is told, or left to it")
        done_or_waiting(here, joining)
        gate.open()
        finish(leaving, joining)
        assert here.members("r") == [Member("ann")]
        assert told.all == [("leave", {"id": "ann"}), ("join", {"id": "ann", "info": ""})]


def test_whoever_leaves_in_the_midst_of_a_join_is_gone_and_nobody_waits_for_it(
    log: Homes, hub: Hub, here: Presence
) -> None:
    gate = log.gates["join"]
    with Told(hub) as told:
        gate.shut()
        joining = started(lambda: here.join("r", "ann"))
        wait_until(lambda: gate.waiting, "she is joining")
        here.leave("r", "ann")
        gate.open()
        finish(joining)
        assert here.members("r") == []
        assert told.all == [("join", {"id": "ann", "info": ""}), ("leave", {"id": "ann"})]
    wait_until(lambda: not beating(), "no thread")


def test_whoever_comes_back_while_a_leave_hangs_is_refused_in_time(
    log: Homes, hub: Hub, here: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendance, "PATIENCE", 0.01)
    here.join("r", "ann")
    gate = log.gates["leave"]
    with Told(hub) as told:
        gate.shut()
        leaving = started(lambda: here.leave("r", "ann"))
        wait_until(lambda: gate.waiting, "she is leaving")
        with pytest.raises(LogUnavailable):
            here.join("r", "ann")
        gate.open()
        finish(leaving)
        assert told.all == [("leave", {"id": "ann"})]
    assert here.is_idle


def test_whoever_comes_back_before_the_beat_comes_to_it_is_not_taken_out(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    gate = log.gates["left"]
    for name in ("ann", "bob"):
        here.join("r", name)
    log.broken = {"leave"}
    for name in ("ann", "bob"):
        here.leave("r", name)
    with Told(hub) as told:
        gate.is_shut, log.broken = True, set()
        wait_until(lambda: gate.waiting, "the beat takes ann out")
        assert not here.join("r", "bob"), "the beat has not come to him"
        gate.open()
        wait_for_beats(log, 3)
        assert here.members("r") == [Member("bob")]
        assert told.all == [("leave", {"id": "ann"})]


def test_whoever_leaves_while_new_info_of_it_cannot_be_told_is_gone(
    quick: None, log: Homes, here: Presence
) -> None:
    here.join("r", "ann", "Ann")
    gate = log.gates["join"]
    gate.shut()

    def fail() -> None:
        with pytest.raises(LogUnavailable):
            here.join("r", "ann", "Anna")

    joining = started(fail)
    wait_until(lambda: gate.waiting, "she is joining")
    here.leave("r", "ann")
    log.broken = {"append"}
    gate.open()
    finish(joining)
    log.broken = set()
    wait_until(lambda: not beating(), "no thread")
    assert here.members("r") == []
    assert here.is_idle


def test_whoever_leaves_while_the_beat_enters_it_again_is_gone(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    here.join("r", "ann")
    gate = log.gates["join"]
    with Told(hub) as told:
        gate.shut()
        log.forget_everybody()
        wait_until(lambda: gate.waiting, "the beat enters her again")
        here.leave("r", "ann")
        gate.open()
        told.wait_for(("join", {"id": "ann", "info": ""}), ("leave", {"id": "ann"}))
    assert here.members("r") == []


def test_closing_in_the_midst_of_a_join_has_it_leave_without_waiting_for_a_beat(
    slow: None, log: Homes, hub: Hub, here: Presence
) -> None:
    gate = log.gates["join"]
    gate.shut()
    joining = started(lambda: here.join("r", "ann"))
    wait_until(lambda: gate.waiting, "she is joining")
    hub.close()
    here.close()
    wait_until(lambda: log.beats, "a beat has come too early")
    gate.open()
    finish(joining)
    wait_until(lambda: not beating(), "no thread")
    assert here.members("r") == []


def test_the_beat_does_not_wait_for_a_join_that_hangs(
    quick: None, log: Homes, here: Presence
) -> None:
    here.join("r", "ann")
    gate = log.gates["enter"]
    gate.shut()
    joining = started(lambda: here.join("r", "bob"))
    wait_until(lambda: gate.waiting, "he is joining")
    wait_for_beats(log, 5)
    gate.open()
    finish(joining)
    assert here.members("r") == [Member("ann"), Member("bob")]


@pytest.mark.parametrize("broken", ["append", "answer"])
def test_members_whom_the_log_has_lost_are_entered_and_told_again_though_it_fails_in_between(
    slow: None, log: Homes, hub: Hub, here: Presence, broken: str
) -> None:
    names = [f"m{n}" for n in range(5)]
    for name in names:
        here.join("r", name)
    with Told(hub) as told:
        log.forget_everybody()
        log.broken = {broken}
        for count in (1, 2):  # another member is looked for each time
            here._own()._bell.ring()
            wait_until(lambda count=count: log.failures == count, "it has failed")
        log.broken = set()
        here._own()._bell.ring()
        wait_until(lambda: len(told.all) >= 5, "all of them")
        assert sorted(told.all, key=str) == [("join", {"id": name, "info": ""}) for name in names]
    assert {member.id for member in here.members("r")} == set(names)


def test_a_fault_in_the_log_keeps_nobody_from_coming_back(
    log: Homes, here: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(room: str, member: str) -> bool:
        raise ZeroDivisionError("a fault of ours")

    here.join("r", "ann")
    with monkeypatch.context() as faulty:
        faulty.setattr(log, "leave", fail)
        with pytest.raises(ZeroDivisionError):
            here.leave("r", "ann")
    here.join("r", "ann")
    here.leave("r", "ann")
    assert here.members("r") == []


def test_a_leave_whose_answer_was_lost_is_told_though_a_join_failed_since(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    """The log had done it; only who asks again tells."""
    here.join("r", "ann")
    with Told(hub) as told:
        log.broken = {"answer"}
        here.leave("r", "ann")
        log.broken |= {"enter", "leave"}
        with pytest.raises(LogUnavailable):
            here.join("r", "ann")
        log.broken = set()
        told.wait_for(("leave", {"id": "ann"}))


def test_a_leave_of_the_beat_whose_answer_was_lost_is_told(
    quick: None, log: Homes, hub: Hub, here: Presence
) -> None:
    here.join("r", "ann")
    with Told(Hub(log)) as told:
        log.broken = {"answer"}
        hub.close()
        here.close()
        wait_until(lambda: here.members("r") == [], "she is taken out")
        log.broken = set()
        told.wait_for(("leave", {"id": "ann"}))


def test_a_log_that_is_away_is_complained_about_once(
    quick: None, log: Homes, here: Presence, caplog: pytest.LogCaptureFixture
) -> None:
    here.join("r", "ann")
    for _ in range(2):
        log.broken = {"beat"}
        wait_for_beats(log, 5)
        log.broken = set()
        wait_for_beats(log, 3)
        assert [record.getMessage() for record in caplog.records] == [
            "Presence waits for the log: The log is away."
        ]
        caplog.clear()


def test_a_beat_that_fails_for_any_reason_is_not_the_last(
    quick: None, log: Homes, here: Presence, caplog: pytest.LogCaptureFixture
) -> None:
    log.dead = [None]  # type: ignore[list-item]
    here.join("r", "ann")
    wait_until(lambda: "A presence beat failed" in caplog.text, "the failure in the log")
    wait_until(lambda: log.beats > 3, "further beats")


def test_closing_has_all_members_of_this_process_leave_and_nobody_join(
    log: Homes, hub: Hub, here: Presence
) -> None:
    other = Presence(Hub(log))
    other.join("r", "elsewhere")
    for n in range(10):
        here.join("r", f"m{n}")
    hub.close()
    here.close()
    here.close()
    wait_until(lambda: other.members("r") == [Member("elsewhere")], "only the other's member")
    with pytest.raises(HubClosed):
        here.join("r", "late")
    here.leave("r", "m0")
    other.leave("r", "elsewhere")
    assert other.members("r") == []


def test_closing_one_without_members_starts_nothing(here: Presence) -> None:
    here.close()
    assert not beating()


def test_many_join_and_leave_at_once_and_the_list_is_right_in_the_end(
    quick: None, hub: Hub, here: Presence
) -> None:
    def come_and_go(who: int) -> None:
        for n in range(20):
            here.join("r", f"{who}.{n}")
            if n % 2:
                here.leave("r", f"{who}.{n}")

    with Told(hub) as told:
        threads = [threading.Thread(target=come_and_go, args=(who,)) for who in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = {f"{who}.{n}" for who in range(5) for n in range(0, 20, 2)}
        assert {member.id for member in here.members("r")} == expected
        seen: set[str] = set()
        for event, value in told.all:
            assert (value["id"] in seen) == (event == "leave")
            seen.add(value["id"]) if event == "join" else seen.remove(value["id"])
        assert seen == expected


@pytest.mark.parametrize("room", ["", "a b", "a" * 120, "chat:presence", "\ud800", 7])
def test_a_room_that_can_have_no_presence_channel_is_refused(here: Presence, room: str) -> None:
    with pytest.raises(InvalidMessage):
        here.join(room, "ann")
    with pytest.raises(InvalidMessage):
        here.leave(room, "ann")
    with pytest.raises(InvalidMessage):
        here.members(room)
    assert not beating()


@pytest.mark.parametrize(
    ("member", "info"),
    [
        *[("", ""), ("x" * 129, ""), ("\ud800", ""), (7, "")],
        *[("a", "x" * 1025), ("a", "安" * 342), ("a", "\ud800"), ("a", 7), ("a", None)],
    ],
)
def test_a_member_that_cannot_be_told_is_refused(here: Presence, member: str, info: str) -> None:
    with pytest.raises(InvalidMessage):
        here.join("r", member, info)
    assert here.members("r") == []


def test_the_limits_themselves_are_let_in(here: Presence) -> None:
    room = "r" * 119
    assert here.join(room, "x" * 128, "安" * 341 + "x")
    assert len(here.members(room)[0].info.encode()) == INFO_SIZE == 1024


def test_a_presence_channel_belongs_to_its_room() -> None:
    assert presence_channel("chat") == "chat:presence"
    assert is_presence_channel("chat:presence")
    assert not is_presence_channel("presence")
    assert (room_of("chat:presence"), room_of("chat")) == ("chat", "chat")


@in_greenlets
def test_greenlets_come_and_go_and_the_last_takes_the_thread_along() -> None:
    hub = Hub(Homes())
    here = Presence(hub)
    attendance.BEAT = 1000.0
    with Told(hub) as told:

        def come_and_go(who: int) -> None:
            for n in range(20):
                here.join("r", f"{who}.{n}")
                threading.Event().wait(0)
                here.leave("r", f"{who}.{n}")

        threads = [threading.Thread(target=come_and_go, args=(who,)) for who in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert here.members("r") == []
        assert len(told.all) == 800
    wait_until(lambda: not beating(), "no thread, without waiting for the next beat")
