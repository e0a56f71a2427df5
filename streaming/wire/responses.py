"""An answer as OpenAI's Responses API says it, whole or as events with sequence numbers.

Source: platform.openai.com, API reference, "Responses" and "Responses: streaming events".

The same parts give the same events, so a client that has seen event N gets those behind it from an
encoder that is fed from the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .chat_completions import error_of, function_of, is_call, usage_of

Event = Mapping[str, Any]
"""``type`` is its name, too; ``sequence_number`` counts from 0."""

_STATES = {
    "queued": "queued",
    "running": "in_progress",
    "done": "completed",
    "stopped": "cancelled",
    "failed": "failed",
    "interrupted": "failed",
}

_LAST = {"completed": "completed", "failed": "failed", "cancelled": "incomplete"}
"""The last event by the status. There is none of its own for an answer that was cancelled."""


class ResponseEvents:
    """Parts in, events out; and at any time the whole, as without streaming.

    Args:
        id: What the client knows it by.
        model: What the client has asked for.
        created: Seconds since 1970.
        background: Whether the client has asked for a response in the background.
    """

    def __init__(self, id: str, model: str, created: int, *, background: bool = False) -> None:
        self._id = id
        self._fixed = {
            "id": id,
            "object": "response",
            "created_at": created,
            "model": model,
            "background": background,
            "instructions": None,
            "incomplete_details": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }
        self._status = "in_progress"
        self._error: Mapping[str, Any] | None = None
        self._output: list[dict[str, Any]] = []
        self._open: str | None = None  # the kind of the text that is going on
        self._pieces: list[str] = []
        self._usage: Mapping[str, Any] | None = None
        self._count = 0

    def begin(self) -> Iterator[Event]:
        """The first events."""
        yield self._event("response.created", response=self.whole())
        yield self._event("response.in_progress", response=self.whole())

    def feed(self, kind: str, data: Any) -> Iterator[Event]:
        """The events of one part; none for kinds that this API has no word for."""
        if kind in ("text", "reasoning"):
            if self._open != kind:
                yield from self._close()
                yield from self._start(kind)
            self._pieces.append(data)
            name = "output_text" if kind == "text" else "reasoning_text"
            yield self._inside(f"response.{name}.delta", delta=data, **self._logprobs(kind))
        elif kind == "tool-call" and is_call(data):
            yield from self._close()
            yield from self._call(data)
        elif kind == "usage":
            usage = usage_of(data, "input_tokens", "output_tokens")
            details = {
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            }
            self._usage = {**usage, **details}

    def end(self, state: str, detail: str) -> Iterator[Event]:
        """The last events."""
        yield from self._close()
        self.note(state, detail)
        yield self._event(f"response.{_LAST[self._status]}", response=self.whole())

    def note(self, state: str, detail: str) -> None:
        """Say in ``whole`` how far it has come."""
        self._status = _STATES[state]
        if self._status == "failed":
            error = error_of(detail)
            self._error = {"code": error["type"], "message": error["message"]}

    def whole(self) -> Mapping[str, Any]:
        """All that was fed, as one object."""
        output = [dict(item) for item in self._output]
        if self._open is not None and self._pieces:
            output[-1] = self._item(self._open, "in_progress", "".join(self._pieces))
        return {
            **self._fixed,
            "status": self._status,
            "error": self._error,
            "output": output,
            "usage": self._usage,
        }

    def _event(self, name: str, /, **more: Any) -> Event:
        number, self._count = self._count, self._count + 1
        return {"type": name, "sequence_number": number, **more}

    def _inside(self, name: str, **more: Any) -> Event:
        """An event of the text that is going on."""
        index = len(self._output) - 1
        item = self._output[-1]["id"]
        return self._event(name, item_id=item, output_index=index, content_index=0, **more)

    def _item(self, kind: str, status: str, text: str | None) -> dict[str, Any]:
        id = f"{'msg' if kind == 'text' else 'rs'}_{self._id}_{len(self._output) - 1}"
        content = [] if text is None else [self._part(kind, text)]
        if kind == "text":
            head = {"id": id, "type": "message", "role": "assistant"}
            return {**head, "status": status, "content": content}
        return {"id": id, "type": "reasoning", "summary": [], "status": status, "content": content}

    def _part(self, kind: str, text: str) -> dict[str, Any]:
        if kind == "text":
            return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        return {"type": "reasoning_text", "text": text}

    def _start(self, kind: str) -> Iterator[Event]:
        self._open, self._pieces = kind, []
        self._output.append({})
        self._output[-1] = self._item(kind, "in_progress", None)
        yield self._added()
        yield self._inside("response.content_part.added", part=self._part(kind, ""))

    def _close(self) -> Iterator[Event]:
        """End the text that is going on, if one is."""
        kind, text = self._open, "".join(self._pieces)
        if kind is None:
            return
        self._open, self._pieces = None, []
        name = "output_text" if kind == "text" else "reasoning_text"
        yield self._inside(f"response.{name}.done", text=text, **self._logprobs(kind))
        yield self._inside("response.content_part.done", part=self._part(kind, text))
        self._output[-1] = self._item(kind, "completed", text)
        yield self._done()

    def _call(self, call: Mapping[str, Any]) -> Iterator[Event]:
        function = function_of(call)
        index = len(self._output)
        id = f"fc_{self._id}_{index}"
        item = {
            "id": id,
            "type": "function_call",
            "name": function["name"],
            "call_id": str(call["id"]),
        }
        self._output.append({**item, "arguments": "", "status": "in_progress"})
        yield self._added()
        place = {"item_id": id, "output_index": index}
        name, arguments = "response.function_call_arguments", function["arguments"]
        yield self._event(f"{name}.delta", **place, delta=arguments)
        done = {"name": function["name"], "arguments": arguments}
        yield self._event(f"{name}.done", **place, **done)
        self._output[-1] = {**item, "arguments": arguments, "status": "completed"}
        yield self._done()

    def _added(self) -> Event:
        return self._last_item("response.output_item.added")

    def _done(self) -> Event:
        return self._last_item("response.output_item.done")

    def _last_item(self, name: str) -> Event:
        index = len(self._output) - 1
        return self._event(name, output_index=index, item=dict(self._output[-1]))

    @staticmethod
    def _logprobs(kind: str) -> dict[str, Any]:
        return {"logprobs": []} if kind == "text" else {}
