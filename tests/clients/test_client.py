"""streaming/clients/client.py: what all connections share: one end, deadlines, progress."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from unittest import mock

import pytest

from streaming import HubClosed, StreamingError
from streaming.clients import client as clients
from streaming.clients.client import Client, spread_retry
from streaming.clients.deadlines import Deadlines
from streaming.errors import ClientGone
from streaming.settings import Settings
from tests.greenlets import is_green, run_file
from tests.polling import PATIENCE, wait_until
from tests.sockets import read_exactly, read_known, tcp_pair

SETTINGS = Settings(heartbeat=10.0, send_timeout=10.0)


class Plain(Client):
    """A connection that notes what it was asked for."""

    transport = "plain"

    def __init__(
        self,
        settings: Settings = SETTINGS,
        *,
        deadlines: Deadlines | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        deadlines = Deadlines() if deadlines is None else deadlines  # it is false when empty
        super().__init__(deadlines, settings, "192.0.2.1")
        self.sock = sock
        self.goodbyes: list[StreamingError] = []
        self.cuts = 0
        self.beats = 0
        self.stuck_since = 0.0
        self.is_finished = False
        self.is_lost = False

    def _say_goodbye(self, reason: StreamingError) -> None:
        self._fail_if_lost()
        self.goodbyes.append(reason)

    def _cut(self) -> None:
        self.cuts += 1

    def _is_finished(self) -> bool:
        return self.is_finished

    def _beat(self) -> None:
        self._fail_if_lost()
        self.beats += 1

    def _stuck_since(self) -> float:
        return self.stuck_since

    def _socket(self) -> socket.socket | None:
        return self.sock

    def _fail_if_lost(self) -> None:
        if self.is_lost:
            raise ClientGone("The connection is lost.")


@pytest.fixture
def client() -> Iterator[Plain]:
    client = Plain()
    yield client
    client.leave()


def test_a_client_has_a_name_of_its_own() -> None:
    names = {Plain().id for _ in range(1000)}
    assert len(names) == 1000
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in names)


def test_a_client_says_where_it_comes_from(client: Plain) -> None:
    assert client.describe() == {"peer": "192.0.2.1"}
    assert client.since <= time.time()


# the end


def test_it_ends_once_and_for_the_first_reason(client: Plain) -> None:
    first = HubClosed("first")
    client.end(first)
    client.end(ClientGone("second"))
    client.end(HubClosed("third"))
    assert client.reason is first
    assert (client.goodbyes, client.cuts) == ([first], 0)


def test_it_ends_once_however_many_threads_end_it() -> None:
    """Reasons of two threads must not be taken for one, nor two goodbyes be said."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            client, gate = Plain(), threading.Barrier(4)

            def end(client: Plain = client, gate: threading.Barrier = gate) -> None:
                reason = HubClosed("one of four")
                gate.wait()
                client.end(reason)

            threads = [threading.Thread(target=end) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            client.leave()
            assert client.goodbyes == [client.reason]
    finally:
        sys.setswitchinterval(interval)


def test_one_that_is_gone_is_cut_and_told_nothing(client: Plain) -> None:
    client.end(ClientGone("The client left."))
    assert (client.goodbyes, client.cuts) == ([], 1)


def test_one_that_turns_out_to_be_lost_when_it_is_told_goodbye_is_cut(client: Plain) -> None:
    client.is_lost = True
    client.end(HubClosed("over"))
    assert client.cuts == 1
    assert isinstance(client.reason, HubClosed)


def test_it_has_its_time_to_take_the_goodbye_and_not_more(client: Plain) -> None:
    client.end(HubClosed("over"))
    now = time.monotonic()
    again = client.due(now)
    assert again is not None
    assert now < again <= now + clients.FAREWELL
    assert client.cuts == 0
    assert client.due(again) is None
    assert client.cuts == 1


def test_one_whose_goodbye_is_out_is_cut_without_waiting_for_the_time(client: Plain) -> None:
    client.end(HubClosed("over"))
    client.is_finished = True
    assert client.due(time.monotonic()) is None
    assert client.cuts == 1


def test_the_end_comes_by_itself() -> None:
    client = Plain(Settings(heartbeat=None, send_timeout=None))
    with mock.patch.object(clients, "FAREWELL", 0.01):
        client.end(HubClosed("over"))
    wait_until(lambda: client.cuts, "the client is cut")


def test_without_a_thread_that_would_cut_it_later_it_is_cut_at_once() -> None:
    client = Plain()
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread")):
        client.end(HubClosed("over"))
    assert (len(client.goodbyes), client.cuts) == (1, 1)


def test_one_that_left_is_not_looked_at_any_more(client: Plain) -> None:
    client.is_lost = True
    client.leave()
    client.leave()
    assert client.due(time.monotonic() + 1e6) is None
    assert (client.beats, client.cuts, client.reason) == (0, 0, None)


def test_one_that_was_ended_after_it_left_has_no_deadline() -> None:
    deadlines = Deadlines()
    client = Plain(deadlines=deadlines)
    client.watch()
    client.leave()
    client.end(HubClosed("over"))
    assert len(deadlines) == 0


def test_one_that_is_ended_while_it_begins_to_be_watched_is_cut_in_time() -> None:
    """Whoever adds it has set no deadline yet when a draining server ends it."""
    deadlines = Deadlines()
    client = Plain(deadlines=deadlines)
    whens: list[float] = []
    keep = deadlines.set

    def set_later(who: Client, when: float) -> None:
        if not whens:
            whens.append(when)
            client.end(HubClosed("in between"))
        whens.append(when)
        keep(who, when)

    with (
        mock.patch.object(clients, "FAREWELL", 0.5),
        mock.patch.object(deadlines, "set", set_later),
    ):
        client.watch()
    assert whens[-1] <= time.monotonic() + 0.5
    client.leave()


# heartbeats


def test_one_that_was_sent_nothing_for_a_while_gets_a_heartbeat_and_then_the_next(
    client: Plain,
) -> None:
    now = client.spoke
    assert client.due(now + 9.9) == pytest.approx(now + 10.0)
    assert client.beats == 0
    assert client.due(now + 10.0) == pytest.approx(now + 20.0)
    assert client.beats == 1
    client.due(now + 15.0)
    assert client.beats == 1
    client.due(now + 20.0)
    assert client.beats == 2


def test_no_heartbeat_is_sent_where_they_are_switched_off() -> None:
    client = Plain(Settings(heartbeat=None))
    client.due(time.monotonic() + 1e6)
    assert client.beats == 0


def test_one_that_turns_out_to_be_lost_at_a_heartbeat_ends(client: Plain) -> None:
    client.is_lost = True
    assert client.due(time.monotonic() + 11.0) is None
    assert isinstance(client.reason, ClientGone)
    assert client.cuts == 1


def test_one_without_any_deadline_is_never_looked_at() -> None:
    deadlines = Deadlines()
    client = Plain(Settings(heartbeat=None, send_timeout=None), deadlines=deadlines)
    client.watch()
    assert len(deadlines) == 0
    assert client.due(time.monotonic()) is None


# progress


def test_one_that_takes_nothing_is_cut_after_its_time_and_not_before(client: Plain) -> None:
    now = time.monotonic()
    client.spoke = now + 100.0  # no heartbeat
    client.stuck_since = now
    client.due(now + 9.9)
    assert client.reason is None
    client.due(now + 10.1)
    assert "took nothing for 10 s" in str(client.reason)
    assert client.cuts == 1


def test_one_that_waits_for_nothing_is_not_stuck_however_long_it_is_silent(client: Plain) -> None:
    client.due(time.monotonic() + 1e6)
    assert client.reason is None


def test_without_a_time_limit_it_may_take_for_ever() -> None:
    client = Plain(Settings(heartbeat=None, send_timeout=None))
    client.stuck_since = time.monotonic()
    client.due(time.monotonic() + 1e6)
    assert client.reason is None


def test_one_that_is_stuck_is_looked_at_before_its_time_is_up(client: Plain) -> None:
    now = time.monotonic()
    client.spoke = now + 100.0
    client.stuck_since = now
    again = client.due(now)
    assert again is not None
    assert again < now + 10.0


def test_one_that_takes_little_is_slow_and_not_stuck() -> None:
    """What the peer acknowledged counts, not whether the kernel takes more of us."""
    with tcp_pair() as (server, peer):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client = Plain(Settings(heartbeat=None, send_timeout=1.0), sock=server)
        sending = threading.Thread(target=server.sendall, args=(b"x" * 4_000_000,))
        sending.start()
        now = client.stuck_since = time.monotonic()
        for _ in range(10):
            read_known(server, peer, 200_000)
            now += 0.9
            client.due(now)
            assert client.reason is None

        def is_stuck() -> bool:  # once its buffer is full, and it reads no more
            nonlocal now
            now += 1.1
            client.due(now)
            return client.reason is not None

        wait_until(is_stuck, "it is noticed that the peer takes no more")
        assert "took nothing" in str(client.reason)
        client.leave()
        read_exactly(peer, 2_000_000)
        sending.join(PATIENCE)


def test_clients_of_a_stopping_server_come_back_spread_over_two_seconds() -> None:
    times = {spread_retry() for _ in range(200)}
    assert 1000 <= min(times) < max(times) <= 3000
    assert len(times) > 20
    assert spread_retry(lambda low, high: low + high) == 4000


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
