"""Floods of WebSocket frames: those beside them are served, and what is left behind is not worked
off for minutes."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import Any

import pytest

from tests.live.clients import RawClient
from tests.live.harness import gunicorn
from tests.live.raw_websocket import PING, PONG, TEXT, RawWebSocket, encode
from tests.live.server import ROOT, Server
from tests.live.victim import DEADLINE, Victim
from tests.polling import wait_until

APP = "tests.live.attacked_app:app"
MANY = 100
SECONDS = 2.0
CROWD = 600
"""Clients that come at once."""

UNANSWERED = "messages without an answer"
FLOODS = {
    "pongs": ("/streaming/ws", encode(PONG)),
    "pings": ("/streaming/ws", encode(PING)),
    "messages": ("/echo", encode(TEXT, b"x")),
    UNANSWERED: ("/silent", encode(TEXT, b"x")),
    "refused messages": ("/streaming/ws", encode(TEXT, b"{}")),
    "fragments": ("/echo", encode(TEXT, b"", first_bits=0)),
}
WORKERS: dict[str, list[str]] = {"gevent": [], "gthread": ["-k", "gthread", "--threads", "150"]}


def clients(server: Server) -> int:
    with RawClient(f"{server.url}/", timeout=DEADLINE) as client:
        condition: Any = client.json()
        return int(condition["clients"])


@pytest.mark.parametrize(
    ("worker", "kind"),
    [*(("gevent", kind) for kind in FLOODS), ("gthread", "messages"), ("gthread", "fragments")],
)
def test_a_flood_leaves_others_served_and_nothing_to_work_off(worker: str, kind: str) -> None:
    path, frame = FLOODS[kind]
    with gunicorn(APP, extra_args=WORKERS[worker]) as server:
        victim = Victim(server)
        with RawWebSocket(server, "/echo", subprotocol=None) as inside:
            command = [sys.executable, "-m", "bench.flooder", str(server.port), path]
            command += [str(MANY), str(SECONDS), frame.hex()]
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as flooder:
                assert flooder.stdout is not None
                assert flooder.stdout.readline() == "ready\n"
                while flooder.poll() is None:
                    victim.ask(5)
                    inside.send(TEXT, b"still there?")
                    assert inside.read_text() == "still there?"
                print(kind, flooder.stdout.read().strip())
            victim.report("during")
            victim.ask(30)
            victim.report("after")
            if kind != UNANSWERED:  # what lies in the flooder's kernel is as good as a message
                wait_until(lambda: clients(server) == 1, "only the victim is left", timeout=60)


def test_who_is_there_does_not_wait_until_all_who_arrive_are_served() -> None:
    """Of those who come nobody is before another; who is connected has a turn between them."""
    with (
        gunicorn(APP) as server,
        RawWebSocket(server, "/count", subprotocol=None) as inside,
        ExitStack() as stack,
    ):
        inside.send(TEXT, b"how many?")
        assert inside.read_text() == "1"
        (worker,) = server.worker_pids()
        os.kill(worker, signal.SIGSTOP)  # all of this lies before it when it goes on
        try:
            crowd = [stack.enter_context(ask(server)) for _ in range(CROWD)]
            inside.send(TEXT, b"how many?")
        finally:
            os.kill(worker, signal.SIGCONT)
        assert int(inside.read_text()) < CROWD / 3
        for one in crowd:
            assert one.recv(4096), "one was not served"
        inside.send(TEXT, b"how many?")
        assert int(inside.read_text()) == 1 + CROWD


def ask(server: Server) -> socket.socket:
    """A client that asks for a stream."""
    client = socket.create_connection(("127.0.0.1", server.port), DEADLINE)
    client.sendall(b"GET /streaming/events?channel=crowd HTTP/1.1\r\nHost: x\r\n\r\n")
    return client
