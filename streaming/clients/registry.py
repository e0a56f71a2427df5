"""The lock-protected table of this worker's connected clients."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from ..bell import give_turn
from ..errors import NO_THREAD, HubClosed, LogUnavailable, StreamingError, TooManyClients
from .budgets import NOBODY, Everywhere, Holder, Places, Refusals
from .client import Client, Traffic
from .deadlines import Deadlines
from .ends import note_end
from .poller import Poller

REMEMBERED = 100
"""How many ended connections the registry still knows the reason of."""


AT_ONCE = 256
"""Clients that are looked at before others have a turn."""


HTTP = "http"
"""What stands for the transport of messages that are published with a request of their own."""


class Connected(NamedTuple):
    """What ``Registry.look`` finds."""

    clients: Mapping[str, int]
    """How many are connected, by transport."""
    lagging: int
    """How many of them have not taken all that there is for them."""
    traffic: Mapping[str, Traffic]
    """What went over all connections that there were, by transport."""


class Registry:
    """Who is connected to this worker, over which transport, since when, and why the last left.

    Args:
        places: How many clients there may be; any number by default.
        everywhere: How many of one holder there may be over all workers; likewise.
    """

    def __init__(self, places: Places | None = None, everywhere: Everywhere | None = None) -> None:
        self.deadlines = Deadlines()
        """When each client has to be looked at."""
        self.poller = Poller()
        """Who of those at rest has said something."""
        self.refusals = Refusals()
        """How often a client was refused something, and why."""
        self._places = places or Places()
        self._everywhere = everywhere or Everywhere()
        self._lock = threading.Lock()
        self._clients: dict[str, Client] = {}
        self._ended: deque[dict[str, object]] = deque(maxlen=REMEMBERED)
        self._leaving = 0  # those who are gone, and of whom not all is told yet
        self._closed: StreamingError | None = None
        self._traffic: dict[str, list[int]] = {}  # of those that have left, by transport
        self._opened: Counter[str] = Counter()
        self._endings: Counter[tuple[str, str]] = Counter()

    def check_space(self, holder: Holder = NOBODY) -> None:
        """Return if another client of ``holder`` may come.

        Raises:
            TooManyClients: If this worker has as many as it takes.
            TooMuch: If ``holder`` has.
        """
        with self._lock:
            refusal = self._places.refusal(holder)
        if refusal is not None:
            self.refusals.note(*refusal, holder)
            raise refusal[1]

    def check_open(self) -> None:
        """Return if the registry still takes clients.

        Raises:
            HubClosed: If it was closed.
        """
        if self._closed is not None:
            raise self._closed

    def add(self, client: Client) -> None:
        """Take a client in, and look at it from now on; ``remove`` it in a ``finally``.

        Raises:
            HubClosed: If the registry was closed.
            TooManyClients: If this worker has as many as it takes, or the system has no thread left
                to look at it.
            TooMuch: If its holder has as many as it may have.
        """
        with self._lock:
            if self._closed is not None:
                raise self._closed
            refusal = self._places.refusal(client.holder)
            if refusal is None:
                self._places.take(client.holder)
        if refusal is None:
            refusal = self._take_everywhere(client.holder)
        if refusal is not None:
            self.refusals.note(*refusal, client.holder)
            raise refusal[1]
        with self._lock:
            is_open = self._closed is None
            if is_open:
                self._clients[client.id] = client
                self._opened[client.transport] += 1
            else:
                self._places.give_back(client.holder)
        if not is_open:
            self._everywhere.give_back(client.holder)
            self.check_open()
        if client.trace is not None:
            client.trace.begin(client.transport)
        self._watch(client)

    def _take_everywhere(self, holder: Holder) -> tuple[str, StreamingError] | None:
        """Why there is no place beyond this worker. What was taken here is given back then."""
        is_taken = False
        try:
            refusal = self._everywhere.take(holder)
            is_taken = refusal is None
            return refusal
        finally:
            if not is_taken:
                with self._lock:
                    self._places.give_back(holder)

    def replace(self, before: Client, client: Client) -> None:
        """Let ``client`` stand for another object of the same client; ``remove`` it, too.

        Raises:
            TooManyClients: If the system has no thread left to look at it.
        """
        with self._lock:
            client.holder = before.holder
            _add(self._traffic, before.transport, before.traffic)
            if self._clients.pop(before.id, None) is not None:
                self._clients[client.id] = client
        self._watch(client)
        before.leave()
        if reason := before.reason or self._closed:
            client.end(reason)

    def count_for(self, client: Client, holder: Holder) -> None:
        """Count ``client`` for ``holder`` from now on; it is found out late who it is.

        Raises:
            TooMuch: If ``holder`` has as many as it may have; nothing has changed.
        """
        with self._lock:
            before = client.holder
            if client.id not in self._clients:
                client.holder = holder
                return
        refusal = self._everywhere.take(holder, before)
        if refusal is None:
            with self._lock:
                if is_here := client.id in self._clients:
                    self._places.give_back(before)
                    refusal = self._places.refusal(holder)
                    self._places.take(before if refusal else holder)
                if refusal is None:
                    client.holder = holder
            if is_here and refusal is None:
                self._everywhere.give_back(before, holder)
            else:
                self._everywhere.give_back(holder, before)
        if refusal is not None:
            self.refusals.note(*refusal, holder)
            raise refusal[1]

    def _watch(self, client: Client) -> None:
        try:
            client.watch()
        except RuntimeError as error:
            self.remove(client, str(error))
            raise TooManyClients(NO_THREAD) from error

    def remove(self, client: Client, reason: StreamingError | str) -> None:
        """Forget a client and remember why it left. Idempotent."""
        client.leave()
        transport, kind = client.transport, _kind(reason)
        with self._lock:
            was_here, holder = self._clients.pop(client.id, None) is not None, client.holder
            if was_here:
                self._leaving += 1
                self._places.give_back(client.holder)
                self._endings[transport, kind] += 1
                _add(self._traffic, transport, client.traffic)
                self._ended.append(
                    {
                        "id": client.id,
                        "transport": transport,
                        "since": client.since,
                        "until": time.time(),
                        "reason": str(reason),
                    }
                )
        if not was_here:
            return
        try:
            self._everywhere.give_back(holder)
            if client.trace is not None:
                client.trace.end(client.id, kind, _fault(reason), *client.traffic)
            note_end(client, kind, reason)
        finally:
            with self._lock:
                self._leaving -= 1

    def note_message(self, size: int) -> None:
        """A client has published ``size`` bytes of text with a request of their own."""
        with self._lock:
            _add(self._traffic, HTTP, Traffic(received=1, received_bytes=size))

    def counts(self) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
        """How many connections have begun, by transport; how many have ended, and by what kind of
        reason: an error of this package, or ``left``."""
        with self._lock:
            return dict(self._opened), dict(self._endings)

    def look(self) -> Connected:
        """Who is connected, and what went over all connections that there were, by transport.

        Looks at each client, and lets others run in between.
        """
        with self._lock:
            clients = tuple(self._clients.values())
            sums = {name: counts.copy() for name, counts in self._traffic.items()}
        here: Counter[str] = Counter()
        lag = 0
        for number, client in enumerate(clients, 1):
            transport = client.transport
            here[transport] += 1
            lag += client.lags
            _add(sums, transport, client.traffic)
            if number % AT_ONCE == 0:
                give_turn()
        return Connected(here, lag, {name: Traffic(*total) for name, total in sums.items()})

    def close(self, reason: HubClosed) -> None:
        """End all clients and refuse new ones. Does not wait for them. Idempotent."""
        with self._lock:
            self._closed = reason
        for client in self.clients():
            client.end(reason)

    def clients(self) -> tuple[Client, ...]:
        """Everyone connected now."""
        with self._lock:
            return tuple(self._clients.values())

    def snapshot(self) -> dict[str, list[dict[str, object]]]:
        """``clients``, ``ended`` and ``refused`` as plain data, for a page or a test."""
        with self._lock:
            clients, ended = tuple(self._clients.values()), list(self._ended)
        return {
            "clients": [row(client) for client in clients],
            "ended": ended,
            "refused": [
                {"reason": reason, "times": times} for reason, times in self.refusals.read().items()
            ],
        }

    def __len__(self) -> int:
        """How many clients are connected."""
        with self._lock:
            return len(self._clients)

    @property
    def is_empty(self) -> bool:
        """Whether nobody is connected, and all is told and given back of those who were."""
        with self._lock:
            return not self._clients and not self._leaving


def row(client: Client) -> dict[str, object]:
    """What is known of ``client``, as plain data."""
    return {
        "id": client.id,
        "transport": client.transport,
        "since": client.since,
        "identity": client.identity.id if client.identity else None,
        **client.describe(),
    }


def _add(sums: dict[str, list[int]], transport: str, more: Traffic) -> None:
    """Count what went over a connection; for the holder of the lock, or of sums of its own."""
    sent, sent_bytes, received, received_bytes = more
    total = sums.get(transport)
    if total is None:
        total = sums[transport] = [0, 0, 0, 0]
    total[0] += sent
    total[1] += sent_bytes
    if received:
        total[2] += received
        total[3] += received_bytes


def _fault(reason: StreamingError | str) -> str | None:
    """What was said, if the end was a fault of this side; None if it was nobody's, or the client's.

    1011 is that of an error in a handler or a producer (RFC 6455 section 7.4.1)."""
    if isinstance(reason, str):
        return None
    is_ours = reason.close_code == 1011 or isinstance(reason, LogUnavailable)
    return str(reason) if is_ours else None


def _kind(reason: StreamingError | str) -> str:
    """``client_gone`` for a ``ClientGone``: one of a few words."""
    return "left" if isinstance(reason, str) else _in_words(type(reason).__name__)


@lru_cache(64)
def _in_words(name: str) -> str:
    return _CAPITAL.sub("_", name).lower()


_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
