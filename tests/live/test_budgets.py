"""Attackers of a few addresses want all there is, beside a proxy that the server knows: they use up
what is theirs, somebody beside them is served, and nothing is left of it."""

import json
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.live.clients import RawClient, post_json
from tests.live.harness import gunicorn, nginx
from tests.live.raw_websocket import TEXT, RawWebSocket, encode, handshake
from tests.live.server import Server
from tests.live.victim import DEADLINE, Victim
from tests.polling import wait_until

ENV = {
    "STREAMING_TRUSTED_PROXIES": '["127.0.0.1"]',
    "STREAMING_CLIENTS_PER_ADDRESS": "20",
    "STREAMING_COMMANDS": "5",
    "STREAMING_REPLAY": "50000",
}
PROXY = """
    map $http_upgrade $connection_upgrade { default upgrade; "" ""; }
    server {
        listen LISTEN;
        location / {
            proxy_pass UPSTREAM;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
        }
    }
"""
"""What matters here of the nginx of ``docs/deployment.md``."""

ATTACKERS = [f"127.0.0.{n}" for n in range(2, 7)]
WANTED = 40
"""Connections that each attacker wants; a worker would take them all."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with gunicorn("tests.live.attacked_app:app", extra_env=ENV) as server:
        yield server


def condition(server: Server) -> Any:
    with RawClient(f"{server.url}/", timeout=DEADLINE) as client:
        return client.json()


def refused(server: Server) -> dict[str, int]:
    return {row["reason"]: row["times"] for row in condition(server)["refused"]}


def connect(server: Server, address: str) -> socket.socket:
    """A connection of this address, which says that it is somebody else."""
    connection = socket.socket()
    connection.bind((address, 0))
    connection.settimeout(DEADLINE)
    connection.connect(("127.0.0.1", server.port))
    return connection


def attack(server: Server, address: str, n: int) -> RawWebSocket | None:
    """Another WebSocket of this attacker, if it gets one."""
    made_up = f"203.0.113.{n}, 198.51.100.{n}"
    connection = connect(server, address)
    connection.sendall(handshake(server, "/streaming/ws", X_Forwarded_For=made_up))
    status = connection.recv(12, socket.MSG_PEEK)
    if status == b"HTTP/1.1 429":
        connection.close()
        return None
    return RawWebSocket.on(connection)


def test_attackers_use_up_what_is_theirs_and_nothing_else(server: Server) -> None:
    victim = Victim(server)
    with ExitStack() as first:  # what a worker opens once
        for address in ATTACKERS:
            found = attack(server, address, 0)
            assert found is not None
            first.enter_context(found)
    wait_until(lambda: condition(server)["clients"] == 0, "nobody is left", timeout=DEADLINE)
    before = condition(server)["descriptors"]
    with ExitStack() as all_of_them:
        there = []
        for n in range(WANTED):
            for address in ATTACKERS:
                if (found := attack(server, address, n)) is not None:
                    there.append(all_of_them.enter_context(found))
        assert len(there) == len(ATTACKERS) * 20
        victim.ask(30)
        victim.report("beside all connections they get")
        publish = json.dumps({"type": "publish", "channel": "news", "data": "spam"}).encode()
        for each in there:
            each.socket.sendall(encode(TEXT, publish) * 100)
        headers = {"X-Forwarded-For": "198.51.100.99"}  # the proxy says so
        url = f"{server.url}/streaming/events?channel=news"
        with RawClient(url, headers=headers, timeout=DEADLINE) as reader:
            assert reader.next_event(timeout=DEADLINE)
            victim.ask(30)
            victim.report("beside a flood of commands")
            closed = [each.read_close().close_code for each in there]
        assert closed == [1008] * len(there)
        counts = refused(server)
        assert counts["clients_per_address"] == len(ATTACKERS) * (WANTED - 20)
        # of 100 commands each connection has had the 50 that may come at once, or its address 500
        assert counts["commands"] >= len(there) * 5
    wait_until(lambda: condition(server)["clients"] == 0, "nobody is left", timeout=DEADLINE)
    wait_until(lambda: condition(server)["descriptors"] <= before, "descriptors", timeout=DEADLINE)
    for address in ATTACKERS:  # and those who were refused get in
        with RawClient(url, headers={"X-Forwarded-For": address}, timeout=DEADLINE) as again:
            assert again.next_event(timeout=DEADLINE)


def ask(server: Server, address: str, path: str) -> bytes:
    """What an attacker is answered that says it is somebody else each time: all of a refusal, and
    of what it wants enough to see that it gets it."""
    with connect(server, address) as connection:
        made_up = f"203.0.113.{secrets.randbelow(250)}"
        head = ["Host: x", "Connection: close", f"X-Forwarded-For: {made_up}", "", ""]
        connection.sendall("\r\n".join([f"GET {path} HTTP/1.1", *head]).encode())
        said = bytearray()
        while len(said) < PAST * SIZE:
            piece = connection.recv(1 << 20)
            if not piece:
                break
            said += piece
        return bytes(said)


PAST, SIZE = 50, 10_000
"""Messages that the channel holds, and the bytes of each."""


def test_who_asks_for_the_past_again_and_again_gets_what_is_its_own(server: Server) -> None:
    victim, url = Victim(server), f"{server.url}/streaming/events?channel=big"
    for _ in range(PAST):  # a program of this machine may
        assert post_json(f"{server.url}/streaming/channels/big", {"data": "z" * SIZE})[0] == 201
    headers = {"X-Forwarded-For": "198.51.100.99"}
    with RawClient(url, headers=headers, timeout=DEADLINE) as reader:
        assert reader.next_event(timeout=DEADLINE)
        for address in ATTACKERS[:3]:
            path, began, times = "/streaming/events?channel=big&history=1000", time.monotonic(), 0
            for _ in range(20):
                answer = ask(server, address, path)
                is_whole = len(answer) >= PAST * SIZE
                assert is_whole != (b"event: restart" in answer)
                times += is_whole
            # 50,000 bytes a second for a minute, what came since, and what was under way
            came = (time.monotonic() - began) * 50_000 / (PAST * SIZE)
            assert 6 <= times <= 8 + came
            victim.ask(5)
        victim.report("beside those who want the past")
        assert post_json(f"{server.url}/streaming/channels/big", {"data": "live"})[0] == 201
        event = reader.next_event(timeout=DEADLINE)
        assert event is not None
        assert event.data == "live"
    assert refused(server)["replay"] > 0


PEERS = ["127.0.0.1"] + ["127.0.0.77"] * 20


def test_behind_nginx_everybody_is_who_it_is_and_nobody_somebody_else(server: Server) -> None:
    wait_until(lambda: condition(server)["clients"] == 0, "nobody is left", timeout=DEADLINE)
    with nginx(PROXY.replace("UPSTREAM", server.url)) as proxy, ExitStack() as there:
        for n in range(WANTED):
            if (found := attack(proxy, "127.0.0.77", n)) is not None:
                there.enter_context(found)
        with there.pop_all(), RawClient(f"{proxy.url}/streaming/events?channel=news") as other:
            assert other.next_event(timeout=DEADLINE)
            wait_until(lambda: sorted(condition(server)["peers"]) == PEERS, "they are known")
    wait_until(lambda: condition(server)["clients"] == 0, "nobody is left", timeout=DEADLINE)
