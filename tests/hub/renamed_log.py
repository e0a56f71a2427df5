"""A log that goes on in a new epoch without having lost anything, as after a restart."""

from dataclasses import replace

from streaming.logs import MemoryLog, Page
from streaming.message import Position


class RenamedLog(MemoryLog):
    """Positions of the earlier epochs of a channel stay good in the new one."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: dict[str, list[str]] = {}

    def rename(self, channel: str = "a") -> None:
        """Go on in the epoch ``1abc``, then in ``2abc``, …"""
        place, earlier = self._channels[channel], self.epochs.setdefault(channel, [])
        earlier.append(place.epoch)
        place.epoch = f"{len(earlier)}abc"
        place.held = [
            replace(m, id=Position(place.epoch, m.id.offset)) if m else m for m in place.held
        ]
        self._followers.tell(channel)

    def read(self, channel: str, after: Position, *, limit: int, size: int) -> Page:
        if after.epoch in self.epochs.get(channel, ()):
            after = Position(self._channels[channel].epoch, after.offset)
        return super().read(channel, after, limit=limit, size=size)
