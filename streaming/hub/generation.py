"""One producer at work, and what it says on its way into the channel of its run.

    from      to       who moves it, and when
    QUEUED -> WORKING  ``start``: there is room for it
    QUEUED -> OVER     ``_see_end``: it was stopped before that
    WORKING -> ENDING  the producer is through; what it has said is still on its way
    WORKING -> OVER    ``_see_end``: somebody else has ended the channel
    ENDING -> OVER     the end is in the log, ours or somebody else's

The first piece is written at once. What comes within ``WINDOW`` of the last is written together,
and so is what comes while the log is slow: then pieces grow, and not their number.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from ..bell import Bell
from ..errors import ChannelEnded, InvalidMessage, LogUnavailable, ProducerFailed, RunStopped
from ..message import Message, Position, text_size
from ..names import END
from ..threads import from_any_thread, is_elsewhere, wait_there
from ..wire.compact import compact
from .backlog import Backlog
from .hub import Hub
from .parts import MERGED, Part
from .pieces import Producer, parts_of

WINDOW = 0.02
"""Seconds between two messages of one run, while the log keeps up."""

MOST = 64 * 1024
"""Bytes that wait for the log before the producer does."""

SLICE = 64 * 1024
"""Characters of text in one message."""

LOOK = 1.0
"""Seconds between two looks of a waiting producer whether it was stopped."""

_log = logging.getLogger(__name__)

_current: contextvars.ContextVar[Generation] = contextvars.ContextVar("streaming_run")


class Phase(Enum):
    """How far a generation has come."""

    QUEUED = "queued"
    WORKING = "working"
    ENDING = "ending"
    OVER = "over"


_MOVES = {
    (Phase.QUEUED, Phase.WORKING),
    (Phase.QUEUED, Phase.OVER),
    (Phase.WORKING, Phase.ENDING),
    (Phase.WORKING, Phase.OVER),
    (Phase.ENDING, Phase.OVER),
}


class Generation:
    """A run as the process has it that makes it. A producer finds its own with ``current_run``.

    Args:
        id: The run's.
        channel: The run's.
        producer: A function, a generator function or an iterable; see ``Streaming.run``.
        args: What the function is called with.
        context: Made anew, it is what the producer runs in.
        hub: Where it is published.
        wanted: Called when something is to be written: soon, or with True after ``WINDOW``.
        hang_up: Closes what a producer reads from, so that it notices.
        ended: Told the state in which it has ended the channel, if it has.
        over: Called once when the channel has ended.
        through: Called once when the producer has come to its end, if it was begun.
    """

    def __init__(
        self,
        id: str,
        channel: str,
        producer: Producer,
        args: tuple[Any, ...],
        *,
        context: Callable[[], AbstractContextManager[object]],
        hub: Hub,
        wanted: Callable[[Generation, bool], None],
        hang_up: Callable[[object], None],
        ended: Callable[[str], None],
        over: Callable[[Generation], None],
        through: Callable[[Generation], None],
    ) -> None:
        self.id: str = id
        """What the run is called."""
        self.channel: str = channel
        """Where its messages are."""
        self._producer = producer
        self._args = args
        self._context = context
        self._hub = hub
        self._wanted = wanted
        self._hang_up = hang_up
        self._ended = ended
        self._over = over
        self._state = ""  # in which it ends
        self._through = through
        self._phase = Phase.QUEUED
        self._lock = threading.Lock()
        self._backlog = Backlog(max(1, min(SLICE, hub.message_size // 4)))
        self._drained = Bell()  # rung when something was written
        self._written = 0.0  # when (``time.monotonic``)
        self.place: Position | None = None
        """Of what was written last; that of the run's first message to begin with."""
        self._is_unsure = False  # whether the last write may have been done although it failed
        self._look = False  # whether somebody may have ended the channel
        self._stopped = threading.Event()
        self.has_said = threading.Event()
        """Set once something of it is in the log, or it is over."""
        self._upstreams: list[object] = []

    # ---- for the producer

    @property
    def is_stopped(self) -> bool:
        """Whether what it says is wanted no more."""
        return self._stopped.is_set()

    def wait(self, seconds: float) -> bool:
        """Block until it is stopped, for ``seconds`` at most; whether it is."""
        if is_elsewhere():
            return bool(wait_there(self._stopped.wait, seconds))
        return self._stopped.wait(seconds)

    @from_any_thread
    def closes(self, upstream: Any) -> Any:
        """Have ``upstream`` closed as soon as the run is stopped, also while it is read from.

        For what a producer reads from: the answer of ``openai``, ``httpx`` or ``requests``, or
        whatever has a ``close``. Returns it.
        """
        with self._lock:
            is_late = self.is_stopped
            if not is_late:
                self._upstreams.append(upstream)
        if is_late:
            self._hang_up(upstream)
        return upstream

    @from_any_thread
    def say(self, piece: str | Part) -> None:
        """Have a piece written. Blocks while too much waits for the log.

        Raises:
            RunStopped: If it is wanted no more.
            InvalidMessage: If it cannot be sent.
        """
        part = Part("text", piece) if isinstance(piece, str) else piece
        text = part.printed
        if part.kind in MERGED:
            _check_unicode(text)
        else:
            self._hub.check_data(text)
        while self._backlog.size > MOST and not self.is_stopped:
            self._drained.wait(LOOK)
        if self.is_stopped:
            raise RunStopped()
        if text or part.kind not in MERGED:
            self._put(part.event, text, part.kind in MERGED)

    # ---- for those who run it

    @property
    def phase(self) -> Phase:
        """How far it has come."""
        return self._phase

    def start(self, *, announce: bool) -> None:
        """Let the producer work, in a thread of its own; say so if it had to wait.

        Raises:
            RuntimeError: If no thread is to be had.
        """
        if not self._move(Phase.WORKING):
            self._through(self)
            return
        if announce:
            self._put("running", "{}", False)
        try:
            threading.Thread(target=self._work, name=f"run {self.id[:8]}", daemon=True).start()
        except RuntimeError:
            self._through(self)
            raise

    def heard(self, channel: str, message: Message | None) -> None:
        """Something was appended to the channel, maybe by somebody who ends it; see ``Heard``."""
        if message is None or message.event == END:
            self._look = True
            self._wanted(self, False)

    def end(self, state: str, detail: str = "", **more: object) -> None:
        """Write the end behind all that was said. Idempotent."""
        if self._move(Phase.ENDING):
            self._state = state
            self._put(END, print_end(state, detail, **more), False)

    def write(self) -> None:
        """Write what waits. Called by one thread at a time.

        Raises:
            LogUnavailable: If the log cannot be reached; nothing is lost.
        """
        if self._look:
            self._look = False
            try:
                self._see_end()
            except LogUnavailable:
                self._look = True
                raise
        while (
            self._phase is not Phase.OVER
            and (item := self._backlog.first(again=self._is_unsure)) is not None
        ):
            event, text = item
            try:
                if not self._was_written(event, text):
                    self._append(event, text)
            except ChannelEnded:
                self._finish()
            except LogUnavailable:
                self._is_unsure = True
                raise
            else:
                self._is_unsure = False
                self._done(event)

    # ---- inside

    def _move(self, phase: Phase) -> bool:
        with self._lock:
            is_allowed = (self._phase, phase) in _MOVES
            if is_allowed:
                self._phase = phase
        return is_allowed

    def _work(self) -> None:
        _current.set(self)
        source: Iterator[str | Part] = iter(())
        try:
            with self._context():
                try:
                    source = parts_of(self._producer, self._args, self.closes)
                    for part in source:
                        self.say(part)
                    self.end("done")
                except RunStopped:
                    pass
                except Exception as error:
                    self._fail(error)
                finally:
                    self._close(source)
        except BaseException as error:  # a context that cannot be left, a worker that is killed
            self._fail(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._through(self)

    def _fail(self, error: BaseException) -> None:
        if not self.is_stopped:  # what breaks because we close it is no failure
            _log.error("The run %s failed", self.id, exc_info=error)
            told = ProducerFailed.of(error)
            more = {"status": told.status, "retry_after": told.retry_after}
            self.end("failed", str(told), **more)

    def _close(self, source: Iterator[str | Part]) -> None:
        with suppress(Exception):
            source.close()  # type: ignore[attr-defined]  # a generator's

    def _put(self, event: str, text: str, merges: bool) -> None:
        self._backlog.put(event, text, merges=merges)
        is_late = merges and time.monotonic() - self._written < WINDOW
        self._wanted(self, is_late)

    def _done(self, event: str) -> None:
        self._backlog.pop()
        self._written = time.monotonic()
        self._drained.ring()
        self.has_said.set()
        if event == END:
            self._ended(self._state)
            self._finish()

    def _append(self, event: str, text: str) -> None:
        if event == END:
            self.place = self._hub.end(self.channel, text).id
        else:
            self.place = self._hub.publish(self.channel, text, event=event).id

    def _was_written(self, event: str, text: str) -> bool:
        """Whether a write that failed was done all the same: then it stands behind the last."""
        if not self._is_unsure or self.place is None:
            return False
        page = self._hub.log.read(self.channel, self.place, limit=1, size=1)
        first = page.messages[0] if page.messages and page.gap is None else None
        if first is None or (first.event, first.data) != (event, text):
            return False
        self.place = first.id
        return True

    def _see_end(self) -> None:
        """Find out whether somebody else has ended the channel."""
        if self._phase is Phase.OVER or self.place is None:
            return
        head = self._hub.log.tail(self.channel)
        if head.is_mark or head == self.place:
            return
        if self._hub.log.read(self.channel, head, limit=1, size=1).ended:
            self._finish()

    def _finish(self) -> None:
        """The channel has ended: by us, or before all was said."""
        is_through = self._phase is Phase.ENDING
        if not self._move(Phase.OVER):
            return
        self._backlog.clear()
        with self._lock:
            upstreams, self._upstreams = self._upstreams, []
            self._stopped.set()  # in one step: what is handed over now is closed by who does it
        self.has_said.set()
        self._drained.ring()
        if upstreams and not is_through:
            self._let_go(upstreams)
        self._over(self)

    def _let_go(self, upstreams: list[object]) -> None:
        """Close what the producer reads from; in a thread, because a ``close`` may wait."""

        def close() -> None:
            for upstream in upstreams:
                self._hang_up(upstream)

        try:
            threading.Thread(target=close, name=f"stop {self.id[:8]}", daemon=True).start()
        except RuntimeError:  # no thread to be had
            close()


def current_run() -> Generation:
    """The run that the caller, a producer, works for.

    Raises:
        RuntimeError: If it works for none.
    """
    found = _current.get(None)
    if found is None:
        raise RuntimeError("There is no run here: current_run() is for producers of Streaming.run.")
    return found


def _check_unicode(text: str) -> None:
    try:
        text_size(text)
    except UnicodeEncodeError as error:
        raise InvalidMessage("The text holds half of a surrogate pair.") from error


def now() -> str:
    """The time as ISO 8601, UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def print_end(state: str, detail: str = "", **more: object) -> str:
    """The text of a run's last message."""
    said = {"state": state, "ended": now(), "detail": detail or None, **more}
    return compact({name: value for name, value in said.items() if value is not None})
