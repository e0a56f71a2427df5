"""The lock-protected table of this worker's connected clients, and the one timer they share."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from ..bell import give_turn
from ..errors import HubClosed, StreamingError, TooManyClients

SWEEP = 0.25
"""Seconds between two sweeps over the clients."""

REMEMBERED = 100
"""How many ended connections the registry still knows the reason of."""

TURN = 250
"""Clients swept before others get a turn."""

_log = logging.getLogger(__name__)


class Client(Protocol):
    """A connected client, as its transport sees it. ``sweep`` and ``end`` never block."""

    @property
    def id(self) -> str:
        """Its name in this worker."""

    @property
    def transport(self) -> str:
        """How it is connected."""

    @property
    def since(self) -> float:
        """Since when (``time.time``)."""

    def describe(self) -> Mapping[str, object]:
        """Channels, position and peer, for people to read."""

    def sweep(self, now: float, /) -> None:
        """Look whether the peer left or a deadline passed; send a heartbeat that is due.

        ``now`` is ``time.monotonic()``.
        """

    def end(self, reason: StreamingError, /) -> None:
        """Have the connection end soon, and properly, for this reason. From any thread."""


class Registry:
    """Who is connected to this worker, over which transport, since when, and why the last left.

    Owns one daemon thread while there are clients: it sweeps over them four times a second.

    Args:
        limit: How many clients ``check_room`` lets in; None for any number.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._clients: dict[str, Client] = {}
        self._ended: deque[dict[str, object]] = deque(maxlen=REMEMBERED)
        self._closed: StreamingError | None = None
        self._sweeping = False

    def check_room(self) -> None:
        """Return if another client may come.

        Raises:
            TooManyClients: If ``limit`` are here.
        """
        if self._limit is not None and len(self._clients) >= self._limit:
            raise TooManyClients(
                f"This worker has {len(self._clients)} clients, all that it takes "
                "(STREAMING_CLIENTS). Try again in a moment."
            )

    def check_open(self) -> None:
        """Return if the registry still takes clients.

        Raises:
            HubClosed: If it was closed.
        """
        if self._closed is not None:
            raise self._closed

    def add(self, client: Client) -> None:
        """Take a client in; ``remove`` it in a ``finally``.

        Raises:
            HubClosed: If the registry was closed.
        """
        with self._lock:
            if self._closed is not None:
                raise self._closed
            self._clients[client.id] = client
            start, self._sweeping = not self._sweeping, True
        if start:
            threading.Thread(target=self._run, name="streaming sweep", daemon=True).start()

    def replace(self, client: Client) -> None:
        """Let ``client`` stand for the one that has its id."""
        with self._lock:
            if client.id in self._clients:
                self._clients[client.id] = client
        if self._closed is not None:
            client.end(self._closed)

    def remove(self, client: Client, reason: StreamingError | str) -> None:
        """Forget a client and remember why it left. Idempotent."""
        with self._lock:
            if self._clients.pop(client.id, None) is not None:
                self._ended.append(
                    {
                        "id": client.id,
                        "transport": client.transport,
                        "since": client.since,
                        "until": time.time(),
                        "reason": str(reason),
                    }
                )

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
        """``clients`` and ``ended`` as plain data, for a page or a test."""
        with self._lock:
            clients, ended = tuple(self._clients.values()), list(self._ended)
        return {"clients": [_row(client) for client in clients], "ended": ended}

    def __len__(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    def _run(self) -> None:
        while True:
            time.sleep(SWEEP)
            with self._lock:
                clients = tuple(self._clients.values())
                if not clients:
                    self._sweeping = False
                    return
            now = time.monotonic()
            for count, client in enumerate(clients, 1):
                try:
                    client.sweep(now)
                except Exception:
                    _log.exception("Sweep over %s failed", client.id)
                if count % TURN == 0:
                    give_turn()


def _row(client: Client) -> dict[str, object]:
    return {
        "id": client.id,
        "transport": client.transport,
        "since": client.since,
        **client.describe(),
    }


def new_client_id() -> str:
    """A fresh random name for a client: 16 hexadecimal digits."""
    return secrets.token_hex(8)
