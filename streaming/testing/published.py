"""What an application publishes, as a list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from flask import Flask

from ..logs import Log
from ..message import Message, Position
from ..web.state import State


class Published(list[Message]):
    """Messages in the order in which they were published, of all channels."""

    def of(self, channel: str) -> list[Message]:
        """Those of one channel."""
        return [message for message in self if message.channel == channel]

    def texts(self, channel: str) -> list[str]:
        """What was said in one channel."""
        return [message.data for message in self.of(channel)]

    def values(self, channel: str) -> list[Any]:
        """What was said in one channel, as JSON."""
        return [json.loads(text) for text in self.texts(channel)]


@contextmanager
def record(app: Flask) -> Iterator[Published]:
    """All that this process publishes through ``app`` meanwhile: also pieces of runs, and who comes
    to a room. A repetition with a known idempotency key is not there twice."""
    state: State = app.extensions["streaming"]
    log: Log = state.hub.log
    append, published, known = log.append, Published(), set[tuple[str, Position]]()

    def noted(*args: Any, **options: Any) -> Message:
        message = append(*args, **options)
        if (message.channel, message.id) not in known:
            known.add((message.channel, message.id))
            published.append(message)
        return message

    with mock.patch.object(log, "append", noted):
        yield published
