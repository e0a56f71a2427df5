"""What was found, and what is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from flask import Flask

from ....hub.hub import Hub
from ...state import State
from .server import Server


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to change, or that could not be looked at."""

    check: str
    """What was looked at."""
    what: str
    """What is so."""
    why: str
    """Why it matters."""
    change: str
    """What to do."""
    page: str
    """Where more is said: a place in ``docs/``."""
    is_seen: bool = True
    """False if it could not be looked at."""

    def describe(self) -> dict[str, object]:
        """All of it, as JSON can say it."""
        return {
            "check": self.check,
            "result": "change" if self.is_seen else "unseen",
            "what": self.what,
            "why": self.why,
            "change": self.change,
            "page": f"docs/{self.page}",
        }


@dataclass(frozen=True, slots=True)
class Scene:
    """What is looked at on this machine."""

    app: Flask
    state: State
    hub: Hub
    """On the application's log, as another process has it; one of its own if that is memory."""
    server: Server | None
    """The server's configuration; None if none was found."""
    files: int | None
    """How many files and connections a process may have open; None if nobody knows."""


Look = Callable[[Scene], Iterable[Finding]]


class Check(NamedTuple):
    """One thing that is looked at."""

    name: str
    look: Callable[[Scene], Finding | None]

    def __call__(self, scene: Scene) -> Iterator[Finding]:
        found = self.look(scene)
        if found is not None:
            yield found
