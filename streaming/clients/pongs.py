"""Whether a WebSocket's client owes the answer to a ping, and since when."""

from __future__ import annotations

from . import sockets
from .inlet import Inlet
from .line import Line


class Pongs:
    """What one client owes after pings: anything that is heard of it pays.

    Times are ``time.monotonic``.
    """

    __slots__ = ("_asked", "_got_on", "_inlet", "_line", "_taken")

    def __init__(self, line: Line, inlet: Inlet) -> None:
        self._line = line
        self._inlet = inlet
        self._asked = 0.0  # when the first ping went out that nothing was heard after
        self._taken: int | None = None  # what the client had taken at the last look
        self._got_on = 0.0  # when it was last seen to have taken some of what lay before it

    def owed_since(self) -> float:
        """Since when the client owes us a sign of life: when the first ping went out that nothing
        was heard after, or it last took some of what lies before that. 0 if it owes nothing."""
        if self._line.pinged <= self._inlet.heard:
            return 0.0
        if self._asked <= self._inlet.heard:
            self._asked = self._line.pinged
        return max(self._asked, self._got_on)

    def look(self, now: float) -> None:
        """Who has not taken all that was sent, but more than at the last look, is only slow."""
        sock = self._line.sock
        if pending := sockets.pending(sock):
            taken = sockets.taken(sock)
            before, self._taken = self._taken, -pending if taken is None else taken
            if before is None or before < self._taken:
                self._got_on = now

    def is_late(self, now: float, patience: float) -> bool:
        """Whether it has owed one for more than ``patience`` seconds, and nothing excuses it."""
        if not self.owed_since():
            return False
        self.look(now)
        if self._line.progress or now - self.owed_since() <= patience:
            return False
        return not sockets.unread(self._line.sock)  # else it waits for us to read
