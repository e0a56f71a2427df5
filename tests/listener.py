"""A follower of a log that keeps what it hears, and can be waited for."""

from streaming.bell import Bell
from streaming.logs import Log
from streaming.message import Message
from tests.polling import PATIENCE


class Listener:
    """To be called as ``Heard``; one thread may ``wait``."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Message | None]] = []
        self._bell = Bell()

    def __call__(self, channel: str, message: Message | None) -> None:
        self.calls.append((channel, message))
        self._bell.ring()

    def wait(self, timeout: float = PATIENCE) -> bool:
        """Until it is called, or was since the last wait."""
        return self._bell.wait(timeout)

    @property
    def channels(self) -> set[str]:
        """The channels it heard of."""
        return {channel for channel, _ in self.calls}

    @property
    def messages(self) -> list[Message]:
        """The messages it was given."""
        return [message for _, message in self.calls if message is not None]


def follow(log: Log, *channels: str) -> Listener:
    """A new listener that follows these channels."""
    listener = Listener()
    for channel in channels:
        log.follow(channel, listener)
    return listener
