"""An answer as Vercel's AI SDK reads it: the UI message stream, version 1.

Source: ai-sdk.dev, "AI SDK UI", "Stream Protocols", "Data Stream Protocol". Each chunk is the JSON
in the data of an unnamed server-sent event; the last data is ``[DONE]``. A client that comes back
gets all of it again, and makes its message anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .chat_completions import is_call

HEADER = ("x-vercel-ai-ui-message-stream", "v1")
"""What the answer has to say of itself."""

DONE = "[DONE]"

Chunk = Mapping[str, Any]


class UiMessage:
    """Parts in, chunks out.

    Args:
        id: Of the message that is made.
    """

    def __init__(self, id: str) -> None:
        self._id = id
        self._open: str | None = None  # the kind of the text that is going on
        self._count = 0

    def begin(self) -> Iterator[Chunk]:
        """The first chunks."""
        yield {"type": "start", "messageId": self._id}
        yield {"type": "start-step"}

    def feed(self, kind: str, data: Any) -> Iterator[Chunk]:
        """The chunks of one part."""
        if kind in ("text", "reasoning"):
            if self._open != kind:
                yield from self._close()
                self._open, self._count = kind, self._count + 1
                yield {"type": f"{kind}-start", "id": self._part}
            yield {"type": f"{kind}-delta", "id": self._part, "delta": data}
            return
        yield from self._close()
        if kind == "tool-call" and is_call(data):
            call = {"toolCallId": data["id"], "toolName": data["name"]}
            yield {"type": "tool-input-available", **call, "input": data.get("arguments")}
        elif kind == "tool-result" and isinstance(data, Mapping) and "id" in data:
            result = {"toolCallId": data["id"], "output": data.get("result")}
            yield {"type": "tool-output-available", **result}
        elif kind == "data":
            self._count += 1
            yield {"type": "data-part", "id": self._part, "data": data}
        elif kind == "usage":
            yield {"type": "message-metadata", "messageMetadata": {"usage": data}}
        elif kind == "error":
            yield {"type": "error", "errorText": data}

    def end(self, state: str, detail: str) -> Iterator[Chunk]:
        """The last chunks. One that was stopped ends as if the client had stopped it."""
        yield from self._close()
        if state == "stopped":
            yield {"type": "abort"}
            return
        if state != "done":
            yield {"type": "error", "errorText": detail or "The answer failed."}
            return
        yield {"type": "finish-step"}
        yield {"type": "finish"}

    @property
    def _part(self) -> str:
        return f"{self._id}-{self._count}"

    def _close(self) -> Iterator[Chunk]:
        if self._open is not None:
            yield {"type": f"{self._open}-end", "id": self._part}
            self._open = None
