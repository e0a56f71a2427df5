"""A WebSocket as the registry and the deadlines see it: pings, and how it ends."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence

from ..errors import ClientGone, StreamingError
from ..settings import Settings
from ..wire import frames
from .client import Client, Traffic
from .deadlines import Deadlines
from .farewell import Farewell, last_frame
from .inlet import Inlet
from .line import Line
from .pongs import Pongs

_PING = frames.encode(frames.Opcode.PING, b"")


class WebSocketClient(Client):
    """A client on an open WebSocket.

    Args:
        deadlines: Who looks at it when it is due.
        sock: The server's socket.
        peer: The client's address, for people to read.
        decompress: The incoming end of permessage-deflate, if agreed on.
    """

    transport = "websocket"

    __slots__ = ("_farewell", "_pongs", "inlet", "line")

    def __init__(
        self,
        deadlines: Deadlines,
        settings: Settings,
        sock: socket.socket,
        *,
        peer: str = "",
        decompress: Callable[[bytes, int], bytes] | None = None,
    ) -> None:
        super().__init__(deadlines, settings, peer)
        self.line = Line(sock, self.id, ping=_PING, may=settings.direct_writes, end=self.end)
        self.inlet = Inlet(self.line, settings.frame_size, decompress=decompress)
        self._pongs = Pongs(self.line, self.inlet)
        self._farewell = Farewell(self.line)
        if settings.heartbeat is not None:  # those that came together are not all pinged together
            self.inlet.heard -= random.uniform(0, settings.heartbeat / 2)

    @property
    def channels(self) -> Sequence[str]:
        """What it follows."""
        return [name for sub in self.line.subscriptions() for name in sub.channels]

    @property
    def traffic(self) -> Traffic:
        return Traffic(*self.line.sent, self.inlet.messages, self.inlet.size)

    @property
    def lags(self) -> bool:
        return self.line.lags

    def describe(self) -> Mapping[str, object]:
        """For the registry's snapshot."""
        subscriptions = self.line.subscriptions()
        return {
            "peer": self.peer,
            "channels": self.channels,
            "position": [sub.id for sub in subscriptions],
            "state": [sub.phase.value for sub in subscriptions],
        }

    def end(self, reason: StreamingError) -> None:
        """End the connection soon, with the reason's close code. From any thread; never blocks.

        Raises:
            InvalidMessage: If the close code may not be sent (RFC 6455 section 7.4).
        """
        if self.reason is None:
            last_frame(reason)  # refused before anything has changed
        super().end(reason)

    def _say_goodbye(self, reason: StreamingError) -> None:
        self._farewell.say(reason)

    def _cut(self) -> None:
        self._farewell.cut()

    def _is_finished(self) -> bool:
        return False  # whoever reads hangs up when both close frames are through

    def _beat(self) -> None:
        self.line.ping()
        self._pongs.look(time.monotonic())

    def _quiet_since(self) -> float:
        return max(self.inlet.heard, self.spoke)

    def _stuck_since(self) -> float:
        return self.line.progress

    def _socket(self) -> socket.socket | None:
        return self.line.sock

    def _missing(self, now: float) -> ClientGone | None:
        patience = self._settings.pong_timeout
        if patience is not None and self._pongs.is_late(now, patience):
            return ClientGone(f"No pong within {patience:g} s.")
        return super()._missing(now)

    def _next(self, now: float) -> float | None:
        when, patience = super()._next(now), self._settings.pong_timeout
        since = self._pongs.owed_since()
        if patience is None or not since:
            return when
        late = max(since, now - patience) + patience
        return late if when is None else min(when, late)
