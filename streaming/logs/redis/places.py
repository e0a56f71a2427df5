"""Who has how many connections, over all processes that share a Redis.

What an arrival costs is one command. Who is dead is found out when it matters, where a holder would
be refused because of it.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha1
from typing import Any

from ...bell import Bell
from ...errors import LogUnavailable
from ...own import era, is_over
from .commands import TIMEOUT, Commands
from .holders import BEAT, GO, SAY, TAKE
from .scripts import Script
from .url import RedisURL

KEPT = 3600
"""Seconds that what nobody renews is kept in Redis."""

UNSAID = 10_000
"""Holders of whom something is to be said, at most; beyond that all is said anew."""

_log = logging.getLogger(__name__)


class Held:
    """What this process has of one holder. Who asks for more waits for its turn, so that what is
    said is so."""

    __slots__ = ("asking", "count", "is_told", "turn")

    def __init__(self) -> None:
        self.count = self.asking = 0
        self.is_told = False  # Redis has been told, and so has to know it still
        self.turn = threading.Lock()


class Places:
    """The places of all holders in one Redis, as one process sees them. From any thread.

    Owns one daemon thread while this process has any: it tells Redis that the process lives, and
    what has changed.

    Args:
        lease: Seconds without a beat after which a process counts as dead.
    """

    def __init__(
        self,
        commands: Commands,
        url: RedisURL,
        *,
        lease: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._commands = commands
        self._url = url
        self._lease = int(lease * 1000)
        self._every = lease / 4
        self._clock = clock
        self._worker = secrets.token_hex(8)
        self._era = era()
        self._lock = threading.Lock()
        self._bell = Bell()
        self._held: dict[str, Held] = {}
        self._unsaid: dict[str, None] = {}
        self._number = 0
        self._living: frozenset[str] = frozenset()
        self._beaten = self._renewed = self._due = float("-inf")
        self._is_at_work = self._is_amiss = self._is_closed = False
        self._is_known = True  # False: Redis may have forgotten that this process lives

    def take(self, holder: str, most: int) -> bool:
        """See ``Log.take_place``."""
        if self._is_closed:
            return True
        with self._turn(holder) as (held, is_ours):
            with self._lock:
                if held.count >= most:
                    return False
                own, worker = held.count + 1, self._worker
            self._work()
            has_room, is_said = False, False
            try:
                if is_ours:
                    has_room = self._ask(holder, held, own, most)
                    is_said = worker == self._worker
                else:
                    has_room = True
            except LogUnavailable as error:
                self._is_known = False
                self._complain(error)
                has_room = True
            finally:
                with self._lock:
                    held.count += has_room
                    if not is_said:
                        self._note_unsaid(holder)
            return has_room

    def give(self, holder: str) -> None:
        """See ``Log.give_place``."""
        with self._lock:
            held = self._held.get(holder)
            if held is None or not held.count:  # it was closed
                return
            held.count -= 1
            self._tidy(holder, held)
            self._note_unsaid(holder)
        self._bell.ring()

    def close(self) -> None:
        """Let go of all. Idempotent.

        Raises:
            LogUnavailable: If Redis cannot be reached; it finds out later that we are gone.
        """
        with self._lock:
            self._is_closed = True
            self._held.clear()
            self._unsaid.clear()
        self._bell.ring()
        if self._beaten > float("-inf"):
            self._commands.run(GO, [self._holders], self._worker, again=True)

    @contextmanager
    def _turn(self, holder: str) -> Iterator[tuple[Held, bool]]:
        """What is held, and whether nobody else asks for more of it meanwhile."""
        with self._lock:
            held = self._held.setdefault(holder, Held())
            held.asking += 1
        is_ours = False
        try:
            is_ours = held.turn.acquire(timeout=TIMEOUT)
            yield held, is_ours
        finally:
            if is_ours:
                held.turn.release()
            with self._lock:
                held.asking -= 1
                self._tidy(holder, held)

    def _tidy(self, holder: str, held: Held) -> None:
        if not held.count and not held.asking and self._held.get(holder) is held:
            del self._held[holder]

    def _note_unsaid(self, holder: str) -> None:
        self._unsaid[holder] = None
        if len(self._unsaid) > UNSAID:
            self._begin_anew()

    def _begin_anew(self) -> None:
        """Be another process: what the old one has said is gone with its lease."""
        self._worker = secrets.token_hex(8)
        self._unsaid = dict.fromkeys(self._held)
        for held in self._held.values():
            held.is_told = False
        self._beaten = self._due = float("-inf")

    def _ask(self, holder: str, held: Held, own: int, most: int) -> bool:
        """Whether ``own`` of this process are not too many; that is said then."""
        # or others take us for dead
        if not self._is_known or self._clock() - self._beaten > 2 * self._every:
            self._beat()
        args = (own, self._next(), KEPT * 1000, most)
        others = _pairs(self._tell(TAKE, holder, held, *args))
        if others.keys() - self._living:
            self._beat()
            living = self._living
            dead = [word for other in others.items() if other[0] not in living for word in other]
            if dead:
                others = _pairs(self._tell(TAKE, holder, held, *args, *dead))
        held.is_told = held.is_told or not others
        return not others

    def _tell(self, script: Script, holder: str, held: Held, *args: object) -> Any:
        """What ``script`` gives. If Redis has lost what it was told, it first hears that we live:
        others would take us for dead, and what we have for nobody's."""
        key, was_told = [self._key(holder)], held.is_told
        held.is_told = False  # nobody knows, if this fails
        found = self._commands.run(script, key, self._worker, int(was_told), *args, again=True)
        if found is None:
            self._beat()
            found = self._commands.run(script, key, self._worker, 0, *args, again=True)
        else:
            held.is_told = was_told
        return found

    def _beat(self) -> None:
        """Say that this process lives; and again what it has, if it was taken for dead."""
        self._is_known = True  # it may be forgotten again while we say it
        try:
            is_new, living = self._commands.run(
                BEAT, [self._holders], self._worker, self._lease, KEPT * 1000, again=True
            )
        except BaseException:
            self._is_known = False
            raise
        self._living = frozenset(living)
        self._beaten = now = self._clock()
        self._due = now + self._every
        if is_new or now - self._renewed > KEPT / 4:
            self._renewed = now
            with self._lock:
                self._unsaid |= dict.fromkeys(name for name, it in self._held.items() if it.count)

    def _work(self) -> None:
        with self._lock:  # nobody relies on it before it is there
            if not self._is_at_work:
                thread = threading.Thread(target=self._run, name="streaming places", daemon=True)
                with suppress(RuntimeError):  # none is left: the next one who comes tries again
                    thread.start()
                    self._is_at_work = True

    def _run(self) -> None:
        while True:
            self._bell.wait(max(0.0, self._due - self._clock()))
            if is_over(self._era):
                return
            try:
                self._catch_up()
                self._is_amiss = False
            except LogUnavailable as error:
                self._is_known = False
                self._complain(error)
                self._due = self._clock() + self._every / 4
            except Exception:
                _log.exception("The places of holders cannot be told")
                self._due = self._clock() + self._every
            with self._lock:
                if self._is_closed or not (self._held or self._unsaid):
                    self._is_at_work = False
                    return

    def _catch_up(self) -> None:
        """Beat if that is due, and say what is not said yet, for as long as no other beat is."""
        if not self._is_known or self._clock() >= self._due:
            self._beat()
        while self._unsaid and self._clock() < self._due:
            with self._lock:
                holder = next(iter(self._unsaid), None)
            if holder is not None:
                self._say(holder)

    def _say(self, holder: str) -> None:
        with self._turn(holder) as (held, is_ours):
            if not is_ours:
                return
            with self._lock:
                self._unsaid.pop(holder, None)
                own = held.count
            try:
                self._tell(SAY, holder, held, own, self._next(), KEPT * 1000)
                held.is_told = own > 0
            except BaseException:
                with self._lock:
                    self._note_unsaid(holder)
                raise

    def _next(self) -> int:
        with self._lock:
            self._number += 1
            return self._number

    def _complain(self, error: LogUnavailable) -> None:
        """Log the first of a row of failures."""
        if not self._is_amiss:
            self._is_amiss = True
            _log.warning("Each worker counts the connections of a holder for itself: %s", error)

    def _key(self, holder: str) -> str:
        digest = sha1(holder.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
        return self._url.key(digest, "places")

    @property
    def _holders(self) -> str:
        return f"{self._url.prefix}holders"


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
