"""TERM, HUP and worker recycling while streams are open: they end properly, and the process goes.

Deadlines are generous; what the server needs is under two seconds. gunicorn would wait for three
times the deadline before it kills a worker that is stuck.
"""

import contextlib
import json
import signal
from collections.abc import Iterator

import pytest

from tests.live.clients import Event, RawClient, post_json
from tests.live.harness import gunicorn
from tests.live.raw_websocket import RawWebSocket
from tests.live.server import Server, is_alive
from tests.polling import PATIENCE, wait_until

DEADLINE = PATIENCE
STUCK = ["--graceful-timeout", "240"]
GRACEFUL = 10.0  # gunicorn.conf.py
EVENTS = "/streaming/events?channel=news&channel=chat"


class OpenStreams:
    """A client of every kind, connected and past its first message."""

    def __init__(self, server: Server) -> None:
        with contextlib.ExitStack() as stack:
            opened = stack.enter_context
            as_lines = {"Accept": "application/x-ndjson"}
            self.sse = opened(RawClient(server.url + EVENTS))
            assert self.sse.next_event() is not None
            self.ndjson = opened(RawClient(server.url + EVENTS, headers=as_lines))
            assert b'"ready"' in self.ndjson.read()
            self.tutorial_events = opened(RawClient(server.url + "/events"))
            assert self.tutorial_events.next_event() is not None
            self.socket = opened(RawWebSocket(server))
            assert self.socket.read_json()["type"] == "welcome"
            self.socket.send_json(type="subscribe", channel="news")
            assert self.socket.read_json()["type"] == "ready"
            self.tutorial_socket = opened(RawWebSocket(server, "/ws", subprotocol=None))
            assert self.tutorial_socket.read_text()
            self._stack = stack.pop_all()

    def check_clean_ends(self) -> None:
        """Every stream has said why it ends, ended whole, and its connection is gone."""
        check_restart(list(self.sse.events()))
        assert self.sse.ending == "whole"
        lines = [json.loads(line) for line in self.ndjson.read_all().split(b"\n") if line]
        assert [line["event"] for line in lines] == ["restart"]
        assert self.ndjson.ending == "whole"
        assert all(event.event != "close" for event in self.tutorial_events.events())
        assert self.tutorial_events.ending == "whole"
        for socket in (self.socket, self.tutorial_socket):
            assert socket.read_close().close_code == 1012
            assert socket.is_ended()

    def __enter__(self) -> "OpenStreams":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@contextlib.contextmanager
def listening(server: Server, count: int) -> Iterator[list[RawClient]]:
    """So many clients that are past their first event."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server.url + EVENTS)) for _ in range(count)]
        for client in clients:
            assert client.next_event() is not None
        yield clients


def check_restart(events: list[Event]) -> None:
    last = events[-1]
    assert (last.event, last.data) == ("restart", "{}")
    assert last.retry is not None
    assert 0 < last.retry <= 60_000


@pytest.fixture
def server() -> Iterator[Server]:
    with gunicorn(extra_args=STUCK) as running:
        yield running


@pytest.fixture
def streams(server: Server) -> Iterator[OpenStreams]:
    with OpenStreams(server) as opened:
        yield opened


def test_term_ends_open_streams_and_the_process(server: Server, streams: OpenStreams) -> None:
    server.terminate(timeout=DEADLINE)
    streams.check_clean_ends()


def test_term_ends_streams_of_all_workers() -> None:
    with gunicorn(workers=2, extra_args=STUCK) as server, contextlib.ExitStack() as stack:
        clients: list[RawClient] = []
        shares: list[set[str]] = []  # who is connected to the worker that happened to answer

        def both_workers_have_streams() -> bool:
            clients.append(stack.enter_context(RawClient(server.url + EVENTS)))
            assert clients[-1].next_event() is not None
            with RawClient(server.url + "/clients") as asked:
                shares.append({each["id"] for each in asked.json()["clients"]})
            known = [share for share in shares if share]
            return any(not share & known[-1] for share in known)

        wait_until(both_workers_have_streams, "streams on both workers")
        server.terminate(timeout=DEADLINE)
        for client in clients:
            check_restart(list(client.events()))
            assert client.ending == "whole"


def test_several_workers_on_a_log_in_memory_do_not_start_and_say_what_to_set() -> None:
    server = gunicorn(workers=2, extra_env={"STREAMING_LOG": "memory:"}, expect_trouble=True)
    with pytest.raises(AssertionError, match="ended while starting"), server:
        pass
    said = server.log_text()
    assert "2 workers cannot share STREAMING_LOG=memory:. Set it to 'sqlite:///" in said
    assert "Traceback" not in said


def test_hup_ends_the_old_workers_streams_and_the_new_worker_serves(
    server: Server, streams: OpenStreams
) -> None:
    (old,) = server.worker_pids()
    server.send_signal(signal.SIGHUP)
    streams.check_clean_ends()
    wait_until(lambda: not is_alive(old), "the end of the old worker", timeout=DEADLINE)
    with OpenStreams(server):
        pass


def test_a_recycled_worker_ends_its_streams() -> None:
    with gunicorn(extra_args=["--max-requests", "20", "--max-requests-jitter", "0"]) as server:
        (old,) = server.worker_pids()

        def recycled() -> bool:
            if old in server.worker_pids():
                with RawClient(server.url + "/") as page:
                    page.read_all()
            return not is_alive(old)

        with OpenStreams(server) as streams:
            wait_until(recycled, "the worker to be recycled")
            streams.check_clean_ends()


def test_clients_are_told_to_come_back_at_different_times(server: Server) -> None:
    with listening(server, 30) as clients:
        server.terminate(timeout=DEADLINE)
        retries = [list(client.events())[-1].retry for client in clients]
    assert len(set(retries)) > 15, retries


def test_an_answer_being_written_holds_the_process_no_longer_than_it_may() -> None:
    """Its reader is told to come back; it is let come to its end, or interrupted in time: a worker
    that was killed would have told nobody."""
    with (
        gunicorn() as server,
        RawClient(
            server.url + "/ask",
            method="POST",
            headers={"Content-Type": "application/json", "Accept": "text/event-stream"},
            body=b'{"question": "What is SSE?"}',
        ) as client,
    ):
        assert client.next_event() is not None
        server.terminate(timeout=GRACEFUL + PATIENCE)
        rest = list(client.events())
        assert client.ending == "whole"
        assert rest[-1].event == "restart"


def test_clients_that_never_read_do_not_hold_the_process(server: Server) -> None:
    with (
        RawClient(server.url + EVENTS, receive_buffer=4096),
        RawWebSocket(server, receive_buffer=4096) as socket,
    ):
        socket.send_json(type="subscribe", channel="news")
        for _ in range(60):
            text = {"data": "x" * 100_000}
            assert post_json(server.url + "/streaming/channels/news", text)[0] == 201
        server.terminate(timeout=DEADLINE)
