"""Many answers at once, piece by piece: ``python -m bench.answers``.

Each client posts a question and reads the answer. Ours is a run: it would outlive its request, and
every piece is in the log. sse-starlette's is a generator in the request, where it is installed.
The server has one CPU, the clients another. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import statistics
import sys
import time
from dataclasses import dataclass, field
from importlib.util import find_spec

from . import machine, servers

OURS = [*servers.GUNICORN, "--config", "gunicorn.conf.py", "--workers", "1", "bench.app:app"]
STARLETTE = ["{python}", "-m", "uvicorn", "--port", "{port}", "--log-level", "error"]
STARLETTE += ["bench.peers.starlette_app:app"]


@dataclass
class Reader:
    """A client that reads its answer."""

    sock: socket.socket
    asked: float
    first: float | None = None
    pieces: int = 0
    late: list[float] = field(default_factory=list)


def measure(port: int, pid: int, runs: int, count: int, pause: float) -> dict[str, float]:
    """Have ``runs`` answers of ``count`` pieces made at once, ``pause`` seconds between two."""
    selector, readers = selectors.DefaultSelector(), []
    family = machine.family(pid)
    memory, cpu = machine.pss_kib(family), machine.cpu_seconds(family)
    request = f"POST /ask?count={count}&pause={pause} HTTP/1.1\r\nHost: x\r\n"
    request += "Accept: text/event-stream\r\nContent-Length: 0\r\n\r\n"
    began = time.monotonic()
    for n in range(runs):
        while (left := began + n / runs - time.monotonic()) > 0:  # spread over a second
            drain(selector, left)
        sock = socket.create_connection(("127.0.0.1", port))
        reader = Reader(sock, time.monotonic())
        sock.sendall(request.encode())
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, reader)
        readers.append(reader)
    largest, until = 0, began + 1 + count * pause * 3 + 20
    middle = began + 1 + count * pause / 2
    while selector.get_map() and time.monotonic() < until:
        drain(selector, 0.05)
        if time.monotonic() > middle and not largest:
            largest = machine.pss_kib(family)
    seconds = time.monotonic() - began
    spent = machine.cpu_seconds(family) - cpu
    firsts = sorted(r.first - r.asked for r in readers if r.first is not None)
    pieces = sum(reader.pieces for reader in readers)
    return {
        "pieces": pieces,
        "lost": runs * count - pieces,
        "seconds": seconds,
        "first_p50": statistics.median(firsts) * 1000,
        "first_p99": firsts[int(len(firsts) * 0.99)] * 1000,
        "cpu": spent / pieces * 1e6,
        "kib": (largest - memory) / runs,
    }


def drain(selector: selectors.BaseSelector, seconds: float) -> None:
    """Take what has come."""
    if not selector.get_map():
        time.sleep(seconds)
    for key, _ in selector.select(seconds):
        reader: Reader = key.data
        data = reader.sock.recv(1 << 16)
        reader.pieces += data.count(b"piece ")
        if reader.first is None and reader.pieces:
            reader.first = time.monotonic()
        if not data or data.endswith(b"\r\n0\r\n\r\n"):
            selector.unregister(reader.sock)
            reader.sock.close()


def taking_part() -> list[servers.Server]:
    """Ours on each home of the log, and the peer where it is installed."""
    found = [
        servers.Server("memory", "a run, memory", {"sse": OURS}),
        servers.Server("sqlite", "a run, SQLite", {"sse": OURS}),
    ]
    if servers.executable("redis-server"):
        found.append(servers.Server("redis", "a run, Redis", {"sse": OURS}))
    if find_spec("sse_starlette") and find_spec("uvicorn"):
        found.append(servers.Server("starlette", "sse-starlette", {"sse": STARLETTE}))
    return found


LOGS = {
    "memory": "memory:",
    "sqlite": "sqlite:///{folder}/log.db",
    "redis": "redis://127.0.0.1:{redis}/0",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.answers", description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--count", type=int, default=250, help="pieces of each")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    machine.raise_file_limit()
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise SystemExit("two CPUs are needed: one for the server, one for the clients")
    found: dict[str, list[dict[str, float]]] = {}
    os.sched_setaffinity(0, {cpus[1]})
    for repetition in range(given.repeat):
        for server in taking_part():
            log = LOGS.get(server.name, "memory:")
            with servers.running(server, "sse", cpus[0], log=log) as (pid, port):
                measure(port, pid, 5, 5, given.pause)  # warm-up
                one = measure(port, pid, given.runs, given.count, given.pause)
            found.setdefault(server.title, []).append(one)
            print(f"{repetition + 1} {server.title}: {one}", file=sys.stderr, flush=True)
    print(
        f"| {given.runs} answers of {given.count} pieces, {1 / given.pause:g} pieces/s each | "
        "first piece p50 / p99 | CPU per piece | memory per answer | lost |"
    )
    print("|---|---|---|---|---|")
    for title, all_ in found.items():
        value = {name: statistics.median(one[name] for one in all_) for name in all_[0]}
        print(
            f"| {title} | {value['first_p50']:.1f} / {value['first_p99']:.1f} ms | "
            f"{value['cpu']:.0f} µs | {value['kib']:.1f} KiB | {value['lost']:.0f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
