"""Runs: answers that are made outside any request, each in a channel of its own that ends.

What is known of a run is in its channel. Who is alive is in two rooms that nobody can ask for: the
runs that are made, each held by the process that makes it, and the readers of each run, held by
those that have some. A process with readers also sees to it that the run of a dead one is ended.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from hashlib import blake2s
from typing import Any, Literal

from ..bell import Bell
from ..errors import ChannelEnded, HubClosed, LogUnavailable, StreamEnded, TooManyRuns, UnknownRun
from ..message import START, Gap, Message, Position
from ..names import END
from ..wire.compact import compact
from .generation import WINDOW, Generation, Phase, now, print_end
from .hub import Hub
from .parts import Answer
from .pieces import Producer, check_producer
from .presence import Presence
from .subscription import Subscription
from .workers import Workers

PREFIX = "run:"
"""What the channels of runs begin with."""

MADE = "~runs"
"""The room of runs that are made now; a member is called ``<run>.<token>``."""

READERS = "~readers:"
"""The room of processes with readers of a run is called so, and the run behind it."""

LOOK = 1.0
"""Seconds between two looks at who listens, and who lives."""

FIRST = 30.0
"""Seconds that a run which is not to go on alone waits for its first reader."""

OnDisconnect = float | Literal["continue", "cancel"]
"""What becomes of a run that nobody listens to: it goes on; it is stopped; or it is stopped after
so many seconds without anybody."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Made:
    """A run that this process makes."""

    work: Generation
    token: str
    patience: float | None
    """Seconds it goes on while nobody listens; None for ever."""
    lonely: float
    """Since when nobody has listened (``time.monotonic``); a time to come until somebody has."""

    @property
    def seat(self) -> str:
        """What it is called in the room of those that are made."""
        return f"{self.work.id}.{self.token}"


class Runs:
    """The runs of one log, and those that this process makes.

    Owns, while it makes some, a few daemon threads ``streaming runs`` that write, and one for each
    producer; and one ``run keeper`` while it makes some or has readers of some.

    Args:
        most: Producers at work at the same time, and as many that wait for their turn.
        hang_up: Closes what a producer reads from, so that it notices.
    """

    def __init__(
        self, hub: Hub, presence: Presence, *, most: int, hang_up: Callable[[object], None]
    ) -> None:
        self._hub = hub
        self._presence = presence
        self._most = most
        self._hang_up = hang_up
        self._lock = threading.Lock()
        self._made: dict[str, _Made] = {}
        self._queue: deque[Generation] = deque()
        self._working = 0
        self._reserved = 0  # places in the queue, of those that are about to begin
        self._reads: dict[str, str] = {}  # channels with readers here; our member there, if any
        self._bell = Bell()
        self._is_kept = False
        self._is_closed = False
        self._token = secrets.token_hex(8)
        self._is_away = False
        self._workers: Workers[Generation] = Workers(
            "streaming runs",
            self._write,
            most=hub.log.reads,
            is_needed=lambda: bool(self._made),
            patience=WINDOW,
        )

    # ---- for everybody

    def start(
        self,
        producer: Producer,
        args: tuple[Any, ...],
        *,
        id: str,
        context: Callable[[], AbstractContextManager[object]],
        on_disconnect: OnDisconnect = "continue",
        about: Mapping[str, Any] | None = None,
    ) -> bool:
        """Begin the run ``id``, made by ``producer``; False if there is one, which is joined.

        Of several processes that begin it at the same time, one does.

        Raises:
            TypeError: If the producer is none, or does not take the arguments.
            HubClosed: If this process is about to stop.
            TooManyRuns: If this worker makes as many as it may.
            LogUnavailable: If the log cannot be reached.
        """
        check_producer(producer, args)
        channel, token = PREFIX + id, secrets.token_hex(8)
        if not self._hub.log.tail(channel).is_mark:
            return False
        work = Generation(
            *(id, channel, producer, args),
            context=context,
            hub=self._hub,
            wanted=self._want,
            hang_up=self._hang_up,
            over=self._let_go,
        )
        patience = _patience(on_disconnect)
        made = _Made(work, token, patience, time.monotonic() + max(FIRST, patience or 0.0))
        is_queued = self._reserve()
        try:
            self._presence.hold(MADE, made.seat)
            state = "queued" if is_queued else "running"
            said: dict[str, Any] = {"id": id, "state": state, "started": now()}
            if about:
                said["about"] = dict(about)
            first = self._hub.log.append(
                channel, compact(said), event="start", key="start", sender=token
            )
        except BaseException:
            self._give_back(made, is_queued=is_queued)
            raise
        if first.sender != token:  # another was faster
            self._give_back(made, is_queued=is_queued)
            return False
        work.place = first.id
        with self._lock:
            self._made[id] = made
            if is_queued:
                self._reserved -= 1
                self._queue.append(work)
        self._hub.log.follow(channel, work.heard)
        self._keep()
        if not self._workers.ensure():
            self._fail(made)
        elif not is_queued:
            self._begin(made, announce=False)
        self._go_on()
        return True

    def answer(self, id: str) -> Answer:
        """The run as far as it has come. One whose process has died is ended.

        Raises:
            UnknownRun: If there is none, or it is no longer kept.
            LogUnavailable: If the log cannot be reached.
        """
        answer = self._read(id)
        if not answer.is_over and not self._is_made(id):
            answer = self._read(id)  # it may have ended just now
            if not answer.is_over:
                self._end(id, "interrupted", "The answer was interrupted.")
                answer = self._read(id)
        return answer

    def wait_first(self, id: str, seconds: float) -> None:
        """Block until the run, which this process makes, has said something or has ended; for
        ``seconds`` at most."""
        made = self._made.get(id)
        if made is not None:
            made.work.has_said.wait(seconds)

    def is_read(self, id: str, place: Position) -> bool:
        """Whether the run is over, and nothing comes behind ``place``. One whose process has died
        is ended.

        Raises:
            UnknownRun: If there is none, or it is no longer kept.
            LogUnavailable: If the log cannot be reached.
        """
        channel = PREFIX + id
        head = self._hub.log.tail(channel)
        if head.is_mark:
            raise _unknown(id)
        if not self._hub.log.read(channel, head, limit=1, size=1).ended:
            if not self._is_made(id):
                self.answer(id)
            return False
        return place == head

    def stop(self, id: str) -> Answer:
        """End the run, whoever makes it, and return it; what was said is kept. Idempotent.

        Raises:
            UnknownRun: If there is none, or it is no longer kept.
            LogUnavailable: If the log cannot be reached.
        """
        if not self._read(id).is_over:
            self._end(id, "stopped")
        return self._read(id)

    def messages(
        self, id: str, after: str = START, *, begun: Callable[[Subscription], None] | None = None
    ) -> Iterator[Message | Gap]:
        """What the run's channel holds behind ``after``, and what comes, to its end. Blocks.

        ``begun`` is given the subscription, so that somebody else can end it.

        Raises:
            HubClosed: If this process is about to stop.
        """
        with self._hub.subscribe(PREFIX + id, after=after) as subscription, suppress(StreamEnded):
            if begun is not None:
                begun(subscription)
            while True:
                yield from subscription.take()

    def note_reader(self, channel: str) -> None:
        """Somebody of this process reads a run: see to it that it is noticed if its maker dies."""
        with self._lock:
            is_known = channel in self._reads
            if not is_known:
                self._reads[channel] = ""
        if not is_known:
            self._keep()

    def kept(self, limit: int) -> list[Answer]:
        """The runs that are kept, the newest first where the log knows, at most ``limit``; without
        what they have said.

        Raises:
            LogUnavailable: If the log cannot be reached.
        """
        found = []
        names = self._hub.log.channels(PREFIX, limit)
        made = {member.id.partition(".")[0] for member in self._hub.log.members(MADE)}
        for name in names:
            with suppress(UnknownRun):  # it has just been forgotten
                one = self._glance(name)
                is_orphan = not one.is_over and one.id not in made
                found.append(self.answer(one.id) if is_orphan else one)
        return found

    def close(self) -> None:
        """Begin no more; those that are made go on. Idempotent."""
        self._is_closed = True

    @property
    def is_idle(self) -> bool:
        """Whether this process makes none."""
        return not self._made

    def interrupt(self) -> None:
        """End all that this process makes: it cannot wait for them."""
        for made in list(self._made.values()):
            try:
                self._end(made.work.id, "interrupted", "The server has stopped.")
            except LogUnavailable as error:
                _log.warning("The run %s ends without a word: %s", made.work.id, error)
                return

    # ---- making

    def _reserve(self) -> bool:
        """Take a place for one more; whether it has to wait for its turn."""
        with self._lock:
            if self._is_closed or self._hub.closed.is_set():
                raise HubClosed()
            is_queued = self._working >= self._most
            if not is_queued:
                self._working += 1
            elif len(self._queue) + self._reserved < self._most:
                self._reserved += 1
            else:
                raise TooManyRuns(
                    f"This worker makes {self._most} answers, and as many wait (STREAMING_RUNS). "
                    "Try again in a moment."
                )
        return is_queued

    def _give_back(self, made: _Made, *, is_queued: bool) -> None:
        """Give the place back: it is not made here."""
        with self._lock:
            self._reserved -= is_queued
            self._working -= not is_queued
        self._presence.release(MADE, made.seat)
        self._go_on()

    def _go_on(self) -> None:
        """Let those begin whose turn it is."""
        while True:
            with self._lock:
                if not self._queue or self._working >= self._most:
                    return
                made = self._made[self._queue.popleft().id]
                self._working += 1
            self._begin(made, announce=True)

    def _begin(self, made: _Made, *, announce: bool) -> None:
        try:
            made.work.start(announce=announce)
        except RuntimeError:  # no thread is to be had
            self._fail(made)

    def _fail(self, made: _Made) -> None:
        self._end(made.work.id, "failed", "The server cannot start another thread.")

    def _want(self, work: Generation, is_late: bool) -> None:
        if is_late:
            self._workers.put_off(work)
        else:
            self._workers.put(work)

    def _write(self, work: Generation) -> bool:
        try:
            work.write()
            self._is_away = False
        except LogUnavailable as error:
            if not self._is_away:
                _log.warning("Runs wait for the log: %s", error)
            self._is_away = True  # the keeper tries again
        except Exception:
            _log.exception("The run %s cannot be written", work.id)
            self._let_go(work)
        return False

    def _let_go(self, work: Generation) -> None:
        """A run is over: let the next one begin."""
        with self._lock:
            made = self._made.get(work.id)
            if made is None or made.work is not work:
                return
            del self._made[work.id]
            if work in self._queue:
                self._queue.remove(work)
            else:
                self._working -= 1
        self._hub.log.unfollow(work.channel, work.heard)
        self._presence.release(MADE, made.seat)
        self._go_on()
        if not self._made:
            self._workers.end()
            self._bell.ring()

    # ---- reading

    def _read(self, id: str) -> Answer:
        channel, answer = PREFIX + id, Answer(id)
        place = self._hub.start_of(channel)
        if place.is_mark:
            raise _unknown(id)
        while True:
            page = self._hub.log.read(channel, place, limit=1000, size=1 << 20)
            answer.add([page.gap, *page.messages] if page.gap else page.messages)
            answer.cursor = str(page.position)
            if not page.more or page.position == place:
                return answer
            place = page.position

    def _glance(self, channel: str) -> Answer:
        """What the first and the last message say."""
        log, answer = self._hub.log, Answer(channel.removeprefix(PREFIX))
        start = self._hub.start_of(channel)
        for place in (start, log.tail(channel, 1)):
            if place.is_mark:
                raise _unknown(answer.id)
            messages = log.read(channel, place, limit=1, size=1).messages
            answer.add(message for message in messages if message.event in ("start", END))
        return answer

    def _is_made(self, id: str) -> bool:
        return id in self._made or any(
            member.id.partition(".")[0] == id for member in self._hub.log.members(MADE)
        )

    def _end(self, id: str, state: str, detail: str = "") -> None:
        """End the channel; it may have been ended just now."""
        with suppress(ChannelEnded):
            self._hub.end(PREFIX + id, print_end(state, detail))

    # ---- keeping

    def _keep(self) -> None:
        with self._lock:
            start, self._is_kept = not self._is_kept, True
        if start:
            try:
                threading.Thread(target=self._look, name="run keeper", daemon=True).start()
            except RuntimeError:  # the next one tries again
                self._is_kept = False

    def _look(self) -> None:
        """The keeper: every second, who listens here, who to runs that are made here, who lives."""
        while True:
            self._bell.wait(LOOK)
            for made in list(self._made.values()):
                self._workers.put(made.work)  # the log may have been away
            try:
                self._note_readers()
                self._stop_lonely()
                self._end_orphans()
            except LogUnavailable:
                pass  # whoever writes or reads says so
            except Exception:
                _log.exception("The keeper of runs failed")
            with self._lock:
                if not self._made and not self._reads:
                    self._is_kept = False
                    return

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
            elif not member and id not in self._made:
                self._presence.hold(READERS + id, self._token)
                self._reads[channel] = self._token

    def _stop_lonely(self) -> None:
        time_now = time.monotonic()
        for made in list(self._made.values()):
            if made.patience is None or made.work.phase is Phase.OVER:
                continue
            id = made.work.id
            if self._hub.subscribers(made.work.channel) or self._hub.log.members(READERS + id):
                made.lonely = time_now
            elif time_now - made.lonely > made.patience:
                self._end(id, "stopped", "Nobody listened.")

    def _end_orphans(self) -> None:
        """End the runs that are read here, and made nowhere."""
        read = [channel.removeprefix(PREFIX) for channel, member in self._reads.items() if member]
        if not read:
            return
        made = {member.id.partition(".")[0] for member in self._hub.log.members(MADE)}
        for id in read:
            if id not in made:
                with suppress(UnknownRun):
                    self.answer(id)


def _unknown(id: str) -> UnknownRun:
    return UnknownRun(f"There is no run {id!r:.60}, or it is no longer kept.")


def new_id() -> str:
    """An id that nobody guesses."""
    return secrets.token_hex(16)


def id_of_key(key: str, secret: str | bytes) -> str:
    """The id of the run that belongs to an idempotency key, the same in all processes."""
    given = secret.encode() if isinstance(secret, str) else secret
    inner = blake2s(given, digest_size=32).digest()
    return blake2s(key.encode(), key=inner, digest_size=16).hexdigest()


def _patience(on_disconnect: OnDisconnect) -> float | None:
    if on_disconnect == "continue":
        return None
    if on_disconnect == "cancel":
        return 0.0
    is_number = isinstance(on_disconnect, int | float) and not isinstance(on_disconnect, bool)
    if not is_number or not 0 <= on_disconnect < 10**9:
        raise TypeError(
            f"on_disconnect is {on_disconnect!r:.60}; it is 'continue', 'cancel' or seconds."
        )
    return float(on_disconnect)
