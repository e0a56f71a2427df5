"""streaming/clients/registry.py: who is connected, who was, and who looks after them."""

import socket
import threading
from unittest import mock

import pytest

from streaming.clients.budgets import Holder, Places
from streaming.clients.client import Client
from streaming.clients.registry import REMEMBERED, Registry
from streaming.errors import ClientGone, HubClosed, StreamingError, TooManyClients
from streaming.settings import Settings
from tests.clients.routes import time_is_up
from tests.greenlets import is_green, run_file
from tests.polling import wait_until


class FakeClient(Client):
    transport = "fake"

    def __init__(self, registry: Registry, *, is_busy: bool = False) -> None:
        super().__init__(registry.deadlines, Settings(), "192.0.2.1")
        self.registry = registry
        self.ended: list[StreamingError] = []
        self.beats = 0
        self._is_busy = is_busy

    def describe(self) -> dict[str, object]:
        self._use()
        return {"channels": ["a"], "position": "e-1"}

    def _say_goodbye(self, reason: StreamingError) -> None:
        self._use()
        self.ended.append(reason)
        if not self._is_busy:
            self.registry.remove(self, reason)

    def _cut(self) -> None:
        self._use()
        if self.reason is not None:
            self.registry.remove(self, self.reason)

    def _is_finished(self) -> bool:
        return False

    def _beat(self) -> None:
        self.beats += 1

    def _stuck_since(self) -> float:
        return 0.0

    def _socket(self) -> socket.socket | None:
        return None

    def _use(self) -> None:
        """Use the registry as clients may: a lock that is held now would hang for ever."""
        self.registry.clients()
        len(self.registry.deadlines)


def test_nobody_is_there_only_when_all_of_who_has_left_is_given_back() -> None:
    """Or a worker that waits for that would let go of its log too early."""
    registry = Registry()
    client = FakeClient(registry)
    registry.add(client)
    give_back, found = registry._everywhere.give_back, []

    def look_and_give_back(*holders: Holder) -> None:
        found.append((len(registry), registry.is_empty))
        give_back(*holders)

    with mock.patch.object(registry._everywhere, "give_back", look_and_give_back):
        registry.remove(client, ClientGone())
    assert found == [(0, False)]
    assert registry.is_empty


def test_a_client_is_there_until_it_is_removed_and_then_remembered() -> None:
    registry = Registry()
    client = FakeClient(registry)
    registry.add(client)
    try:
        assert (len(registry), registry.clients()) == (1, (client,))
        assert registry.snapshot() == {
            "clients": [
                {
                    "id": client.id,
                    "transport": "fake",
                    "since": client.since,
                    "identity": None,
                    "channels": ["a"],
                    "position": "e-1",
                }
            ],
            "ended": [],
            "refused": [],
        }
    finally:
        registry.remove(client, ClientGone("The client left."))
    assert (len(registry), registry.clients()) == (0, ())
    (ended,) = registry.snapshot()["ended"]
    until = ended.pop("until")
    assert isinstance(until, float)
    assert until >= client.since
    assert ended == {
        "id": client.id,
        "transport": "fake",
        "since": client.since,
        "reason": "The client left.",
    }


def test_a_client_that_is_removed_again_is_remembered_once_with_its_first_reason() -> None:
    registry = Registry()
    client = FakeClient(registry)
    registry.add(client)
    registry.remove(client, "first")
    registry.remove(client, "second")
    registry.remove(FakeClient(registry), "never was here")
    assert [row["reason"] for row in registry.snapshot()["ended"]] == ["first"]


def test_only_the_last_endings_are_remembered() -> None:
    registry = Registry()
    for n in range(REMEMBERED + 20):
        client = FakeClient(registry)
        registry.add(client)
        registry.remove(client, str(n))
    reasons = [row["reason"] for row in registry.snapshot()["ended"]]
    assert reasons == [str(n) for n in range(20, REMEMBERED + 20)]


def test_there_is_space_for_as_many_as_are_allowed() -> None:
    registry, clients = Registry(Places(2)), []
    for _ in range(2):
        registry.check_space()
        clients.append(FakeClient(registry))
        registry.add(clients[-1])
    with pytest.raises(TooManyClients, match="2 clients"):
        registry.check_space()
    registry.remove(clients[0], "left")
    registry.check_space()
    registry.remove(clients[1], "left")


# the end of all


def test_closing_ends_everybody_and_refuses_newcomers_until_the_end() -> None:
    registry = Registry()
    clients = [FakeClient(registry) for _ in range(5)]
    for client in clients:
        registry.add(client)
    registry.check_open()
    reason = HubClosed("restart")
    registry.close(reason)
    registry.close(reason)
    assert [client.ended for client in clients] == [[reason]] * 5
    assert len(registry) == 0
    with pytest.raises(HubClosed, match="restart"):
        registry.check_open()
    with pytest.raises(HubClosed, match="restart"):
        registry.add(FakeClient(registry))
    assert len(registry) == 0
    assert len(registry.deadlines) == 0


def test_nobody_slips_in_while_the_registry_closes() -> None:
    registry, gate = Registry(), threading.Barrier(9)
    refused: list[FakeClient] = []
    clients = [[FakeClient(registry) for _ in range(50)] for _ in range(8)]

    def enter(mine: list[FakeClient]) -> None:
        gate.wait()
        for client in mine:
            try:
                registry.add(client)
            except HubClosed:
                refused.append(client)

    threads = [threading.Thread(target=enter, args=(mine,)) for mine in clients]
    for thread in threads:
        thread.start()
    gate.wait()
    registry.close(HubClosed("restart"))
    for thread in threads:
        thread.join()
    for mine in clients:
        for client in mine:
            assert bool(client.ended) != (client in refused)
    assert len(registry) == 0
    assert len(registry.deadlines) == 0


def test_whoever_does_not_go_when_all_are_ended_is_cut_when_its_time_is_up() -> None:
    registry = Registry()
    client = FakeClient(registry, is_busy=True)
    registry.add(client)
    registry.close(HubClosed("restart"))
    assert len(registry) == 1
    time_is_up(registry)
    wait_until(lambda: not len(registry), "it is cut")


# looking after them


def test_a_client_is_looked_at_from_its_coming_to_its_going() -> None:
    registry = Registry()
    clients = [FakeClient(registry) for _ in range(3)]
    for client in clients:
        registry.add(client)
    assert len(registry.deadlines) == 3
    for client in clients:
        registry.remove(client, "left")
    assert len(registry.deadlines) == 0


def test_a_client_that_nobody_can_look_at_is_refused_and_not_kept() -> None:
    registry = Registry()
    client = FakeClient(registry)
    with (
        mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread")),
        pytest.raises(TooManyClients, match="cannot start another thread"),
    ):
        registry.add(client)
    assert len(registry) == 0
    assert len(registry.deadlines) == 0
    again = FakeClient(registry)
    registry.add(again)
    registry.remove(again, "left")


# another object of the same client


def test_a_client_may_go_on_as_another_object() -> None:
    registry = Registry()
    before, after = FakeClient(registry), FakeClient(registry)
    registry.add(before)
    registry.replace(before, after)
    assert registry.clients() == (after,)
    assert registry.snapshot()["ended"] == []
    assert len(registry.deadlines) == 1
    registry.remove(before, "it is another now")
    assert registry.clients() == (after,)
    registry.remove(after, "left")


def test_a_client_that_was_ended_is_ended_as_another_object_too() -> None:
    registry, reason = Registry(), HubClosed("restart")
    before, after = FakeClient(registry, is_busy=True), FakeClient(registry)
    registry.add(before)
    before.end(reason)
    registry.replace(before, after)
    assert after.ended == [reason]
    assert len(registry) == 0


def test_a_client_that_goes_on_while_all_are_ended_is_ended() -> None:
    registry, reason = Registry(), HubClosed("restart")
    before, after = FakeClient(registry), FakeClient(registry)
    registry.add(before)
    before.reason = reason  # its end is under way, in another thread
    registry.close(reason)
    registry.replace(before, after)
    assert after.ended == [reason]
    assert len(registry) == 0


def test_a_client_that_went_does_not_come_back_as_another_object() -> None:
    registry = Registry()
    before, after = FakeClient(registry), FakeClient(registry)
    registry.add(before)
    registry.remove(before, "left")
    registry.replace(before, after)
    assert len(registry) == 0
    registry.remove(after, "left")
    assert [row["reason"] for row in registry.snapshot()["ended"]] == ["left"]


def test_a_client_that_nobody_can_look_at_as_another_object_is_not_kept() -> None:
    registry = Registry()
    before, after = FakeClient(registry), FakeClient(registry)
    registry.add(before)
    before.leave()
    wait_until(lambda: not registry.deadlines._is_running, "nobody has a deadline")
    with (
        mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread")),
        pytest.raises(TooManyClients, match="cannot start another thread"),
    ):
        registry.replace(before, after)
    assert len(registry) == 0


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
