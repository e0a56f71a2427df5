"""Whether those who are connected still may be: asked again every so often, in one thread, which
renews tickets, too."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from itertools import count
from weakref import ref

from ..bell import Bell
from ..clients.client import Client, spread
from ..errors import (
    NO_THREAD,
    ClientGone,
    Forbidden,
    LogUnavailable,
    Recalled,
    Revoked,
    TooManyClients,
)
from ..own import Own, era, is_over
from .permissions import Failed

_log = logging.getLogger(__name__)


class Rechecks:
    """Who is to be asked about again, and when. From any thread."""

    def __init__(self) -> None:
        self._rounds = Own(_Rounds)

    def add(self, client: Client, seconds: float) -> None:
        """Ask the ``permit`` of ``client`` in so many seconds, a tenth more or less, and then when
        it says, for as long as the client is there. Where no thread can be started for it, the
        client is ended."""
        self._rounds().add(client, seconds)

    def close(self) -> None:
        """Ask nobody any more: all are about to leave. Idempotent."""
        self._rounds().close()


class _Rounds:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bell = Bell()
        self._due: list[tuple[float, int, ref[Client], float]] = []
        self._numbers = count()
        self._is_running = False
        self._is_closed = False
        self._era = era()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._due.clear()
        self._bell.ring()

    def add(self, client: Client, seconds: float) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_running = self._is_running or self._start()
            if is_running := self._is_running:
                entry = spread(seconds), next(self._numbers), ref(client), seconds
                heapq.heappush(self._due, entry)
        if is_running:
            self._bell.ring()
        else:
            client.end(TooManyClients(NO_THREAD))

    def _start(self) -> bool:
        """Have a thread ask; for the holder of the lock. False if there is none to be had."""
        try:
            threading.Thread(target=self._run, name="streaming rechecks", daemon=True).start()
        except RuntimeError:
            return False
        return True

    def _run(self) -> None:
        while not is_over(self._era):
            with self._lock:
                if not self._due:
                    self._is_running = False
                    return
                wait = self._due[0][0] - time.monotonic()
                _, _, found, seconds = self._due[0]
                client = found() if wait <= 0 else None
                if wait <= 0:
                    heapq.heappop(self._due)
            if wait > 0:
                self._bell.wait(wait)
            elif client is not None and not client.is_left and client.reason is None:
                self.add(client, _look(client, seconds))


def _look(client: Client, seconds: float) -> float:
    """Ask; the seconds until it is to be asked again, as many as before if there is no answer."""
    try:
        if client.permit is not None:
            return client.permit()
    except (Failed, LogUnavailable) as error:  # nobody has said no; it is asked again
        _log.warning("Whether a client still may be here was not answered: %s", error)
    except (Revoked, Recalled, ClientGone) as error:
        client.end(error)
    except Forbidden as error:
        client.end(Recalled(f"Connect again. {error}"))
    except Exception:
        _log.exception("Asking whether a client still may be here failed")
    return seconds
