"""Several workers of two servers on one Redis let in together what a client may have."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.live.clients import RawClient
from tests.live.harness import gunicorn
from tests.live.raw_websocket import RawWebSocket, handshake
from tests.live.server import Server
from tests.polling import PATIENCE, wait_until
from tests.redis_server import RedisServer, redis_server

MOST, WANTED = 10, 30
ONE, OTHER = "198.51.100.1", "198.51.100.2"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def servers(redis: RedisServer) -> Iterator[list[Server]]:
    env = {
        "STREAMING_LOG": redis.url("p:"),
        "STREAMING_TRUSTED_PROXIES": '["127.0.0.1"]',
        "STREAMING_CLIENTS_PER_ADDRESS": str(MOST),
    }
    with ExitStack() as started:
        yield [
            started.enter_context(gunicorn("tests.live.attacked_app:app", workers=2, extra_env=env))
            for _ in range(2)
        ]


def socket_of(server: Server, address: str) -> RawWebSocket | None:
    """Another WebSocket of this address, if it gets one."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    connection.sendall(handshake(server, "/streaming/ws", X_Forwarded_For=address))
    if connection.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL) == b"HTTP/1.1 429":
        connection.close()
        return None
    return RawWebSocket.on(connection)


def stream_of(server: Server, address: str) -> tuple[RawClient, str]:
    """Another stream, and what it begins with."""
    url = f"{server.url}/streaming/events?channel=news"
    client = RawClient(url, headers={"X-Forwarded-For": address})
    event = client.next_event()
    assert event is not None
    return client, event.event or ""


def test_an_address_has_so_many_connections_on_all_workers_together(
    servers: list[Server], redis: RedisServer
) -> None:
    with ExitStack() as there:
        got = 0
        for n in range(WANTED):
            server = servers[n % 2]
            if n % 4 < 2:
                if (found := socket_of(server, ONE)) is not None:
                    there.enter_context(found)
                    got += 1
            else:
                client, event = stream_of(server, ONE)
                there.enter_context(client)
                assert event in ("ready", "restart")
                got += event == "ready"
        assert got == MOST
        lines = {"Accept": "application/x-ndjson", "X-Forwarded-For": ONE}
        for server in servers:
            with RawClient(f"{server.url}/streaming/events?channel=news", headers=lines) as refused:
                assert b'"restart"' in refused.read_all()
        client, event = stream_of(servers[0], OTHER)
        there.enter_context(client)
        assert event == "ready"
    wait_until(lambda: redis.ask("KEYS", "p:*:places") == [], "nobody is counted any more")
    with ExitStack() as there, suppress(OSError):
        found = [socket_of(servers[n % 2], ONE) for n in range(MOST + 2)]
        for each in filter(None, found):
            there.enter_context(each)
        assert [each is not None for each in found] == [True] * MOST + [False] * 2
