"""What a run says, part by part, and what its channel comes to when it is read from the start."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidMessage, ProducerFailed
from ..message import Gap, Message
from ..names import END
from ..wire.compact import compact, parse

TEXTS = frozenset({"text", "reasoning", "error"})
"""Kinds whose data is text; that of all others is JSON."""

STATES = frozenset({"queued", "running", "done", "stopped", "failed", "interrupted"})
"""How far a run may have come."""

MERGED = frozenset({"text", "reasoning"})
"""Kinds of which several in a row say the same as one."""

KINDS = ("text", "reasoning", "tool-call", "tool-result", "data", "usage", "error")

_EVENTS = {"error": "problem"}
"""The event names of kinds that an ``EventSource`` would take for its own."""

_KINDS = {_EVENTS.get(kind, kind): kind for kind in KINDS}

LOST = "The beginning of the answer is no longer held."
"""What is said where an answer cannot be given for whole."""


_HEADER = re.compile(r"[!-~](?:[ -~]{0,58}[!-~])?")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an answer.

    ``data`` is text for ``text``, ``reasoning`` and ``error``; for ``tool-call``, ``tool-result``,
    ``data`` and ``usage`` it is anything that JSON can say.

    Raises:
        InvalidMessage: If there is no such kind, or the data cannot be sent.
    """

    kind: str
    """What it is."""
    data: Any
    """What it says."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidMessage(f"There is no part {self.kind!r:.60}; known: {', '.join(KINDS)}.")
        if self.kind in TEXTS and not isinstance(self.data, str):
            raise InvalidMessage(f"The data of a part {self.kind!r} is text, not {self.data!r:.60}")

    @property
    def event(self) -> str:
        """The event name of its message."""
        return _EVENTS.get(self.kind, self.kind)

    @property
    def printed(self) -> str:
        """The text of its message.

        Raises:
            InvalidMessage: If JSON cannot say it.
        """
        if self.kind in TEXTS:
            return str(self.data)
        try:
            return compact(self.data)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidMessage(f"The data of a part {self.kind!r} is no JSON: {error}") from error

    @classmethod
    def of(cls, message: Message) -> Part | None:
        """The part that ``message`` holds; None for the others of a run's channel, and for what no
        producer can have said."""
        kind = _KINDS.get(message.event)
        if kind is None:
            return None
        try:
            return cls(kind, message.data if kind in TEXTS else parse(message.data))
        except ValueError:
            return None


@dataclass(slots=True)
class Answer:
    """A run as far as it has come: what its channel says, read from the start."""

    id: str
    """What the run is called."""
    state: str = "running"
    """``queued``, ``running``, ``done``, ``stopped``, ``failed`` or ``interrupted``."""
    parts: list[Part] = field(default_factory=list)
    """What was said, texts that follow each other as one."""
    started: str = ""
    """ISO 8601, UTC."""
    ended: str | None = None
    """ISO 8601, UTC; None before its end."""
    detail: str = ""
    """Why it ended so, for the reader."""
    cursor: str = ""
    """Up to where the channel was read; resumes behind it."""
    before: str = ""
    """``cursor``, but in front of the end: whoever resumes there is told of it."""
    is_whole: bool = True
    """Whether the beginning is still held."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What whoever began it has noted."""
    failure: Mapping[str, Any] = field(default_factory=dict)
    """What a failure before the first part is over HTTP: ``status`` and ``retry_after``."""

    @property
    def text(self) -> str:
        """All that is text."""
        return "".join(part.data for part in self.parts if part.kind == "text")

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more."""
        return self.state not in ("queued", "running")

    @property
    def error(self) -> ProducerFailed:
        """What tells of it that it is not whole."""
        if not self.is_whole and self.state not in ("failed", "interrupted"):
            return ProducerFailed(LOST, status=410)
        return ProducerFailed(
            self.detail or "The answer was interrupted.",
            status=int(self.failure.get("status", 500)),
            retry_after=self.failure.get("retry_after"),
        )

    def add(self, items: Iterable[Message | Gap]) -> None:
        """Go on with what the channel has next."""
        pieces: list[str] = []  # of a text that is going on
        for item in items:
            if isinstance(item, Gap):
                self.is_whole = False
                continue
            if item.event != END:
                self.before = str(item.id)
            self.cursor = str(item.id)
            part = Part.of(item)
            if part is None:
                self._note(item)
            elif part.kind in MERGED and self.parts and self.parts[-1].kind == part.kind:
                pieces.append(part.data)
            else:
                self._join(pieces)
                self.parts.append(part)
        self._join(pieces)

    def snapshot(self) -> dict[str, Any]:
        """What somebody who comes late is told, as JSON can say it."""
        return {
            "id": self.id,
            "state": self.state,
            "text": self.text,
            "parts": [{"kind": part.kind, "data": part.data} for part in self.parts],
            "whole": self.is_whole,
        }

    def describe(self) -> dict[str, Any]:
        """All of it, as JSON can say it."""
        return {
            **self.snapshot(),
            "cursor": self.cursor,
            "started": self.started,
            "ended": self.ended,
            "detail": self.detail,
        }

    def _join(self, pieces: list[str]) -> None:
        if pieces:
            last = self.parts[-1]
            self.parts[-1] = Part(last.kind, "".join([last.data, *pieces]))
            pieces.clear()

    def _note(self, message: Message) -> None:
        said = _Said(message.data)
        if message.event == "start":
            self.state, self.started = said.state(self.state), said.text("started")
            self.about = said.object("about")
        elif message.event == "running":
            self.state = "running"
        elif message.event == END:
            self.state, self.ended = said.state("done"), said.text("ended") or None
            self.detail, self.failure = said.text("detail"), said.failure()


class _Said:
    """What a message says of its run, as far as it is what we would have said: whoever may write
    into the log may have put it there."""

    __slots__ = ("_said",)

    def __init__(self, text: str) -> None:
        try:
            said = parse(text)
        except ValueError:
            said = {}
        self._said: Mapping[str, Any] = said if isinstance(said, dict) else {}

    def text(self, name: str) -> str:
        return value if isinstance(value := self._said.get(name), str) else ""

    def object(self, name: str) -> Mapping[str, Any]:
        return value if isinstance(value := self._said.get(name), dict) else {}

    def state(self, otherwise: str) -> str:
        return value if (value := self.text("state")) in STATES else otherwise

    def failure(self) -> Mapping[str, Any]:
        status, after = self._said.get("status"), self.text("retry_after")
        found: dict[str, Any] = {"retry_after": after} if _HEADER.fullmatch(after) else {}
        return found | ({"status": status} if status in range(400, 600) else {})
