"""``python -m bench.sizing``: what a crowd needs, how it comes back, what a deploy costs.

On paper, from what was measured: tables as docs/deployment.md shows them. ``--redis redis://…``
measures what a message costs an empty Redis.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import redis

from streaming.logs import open_log
from streaming.settings import Settings

CLIENT = 5.31
"""KiB of a worker for a client of two channels: docs/benchmarks.md, "A channel for each client"."""

WORKER = 25.0
"""MiB (PSS) of a worker of four without clients: the application of docs/deployment.md."""

DELIVERY = 8.67 * 15.2 / 11.5
"""Microseconds of a worker's CPU to send a client of two channels a message; on Redis."""

CONNECTS = 1060
"""New event streams in a second, for each worker with a CPU of its own."""

APPEND, READ, CHANNEL = 131.0, 75.0, 4796
"""Microseconds of Redis' CPU to store a message, and to read it; bytes of a channel that has it."""

BUSY = 0.5
"""How busy a CPU may be, so that what is rare does not wait."""

PATIENCE = 60.0
"""Seconds after which all shall be back, where everything has been down."""


@dataclass(frozen=True)
class Crowd:
    """Each client follows a channel of its own, and one that all follow."""

    clients: int
    personal: float = 1.0  # messages a minute to each
    shared: float = 1.0  # messages a second to all

    @property
    def appended(self) -> float:
        return self.clients * self.personal / 60 + self.shared

    @property
    def delivered(self) -> float:
        return self.clients * (self.personal / 60 + self.shared)

    @property
    def workers(self) -> dict[str, float]:
        """How many there must be, for each of two reasons."""
        return {
            "to send": self.delivered * DELIVERY / 1e6 / BUSY,
            "to let all in again": self.clients / CONNECTS / PATIENCE,
        }

    @property
    def needed(self) -> int:
        return math.ceil(max(self.workers.values()))

    @property
    def redis(self) -> float:
        """CPUs of Redis: each worker reads the shared channel, one of them the client's own."""
        reads = self.clients * self.personal / 60 + self.shared * self.needed
        return (self.appended * APPEND + reads * READ) / 1e6


def pauses(random_: Callable[[], float]) -> Iterator[float]:
    """The browser client's ten, in seconds: streaming/static/backoff.js."""
    for attempt in range(10):
        yield random_() * min(0.25 if attempt == 0 else 2.0 ** (attempt - 1), 30.0)


@dataclass(frozen=True)
class Return:
    """How a crowd came back: seconds until a share of it was; what it cost."""

    half: float
    nearly: float  # 99 %
    last: float
    refused: float  # attempts for each client
    queue: int  # the most who waited
    gave_up: float  # share


def come_back(
    clients: int, rate: float, *, down: float = 0.0, told: bool = False, seed: int = 1
) -> Return:
    """``clients`` lose their server at once; from ``down`` on, ``rate`` are let in each second.

    If they were ``told``, by ``retry:``, they come within 1 to 3 s, otherwise by their own pauses.
    """
    dice = random.Random(seed)
    waits = [pauses(dice.random) for _ in range(clients)]
    first = [1 + 2 * dice.random() if told else next(waits[n]) for n in range(clients)]
    coming = [(at, n) for n, at in enumerate(first)]
    heapq.heapify(coming)
    waiting: deque[float] = deque()  # when each will have been let in
    back, refused, gave_up, queue = [], 0, 0, 0
    while coming:
        now, who = heapq.heappop(coming)
        if now < down:
            refused += 1
            pause = next(waits[who], None)
            if pause is None:
                gave_up += 1
            else:
                heapq.heappush(coming, (now + pause, who))
            continue
        while waiting and waiting[0] <= now:
            waiting.popleft()
        waiting.append(max(now, waiting[-1] if waiting else 0.0) + 1 / rate)
        queue = max(queue, len(waiting))
        back.append(waiting[-1])
    back.sort()

    def share(of: float) -> float:
        return back[min(len(back) - 1, int(len(back) * of))]

    return Return(share(0.5), share(0.99), back[-1], refused / clients, queue, gave_up / clients)


def moves(machines: int, at_once: int) -> float:
    """How often a client is moved while all machines are replaced, so many at once; a new one is
    there before an old one goes, and whoever is moved lands on any of those that are there."""
    old, new, moved = [1 / machines] * machines, 0.0, 0.0
    replaced = 0
    while old:
        leaving = sum(old[:at_once])
        replaced += len(old[:at_once])
        old = old[at_once:]
        moved += leaving
        there = len(old) + replaced
        old = [share + leaving / there for share in old]
        new += leaving * replaced / there
    assert math.isclose(new, 1.0)
    return moved


CROWDS = [Crowd(10_000), Crowd(100_000), Crowd(1_000_000)]
EACH = 10_000
"""Clients of each of eight workers. What is looked at is one that takes its part of those who come
back: all do the same."""

STORIES = [
    ("one of 8 workers is drained", EACH // 8, {"told": True}),
    ("one of 8 is killed", EACH // 7, {}),
    ("all 8 are drained at once", EACH, {"told": True}),
    ("all 8 are away for 5 s", EACH, {"down": 5.0}),
    ("all 8 are away for 60 s", EACH, {"down": 60.0}),
]


def paper() -> Iterator[str]:
    """The tables."""
    yield "| clients | " + " | ".join(f"{crowd.clients:,}" for crowd in CROWDS) + " |"
    yield "|---|" + "---:|" * len(CROWDS)
    rows: list[tuple[str, Callable[[Crowd], str]]] = [
        ("deliveries a second", lambda crowd: f"{crowd.delivered:,.0f}"),
        ("workers, to send", lambda crowd: f"{crowd.workers['to send']:.1f}"),
        (
            f"workers, to let all in again in {PATIENCE:.0f} s",
            lambda crowd: f"{crowd.workers['to let all in again']:.1f}",
        ),
        ("workers", lambda crowd: f"{crowd.needed}"),
        (
            "memory of the workers, GiB",
            lambda crowd: f"{(crowd.clients * CLIENT / 1024 + crowd.needed * WORKER) / 1024:.1f}",
        ),
        ("messages stored a second", lambda crowd: f"{crowd.appended:,.0f}"),
        ("CPUs of Redis", lambda crowd: f"{crowd.redis:.2f}"),
        ("Redis masters", lambda crowd: f"{math.ceil(crowd.redis / BUSY)}"),
        ("memory of Redis, GiB", lambda crowd: f"{crowd.clients * CHANNEL / 2**30:.1f}"),
    ]
    for name, value in rows:
        yield f"| {name} | " + " | ".join(map(value, CROWDS)) + " |"
    yield ""
    heads = ["half back", "99 %", "all", "attempts in vain", "gave up", "most in a worker's queue"]
    yield f"| {EACH:,} clients each | " + " | ".join(heads) + " |"
    yield "|---|" + "---:|" * len(heads)
    for name, clients, how in STORIES:
        told = come_back(clients, CONNECTS, **how)  # type: ignore[arg-type]
        yield (
            f"| {name} | {told.half:.1f} s | {told.nearly:.1f} s | {told.last:.1f} s | "
            f"{told.refused:.1f} | {told.gave_up:.1%} | {told.queue:,} |"
        )
    yield ""
    steps = [1, 2, 5, 10]
    yield "| machines replaced at once, of 10 | " + " | ".join(map(str, steps)) + " |"
    yield "|---|" + "---:|" * len(steps)
    moved = " | ".join(f"{moves(10, at_once):.2f}" for at_once in steps)
    yield f"| how often a client is moved | {moved} |"


def measure(url: str, count: int = 3000) -> Iterator[str]:
    """What a message of 128 bytes costs a Redis that does nothing else."""
    settings = Settings.from_config({"STREAMING_LOG": url})
    log, server = open_log(settings.log, settings.retention), redis.Redis.from_url(url)

    def used() -> tuple[float, int]:
        info = server.info()
        return info["used_cpu_user"] + info["used_cpu_sys"], info["used_memory"]

    before, held = used()
    for n in range(count):
        log.append(f"sizing:{n}", "x" * 128)
    appended, holds = used()
    start = log.tail("sizing:all")
    log.append("sizing:all", "x" * 128)
    middle, _ = used()
    for _ in range(count):
        log.read("sizing:all", start, limit=1, size=1 << 20)
    read, _ = used()
    yield f"append {(appended - before) / count * 1e6:.0f} µs, {(holds - held) / count:.0f} bytes"
    yield f"read {(read - middle) / count * 1e6:.0f} µs"
    log.close()
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", help="the URL of an empty Redis to measure")
    given = parser.parse_args()
    print("\n".join(measure(given.redis) if given.redis else paper()))
