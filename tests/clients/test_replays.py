"""streaming/clients/replays.py: how much of the past one may be sent in a time."""

import pytest

from streaming.clients.budgets import Holder, Refusals
from streaming.clients.replays import AHEAD, AROUND, LONGEST, Account, Replays
from streaming.errors import TooMuch
from tests.clock import Clock

ADA, STRANGER = Holder("ada", "192.0.2.1"), Holder(None, "192.0.2.1")
UNKNOWN, OWN = Holder(), Holder(is_own=True)


def account(replays: Replays, holder: Holder, connection: str | None = None) -> Account:
    found = replays.account(holder, connection)
    assert found is not None
    return found


def test_all_is_sent_to_who_owes_nothing_and_nothing_more_until_it_is_paid() -> None:
    clock, refusals = Clock(), Refusals()
    replays = Replays(1000, refusals, clock=clock)
    account(replays, ADA).charge(10, 200_000 - 10 * AROUND)
    with pytest.raises(TooMuch, match="1000 bytes a second") as refused:
        account(replays, ADA).check()
    assert LONGEST <= refused.value.retry_after <= LONGEST * 1.5
    account(replays, STRANGER).check()
    clock.now += 200 - AHEAD - 1
    with pytest.raises(TooMuch):
        account(replays, Holder("ada", "192.0.2.9")).check()
    clock.now += 1.1
    account(replays, ADA).check()
    assert refusals.read() == {"replay": 2}


def test_who_cannot_be_told_from_others_has_an_account_for_each_connection_alone() -> None:
    replays = Replays(1000, Refusals(), clock=Clock())
    account(replays, UNKNOWN, "one").charge(1, 100_000)
    with pytest.raises(TooMuch):
        account(replays, UNKNOWN, "one").check()
    account(replays, UNKNOWN, "other").check()
    assert replays.account(UNKNOWN) is None


def test_a_program_of_this_machine_has_none_and_nobody_where_it_is_switched_off() -> None:
    assert Replays(1000, Refusals()).account(OWN, "one") is None
    for holder in (ADA, STRANGER, UNKNOWN):
        assert Replays(None, Refusals()).account(holder, "one") is None
