"""streaming/clients/joined.py: in how many rooms one may be."""

import pytest

from streaming.clients.budgets import Holder, Refusals
from streaming.clients.joined import Joined
from streaming.errors import TooMuch

ADA, STRANGER = Holder("ada", "192.0.2.1"), Holder(None, "192.0.2.1")


def test_each_is_in_so_many_rooms_with_all_its_connections() -> None:
    refusals = Refusals()
    joined = Joined(3, refusals)
    for connection, room in (("one", "a"), ("one", "b"), ("two", "a"), ("two", "a")):
        joined.enter(ADA, connection, room)
    for connection, room in (("one", "c"), ("three", "a")):
        with pytest.raises(TooMuch, match=r"3 rooms.*STREAMING_ROOMS"):
            joined.enter(ADA, connection, room)
    assert not joined.enter(ADA, "one", "b")  # it is there already
    joined.enter(STRANGER, "four", "a")
    joined.leave("one", "b")
    joined.leave("one", "b")
    joined.leave("one", "never was there")
    joined.enter(ADA, "three", "a")
    assert refusals.read() == {"rooms": 2}


def test_nothing_is_kept_of_who_has_left_and_who_is_not_counted_is_nowhere() -> None:
    joined = Joined(1, Refusals())
    for holder in (Holder(), Holder(is_own=True)):
        for room in "abc":
            joined.enter(holder, "one", room)
    off = Joined(None, Refusals())
    for room in "abc":
        off.enter(ADA, "one", room)
    for _ in range(3):
        joined.enter(ADA, "one", "a")
        joined.leave("one", "a")
    for each in (joined, off):
        assert (each._there, dict(each._counts)) == ({}, {})
