"""A client that says as much as is taken, where it has nothing to say."""

import time
from contextlib import suppress

from tests.live.clients import RawClient
from tests.polling import PATIENCE


def talk(client: RawClient) -> None:
    """Returns when the server has hung up."""
    client.socket.settimeout(0.05)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            with suppress(TimeoutError):
                while time.monotonic() < until:
                    client.socket.sendall(b"x" * 1000)
            with suppress(TimeoutError):
                if not client.socket.recv(64 * 1024):
                    return
        except OSError:
            return
    raise AssertionError("the server listens on")
