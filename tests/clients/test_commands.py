"""streaming/clients/commands.py: how much one may ask in a time, and with how many connections."""

import pytest

from streaming.clients.budgets import Holder, Refusals
from streaming.clients.commands import AHEAD, TOGETHER, Allowance, Commands
from streaming.errors import ProtocolError, TooMuch
from tests.clock import Clock

STRANGER, ADA = Holder(None, "192.0.2.1"), Holder("ada", "192.0.2.1")
UNKNOWN, OWN = Holder(), Holder(is_own=True)


def commands(a_second: float | None = 2.0) -> tuple[Commands, Clock, Refusals]:
    clock, refusals = Clock(), Refusals()
    return Commands(a_second, refusals, clock=clock), clock, refusals


def granted(allowance: Allowance, times: int) -> int:
    """How many of so many commands are."""
    return sum(allowance.ask() is None for _ in range(times))


@pytest.mark.parametrize("holder", [STRANGER, ADA, UNKNOWN])
def test_a_connection_has_a_burst_and_then_its_rate(holder: Holder) -> None:
    all_may, clock, refusals = commands()
    allowance = Allowance(all_may, holder)
    assert granted(allowance, 20) == 20
    refusal = allowance.ask()
    assert isinstance(refusal, TooMuch)
    assert refusal.retry_after == 1
    assert "2 commands a second" in str(refusal)
    clock.now += 0.5
    assert granted(allowance, 1) == 1
    clock.now += AHEAD
    assert granted(allowance, 21) == 20
    assert refusals.read() == {"commands": 2}


def test_who_goes_on_although_it_was_told_is_cut_and_who_waits_is_not() -> None:
    all_may, clock, _ = commands(10.0)
    patient, other = (Allowance(all_may, UNKNOWN) for _ in range(2))
    for _ in range(10):
        assert granted(patient, 105) == 100
        clock.now += 10
    granted(other, 100)
    for _ in range(10):
        assert isinstance(other.ask(), TooMuch)
    with pytest.raises(ProtocolError) as cut:
        other.ask()
    assert cut.value.close_code == 1008


@pytest.mark.parametrize("holder", [STRANGER, ADA, Holder("ada")])
def test_what_one_asks_over_many_connections_and_http_counts_together(holder: Holder) -> None:
    all_may, clock, _ = commands()
    together = int(2 * AHEAD * TOGETHER)
    assert sum(granted(Allowance(all_may, holder), 20) for _ in range(TOGETHER)) == together
    assert Allowance(all_may, holder).ask() is not None
    with pytest.raises(TooMuch):
        all_may.check(holder)
    assert Allowance(all_may, Holder("bob", "192.0.2.1")).ask() is None
    assert Allowance(all_may, Holder(None, "192.0.2.2")).ask() is None
    clock.now += 0.05
    all_may.check(holder)


def test_who_cannot_be_told_from_others_is_held_by_its_connection_alone() -> None:
    all_may, _, _ = commands()
    for _ in range(50):
        assert granted(Allowance(all_may, UNKNOWN), 21) == 20
    for _ in range(1000):
        all_may.check(UNKNOWN)


def test_a_program_of_this_machine_may_ask_what_it_wants_unless_it_is_somebody() -> None:
    all_may, _, refusals = commands()
    assert granted(Allowance(all_may, OWN), 1000) == 1000
    somebody = Allowance(all_may, Holder("ada", None, is_own=True))
    assert granted(somebody, int(2 * AHEAD * TOGETHER)) == 2 * AHEAD * TOGETHER
    assert somebody.ask() is not None
    assert refusals.read() == {"commands": 1}


def test_switched_off_nothing_is_counted() -> None:
    all_may, _, refusals = commands(None)
    assert granted(Allowance(all_may, STRANGER), 5000) == 5000
    all_may.check(STRANGER)
    assert refusals.read() == {}


def test_all_clients_together_publish_so_much_into_one_channel_and_as_much_into_another() -> None:
    clock, refusals = Clock(), Refusals()
    all_may = Commands(None, refusals, into_channel=2.0, clock=clock)
    for holder in (STRANGER, ADA, UNKNOWN, Holder("ada", is_own=True)):
        for _ in range(5):
            all_may.check_message("a", holder)
    for holder in (STRANGER, ADA):
        with pytest.raises(TooMuch, match=r"2 messages.*STREAMING_CHANNEL_MESSAGES") as refused:
            all_may.check_message("a", holder)
        assert refused.value.retry_after == 1
    all_may.check_message("b", STRANGER)
    all_may.check_message("a", OWN)
    clock.now += 0.5
    all_may.check_message("a", STRANGER)
    assert refusals.read() == {"channel_messages": 2}


def test_a_channel_without_a_limit_takes_all() -> None:
    all_may, _, refusals = commands()
    for _ in range(50_000):
        all_may.check_message("a", STRANGER)
    assert refusals.read() == {}
