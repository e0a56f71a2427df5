"""A log whose processes die and that is away when a test says so; and what a room is told."""

import json
import threading

from streaming import LogUnavailable, Member, Message, Subscription
from streaming.hub.hub import Hub
from streaming.hub.presence import presence_channel
from streaming.logs import MemoryLog
from tests.polling import PATIENCE, wait_until


class Gate:
    """Where threads wait while it is shut."""

    def __init__(self) -> None:
        self.is_shut = False
        self.waiting = 0
        self._opened = threading.Condition()

    def pass_through(self) -> None:
        with self._opened:
            if self.is_shut:
                self.waiting += 1
                assert self._opened.wait_for(lambda: not self.is_shut, PATIENCE)
                self.waiting -= 1

    def shut(self) -> None:
        with self._opened:
            self.is_shut = True

    def open(self) -> None:
        with self._opened:
            self.is_shut = False
            self._opened.notify_all()


class Homes(MemoryLog):
    """A log whose other processes die, and which is away, when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.dead: list[tuple[str, str]] = []
        self.broken: set[str] = set()
        self.beats = self.failures = 0
        self.gates = {step: Gate() for step in ("enter", "join", "left", "leave")}
        """Before a member is stored and before it is told, behind one that is taken out and before
        that is told."""

    def _try(self, verb: str) -> None:
        if verb in self.broken:
            self.failures += 1
            raise LogUnavailable("The log is away.")

    def append(self, channel: str, data: str, **how: str | None) -> Message:  # type: ignore[override]
        self.gates[how["event"] or ""].pass_through()
        self._try("append")
        return super().append(channel, data, **how)  # type: ignore[arg-type]

    def enter(self, room: str, member: Member, *, says: bool = True) -> Member | None:
        self.gates["enter"].pass_through()
        self._try("enter")
        before = super().enter(room, member, says=says)
        self._try("answer")
        return before

    def leave(self, room: str, member: str) -> bool:
        self._try("leave")
        was_there = super().leave(room, member)
        self._try("answer")
        self.gates["left"].pass_through()
        return was_there

    def beat(self) -> list[tuple[str, str]]:
        self.beats += 1
        self._try("beat")
        dead, self.dead = self.dead, []
        return [seat for seat in dead if super(Homes, self).leave(*seat)]

    def forget_everybody(self) -> None:
        """Be the log of which another process has taken all of us for dead."""
        with self._lock():
            self._rooms.clear()


class Told:
    """What a subscriber of a presence channel is told, from now on."""

    def __init__(self, hub: Hub, room: str = "r") -> None:
        self._subscription: Subscription = hub.subscribe(presence_channel(room))
        self._seen: list[tuple[str, dict[str, str]]] = []

    def __enter__(self) -> "Told":
        return self

    def __exit__(self, *_: object) -> None:
        self._subscription.close()

    @property
    def all(self) -> list[tuple[str, dict[str, str]]]:
        while items := self._subscription.read():
            for item in items:
                assert isinstance(item, Message)
                self._seen.append((item.event, json.loads(item.data)))
        return self._seen

    def wait_for(self, *events: tuple[str, dict[str, str]]) -> None:
        wait_until(lambda: self.all == list(events), f"{events}, and no more")
