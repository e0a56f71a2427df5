"""What the generator is told to do; goes to it as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Phase:
    """``closed``: ``inflight`` messages under way; ``open``: ``rate`` messages a second, whatever
    comes back; ``echo``: each connection on its own, one after the other; ``idle``: none."""

    name: str
    mode: str
    seconds: float
    inflight: int = 1
    rate: float = 0
    size: int = 128
    probe_interval: float = 0
    may_lose: bool = False


@dataclass(frozen=True)
class Work:
    port: int
    pid: int
    cpu: int
    kind: str
    path: str
    publish: str | None
    conns: int
    stalled: int
    settle: float
    phases: list[Phase] = field(default_factory=list)
