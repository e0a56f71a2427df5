"""Somebody who only wants to be served, beside an attack: every request within its deadline."""

import time

from tests.live.clients import RawClient
from tests.live.server import Server

DEADLINE = 10.0
"""Seconds for each request: a bound that no healthy server comes near."""


class Victim:
    """Asks for a page, again and again, each time over a connection of its own."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._quiet = self._ask(30)

    def watch(self, times: int = 30) -> None:
        """Ask so often while others attack; what it took is printed, beside the quiet run."""
        beside = self._ask(times)
        for name, part in (("p50", 0.5), ("p99", 0.99)):
            quiet, now = (sorted(run)[int(part * (len(run) - 1))] for run in (self._quiet, beside))
            print(
                f"{name} {now * 1000:.1f} ms, {now / quiet:.1f} times the quiet {quiet * 1000:.1f}"
            )

    def _ask(self, times: int) -> list[float]:
        took = []
        for _ in range(times):
            began = time.monotonic()
            with RawClient(
                f"{self._server.url}/", tls=self._server.tls, timeout=DEADLINE
            ) as client:
                assert client.status == 200
                client.read_all()
            took.append(time.monotonic() - began)
        return took
