"""A subscriber that keeps what it was given, and publishers that keep what was acknowledged."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from streaming.errors import LogUnavailable
from streaming.hub.hub import Hub
from streaming.logs import Log
from streaming.message import Gap, Message, Position
from tests.polling import wait_until


class Witness:
    """Follows one channel through a hub, and checks that what comes is whole or told as a gap."""

    def __init__(self, hub: Hub, channel: str = "a") -> None:
        self.hub, self.channel = hub, channel
        self.messages: list[Message] = []
        self.gaps: list[Gap] = []
        self.error: BaseException | None = None
        self.is_over = False
        self._sub = hub.subscribe(channel)
        start = Position.parse(self._sub.id)
        self._next: int | None = 1 if start.is_mark else start.offset + 1
        """The offset that has to come; None where nobody can know."""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def texts(self) -> list[str]:
        return [message.data for message in self.messages]

    def _run(self) -> None:
        try:
            with self._sub as sub:
                while not self.is_over:
                    for item in sub.take(1.0):
                        self._note(item)
        except BaseException as error:
            self.error = error

    def _note(self, item: Message | Gap) -> None:
        if isinstance(item, Gap):
            self.gaps.append(item)
            self._next = None if item.oldest is None else item.oldest.offset
        else:
            assert self._next in (None, item.id.offset), "lost, and nothing was said"
            self._next = item.id.offset + 1
            self.messages.append(item)

    def close(self) -> None:
        self.is_over = True
        self._sub.bell.ring()
        self._thread.join()
        assert self.error is None, f"the subscriber was ended: {self.error!r}"


@contextmanager
def watching(hub: Hub, channel: str = "a") -> Iterator[Witness]:
    witness = Witness(hub, channel)
    try:
        yield witness
    finally:
        witness.close()


def publish_at_last(hub: Hub, text: str, channel: str = "a") -> Message:
    """Publish as soon as the log can be reached again."""

    def publish() -> Message | None:
        try:
            return hub.publish(channel, text, key=text)
        except LogUnavailable:
            time.sleep(0.02)
            return None

    return wait_until(publish, "the log can be reached again")


def seen_by(witness: Witness, text: str) -> None:
    wait_until(lambda: witness.error or text in witness.texts, f"{text!r} has arrived")


def passes(log: Log) -> bool:
    """Whether the log can be written to now."""
    try:
        log.check()
    except LogUnavailable:
        return False
    return True
