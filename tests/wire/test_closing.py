"""streaming/wire/closing.py: every move of the closing handshake, and the stories it tells."""

import random

import pytest

from streaming.wire import closing
from streaming.wire.closing import TABLE, Closing, Ending, Move, Verdict

ANSWERING, OPEN, OVER = Ending.ANSWERING, Ending.OPEN, Ending.OVER
SAID, SAYING = Ending.SAID, Ending.SAYING
END, HEARD, LOST, OUT = Move.END, Move.HEARD, Move.LOST, Move.OUT
HANG_UP, SAY, WAIT = Verdict.HANG_UP, Verdict.SAY, Verdict.WAIT

MOVES = {
    (OPEN, END): (SAYING, SAY),
    (OPEN, HEARD): (ANSWERING, SAY),
    (OPEN, LOST): (OVER, HANG_UP),
    (SAYING, END): (SAYING, WAIT),
    (SAYING, HEARD): (ANSWERING, WAIT),
    (SAYING, OUT): (SAID, WAIT),
    (SAYING, LOST): (OVER, HANG_UP),
    (SAID, END): (SAID, WAIT),
    (SAID, HEARD): (OVER, HANG_UP),
    (SAID, LOST): (OVER, HANG_UP),
    (ANSWERING, END): (ANSWERING, WAIT),
    (ANSWERING, OUT): (OVER, HANG_UP),
    (ANSWERING, LOST): (OVER, HANG_UP),
    (OVER, END): (OVER, HANG_UP),
    (OVER, LOST): (OVER, HANG_UP),
}
ILLEGAL = [(phase, event) for phase in Ending for event in Move if (phase, event) not in MOVES]

WAYS: dict[Ending, list[tuple[Move, ...]]] = {
    OPEN: [()],
    SAYING: [(END,)],
    SAID: [(END, OUT)],
    ANSWERING: [(HEARD,), (END, HEARD)],
    OVER: [(LOST,), (END, LOST), (HEARD, OUT), (END, OUT, HEARD), (HEARD, LOST)],
}


def after(*events: Move) -> Closing:
    machine = Closing()
    for event in events:
        machine.move(event)
    return machine


def story(*events: Move) -> tuple[list[Verdict], Closing]:
    machine = Closing()
    return [machine.move(event) for event in events], machine


# The table


@pytest.mark.parametrize(("phase", "event"), MOVES, ids=lambda name: name.name)
def test_every_legal_move_goes_where_it_should(phase: Ending, event: Move) -> None:
    for way in WAYS[phase]:
        machine = after(*way)
        assert machine.phase is phase
        verdict = machine.move(event)
        assert (machine.phase, verdict) == MOVES[phase, event]


@pytest.mark.parametrize(("phase", "event"), ILLEGAL, ids=lambda name: name.name)
def test_an_illegal_move_is_refused_and_changes_nothing(phase: Ending, event: Move) -> None:
    for way in WAYS[phase]:
        machine = after(*way)
        heard = machine.is_heard
        with pytest.raises(RuntimeError, match=f"{event.name} cannot happen .* {phase.name}"):
            machine.move(event)
        assert (machine.phase, machine.is_heard) == (phase, heard)


def test_the_illegal_moves_are_those_of_the_plan() -> None:
    assert set(ILLEGAL) == {
        (OPEN, OUT),
        (SAID, OUT),
        (ANSWERING, HEARD),
        (OVER, HEARD),
        (OVER, OUT),
    }


def test_the_table_in_the_documentation_is_the_table() -> None:
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (closing.__doc__ or "").splitlines()
        if line.startswith("|")
    ]
    events = [Move[name] for name in head[1:]]
    assert set(events) == set(Move)
    written: dict[tuple[Ending, Move], tuple[Ending, Verdict]] = {}
    for row in rows:
        for event, cell in zip(events, row[1:], strict=True):
            if cell != "illegal":
                phase, verdict = cell.split(", ")
                written[Ending[row[0]], event] = Ending[phase], Verdict[verdict]
    assert [row[0] for row in rows] == [phase.name for phase in Ending]
    assert written == {
        (phase, event): step for phase, steps in TABLE.items() for event, step in steps.items()
    }


# Stories


def test_we_say_goodbye_and_the_peer_answers() -> None:
    verdicts, machine = story(END, OUT, HEARD)
    assert verdicts == [SAY, WAIT, HANG_UP]
    assert machine.is_heard


def test_the_peer_says_goodbye_and_we_answer() -> None:
    verdicts, machine = story(HEARD, OUT)
    assert verdicts == [SAY, HANG_UP]
    assert machine.is_heard


def test_two_goodbyes_cross_and_only_one_is_sent_by_us() -> None:
    verdicts, machine = story(END, HEARD, OUT)
    assert verdicts == [SAY, WAIT, HANG_UP]
    assert machine.is_heard


def test_the_peer_leaves_without_a_word() -> None:
    verdicts, machine = story(LOST)
    assert verdicts == [HANG_UP]
    assert not machine.is_heard


def test_the_peer_never_takes_our_goodbye() -> None:
    verdicts, machine = story(END, LOST)
    assert verdicts == [SAY, HANG_UP]
    assert not machine.is_heard


def test_the_peer_never_answers_our_goodbye() -> None:
    verdicts, machine = story(END, OUT, LOST)
    assert verdicts == [SAY, WAIT, HANG_UP]
    assert not machine.is_heard


def test_the_peer_leaves_before_it_took_our_answer() -> None:
    for verdicts, machine in (story(HEARD, LOST), story(END, HEARD, LOST)):
        assert verdicts[-1] is HANG_UP
        assert machine.is_heard


def test_ending_again_says_nothing_again() -> None:
    verdicts, _ = story(END, END, OUT, END, HEARD, END, LOST, END)
    assert verdicts == [SAY, WAIT, WAIT, WAIT, HANG_UP, HANG_UP, HANG_UP, HANG_UP]


# What the connection asks for


def test_data_may_be_sent_only_before_any_goodbye() -> None:
    for phase, ways in WAYS.items():
        for way in ways:
            assert after(*way).may_send == (phase is OPEN)


def test_whether_the_peer_was_heard_is_known_also_when_it_is_over() -> None:
    for ways in WAYS.values():
        for way in ways:
            assert after(*way).is_heard == (HEARD in way)


def test_whatever_happens_one_goodbye_at_most_is_said_and_over_means_hang_up() -> None:
    rng = random.Random(6455)
    for _ in range(500):
        machine, said = Closing(), 0
        for _ in range(rng.randint(1, 9)):
            verdict = machine.move(rng.choice(list(TABLE[machine.phase])))
            said += verdict is SAY
            assert (verdict is HANG_UP) == (machine.phase is OVER)
            assert machine.may_send == (said == 0 and machine.phase is not OVER)
        assert said <= 1


def test_a_machine_is_tiny() -> None:
    assert not hasattr(Closing(), "__dict__")
