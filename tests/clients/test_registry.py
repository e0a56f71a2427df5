"""streaming/clients/registry.py: who is connected, who was, and the sweep over them."""

import logging
import threading
import time
from collections.abc import Mapping

import pytest

from streaming.clients.registry import REMEMBERED, Registry, new_client_id
from streaming.errors import ClientGone, HubClosed, StreamingError
from tests.polling import wait_until


class FakeClient:
    transport = "fake"

    def __init__(self, registry: Registry | None = None) -> None:
        self.id = new_client_id()
        self.since = time.time()
        self.registry = registry
        self.sweeps: list[float] = []
        self.ended: list[StreamingError] = []

    def describe(self) -> Mapping[str, object]:
        self._use()
        return {"channels": ["a"], "position": "e-1"}

    def sweep(self, now: float) -> None:
        self._use()
        self.sweeps.append(now)

    def end(self, reason: StreamingError) -> None:
        self._use()
        self.ended.append(reason)
        if self.registry is not None:
            self.registry.remove(self, reason)

    def _use(self) -> None:
        """Use the registry as clients may: a lock that is held now would hang for ever."""
        if self.registry is not None:
            self.registry.clients()


def test_a_client_is_there_until_it_is_removed_and_then_remembered() -> None:
    registry, client = Registry(), FakeClient()
    registry.add(client)
    try:
        assert (len(registry), registry.clients()) == (1, (client,))
        assert registry.snapshot() == {
            "clients": [
                {
                    "id": client.id,
                    "transport": "fake",
                    "since": client.since,
                    "channels": ["a"],
                    "position": "e-1",
                }
            ],
            "ended": [],
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
    registry, client = Registry(), FakeClient()
    registry.add(client)
    registry.remove(client, "first")
    registry.remove(client, "second")
    registry.remove(FakeClient(), "never was here")
    assert [row["reason"] for row in registry.snapshot()["ended"]] == ["first"]


def test_only_the_last_endings_are_remembered() -> None:
    registry = Registry()
    for n in range(REMEMBERED + 20):
        client = FakeClient()
        registry.add(client)
        registry.remove(client, str(n))
    reasons = [row["reason"] for row in registry.snapshot()["ended"]]
    assert reasons == [str(n) for n in range(20, REMEMBERED + 20)]


def test_closing_ends_everybody_and_refuses_newcomers_until_the_end() -> None:
    registry = Registry()
    clients = [FakeClient(registry) for _ in range(5)]
    for client in clients:
        registry.add(client)
    reason = HubClosed("restart")
    registry.close(reason)
    registry.close(reason)
    assert [client.ended for client in clients] == [[reason]] * 5
    assert len(registry) == 0
    with pytest.raises(HubClosed, match="restart"):
        registry.add(FakeClient())
    assert len(registry) == 0


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


def test_the_sweep_visits_everybody_again_and_again_and_ends_with_the_last() -> None:
    registry = Registry()
    clients = [FakeClient(registry) for _ in range(3)]
    for client in clients:
        registry.add(client)
    wait_until(lambda: all(len(c.sweeps) >= 2 for c in clients), "everybody was swept twice")
    for client in clients:
        assert client.sweeps == sorted(client.sweeps)
        assert client.sweeps[-1] <= time.monotonic()
        registry.remove(client, "left")
    swept = "streaming sweep"
    wait_until(lambda: swept not in [t.name for t in threading.enumerate()], "the sweep has ended")
    again = FakeClient()
    registry.add(again)
    wait_until(lambda: again.sweeps, "the sweep is back for the next client")
    registry.remove(again, "left")


def test_a_registry_has_one_sweep_and_none_without_clients() -> None:
    def sweeps() -> int:
        return [t.name for t in threading.enumerate()].count("streaming sweep")

    registry = Registry()
    assert sweeps() == 0
    clients = [FakeClient() for _ in range(20)]
    for client in clients:
        registry.add(client)
    assert sweeps() == 1
    for client in clients:
        registry.remove(client, "left")


def test_a_client_whose_sweep_fails_is_reported_and_stops_nobody_elses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(FakeClient):
        def sweep(self, now: float) -> None:
            super().sweep(now)
            raise RuntimeError("broken sweep")

    registry, broken, sound = Registry(), Broken(), FakeClient()
    registry.add(broken)
    registry.add(sound)
    with caplog.at_level(logging.ERROR, "streaming.clients.registry"):
        wait_until(lambda: len(sound.sweeps) >= 2 and len(broken.sweeps) >= 2, "two sweeps")
    assert broken.id in caplog.text
    registry.remove(broken, "left")
    registry.remove(sound, "left")


def test_clients_have_names_of_their_own() -> None:
    names = {new_client_id() for _ in range(1000)}
    assert len(names) == 1000
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in names)
