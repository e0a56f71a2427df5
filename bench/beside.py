"""How long others wait beside an attack: ``python -m bench.beside``.

Two victims are measured, one after the other, quiet and beside each attack: one that is connected
(a WebSocket whose message comes back), and one that comes anew each time (the head of an event
stream). The server has one CPU, all clients another. Prints a table in Markdown.
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
"""How often each is measured before the attack."""

FLOOD = [sys.executable, "-m", "bench.flooder", "{port}", "/echo", "100", "5"]
"""100 WebSockets that send without end, for 5 s."""

ATTACKS = {
    "3,000 arrive": [sys.executable, "-c", CROWD, "{port}", "3000", PATH],
    "100 send pongs": [*FLOOD, b"\x8a\x80\0\0\0\0".hex()],
    "100 send messages": [*FLOOD, frame(b"x").hex()],
    "100 send one message in fragments": [*FLOOD, b"\0\x81\0\0\0\0x".hex()],
}
"""Programs that end by themselves; ``{port}`` is filled in."""

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


def measure(
    port: int, attack: str, victim: Callable[[int], Callable[[], float]]
) -> dict[str, float]:
    """Milliseconds, quiet and beside an attack."""
    ask = victim(port)
    quiet = [again(ask) for _ in range(QUIET)]
    command = [part.format(port=port) if part == "{port}" else part for part in ATTACKS[attack]]
    with subprocess.Popen(command, cwd=servers.ROOT, stdout=subprocess.DEVNULL) as attackers:
        beside = [again(ask)]
        while attackers.poll() is None:
            beside.append(again(ask))
    if attackers.returncode:
        raise RuntimeError(f"nothing was measured: {attack} did not succeed")
    return {
        f"{when} {share}": 1000 * percentile(run, share / 100)
        for when, run in (("quiet", quiet), ("beside", beside))
        for share in (50, 99)
    }


def again(ask: Callable[[], float]) -> float:
    time.sleep(PAUSE)
    return ask()


def row(server: servers.Server, attack: str, cpu: int, repeat: int) -> str:
    """What came of it for both victims."""
    cells = []
    for victim in (connected, newcomer):
        runs = []
        for _ in range(repeat):
            with servers.running(server, "ws", cpu) as (_, port):
                try:
                    runs.append(measure(port, attack, victim))
                except OSError as error:
                    return f"| {attack} | {server.title} | {error or 'no answer'} | |"
        value = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        times = statistics.median(run["beside 99"] / run["quiet 99"] for run in runs)
        cells.append(
            f"{value['quiet 50']:.1f} / {value['quiet 99']:.1f} → {value['beside 50']:.1f} / "
            f"{value['beside 99']:.1f} ms ({times:.1f})"
        )
    return f"| {attack} | {server.title} | {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.beside", description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    machine.raise_file_limit()
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise SystemExit("two CPUs are needed: one for the server, one for the clients")
    os.sched_setaffinity(0, {cpus[1]})
    print("p50 / p99 quiet → beside the attack, and the p99 in times of the quiet one", end="\n\n")
    print("| attack | server | who is connected | who comes |")
    print("|---|---|---|---|")
    for attack in ATTACKS:
        for server in (servers.PROJECT, servers.peers()[0]):
            print(row(server, attack, cpus[0], given.repeat), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
