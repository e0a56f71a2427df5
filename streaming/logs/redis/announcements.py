"""One connection for each process on which appends are announced, and the thread that listens."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from ...errors import NO_THREAD, LogUnavailable, TooManyClients
from ...message import Message
from ...own import era, is_over
from ..contract import Heard
from .backoff import Backoff
from .ear import Ear
from .listening import Session, Waker
from .messages import announced
from .topics import NOWHERE, Topics

SETTLE = 1.0
"""Seconds that ``follow`` waits at most until the channel is heard."""

LOOK = 30.0
"""Seconds between two looks at each channel."""

FEW = 20
"""Channels looked at before the thread listens again."""

_log = logging.getLogger(__name__)


class Announcements:
    """Tells those who follow a channel when something of it is announced.

    Owns one daemon thread, and that one a connection, while anything is followed. A connection
    that was lost is made anew, and all are told then: what was announced meanwhile was not heard.

    Args:
        connect: Makes a connection; raises ``LogUnavailable``.
        look: Called now and then for each channel, gives where its head is, printed. If that is not
            what was told last, those who follow are told: no announcement says that a channel is
            gone, or that the node died that took a message. Raises ``LogUnavailable``.
    """

    def __init__(self, connect: Callable[[], Ear], look: Callable[[str], str]) -> None:
        self._connect = connect
        self._look = look
        self._lock = threading.Lock()
        self._topics = Topics()
        self._due: deque[str] = deque()
        self._waker: Waker | None = None
        self._era = era()
        self.trouble = ""
        """Why nothing is heard at the moment."""

    def follow(self, channel: str, heard: Heard) -> None:
        """Tell ``heard`` whenever something is announced of ``channel`` from now on.

        Waits a moment until that is so; if something is wrong it is told later, when it is.

        Raises:
            TooManyClients: If no thread can be started to listen; nothing is followed.
        """
        with self._lock:
            if is_first := self._waker is None:
                self._start()
            topic = self._topics.add(channel, heard)
            self._wake()
            settled, patience = topic.settled, 0.0 if self.trouble and not is_first else SETTLE
        if settled is not None and not settled.wait(patience) and patience:
            self.trouble = self.trouble or "Redis is slow to confirm what we follow."
        self._topics.give_up(topic)

    def unfollow(self, channel: str, heard: Heard) -> None:
        """Take one ``follow`` back. Idempotent beyond that."""
        with self._lock:
            self._topics.remove(channel, heard)
            self._wake()

    def appended(self, message: Message) -> None:
        """Tell of a message of this process at once, and of its announcement no more."""
        if message.channel in self._topics:
            self._topics.tell(message.channel, message.id, message)

    def close(self) -> None:
        """Tell everybody a last time, and end the thread soon. Idempotent."""
        self._topics.clear()
        with self._lock:
            self._wake()

    def _start(self) -> None:
        """Have a thread listen; for the holder of the lock: nobody sees it before it is there.

        Raises:
            TooManyClients: If there is none to be had.
        """
        waker, name = Waker(), "streaming announcements"
        try:
            threading.Thread(target=self._run, args=(waker,), name=name, daemon=True).start()
        except RuntimeError as error:
            waker.close()
            raise TooManyClients(NO_THREAD) from error
        self._waker = waker

    def _wake(self) -> None:
        """Let the thread see what has changed."""
        if self._waker is not None and self._topics.has_changed:
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
        if is_over(self._era):
            return True
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
        session = Session(ear, announced=self._announced, confirmed=self._topics.confirm)
        waker.watch(ear.sock)
        try:
            next_look = time.monotonic() + LOOK
            while self._topics and not is_over(self._era):
                session.change(self._topics.take_changes())
                if has_heard := session.hear():
                    self.trouble = ""
                    backoff.succeed()
                session.check()
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + LOOK
                    self._due.extend(self._topics.names())
                self._look_at_some()
                until = 0.0 if has_heard or self._due else min(session.next, next_look)
                waker.wait(until - time.monotonic())
        finally:
            waker.forget(ear.sock)
            self._due.clear()
            ear.close()

    def _lose(self, why: str) -> None:
        self.trouble = why
        self._topics.lose()

    def _announced(self, channel: str, text: str) -> None:
        self._topics.tell(channel, *announced(channel, text))

    def _look_at_some(self) -> None:
        for _ in range(min(len(self._due), FEW)):
            channel = self._due.popleft()
            try:
                place, _ = announced(channel, self._look(channel))
            except LogUnavailable:
                place = NOWHERE
            self._topics.tell(channel, place, is_head=True)
