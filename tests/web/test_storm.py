"""Everything at once: clients of all kinds that come, talk, stall and leave, and drains between."""

import gc
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from flask import Flask

from streaming import SSE, Sock, chat, stream
from tests.greenlets import is_green, run_file
from tests.live.clients import RawClient
from tests.live.raw_websocket import CLOSE, PING, PONG, TEXT, RawWebSocket
from tests.polling import PATIENCE, wait_until
from tests.sites import Site, make_app, serve
from tests.sockets import open_descriptors

ROUNDS = int(os.environ.get("STORM_ROUNDS", "4"))
SOCKETS = ["/rest", "/echo", "/chat", "/streaming/ws"]
STREAMS = [
    "/answer",
    "/streaming/events?channel=a",
    "/streaming/events?channel=a&channel=b&history=20",
]


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def make(chance: random.Random) -> Flask:
    app = make_app(
        heartbeat=chance.choice([0.02, 0.05, None]),
        pong_timeout=0.3,
        send_timeout=chance.choice([0.2, 5.0]),
        direct_writes=chance.choice([True, True, False]),
    )
    sock = Sock(app)
    sock.route("/rest", endpoint="rest")(lambda ws: ws.send)
    sock.route("/chat", endpoint="chat")(lambda ws: chat(ws, "chat"))
    sock.route("/echo", endpoint="echo")(lambda ws: [ws.send(data) for data in ws] and None)
    app.get("/answer", endpoint="answer")(
        lambda: stream(("x" * 2000 for _ in range(50)), form=SSE, every=0.005)
    )
    return app


def talk(site: Site, chance: random.Random) -> None:
    path = chance.choice(SOCKETS)
    subprotocol = "streaming.v1.json" if path == "/streaming/ws" else None
    how = {"subprotocol": subprotocol, "timeout": 3.0}
    with RawWebSocket(site, path, **how) as ws:  # type: ignore[arg-type]
        for _ in range(chance.randrange(8)):
            chance.choice(
                [
                    lambda: ws.send(TEXT, b'{"type":"subscribe","channel":"a"}'),
                    lambda: ws.send(TEXT, b"x" * chance.randrange(30_000)),
                    lambda: ws.send(PING, b"p"),
                    lambda: ws.send(PONG),
                    lambda: ws.send(CLOSE, b"\x03\xe8"),
                    ws.read,
                    lambda: time.sleep(chance.random() * 0.02),
                ]
            )()
        if chance.random() < 0.3:
            ws.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1" + b"\0" * 7)


def listen(site: Site, chance: random.Random) -> None:
    buffer = chance.choice([None, 4096])
    with site.get(chance.choice(STREAMS), timeout=3.0, receive_buffer=buffer) as client:
        for _ in range(chance.randrange(6)):
            if chance.random() < 0.7:
                client.read(timeout=0.05)
            else:
                time.sleep(chance.random() * 0.03)
        chance.choice([RawClient.close, RawClient.reset])(client)


def live(site: Site, chance: random.Random) -> None:
    """One client's life; what it meets is not looked at, as long as the server is not hurt."""
    with suppress(AssertionError, OSError):
        chance.choice([talk, listen])(site, chance)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_no_storm_leaves_anybody_or_anything_behind(number: int) -> None:
    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)
    chance, before = random.Random(seed), open_descriptors()
    with serve(make(chance)) as site:  # nobody is listed and nothing was logged at the end
        lives = [
            threading.Thread(target=live, args=(site, random.Random(chance.random())))
            for _ in range(16)
        ]
        for thread in lives:
            thread.start()
        for n in range(chance.randrange(60)):
            site.state.hub.publish("ab"[n % 2], "m" * chance.randrange(20_000))
        if chance.random() < 0.5:
            site.state.close()
        for thread in lives:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def is_all_closed() -> bool:
        gc.collect()  # Werkzeug leaves its selector to the collector where a client broke off
        return open_descriptors() <= before + 3  # the loop, and a peer that is gone

    wait_until(is_all_closed, "all is closed")


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
