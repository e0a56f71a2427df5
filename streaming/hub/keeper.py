"""Who listens to runs, and who makes them: looked at once a second.

A process with readers of a run that another one makes is a member of a room that nobody can ask
for, so that the maker knows; and sees to it that the run of a maker that has died is ended.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from ..bell import Bell
from ..errors import LogUnavailable, UnknownRun
from ..logs.contract import LEASE
from ..logs.doubt import Doubt
from ..own import era, is_over
from .generation import Phase
from .hub import Hub
from .making import MADE, PREFIX, Making
from .presence import Presence
from .pulse import Pulse

READERS = "~readers:"
"""The room of processes with readers of a run is called so, and the run behind it."""

LOOK = 1.0
"""Seconds between two looks."""

_log = logging.getLogger(__name__)


class Keeper:
    """Looks after the runs that this process makes, and those that are read here.

    Owns one daemon thread while there are such.

    Args:
        making: What this process makes.
        settle: Called with the id of a run that nobody makes: ends it, unless it has ended.
    """

    def __init__(
        self, hub: Hub, presence: Presence, making: Making, settle: Callable[[str], object]
    ) -> None:
        self._hub = hub
        self._presence = presence
        self._making = making
        self._settle = settle
        self.doubt = Doubt(LEASE)
        self._lock = threading.Lock()
        self._reads: dict[str, str] = {}  # channels with readers here; our member there, if any
        self._token = secrets.token_hex(8)
        self._bell = Bell()
        self._is_there = False
        self._pulse = Pulse()

    def note_reader(self, channel: str) -> None:
        """Somebody of this process reads a run. From any thread."""
        with self._lock:
            is_known = channel in self._reads
            if not is_known:
                self._reads[channel] = ""
        if not is_known:
            self.wake()

    def wake(self) -> None:
        """See to it that somebody looks."""
        with self._lock:  # nobody relies on it before it is there
            if not self._is_there:
                with suppress(RuntimeError):  # the next one tries again
                    threading.Thread(target=self._run, name="run keeper", daemon=True).start()
                    self._is_there = True
                    self._pulse.begin()

    def _run(self) -> None:
        born = era()
        while True:
            self._bell.wait(LOOK)
            if is_over(born):
                return
            self._feel_the_pulse()
            self._making.try_again()
            try:
                self._note_readers()
                self._stop_lonely()
                self._end_orphans()
            except LogUnavailable:  # whoever writes or reads says so
                self.doubt.note()
            except Exception:
                _log.exception("The keeper of runs failed")
            with self._lock:
                if not self._making.made and not self._reads:
                    self._is_there = False
                    self._pulse.end()
                    return

    def _feel_the_pulse(self) -> None:
        if self._pulse.has_stopped():
            self.doubt.note()

    def _is_in_doubt(self) -> bool:
        """Whether nobody is to be taken for dead yet; for whoever was answered by the log now."""
        self._feel_the_pulse()
        return self.doubt.lasts()

    def _note_readers(self) -> None:
        """Be in the rooms of the runs that are read here and made elsewhere, and in no others."""
        for channel, member in list(self._reads.items()):
            id = channel.removeprefix(PREFIX)
            if not self._hub.subscribers(channel):
                with self._lock:
                    if self._hub.subscribers(channel):
                        continue
                    del self._reads[channel]
                if member:
                    self._presence.release(READERS + id, member)
            elif not member and id not in self._making.made:
                self._presence.hold(READERS + id, self._token)
                self._reads[channel] = self._token

    def _stop_lonely(self) -> None:
        """Stop what is not to go on without readers, and has none on any worker."""
        now = time.monotonic()
        for id, made in list(self._making.made.items()):
            if made.patience is None or made.work.phase is Phase.OVER:
                continue
            if self._hub.subscribers(made.work.channel) or self._hub.log.members(READERS + id):
                made.lonely = now
            elif self._is_in_doubt():
                made.lonely = max(made.lonely, now)
            elif now - made.lonely > made.patience:
                self._making.end(id, "stopped", "Nobody listened.")

    def _end_orphans(self) -> None:
        """End the runs that are read here, and made nowhere."""
        reads = list(self._reads.items())  # others come meanwhile
        read = [channel.removeprefix(PREFIX) for channel, member in reads if member]
        for id in self.orphans(read):
            with suppress(UnknownRun):
                self._settle(id)

    def orphans(self, ids: Iterable[str]) -> list[str]:
        """Those of these runs that no process makes now, as far as can be told.

        Raises:
            LogUnavailable: If the log cannot be reached.
        """
        ids = list(ids)
        if not ids:
            return []
        made = {member.id.partition(".")[0] for member in self._hub.log.members(MADE)}
        if self._is_in_doubt():
            return []
        return [id for id in ids if id not in made]
