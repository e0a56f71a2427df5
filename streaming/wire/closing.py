"""How a WebSocket ends, seen by its server (RFC 6455 sections 5.5.1, 7.1 and 7.4).

A pure machine: what happened goes in, what to do comes out. It sends, reads and waits for nothing.

| phase     | END              | HEARD            | OUT              | LOST             |
|-----------|------------------|------------------|------------------|------------------|
| OPEN      | SAYING, SAY      | ANSWERING, SAY   | illegal          | OVER, HANG_UP    |
| SAYING    | SAYING, WAIT     | ANSWERING, WAIT  | SAID, WAIT       | OVER, HANG_UP    |
| SAID      | SAID, WAIT       | OVER, HANG_UP    | illegal          | OVER, HANG_UP    |
| ANSWERING | ANSWERING, WAIT  | illegal          | OVER, HANG_UP    | OVER, HANG_UP    |
| OVER      | OVER, HANG_UP    | illegal          | illegal          | OVER, HANG_UP    |

What the close code is afterwards (section 7.1.5): the one in the peer's close frame, 1005 if it
gave none, 1006 if ``is_heard`` is false. The last two are never sent (section 7.4.1).
"""

from __future__ import annotations

from enum import Enum, auto


class Ending(Enum):
    """How far the end has come."""

    OPEN = auto()
    """Nobody has said goodbye."""
    SAYING = auto()
    """Our close frame is on its way; the peer's has not come."""
    SAID = auto()
    """Our close frame is out; the peer's has not come."""
    ANSWERING = auto()
    """The peer's close frame has come; ours, an answer or one that crossed it, is on its way."""
    OVER = auto()
    """Nothing is said or listened to any more."""


class Move(Enum):
    """An event: what can happen."""

    END = auto()
    """We want to end, with a close frame."""
    HEARD = auto()
    """The peer's close frame was read."""
    OUT = auto()
    """The last byte of our close frame is with the kernel."""
    LOST = auto()
    """The connection ended or failed, or the peer's time to answer is up."""


class Verdict(Enum):
    """What to do about it."""

    SAY = auto()
    """Send a close frame now, and nothing after it."""
    WAIT = auto()
    """Nothing but wait for the next event."""
    HANG_UP = auto()
    """Close the TCP connection; doing so again is harmless."""


_GONE = Ending.OVER, Verdict.HANG_UP

TABLE: dict[Ending, dict[Move, tuple[Ending, Verdict]]] = {
    Ending.OPEN: {
        # Whoever wants to end, or finds a fault, begins with a close frame (7.1.2, 7.1.7).
        Move.END: (Ending.SAYING, Verdict.SAY),
        # A close frame is answered with one, as soon as the frame being sent is out (5.5.1).
        Move.HEARD: (Ending.ANSWERING, Verdict.SAY),
        # TCP that ends before any close frame is an end too, though not a clean one (7.1.4).
        Move.LOST: _GONE,
    },
    Ending.SAYING: {
        # A close frame is sent once: after the first, nothing is sent (5.5.1).
        Move.END: (Ending.SAYING, Verdict.WAIT),
        # Two that cross answer each other, but ours must get out first (5.5.1).
        Move.HEARD: (Ending.ANSWERING, Verdict.WAIT),
        # Sent is half of it: TCP stays until the peer's close frame has come (7.1.2).
        Move.OUT: (Ending.SAID, Verdict.WAIT),
        # A peer that takes nothing, or has left, need not be told (7.1.7).
        Move.LOST: _GONE,
    },
    Ending.SAID: {
        # As above: once (5.5.1).
        Move.END: (Ending.SAID, Verdict.WAIT),
        # Both were sent and received: the server closes TCP at once, and first (5.5.1, 7.1.1).
        Move.HEARD: _GONE,
        # A peer that does not answer in time is not waited for (7.1.1).
        Move.LOST: _GONE,
    },
    Ending.ANSWERING: {
        # The answer is the close frame (5.5.1).
        Move.END: (Ending.ANSWERING, Verdict.WAIT),
        # Both were received and sent: the server closes TCP at once, and first (5.5.1, 7.1.1).
        Move.OUT: _GONE,
        # The peer said its goodbye, and left without waiting for ours (5.5.1 lets it).
        Move.LOST: _GONE,
    },
    Ending.OVER: {
        # Closed is closed (7.1.4); whoever comes late hears the same.
        Move.END: _GONE,
        Move.LOST: _GONE,
    },
}


class Closing:
    """The closing handshake of one connection.

    Not locked: whoever owns the connection moves it, one event at a time.
    """

    __slots__ = ("_is_heard", "_phase")

    def __init__(self) -> None:
        self._phase = Ending.OPEN
        self._is_heard = False  # kept, because OVER is reached with it and without

    def move(self, event: Move) -> Verdict:
        """What to do now that ``event`` has happened.

        Raises:
            RuntimeError: If it cannot happen in this phase, which is a mistake of the
                caller; nothing has changed.
        """
        step = TABLE[self._phase].get(event)
        if step is None:
            legal = ", ".join(event.name for event in TABLE[self._phase])
            raise RuntimeError(
                f"{event.name} cannot happen in the phase {self._phase.name}; only {legal} can."
            )
        self._phase, verdict = step
        if event is Move.HEARD:
            self._is_heard = True
        return verdict

    @property
    def phase(self) -> Ending:
        """How far it has come; only ``move`` changes it."""
        return self._phase

    @property
    def may_send(self) -> bool:
        """Whether data frames may still be sent: until either side has said goodbye."""
        return self._phase is Ending.OPEN

    @property
    def is_heard(self) -> bool:
        """Whether the peer's close frame has come; still known when it is over."""
        return self._is_heard


def is_close_code(code: int) -> bool:
    """Whether a close frame may carry ``code`` (section 7.4)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
