"""Floods of WebSocket frames: those beside them are served, and what is left behind is not worked
off for minutes."""

import subprocess
import sys
import time
from typing import Any

import pytest

from bench.beside import CROWD
from tests.live.clients import RawClient
from tests.live.harness import gunicorn
from tests.live.raw_websocket import PING, PONG, TEXT, RawWebSocket, encode
from tests.live.server import ROOT, Server, wait_until
from tests.live.victim import DEADLINE, Victim

APP = "tests.live.attacked_app:app"
MANY = 100
SECONDS = 2.0

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
        with RawWebSocket(server, "/echo", subprotocol=None, timeout=DEADLINE) as inside:
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
                wait_until(lambda: clients(server) == 1, "only the victim is left", timeout=30)


def test_who_is_there_does_not_wait_until_all_who_arrive_are_served() -> None:
    """Of those who come nobody is before another; who is connected has a turn between them."""
    path = "/streaming/events?channel=crowd"
    with (
        gunicorn(APP) as server,
        RawWebSocket(server, "/echo", subprotocol=None, timeout=DEADLINE) as inside,
    ):
        command = [sys.executable, "-c", CROWD, str(server.port), "1500", path]
        began = last = time.monotonic()
        longest = 0.0
        with subprocess.Popen(command) as crowd:
            while crowd.poll() is None:
                last = time.monotonic()
                inside.send(TEXT, b"still there?")
                assert inside.read_text() == "still there?"
                longest = max(longest, time.monotonic() - last)
        assert crowd.returncode == 0
        assert longest < (last - began) / 3
