"""The load generator: one process on one CPU, many subscribers, every delivery counted.

``python -m bench.load '<Work as JSON>'`` prints one JSON object; ``bench.run`` calls it.
"""

from __future__ import annotations

import gc
import json
import os
import select
import sys
import time
from collections import defaultdict
from typing import Any

from . import machine, wire
from .crowd import AT_ONCE, PIECE, Failed, Posts, Probes, Sender, subscribe
from .work import Phase, Work

GRACE = 15.0  # seconds for what is under way when a phase ends
SMALL_BUFFER = 4096  # SO_RCVBUF of a subscriber that never reads


class Load:
    """The subscribers of one run, and what each of them has got."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.pids = machine.family(work.pid)
        cpu = machine.cpu_seconds(self.pids)
        before, started, busy = machine.pss_kib(self.pids), time.monotonic(), time.process_time()
        self.crowd = subscribe(work.port, work.path, work.kind, work.conns - work.stalled)
        took = time.monotonic() - started
        self.connecting = {
            "per_s": len(self.crowd) / took,
            "busy": (time.process_time() - busy) / took,
            "cpu_us": (machine.cpu_seconds(self.pids) - cpu) / len(self.crowd) * 1e6,
        }
        self.never_reads = subscribe(
            work.port, work.path, work.kind, work.stalled, receive_buffer=SMALL_BUFFER
        )
        self.poll = select.epoll()
        for sock in self.crowd:
            self.poll.register(sock, select.EPOLLIN)
        time.sleep(work.settle)
        self.connecting["kib"] = (machine.pss_kib(self.pids) - before) / work.conns
        fds = [sock.fileno() for sock in self.crowd]
        self.subscribed = frozenset(fds)
        self.low = dict.fromkeys(fds, 0)  # has every message below, see wire.advance
        self.ahead = dict.fromkeys(fds, 0)
        self.tails = dict.fromkeys(fds, b"")
        self.at = defaultdict(int, {0: len(fds)})  # how many connections are at this ``low``
        self.floor = self.sent = self.delivered = self.lost_connections = 0
        self.last, self.last_scan = b"", wire.Scan(0, 0, (), b"")
        self.waits: list[int] | None = None
        self.echoing = 0.0  # until then every answer is followed by the next message
        self.size, self.may_lose = 0, False
        self.probes: Probes | None = None
        self.publisher: Posts | Sender | None = None

    def turn(self, timeout: float) -> None:
        """Take what is there, or wait for something at most ``timeout`` seconds."""
        publisher = self.publisher
        for fd, event in self.poll.poll(max(timeout, 0), AT_ONCE):
            if fd in self.subscribed:
                if event & select.EPOLLOUT and isinstance(publisher, Sender):
                    publisher.flush()
                if event & ~select.EPOLLOUT:
                    self.take(fd)
            elif isinstance(publisher, Posts) and fd in publisher.sockets:
                publisher.take(fd)
        if self.probes:
            self.probes.turn()

    def take(self, fd: int) -> None:
        """Read one piece of one subscriber, and count."""
        try:
            data = os.read(fd, PIECE)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self.poll.unregister(fd)
            self.lost_connections += 1
            if self.waits is None or not self.may_lose:
                raise Failed("the server ended a subscription")
            return
        tail = self.tails[fd]
        if tail:
            data = tail + data
        if data != self.last:  # mostly, everybody gets the same bytes
            self.last, self.last_scan = data, wire.scan(self.work.kind, data)
        found = self.last_scan
        self.tails[fd] = found.rest
        if not found.stamps:
            return
        old = self.low[fd]
        new, self.ahead[fd] = wire.advance(old, self.ahead[fd], found)
        self.low[fd] = new
        self.at[old] -= 1
        self.at[new] += 1
        self.delivered += len(found.stamps)
        if self.waits is not None:
            now = time.monotonic_ns()
            self.waits.extend([now - stamp for stamp in found.stamps])
        if self.echoing:
            self.say(fd)

    def say(self, fd: int) -> None:
        now = time.monotonic_ns()
        if now < self.echoing:
            self.sent += 1
            os.write(fd, wire.frame(wire.message(self.low[fd], now, self.size)))

    def publish(self, stamp: int) -> None:
        assert self.publisher
        self.publisher.send(wire.message(self.sent, stamp, self.size))
        self.sent += 1

    def under_way(self) -> int:
        """How many messages not all have yet."""
        while self.floor < self.sent and not self.at[self.floor]:
            del self.at[self.floor]
            self.floor += 1
        return self.sent - self.floor

    def run(self, phase: Phase) -> dict[str, Any]:
        """Do the work of ``phase`` and tell what it took.

        Raises:
            Failed: A delivery is missing, a connection was ended, a request refused.
            Miscounted: A message came twice.
        """
        self.size, self.may_lose = phase.size, phase.may_lose
        self.publisher = self.new_publisher(phase)
        self.waits = [] if phase.mode == "open" else None
        if phase.probe_interval:
            self.probes = Probes(self.work.port, phase.probe_interval, time.monotonic)
            self.poll.register(self.probes.poll, select.EPOLLIN)
        sent, delivered, memory = self.sent, self.delivered, machine.pss_kib(self.pids)
        cpu, busy, began = machine.cpu_seconds(self.pids), time.process_time(), time.monotonic()
        until = began + phase.seconds
        try:
            modes = {"closed": self.closed, "open": self.open, "echo": self.echo, "idle": self.idle}
            modes[phase.mode](phase, until)
        except Failed as error:
            if not phase.may_lose:
                raise
            print(f"{phase.name}: {error}", file=sys.stderr)
        took = time.monotonic() - began
        due = round(phase.rate * phase.seconds) if phase.mode == "open" else self.sent - sent
        result: dict[str, Any] = {
            "seconds": took,
            "messages": due,
            "delivered": self.delivered - delivered,
            "busy": (time.process_time() - busy) / took,
            "cpu_s": machine.cpu_seconds(self.pids) - cpu,
            "grown_mib": (machine.pss_kib(self.pids) - memory) / 1024,
            "ended": self.lost_connections,
        }
        for name, waits in (("ms", self.waits), ("probe_ms", self.end_probes())):
            if waits:
                unit = 1e-6 if name == "ms" else 1e3
                shares = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
                result[name] = {k: wire.percentile(waits, v) * unit for k, v in shares}
                result[name]["count"] = len(waits)
        if self.publisher:
            self.publisher.close()
        return result

    def new_publisher(self, phase: Phase) -> Posts | Sender | None:
        if phase.mode in ("echo", "idle"):
            return None
        if self.work.publish is None:
            return Sender(self.poll, self.crowd[0])
        limit = 1 if phase.mode == "closed" and phase.inflight == 1 else 16
        return Posts(self.poll, self.work.port, self.work.publish, limit)

    def end_probes(self) -> list[float]:
        if not self.probes:
            return []
        self.poll.unregister(self.probes.poll)
        probes, self.probes = self.probes, None
        probes.close()
        return probes.waits

    def closed(self, phase: Phase, until: float) -> None:
        while (now := time.monotonic()) < until:
            while self.under_way() < phase.inflight:
                self.publish(time.monotonic_ns())
            self.turn(until - now)
        self.drain(until + GRACE)

    def open(self, phase: Phase, until: float) -> None:
        start, total = time.monotonic_ns(), round(phase.rate * phase.seconds)
        for number in range(total):
            due = start + int(number * 1e9 / phase.rate)
            while (left := due - time.monotonic_ns()) > 0:
                self.turn(left / 1e9)
            self.publish(due)
            self.turn(0)
        self.drain(until + (3 if phase.may_lose else GRACE))

    def echo(self, phase: Phase, until: float) -> None:
        self.echoing = until * 1e9
        for fd in self.subscribed:
            self.say(fd)
        while time.monotonic() < until or self.delivered < self.sent:
            if time.monotonic() > until + GRACE:
                raise Failed(f"lost: {self.sent - self.delivered} answers")
            self.turn(0.1)
        self.echoing = 0

    def idle(self, phase: Phase, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            self.turn(min(left, 0.5))

    def drain(self, deadline: float) -> None:
        while self.under_way():
            left = deadline - time.monotonic()
            if left < 0:
                short = sum(low < self.sent for low in self.low.values())
                raise Failed(f"lost: {short} of {len(self.low)} lack messages from {self.floor} on")
            self.turn(min(left, 0.1))


def main() -> int:
    """Do the work given as the first argument; print the results, or the error, as JSON."""
    given = json.loads(sys.argv[1])
    work = Work(**{**given, "phases": [Phase(**phase) for phase in given["phases"]]})
    os.sched_setaffinity(0, {work.cpu})
    machine.raise_file_limit()
    gc.disable()
    result: dict[str, Any] = {"phases": {}}
    try:
        load = Load(work)
        result["connect"] = load.connecting
        for phase in work.phases:
            result["phases"][phase.name] = load.run(phase)
    except (Failed, wire.Miscounted, OSError) as error:
        result["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(result))
    return 1 if "error" in result else 0


if __name__ == "__main__":
    sys.exit(main())
