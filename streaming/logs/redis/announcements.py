"""One connection for each process on which appends are announced, and the thread that listens."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from ...bell import Bell
from ...errors import LogUnavailable
from .backoff import Backoff
from .listening import Ear, Session, Waker

SETTLE = 1.0
"""Seconds that ``follow`` waits at most until the channel is heard."""

LOOK = 30.0
"""Seconds between two looks at each channel."""

FEW = 20
"""Channels looked at before the thread listens again."""

_log = logging.getLogger(__name__)


class _Topic:
    """One name that is followed."""

    __slots__ = ("bells", "is_heard", "is_late", "ready", "seen")

    def __init__(self) -> None:
        self.bells: set[Bell] = set()
        self.ready = threading.Event()
        self.is_heard = False
        self.is_late = False  # somebody reads though it is not heard yet: ring when it is
        self.seen: str | None = None

    def ring(self) -> None:
        for bell in self.bells:
            bell.ring()


class Announcements:
    """Rings the bells of those who follow a name when it is announced.

    Owns one daemon thread, and that one a connection, while anything is followed. A connection
    that was lost is made anew, and all are rung then: what was announced meanwhile was not heard.

    Args:
        connect: Makes a connection; raises ``LogUnavailable``.
        look: Called now and then for each name. If it gives something else than the last time,
            those who follow are rung: no announcement tells that a channel is gone, or that the
            node died that took a message. Raises ``LogUnavailable``.
    """

    def __init__(self, connect: Callable[[], Ear], look: Callable[[str], str]) -> None:
        self._connect = connect
        self._look = look
        self._lock = threading.Lock()
        self._topics: dict[str, _Topic] = {}
        self._changes: list[str] = []
        self._due: deque[str] = deque()
        self._waker: Waker | None = None
        self.trouble = ""
        """Why nothing is heard at the moment."""

    def follow(self, name: str) -> Bell:
        """A bell that rings whenever ``name`` is announced from now on.

        Waits a moment until that is so; if something is wrong it rings later, when it is.
        """
        bell = Bell()
        with self._lock:
            is_first = self._waker is None or not self._waker.is_ours
            if is_first:  # ... or the first after a fork
                self._waker, self._topics, self._changes = Waker(), {}, []
            waker = self._waker
            assert waker is not None
            topic = self._topics.get(name)
            if topic is None:
                topic = self._topics[name] = _Topic()
                self._changes.append(name)
                waker.wake()
            topic.bells.add(bell)
            patience = 0.0 if self.trouble and not is_first else SETTLE
        if is_first:
            title = "streaming announcements"
            threading.Thread(target=self._run, args=(waker,), name=title, daemon=True).start()
        if not topic.ready.wait(patience) and patience:
            self.trouble = self.trouble or "Redis is slow to confirm what we follow."
        with self._lock:
            topic.is_late = topic.is_late or not topic.is_heard
        return bell

    def leave(self, name: str, bell: Bell) -> None:
        """Ring this bell no more. Idempotent."""
        with self._lock:
            topic = self._topics.get(name)
            if topic is None or bell not in topic.bells:
                return
            topic.bells.discard(bell)
            if not topic.bells:
                del self._topics[name]
                self._changes.append(name)
                if self._waker is not None and self._waker.is_ours:
                    self._waker.wake()

    def close(self) -> None:
        """Ring everybody a last time, and end the thread soon. Idempotent."""
        with self._lock:
            for topic in self._topics.values():
                topic.ring()
            self._topics.clear()
            if self._waker is not None and self._waker.is_ours:
                self._waker.wake()

    def _run(self, waker: Waker) -> None:
        backoff = Backoff()
        while not self._is_over(waker):
            try:
                self._listen(waker, backoff)
            except LogUnavailable as error:
                _log.warning("New messages are not heard of: %s", error)
                self._lose(str(error))
            except Exception as error:
                _log.exception("New messages are not heard of")
                self._lose(f"Listening failed: {error!r}.")
            else:
                continue
            until = time.monotonic() + backoff.fail()
            while self._topics and (left := until - time.monotonic()) > 0:
                waker.wait(left)

    def _is_over(self, waker: Waker) -> bool:
        """Whether nobody follows anything any more; who comes next starts another thread."""
        with self._lock:
            if not self._topics:
                self._waker = None
                self.trouble = ""
                waker.close()
            return not self._topics

    def _listen(self, waker: Waker, backoff: Backoff) -> None:
        """Listen until nobody follows anything.

        Raises:
            LogUnavailable: If there is no connection, or it is lost.
        """
        ear = self._connect()
        session = Session(ear, announced=self._announced, confirmed=self._confirmed)
        waker.watch(ear.sock)
        try:
            with self._lock:
                self._changes = list(self._topics)
            next_look = time.monotonic() + LOOK
            while self._topics:
                with self._lock:
                    changes, self._changes = self._changes, []
                    wanted = {name: name in self._topics for name in changes}
                session.change(wanted)
                if session.hear():
                    self.trouble = ""
                    backoff.succeed()
                session.check()
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + LOOK
                    with self._lock:
                        self._due.extend(self._topics)
                self._look_at_some()
                until = min(session.next, next_look)
                waker.wait(0.0 if self._due else until - time.monotonic())
        finally:
            waker.forget(ear.sock)
            self._due.clear()
            ear.close()

    def _lose(self, why: str) -> None:
        with self._lock:
            self.trouble = why
            for topic in self._topics.values():
                topic.is_heard, topic.is_late = False, True
                topic.ready.set()  # whoever waits in ``follow`` has waited long enough

    def _announced(self, name: str) -> None:
        with self._lock:
            topic = self._topics.get(name)
            if topic is not None:
                topic.ring()

    def _confirmed(self, name: str) -> None:
        with self._lock:
            topic = self._topics.get(name)
            if topic is None:
                return
            topic.is_heard = True
            topic.ready.set()
            if topic.is_late:
                topic.is_late = False
                topic.ring()

    def _look_at_some(self) -> None:
        for _ in range(min(len(self._due), FEW)):
            name = self._due.popleft()
            try:
                found = self._look(name)
            except LogUnavailable:
                found = ""
            with self._lock:
                topic = self._topics.get(name)
                if topic is not None:
                    if topic.seen not in (None, found):
                        topic.ring()
                    topic.seen = found
