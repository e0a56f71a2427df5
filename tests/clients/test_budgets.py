"""streaming/clients/budgets.py: whom a connection counts for, and how many each may have."""

import logging
import threading

import pytest

from streaming.clients.budgets import QUIET, Holder, Places, Refusals
from streaming.clients.client import Client
from streaming.clients.registry import Registry
from streaming.errors import TooManyClients, TooMuch
from streaming.settings import Settings
from tests.clock import Clock

ADA, BOB = Holder("ada", "192.0.2.1"), Holder("bob", "192.0.2.1")
HERE, THERE = Holder(None, "192.0.2.1"), Holder(None, "192.0.2.2")
UNKNOWN = Holder()


def reason(places: Places, holder: Holder) -> str:
    found = places.refusal(holder)
    return "" if found is None else found[0]


def test_each_address_and_each_identity_has_its_own_places_and_all_have_theirs() -> None:
    places = Places(6, per_identity=1, per_address=3)
    for holder in (ADA, HERE, BOB):
        assert reason(places, holder) == ""
        places.take(holder)
    assert reason(places, ADA) == "clients_per_identity"
    assert reason(places, Holder("ada", "192.0.2.9")) == "clients_per_identity"
    assert reason(places, HERE) == "clients_per_address"
    assert reason(places, Holder("eve", "192.0.2.1")) == "clients_per_address"
    for holder in (THERE, UNKNOWN, UNKNOWN):
        assert reason(places, holder) == ""
        places.take(holder)
    assert reason(places, THERE) == reason(places, UNKNOWN) == "clients"


def test_what_is_refused_says_who_has_how_many_and_what_to_set() -> None:
    places = Places(None, per_identity=1, per_address=1)
    places.take(ADA)
    for holder, said in ((ADA, "identity.*PER_IDENTITY"), (HERE, "address.*PER_ADDRESS")):
        found = places.refusal(holder)
        assert found is not None
        with pytest.raises(TooMuch, match=f"1 connections of this {said}"):
            raise found[1]
        assert "192.0.2.1" not in str(found[1])


def test_a_place_that_is_given_back_is_free_and_nothing_is_kept_of_who_is_gone() -> None:
    places = Places(2, per_identity=1, per_address=2)
    for _ in range(3):
        for holder in (ADA, HERE):
            places.take(holder)
        assert reason(places, THERE) == "clients"
        for holder in (HERE, ADA):
            places.give_back(holder)
    assert places.taken == 0
    assert places._counts == {}


def test_what_is_switched_off_is_not_counted() -> None:
    places = Places(None, None, None)
    for _ in range(50):
        places.take(ADA)
    assert reason(places, ADA) == ""
    assert places._counts == {}


class _Somebody(Client):
    def _cut(self) -> None:
        """Nothing is open."""

    def _stuck_since(self) -> float:
        return 0.0


def test_of_many_that_come_at_once_exactly_as_many_get_in_as_may() -> None:
    registry, gate = Registry(Places(None, None, 25)), threading.Barrier(8)
    clients: list[Client] = []

    def come() -> None:
        gate.wait()
        for _ in range(20):
            client = _Somebody(registry.deadlines, Settings(), "192.0.2.1")
            client.holder = HERE
            try:
                registry.check_space(HERE)
                registry.add(client)
            except TooMuch:
                continue
            clients.append(client)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(clients) == len(registry) == 25
    assert registry.refusals.read() == {"clients_per_address": 8 * 20 - 25}
    for client in clients:
        registry.remove(client, "left")
        registry.remove(client, "left twice")
    assert (registry._places.taken, registry._places._counts) == (0, {})


def test_refusals_are_counted_by_reason_and_said_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    refusals = Refusals(clock)
    with caplog.at_level(logging.WARNING, "streaming"):
        for _ in range(3):
            refusals.note("clients_per_address", TooMuch("STREAMING_X."), HERE)
            refusals.note("clients_per_identity", TooMuch("STREAMING_Y."), ADA)
        refusals.note("clients", TooManyClients("said by whoever answers"), ADA)
        clock.now += QUIET
        refusals.note("clients_per_address", TooMuch("STREAMING_X."), THERE)
    assert refusals.read() == {"clients_per_address": 4, "clients_per_identity": 3, "clients": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "Refused 192.0.2.1: STREAMING_X.",
        "Refused ada: STREAMING_Y.",
        "Refused 192.0.2.2: STREAMING_X.",
    ]


def test_who_turns_out_to_be_somebody_else_counts_for_that_or_stays_what_it_was() -> None:
    registry = Registry(Places(2, per_identity=1, per_address=1))
    first, second = (_Somebody(registry.deadlines, Settings(), "") for _ in range(2))
    first.holder, second.holder = HERE, THERE
    for client in (first, second):  # all places there are
        registry.add(client)
    registry.count_for(first, ADA)
    assert registry._places._counts == {
        ("identity", "ada"): 1,
        ("address", "192.0.2.1"): 1,
        ("address", "192.0.2.2"): 1,
    }
    before = dict(registry._places._counts)
    with pytest.raises(TooMuch, match="PER_IDENTITY"):
        registry.count_for(second, Holder("ada", "192.0.2.2"))
    assert (second.holder, registry._places._counts) == (THERE, before)
    for client in (first, second):
        registry.remove(client, "left")
    registry.count_for(first, HERE)  # it is gone, and counts for nobody
    assert (registry._places.taken, registry._places._counts) == (0, {})
