"""A log that counts what it is asked, and cannot be reached for as long as a test says so."""

from streaming.errors import LogUnavailable
from streaming.logs import Heard, MemoryLog, Page, Retention
from streaming.message import Position


class BrokenLog(MemoryLog):
    """``broken`` names the verbs that fail, as ``read`` or for one channel as ``read:a``."""

    def __init__(self, retention: Retention | None = None) -> None:
        super().__init__(retention)
        self.broken: set[str] = set()
        self.calls: list[str] = []
        """Everything asked so far, as ``read:a``."""

    def _try(self, verb: str, channel: str) -> None:
        self.calls.append(f"{verb}:{channel}")
        if self.broken & {verb, f"{verb}:{channel}"}:
            raise LogUnavailable("The log is away.")

    def read(self, channel: str, after: Position, *, limit: int, size: int) -> Page:
        self._try("read", channel)
        return super().read(channel, after, limit=limit, size=size)

    def tail(self, channel: str, history: int = 0) -> Position:
        self._try("tail", channel)
        return super().tail(channel, history)

    def follow(self, channel: str, heard: Heard) -> None:
        self.calls.append(f"follow:{channel}")
        super().follow(channel, heard)

    def unfollow(self, channel: str, heard: Heard) -> None:
        self.calls.append(f"unfollow:{channel}")
        super().unfollow(channel, heard)
