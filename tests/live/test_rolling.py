"""Whatever happens to the workers, every client sees every message once and in order.

A crowd of SSE and WebSocket clients follows a publisher of 50 messages a second over two workers
while these are reloaded, recycled, told to stop or killed. All messages are counted at all clients.
``CROWD`` is how many clients of each kind: 200 where time is short, ``CROWD=500`` by hand.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.homes import SHARED_URLS
from tests.live.harness import gunicorn
from tests.live.server import ROOT, Server
from tests.polling import PATIENCE, wait_until

CROWD = int(os.environ.get("CROWD", "200"))
RATE = 50
BEFORE, AFTER = 1.5, 3.0  # seconds of publishing around what happens


class Publisher(threading.Thread):
    """Publishes 1, 2, 3 … over HTTP; what fails is sent again with the same key."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        self.published = 0
        self.retried = 0
        self.is_over = threading.Event()
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)

    def run(self) -> None:
        begun = time.monotonic()
        while not self.is_over.wait(max(0.0, begun + self.published / RATE - time.monotonic())):
            self.publish(str(self.published + 1))
            self.published += 1
        self.publish("end")
        self._connection.close()

    def publish(self, text: str) -> None:
        body = json.dumps({"data": text, "key": text, "secret": "of this publisher"})
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                self._connection.request(
                    "POST", "/streaming/channels/news", body, {"Content-Type": "application/json"}
                )
                answer = self._connection.getresponse()
                answer.read()
                if answer.status == 201:
                    return
                assert answer.status == 503, answer.status
            except (OSError, http.client.HTTPException):
                self._connection.close()
            self.retried += 1
            time.sleep(0.05)
        raise AssertionError(f"could not publish {text}")


@contextmanager
def crowd(server: Server) -> Iterator[subprocess.Popen[str]]:
    """Clients in a process of their own, all connected."""
    command = [sys.executable, "-m", "tests.live.crowd", server.url, "news", str(CROWD), str(CROWD)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def reload(server: Server) -> None:
    """HUP: new workers, then the old ones drain and go."""
    before = server.worker_pids()
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: not set(before) & set(server.worker_pids()), "new workers", timeout=PATIENCE)


def stop_a_worker(server: Server) -> None:
    """TERM to one worker: it drains, and the master starts another."""
    before = server.worker_pids()
    os.kill(before[0], signal.SIGTERM)
    wait_until(lambda: before[0] not in server.worker_pids(), "the worker's end", timeout=PATIENCE)


def kill_a_worker(server: Server) -> None:
    """kill -9: nobody says goodbye to anybody."""
    before = server.worker_pids()
    os.kill(before[0], signal.SIGKILL)
    wait_until(
        lambda: len(server.worker_pids()) == 2 and before[0] not in server.worker_pids(),
        "another worker",
        timeout=PATIENCE,
    )


def restart(server: Server) -> None:
    """TERM to the whole server, and a new one on the same log."""
    server.terminate(timeout=PATIENCE)
    server.start()


def wait_for_recycling(server: Server) -> None:
    """Each worker ends by itself after ``max_requests``, as connections and publishing count."""
    before = server.worker_pids()
    wait_until(lambda: not set(before) & set(server.worker_pids()), "recycling", timeout=PATIENCE)


EVENTS: dict[str, tuple[Callable[[Server], None], list[str]]] = {
    "reload (HUP)": (reload, []),
    "a worker stopped (TERM)": (stop_a_worker, []),
    "a worker killed (KILL)": (kill_a_worker, []),
    "the server restarted (TERM)": (restart, []),
    "max_requests": (wait_for_recycling, ["--max-requests", str(CROWD + 60)]),
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("home", SHARED_URLS)
def test_every_client_gets_every_message_once_and_in_order_through(
    event: str, home: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    happen, arguments = EVENTS[event]
    with ExitStack() as stack:
        url = stack.enter_context(SHARED_URLS[home](tmp_path))
        server = stack.enter_context(
            gunicorn(
                workers=2,
                extra_env={"STREAMING_LOG": url},
                extra_args=arguments,
                expect_trouble="KILL" in event,
            )
        )
        clients = stack.enter_context(crowd(server))
        publisher = Publisher(server)
        publisher.start()
        try:
            time.sleep(BEFORE)
            happen(server)
            time.sleep(AFTER)
        finally:
            publisher.is_over.set()
            publisher.join()
        out, _ = clients.communicate(timeout=PATIENCE)
    counts = json.loads(out)
    record_property("counts", counts)
    print(f"{home}, {event}: published {publisher.published}, retried {publisher.retried}", counts)
    for kind in ("sse", "websocket"):
        seen = counts[kind]
        assert seen["unfinished"] == 0, kind
        assert seen["once"] == publisher.published * CROWD, kind
        assert (seen["doubled"], seen["disordered"], seen["gaps"]) == (0, 0, 0), kind
    assert sum(counts[kind]["connects"] for kind in counts) > 2 * CROWD, "nobody was cut off"
