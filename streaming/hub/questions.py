"""What all processes of a log are asked: who their clients are.

A question stands among the orders (``orders``), so it is heard by whoever has clients, and is
answered in a channel of its own, which no client may read and which is forgotten within a minute.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from .hub import Hub

MOST = 1000
"""Clients that one process names at most."""

PAGE = 50
"""Clients in one message of an answer."""

_PREFIX = "streaming:clients:"
_REPLY = re.compile(re.escape(_PREFIX) + "[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Question:
    """Who is connected: everybody of whom all that is said here is true."""

    identity: str | None = None
    """The id of an identity."""
    channel: str | None = None
    """A channel that it follows."""
    limit: int = 100
    """Clients that each process names, at most."""
    reply: str = field(default_factory=lambda: f"{_PREFIX}{secrets.token_hex(8)}")
    """The channel of the answers."""

    def text(self) -> str:
        """The question as a message."""
        return json.dumps({"question": asdict(self)})

    @classmethod
    def parse(cls, text: str) -> Question | None:
        """The question that a message is; None if it is none: an order, or another version's."""
        try:
            asked = cls(**json.loads(text)["question"])
        except (KeyError, TypeError, ValueError, RecursionError):
            return None
        names = (asked.identity, asked.channel)
        if not all(name is None or isinstance(name, str) for name in names):
            return None
        if not isinstance(asked.limit, int) or not 0 < asked.limit <= MOST:
            return None
        is_ours = isinstance(asked.reply, str) and _REPLY.fullmatch(asked.reply)
        return asked if is_ours else None


def reply(
    hub: Hub, question: Question, total: int, clients: Sequence[Mapping[str, object]]
) -> None:
    """Answer for this process: ``total`` are meant, and these are named.

    Raises:
        LogUnavailable: If the log cannot be reached.
        TooLarge: If messages are smaller here than an answer is.
    """
    process, answer = f"{socket.gethostname()}:{os.getpid()}", secrets.token_hex(4)
    for start in range(0, max(len(clients), 1), PAGE):
        page = list(clients[start : start + PAGE])
        said = {"process": process, "answer": answer, "total": total, "clients": page}
        hub.publish(question.reply, json.dumps(said, default=str))
