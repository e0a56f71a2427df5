"""Whether those who are connected still may be: asked again every so often, in one thread."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from itertools import count
from weakref import ref

from ..bell import Bell
from ..clients.client import Client, spread
from ..errors import Forbidden, Recalled
from ..own import Own, era, is_over
from .permissions import Failed

_log = logging.getLogger(__name__)


class Rechecks:
    """Who is to be asked about again, and when. From any thread.

    Args:
        every: Seconds between two looks at a client, a tenth more or less; None for never.
    """

    def __init__(self, every: float | None) -> None:
        self.every = every
        self._rounds = Own(lambda: _Rounds(every))

    def add(self, client: Client) -> None:
        """Look at ``client``, which has a ``permit``, for as long as it is there."""
        if self.every is not None and client.permit is not None:
            self._rounds().add(client)


class _Rounds:
    def __init__(self, every: float | None) -> None:
        self._every = every
        self._lock = threading.Lock()
        self._bell = Bell()
        self._due: list[tuple[float, int, ref[Client]]] = []
        self._numbers = count()
        self._is_running = False
        self._era = era()

    def add(self, client: Client) -> None:
        with self._lock:
            heapq.heappush(self._due, (spread(self._every), next(self._numbers), ref(client)))
            start, self._is_running = not self._is_running, True
        if start:
            threading.Thread(target=self._run, name="streaming rechecks", daemon=True).start()
        else:
            self._bell.ring()

    def _run(self) -> None:
        while not is_over(self._era):
            with self._lock:
                if not self._due:
                    self._is_running = False
                    return
                wait = self._due[0][0] - time.monotonic()
                client = heapq.heappop(self._due)[2]() if wait <= 0 else None
            if wait > 0:
                self._bell.wait(wait)
            elif client is not None and not client.is_left and client.reason is None:
                _look(client)
                self.add(client)


def _look(client: Client) -> None:
    try:
        if client.permit is not None:
            client.permit()
    except Failed as error:  # nobody has said no; it is asked again
        _log.warning("Whether a client still may be here was not answered: %s", error)
    except Forbidden as error:
        client.end(Recalled(f"Connect again. {error}"))
    except Exception:
        _log.exception("Asking whether a client still may be here failed")
