"""Somebody who only wants to be served, beside an attack: every request within its deadline."""

import time

from tests.live.clients import RawClient
from tests.live.server import Server
from tests.polling import PATIENCE

DEADLINE = PATIENCE
"""Seconds for each request: a bound that no healthy server comes near."""


class Victim:
    """Asks for a page, again and again, each time over a connection of its own."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._quiet: list[float] = []
        self._beside: list[float] = []
        self.ask(30)
        self._quiet, self._beside = sorted(self._beside), []

    def ask(self, times: int) -> None:
        """Ask so often."""
        for _ in range(times):
            began = time.monotonic()
            url, tls = f"{self._server.url}/", self._server.tls
            with RawClient(url, tls=tls, timeout=DEADLINE) as client:
                assert client.status == 200
                client.read_all()
            self._beside.append(time.monotonic() - began)

    def report(self, when: str) -> None:
        """Print what it took since the last report, beside the quiet run."""
        beside, self._beside = sorted(self._beside), []
        for name, part in (("p50", 0.5), ("p99", 0.99)):
            quiet, now = (1000 * run[int(part * (len(run) - 1))] for run in (self._quiet, beside))
            print(f"{when}: {name} {now:.1f} ms, {now / quiet:.1f} times the quiet {quiet:.1f}")
