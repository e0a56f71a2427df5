"""Answers that survive: two workers, a model that is a real server, and accidents."""

import http.server
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from streaming.hub.keeper import LOOK
from streaming.logs.contract import BEAT, LEASE
from tests.homes import SHARED_URLS
from tests.live.clients import Event, RawClient
from tests.live.harness import gunicorn
from tests.live.raw_websocket import RawWebSocket
from tests.live.server import Server
from tests.polling import PATIENCE, wait_until

SSE, JSON, TEXT = "text/event-stream", "application/json", "text/plain"


class Upstream:
    """A model: gives each answer, by name, a piece when the test says so; counts what it sends."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.sent: dict[str, int] = {}
        self.broken: set[str] = set()
        self._allowed: dict[str, int] = {}
        self._length: dict[str, int] = {}
        self._turn = threading.Condition()
        upstream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                upstream.serve(self, self.path[1:])

            def log_message(self, format: str, *args: Any) -> None:
                """No line for each request."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=lambda: self.server.serve_forever(0.01))
        self._thread.start()

    def allow(self, name: str, count: int, *, end: bool = False) -> None:
        """Let it send so many pieces in all, and end behind them."""
        with self._turn:
            self._allowed[name] = count
            if end:
                self._length[name] = count
            self._turn.notify_all()

    def serve(self, handler: http.server.BaseHTTPRequestHandler, name: str) -> None:
        with self._turn:
            self.asked.append(name)
            self.sent[name] = 0
        handler.send_response(200)
        handler.send_header("Content-Type", "text/plain; charset=utf-8")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while True:
            with self._turn:
                while (
                    self.sent[name] >= self._allowed.get(name, 0)
                    and self.sent[name] != self._length.get(name)
                    and not _is_gone(handler.connection)
                ):
                    self._turn.wait(0.02)
                if self.sent[name] == self._length.get(name):
                    handler.wfile.write(b"0\r\n\r\n")
                    return
                if _is_gone(handler.connection):
                    self.broken.add(name)
                    handler.close_connection = True
                    return
                piece = f"{self.sent[name]} ".encode()
                self.sent[name] += 1
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def close(self) -> None:
        with self._turn:
            self._length = dict(self.sent)
            self._turn.notify_all()
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


def _is_gone(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture
def graceful() -> str:
    """Seconds that a worker which is to stop has for its answers: as long as the test may take."""
    return "240"


@pytest.fixture(params=SHARED_URLS)
def server(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path: Path, graceful: str
) -> Iterator[Server]:
    with (
        SHARED_URLS[request.param](tmp_path) as url,
        gunicorn(
            "tests.live.runs_app:app",
            workers=2,
            extra_env={"STREAMING_LOG": url, "UPSTREAM": upstream.url},
            extra_args=["--graceful-timeout", graceful],
        ) as server,
    ):
        yield server


def said(count: int) -> str:
    """What the upstream has said by then."""
    return "".join(f"{n} " for n in range(count))


def ask(server: Server, name: str, query: str = "", **headers: str) -> httpx.Response:
    answer = httpx.post(
        f"{server.url}/ask/{name}{query}", headers={"Accept": JSON, **headers}, timeout=PATIENCE
    )
    assert answer.status_code == 202, answer.text
    return answer


def state_of(server: Server, where: str) -> Any:
    answer = httpx.get(server.url + where, headers={"Accept": JSON}, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer.json()


class Reader:
    """A browser: reads a run's events, comes back with its last id, and keeps what it has seen."""

    def __init__(self, server: Server, where: str) -> None:
        self.server, self.where = server, where
        self.text, self.last, self.state, self.comings = "", "", "", 0
        self.is_over = self.has_lost = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        until = time.monotonic() + 60
        while not self.is_over and time.monotonic() < until:
            headers = {"Accept": SSE, **({"Last-Event-ID": self.last} if self.last else {})}
            try:
                with RawClient(self.server.url + self.where, headers=headers) as client:
                    self.comings += 1
                    if client.status == 204:
                        self.is_over = True
                        return
                    for event in client.events():
                        self._take(event)
            except (OSError, AssertionError):  # its worker was killed
                pass
            time.sleep(0.05)

    def _take(self, event: Event) -> None:
        self.last = event.id or self.last
        if event.event == "snapshot":
            self.text = event.json()["text"]
        elif event.event == "text":
            self.text += event.data or ""
        elif event.event == "end":
            self.state = event.json()["state"]
        elif event.event == "close":
            self.is_over = True
        elif event.event == "gap":
            self.has_lost = True

    def wait(self) -> None:
        wait_until(lambda: self.is_over, f"the end of {self.where}", 60)
        self._thread.join(PATIENCE)
        assert not self.has_lost


def reader_on(server: Server, where: str, *, other_than: int) -> RawClient:
    """A reader whose worker is another one."""

    def connect() -> RawClient | None:
        client = RawClient(server.url + where, headers={"Accept": SSE})
        if client.headers["x-worker"] != str(other_than):
            return client
        client.close()
        return None

    return wait_until(connect, "a connection to the other worker")


def test_a_closed_laptop_finds_the_whole_answer_once(server: Server, upstream: Upstream) -> None:
    asked = ask(server, "long")
    where = asked.headers["Location"]
    upstream.allow("long", 5)
    wait_until(lambda: state_of(server, where)["text"] == said(5), "it is said")
    upstream.allow("long", 100, end=True)
    wait_until(lambda: state_of(server, where)["state"] == "done", "it is over, nobody listened")
    for accept in (TEXT, JSON, SSE):
        answer = httpx.get(server.url + where, headers={"Accept": accept}, timeout=PATIENCE)
        assert said(100) in answer.text
    reader = Reader(server, where)
    reader.wait()
    assert (reader.text, reader.state) == (said(100), "done")
    assert upstream.asked == ["long"]


def test_ten_posts_with_one_key_over_two_workers_are_one_generation(
    server: Server, upstream: Upstream
) -> None:
    upstream.allow("once", 20, end=True)
    texts: list[str] = []

    def post() -> None:
        headers = {"Accept": TEXT, "Idempotency-Key": "one"}
        texts.append(httpx.post(f"{server.url}/ask/once", headers=headers, timeout=PATIENCE).text)

    threads = [threading.Thread(target=post) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [said(20)] * 10
    assert upstream.asked == ["once"]


def test_a_stop_on_another_worker_closes_the_upstream(server: Server, upstream: Upstream) -> None:
    asked = ask(server, "stopped")
    where, maker = asked.headers["Location"], int(asked.headers["X-Worker"])
    upstream.allow("stopped", 3)
    wait_until(lambda: state_of(server, where)["text"] == said(3), "it is said")
    with reader_on(server, where, other_than=maker) as client:
        assert client.next_event()

        def stop() -> bool:
            # whichever worker takes it: both ways have to do
            answer = httpx.delete(server.url + where, timeout=PATIENCE)
            assert answer.json()["state"] == "stopped"
            return answer.headers["X-Worker"] != str(maker)

        wait_until(stop, "the other worker was asked to stop it")
        events = list(client.events())
    assert events[-2].json()["state"] == "stopped"
    wait_until(lambda: "stopped" in upstream.broken, "the upstream's socket is closed")
    assert upstream.sent["stopped"] == 3
    assert state_of(server, where)["text"] == said(3)


def test_a_worker_that_is_killed_leaves_an_answer_that_is_interrupted(
    server: Server, upstream: Upstream
) -> None:
    asked = ask(server, "killed")
    where, maker = asked.headers["Location"], int(asked.headers["X-Worker"])
    upstream.allow("killed", 4)
    wait_until(lambda: state_of(server, where)["text"] == said(4), "it is said")
    with reader_on(server, where, other_than=maker) as client:
        os.kill(maker, signal.SIGKILL)
        events = []
        while (event := client.next_event(60)) is not None:
            events.append(event)
    assert events[-2].json()["state"] == "interrupted"
    assert LEASE + BEAT + LOOK < 15, "the README says so"
    state = state_of(server, where)
    assert (state["state"], state["text"]) == ("interrupted", said(4))
    upstream.allow("again", 2, end=True)
    again = ask(server, "again").headers["Location"]
    wait_until(lambda: state_of(server, again)["text"] == said(2), "asking again works")


def test_a_reload_of_the_server_lets_an_answer_come_to_its_end(
    server: Server, upstream: Upstream
) -> None:
    where = ask(server, "reloaded").headers["Location"]
    upstream.allow("reloaded", 10)
    readers = [Reader(server, where) for _ in range(4)]
    wait_until(lambda: all(r.text == said(10) for r in readers), "all have read it")
    old = server.worker_pids()
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: len(set(server.worker_pids()) - set(old)) == 2, "new workers")
    wait_until(lambda: all(r.comings > 1 for r in readers), "all have come again")
    upstream.allow("reloaded", 60)
    wait_until(lambda: all(r.text == said(60) for r in readers), "all go on reading")
    upstream.allow("reloaded", 80, end=True)
    for reader in readers:
        reader.wait()
        assert (reader.text, reader.state) == (said(80), "done")
    assert upstream.asked == ["reloaded"]
    wait_until(lambda: not set(server.worker_pids()) & set(old), "the old workers are gone")


@pytest.mark.parametrize("graceful", ["5"])
def test_an_answer_that_takes_longer_than_a_stopping_worker_may_is_interrupted(
    server: Server, upstream: Upstream
) -> None:
    where = ask(server, "endless").headers["Location"]
    upstream.allow("endless", 3)
    reader = Reader(server, where)
    wait_until(lambda: reader.text == said(3), "it is read")
    server.send_signal(signal.SIGHUP)
    reader.wait()
    assert (reader.text, reader.state) == (said(3), "interrupted")
    wait_until(lambda: "endless" in upstream.broken, "the upstream's socket is closed")


def test_whoever_listens_on_another_worker_keeps_an_answer_alive(
    server: Server, upstream: Upstream
) -> None:
    patience = 3.0
    asked = ask(server, "lonely", f"?alone={patience}")
    where, maker = asked.headers["Location"], int(asked.headers["X-Worker"])
    upstream.allow("lonely", 2)
    client = reader_on(server, where, other_than=maker)
    wait_until(lambda: (event := client.next_event()) and event.event == "snapshot", "it reads")
    until, n = time.monotonic() + patience + 2 * LOOK, 3
    while time.monotonic() < until:  # with a listener on the other worker
        upstream.allow("lonely", n)
        wait_until(lambda n=n: state_of(server, where)["text"] == said(n), f"{n} pieces")
        n += 1
        time.sleep(0.1)
    assert state_of(server, where)["state"] == "running"
    client.close()
    wait_until(lambda: state_of(server, where)["state"] == "stopped", "nobody listens")
    wait_until(lambda: "lonely" in upstream.broken, "the upstream's socket is closed")


def test_an_upstream_that_cannot_be_reached_is_an_error_of_http(
    server: Server, upstream: Upstream
) -> None:
    upstream.close()
    answer = httpx.post(f"{server.url}/ask/nobody", headers={"Accept": SSE}, timeout=PATIENCE)
    assert answer.status_code == 500
    assert json.loads(answer.text)["title"] == "The answer failed"
    server.expect_trouble = True  # it is logged


def test_a_machine_that_was_paused_goes_on_as_if_nothing_had_been(
    server: Server, upstream: Upstream
) -> None:
    """Nobody on it could beat: who goes on first must not take the others for dead."""
    asked = ask(server, "paused")
    where, maker = asked.headers["Location"], int(asked.headers["X-Worker"])
    upstream.allow("paused", 3)
    with ExitStack() as stack:
        reader = stack.enter_context(reader_on(server, where, other_than=maker))
        assert reader.next_event() is not None
        watcher = stack.enter_context(RawWebSocket(server))
        watcher.send_json(type="subscribe", channel="room:presence")
        assert [watcher.read_json()["type"] for _ in range(2)] == ["welcome", "ready"]

        def join() -> str:
            ws = stack.enter_context(RawWebSocket(server))
            ws.send_json(type="join", channel="room")
            client = ws.read_json()["client"]
            assert ws.read_json()["type"] == "joined"
            return str(client)

        def next_news() -> tuple[str, str]:
            frame = watcher.read_json()
            return frame["event"], json.loads(frame["data"])["id"]

        members = [join() for _ in range(20)]  # on both workers
        assert [next_news() for _ in members] == [("join", client) for client in members]

        workers = server.worker_pids()
        for number, seconds in ((signal.SIGSTOP, LEASE + BEAT), (signal.SIGCONT, 2 * BEAT)):
            for worker in workers:
                os.kill(worker, number)
            time.sleep(seconds)  # at last for as long as all need to look for each other

        room = httpx.get(f"{server.url}/streaming/presence/room", timeout=PATIENCE).json()
        assert [member["id"] for member in room["members"]] == members
        members.append(join())
        assert next_news() == ("join", members[-1])
        upstream.allow("paused", 6, end=True)
        state = wait_until(
            lambda: (state := state_of(server, where)) and state["state"] != "running" and state,
            "the end",
        )
        assert (state["state"], state["text"]) == ("done", said(6))
