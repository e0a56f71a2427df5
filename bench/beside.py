"""How long others wait while thousands arrive at once: ``python -m bench.beside``.

Two clients are measured in turns, quiet and beside the crowd: one that is connected (a WebSocket
whose message comes back), and one that comes anew each time (the head of an event stream). The
server has one CPU, all clients another. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing

from . import machine, servers
from .wire import answer_end, frame, get, percentile

CROWD = """
import socket, sys
port, many, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
head = b"GET %s HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n" % path.encode()
crowd = []
for _ in range(many):
    crowd.append(socket.create_connection(("127.0.0.1", port), 60))
    crowd[-1].sendall(head)
for one in crowd:
    assert one.recv(4096), "one was not served"
"""
"""A program that connects as fast as it can, and ends once all have their stream's first bytes."""

PATH = "/events?channel=crowd"

QUIET = 500
"""How often each is measured before the crowd comes."""

PAUSE = 0.002
"""Seconds between two, so that it is the crowd that keeps the server busy."""


def connected(port: int) -> Callable[[], float]:
    """Somebody who is there: sends a message that comes back. The seconds that took."""
    sock = socket.create_connection(("127.0.0.1", port), 60)
    sock.sendall(get("/echo", "ws"))
    head = b""
    while not answer_end(head):
        head += sock.recv(4096)
    said = frame(b"still there?")
    answer = len(b"\x81\x18You said: still there?")

    def ask() -> float:
        began, left = time.monotonic(), answer
        sock.sendall(said)
        while left > 0:
            left -= len(sock.recv(left))
        return time.monotonic() - began

    return ask


def newcomer(port: int) -> Callable[[], float]:
    """Somebody who comes: the seconds until the first bytes of an event stream."""

    def ask() -> float:
        began = time.monotonic()
        with closing(socket.create_connection(("127.0.0.1", port), 60)) as sock:
            sock.sendall(get(PATH, "sse"))
            sock.recv(4096)
        return time.monotonic() - began

    return ask


def measure(port: int, many: int, victim: Callable[[int], Callable[[], float]]) -> dict[str, float]:
    """Milliseconds, quiet and beside ``many`` who arrive."""
    ask = victim(port)
    quiet = [again(ask) for _ in range(QUIET)]
    command = [sys.executable, "-c", CROWD, str(port), str(many), PATH]
    with subprocess.Popen(command) as crowd:
        beside = []
        while crowd.poll() is None:
            beside.append(again(ask))
    if crowd.returncode:
        raise RuntimeError("the crowd was not served")
    return {
        f"{when} {share}": 1000 * percentile(run, share / 100)
        for when, run in (("quiet", quiet), ("beside", beside))
        for share in (50, 99)
    }


def again(ask: Callable[[], float]) -> float:
    time.sleep(PAUSE)
    return ask()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.beside", description=__doc__)
    parser.add_argument("--many", type=int, default=3000, help="how many arrive")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    machine.raise_file_limit()
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise SystemExit("two CPUs are needed: one for the server, one for the clients")
    os.sched_setaffinity(0, {cpus[1]})
    print(f"| {given.many} arrive | quiet p50 / p99 | beside p50 / p99 | p99, times the quiet |")
    print("|---|---|---|---|")
    for server in (servers.PROJECT, servers.peers()[0]):
        for victim, title in ((connected, "who is there"), (newcomer, "who comes")):
            runs = []
            for _ in range(given.repeat):
                with servers.running(server, "ws", cpus[0]) as (_, port):
                    runs.append(measure(port, given.many, victim))
            value = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
            times = statistics.median(run["beside 99"] / run["quiet 99"] for run in runs)
            print(
                f"| {server.title}, {title} | {value['quiet 50']:.1f} / {value['quiet 99']:.1f} ms "
                f"| {value['beside 50']:.1f} / {value['beside 99']:.1f} ms | {times:.1f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
