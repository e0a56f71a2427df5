"""Runs: answers that are made outside any request, each in a channel of its own that ends.

What is known of a run is in its channel. Who is alive is in two rooms that nobody can ask for: the
runs that are made, each held by the process that makes it (``making``), and the readers of each
run, held by those that have some (``keeper``).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from hashlib import blake2s
from typing import Any

from ..errors import StreamEnded, UnknownRun
from ..logs import Page
from ..message import START, Gap, Message, Position
from ..names import END
from ..threads import from_any_thread
from .hub import Hub
from .keeper import Keeper
from .making import PREFIX, Making, OnDisconnect
from .parts import Answer
from .pieces import Producer, check_producer
from .presence import Presence
from .subscription import Subscription


class Runs:
    """The runs of one log, and those that this process makes.

    Args:
        most: Producers at work at the same time, and as many that wait for their turn.
        hang_up: Closes what a producer reads from, so that it notices.
    """

    def __init__(
        self, hub: Hub, presence: Presence, *, most: int, hang_up: Callable[[object], None]
    ) -> None:
        self._hub = hub
        self.making = Making(hub, presence, most=most, hang_up=hang_up)
        """Those that this process makes."""
        self._keeper = Keeper(hub, presence, self.making, self.answer)

    @from_any_thread
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
            TooManyClients: If no thread can be started that beats for it.
            TooManyRuns: If this worker makes as many as it may.
            LogUnavailable: If the log cannot be reached.
        """
        check_producer(producer, args)
        if not self._hub.log.tail(PREFIX + id).is_mark:
            return False
        how: Any = {"context": context, "on_disconnect": on_disconnect, "about": about}
        is_ours = self.making.begin(producer, args, id=id, **how)
        if is_ours:
            self._keeper.wake()
        return is_ours

    @from_any_thread
    def answer(self, id: str) -> Answer:
        """The run as far as it has come. One whose process has died is ended.

        Raises:
            UnknownRun: If there is none, or it is no longer kept.
            LogUnavailable: If the log cannot be reached.
        """
        with self._keeper.doubt.noted():
            answer = self._read(id)
            if not answer.is_over and self._is_orphan(id):
                answer = self._read(id)  # it may have ended just now
                if not answer.is_over:
                    self.making.end(id, "interrupted", "The answer was interrupted.")
                    answer = self._read(id)
            return answer

    @from_any_thread
    def wait_first(self, id: str, seconds: float) -> None:
        """Block until the run, which this process makes, has said something or has ended; for
        ``seconds`` at most."""
        made = self.making.made.get(id)
        if made is not None:
            made.work.has_said.wait(seconds)

    @from_any_thread
    def is_read(self, id: str, place: Position) -> bool:
        """Whether the run is over, and nothing comes behind ``place``. One whose process has died
        is ended.

        Raises:
            UnknownRun: If there is none, or it is no longer kept.
            LogUnavailable: If the log cannot be reached.
        """
        channel = PREFIX + id
        with self._keeper.doubt.noted():
            head = self._hub.log.tail(channel)
            if head.is_mark:
                raise _unknown(id)
            if self._hub.log.read(channel, head, limit=1, size=1).ended:
                return place == head
            if self._is_orphan(id):
                self.answer(id)
            return False

    @from_any_thread
    def stop(self, id: str) -> Answer:
        """End the run, whoever makes it, and return it; what was said is kept. Idempotent.

        Raises:
            UnknownRun: If there is none, or it is no longer kept.
            LogUnavailable: If the log cannot be reached.
        """
        if not self._read(id).is_over:
            self.making.end(id, "stopped")
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
        self._keeper.note_reader(channel)

    @from_any_thread
    def kept(self, limit: int) -> list[Answer]:
        """The runs that are kept, the newest first where the log knows, at most ``limit``; without
        what they have said.

        Raises:
            LogUnavailable: If the log cannot be reached.
        """
        found = []
        with self._keeper.doubt.noted():
            names = self._hub.log.channels(PREFIX, limit)
            orphans = set(self._keeper.orphans(name.removeprefix(PREFIX) for name in names))
            for name in names:
                with suppress(UnknownRun):  # it has just been forgotten
                    one = self._glance(name)
                    is_orphan = not one.is_over and one.id in orphans
                    found.append(self.answer(one.id) if is_orphan else one)
        return found

    def _read(self, id: str) -> Answer:
        channel, answer = PREFIX + id, Answer(id)
        place = self._hub.start_of(channel)
        if place.is_mark:
            raise _unknown(id)
        while True:
            page = self._hub.log.read(channel, place, limit=1000, size=1 << 20)
            _check_kept(id, page)
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
            page = log.read(channel, place, limit=1, size=1)
            _check_kept(answer.id, page)
            answer.add(m for m in page.messages if m.event in ("start", END))
        return answer

    def _is_orphan(self, id: str) -> bool:
        return id not in self.making.made and bool(self._keeper.orphans([id]))


def _check_kept(id: str, page: Page) -> None:
    """An end is held as long as its channel, unless all of it was pruned."""
    if page.gap and page.ended and not page.messages:
        raise _unknown(id)


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
