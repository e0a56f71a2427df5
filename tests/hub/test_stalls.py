"""The whole road under a storm: stalls, torn writes, kills and restarts, in greenlets."""

import os
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from streaming.clients.outlet import Outlet
from streaming.hub.hub import Hub
from streaming.logs import MemoryLog, Retention
from streaming.message import Position
from streaming.settings import Settings
from streaming.web.responses import event_stream
from streaming.web.state import State
from streaming.web.tail import HandedOver, Tail
from streaming.wire import sse
from tests.greenlets import in_greenlets
from tests.polling import PATIENCE, wait_until

ROUNDS = int(os.environ.get("STALL_ROUNDS", "2"))
"""How many storms, each with another seed."""

CLIENTS = 150
PUBLISHERS = 3
EACH = 70
TOTAL = PUBLISHERS * EACH + 1
END = "the end"


class Chunks:
    """Chunked bodies (RFC 9112 section 7.1), and not one byte out of its place."""

    def __init__(self) -> None:
        self._data = b""
        self.is_over = False

    def feed(self, data: bytes) -> bytes:
        assert not self.is_over, f"behind the last chunk: {data[:40]!r}"
        self._data += data
        body = b""
        while b"\r\n" in self._data[:12] and not self.is_over:
            head, rest = self._data.split(b"\r\n", 1)
            size = int(head, 16)
            if len(rest) < size + 2:
                return body
            assert rest[size : size + 2] == b"\r\n", (
                f"torn: {rest[max(size - 20, 0) : size + 20]!r}"
            )
            body += rest[:size]
            self._data = rest[size + 2 :]
            self.is_over = size == 0
        assert len(self._data) < (1 if self.is_over else 12), f"torn: {self._data[:40]!r}"
        return body


class Site:
    """The application and what a server does with each request; workers may be replaced."""

    def __init__(self, retention: Retention) -> None:
        self.log = MemoryLog(retention)
        self.settings = Settings(heartbeat=0.002, send_buffer=None)
        self.state = self._new_worker()
        self.states = [self.state]
        self.done = False

    def _new_worker(self) -> State:
        return State(self.settings, Hub(self.log))

    def restart(self) -> None:
        """Another worker on the same log; everybody has to come back."""
        old, self.state = self.state, self._new_worker()
        self.states.append(self.state)
        old.close()

    def serve(self, sock: socket.socket, cursor: str) -> None:
        """One request and its response, as the server handles them."""
        environ = EnvironBuilder(headers={"Last-Event-ID": cursor}).get_environ()
        environ |= {"gunicorn.socket": sock, "SERVER_PROTOCOL": "HTTP/1.1"}
        with sock:
            body: Any = event_stream(Request(environ), self.state, ["a"], after=cursor).response
            try:
                for data in body:
                    sock.sendall(b"%x\r\n%b\r\n" % (len(data), data))
                sock.sendall(b"0\r\n\r\n")
            except HandedOver:
                pass  # it goes on without us; we close our descriptor
            except OSError:
                body.close()

    def sweep(self) -> None:
        """The registry's sweep, without its pauses: heartbeats wherever one fits."""
        while not self.done:
            for state in self.states:
                for client in state.registry.clients():
                    client.sweep(time.monotonic())
            time.sleep(0.001)


def listen(site: Site, cursor: str, dice: random.Random) -> list[sse.Event]:
    """All events of a client that stalls, leaves and comes back, up to the last one."""
    events: list[sse.Event] = []
    while not events or events[-1].data != END:
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, dice.choice([1, 10_000, 100_000]))
        theirs.settimeout(PATIENCE)
        server = threading.Thread(target=site.serve, args=(ours, cursor))
        server.start()
        chunks, decoder = Chunks(), sse.Decoder()
        life = dice.choice([5, 50, 500, 100_000])
        with theirs:
            while life and (not events or events[-1].data != END):
                life -= 1
                if dice.random() < 0.1:
                    time.sleep(dice.random() * 0.05)  # the stall itself, nothing waits for it
                data = theirs.recv(dice.choice([10, 3000, 100_000]))
                if not data:
                    break
                events += decoder.feed(chunks.feed(data))
                cursor = decoder.last_event_id or cursor
        server.join(PATIENCE)
        assert not server.is_alive(), "the server did not notice that the client left"
    return events


def publish(site: Site, dice: random.Random, log: dict[str, str]) -> None:
    for _ in range(EACH):
        for _ in range(dice.choice([1, 1, 1, 20])):
            time.sleep(0)
        if dice.random() < 0.6:  # time to come back to the head
            time.sleep(dice.random() * 0.08)
        text = f"{dice.random()} " * dice.choice([0, 0, 1, 1, 10, 10, 300, 1500])
        message = site.state.hub.publish("a", text)
        log[str(message.id)] = text


def check_story(events: list[sse.Event], log: dict[str, str]) -> int:
    """Nothing lost, doubled, reordered or changed, but for what a gap said; how many were lost."""
    last, lost = 0, 0
    for event in events:
        if event.event == "ready":
            assert Position.parse(event.id).offset == last
        elif event.event == "gap":
            place = Position.parse(event.id).offset
            assert place > last, "a gap in which nothing is missing"
            lost += place - last
            last = place
        elif event.event != "restart":
            assert Position.parse(event.id).offset == last + 1
            assert (event.event, event.data) == ("message", log[event.id])
            last += 1
    assert last == TOTAL
    return lost


class Counts:
    """What the storm did, so that a calm one is no proof."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.torn = self.full = self.rests = 0
        hold, start = Outlet.hold, Tail.start

        def counted_hold(outlet: Outlet, rest: bytes | memoryview) -> None:
            self.torn += bool(rest)
            self.full += not rest
            hold(outlet, rest)

        def counted_start(tail: Tail) -> bool:
            rests = start(tail)
            self.rests += rests
            return rests

        patch.setattr(Outlet, "hold", counted_hold)
        patch.setattr(Tail, "start", counted_start)


@pytest.mark.parametrize("held", [100_000, 25])
@pytest.mark.parametrize("seed", range(ROUNDS))
@in_greenlets
def test_whatever_stalls_tears_or_dies_every_stream_tells_what_the_log_says(
    seed: int, held: int
) -> None:
    dice = random.Random(seed)
    site = Site(Retention(messages=held, size=1 << 30))
    origin = str(site.log.tail("a"))
    log: dict[str, str] = {}
    stories: list[list[sse.Event]] = []

    def work(target: Callable[..., object], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments)
        thread.start()
        return thread

    def dices(count: int) -> list[random.Random]:
        return [random.Random(dice.random()) for _ in range(count)]

    with pytest.MonkeyPatch.context() as patch:
        counts = Counts(patch)
        sweeper = work(site.sweep)
        listeners = [
            work(lambda d: stories.append(listen(site, origin, d)), d) for d in dices(CLIENTS)
        ]
        writers = [work(publish, site, d, log) for d in dices(PUBLISHERS)]
        for part in (TOTAL // 3, TOTAL * 2 // 3):
            wait_until(lambda part=part: len(log) > part, "a part is published", 60)
            site.restart()
        for writer in writers:
            writer.join()
        log[str(site.state.hub.publish("a", END).id)] = END
        wait_until(lambda: not any(t.is_alive() for t in listeners), "all have the end", 60)
        for state in site.states:
            wait_until(lambda state=state: len(state.registry) == 0, "everybody has left")
            assert state.hub.subscribers("a") == 0
        site.done = True
        sweeper.join()

    assert len(log) == TOTAL
    assert len(stories) == CLIENTS, "a client failed; see below"
    lost = [check_story(events, log) for events in stories]
    assert any(lost) == (held < TOTAL)
    assert counts.rests > CLIENTS, "hardly anybody came to rest"
    assert counts.torn, "no write was torn"
    assert counts.full, "no write found the socket full"
