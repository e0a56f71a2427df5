"""streaming/clients/life.py: what becomes of an open WebSocket."""

import threading
import time
from unittest import mock

from streaming import Connection
from streaming.clients import life
from streaming.clients.life import Life
from streaming.clients.outlet import Writing
from streaming.clients.registry import Registry
from streaming.settings import Settings
from tests.greenlets import in_greenlets
from tests.live.raw_websocket import TEXT, encode
from tests.polling import PATIENCE, wait_until
from tests.sockets import tcp_pair


@in_greenlets
def test_a_client_that_takes_nothing_is_looked_at_as_seldom_as_any() -> None:
    """It cannot go to rest before it has taken what it is in the midst of."""
    registry = Registry()
    with tcp_pair() as (server, peer), mock.patch.object(life, "AWAKE", 0.05):
        connection = Connection(registry.deadlines, Settings(), server)
        one = Life(connection, registry, is_ours=False)
        registry.add(connection)
        connection.line.start()
        one.begin(lambda: lambda message: None)
        putting = threading.Thread(target=connection.line.put, args=(b"x" * 20_000_000,))
        putting.start()
        wait_until(lambda: connection.line.phase is Writing.BUSY, "it takes nothing more")
        peer.sendall(encode(TEXT, b"wake up"))
        wait_until(lambda: one._is_awake, "it is awake, and stays so")
        for _ in range(3):
            now = time.monotonic() + 60
            again = one.due(now)
            assert again is not None
            assert again >= now + 0.05
        left = 20_000_000
        while left:
            left -= len(peer.recv(1 << 20))
        putting.join(PATIENCE)
        wait_until(lambda: not one._is_awake, "it is at rest")
        peer.close()
        wait_until(lambda: not len(registry), "it is gone")
