"""An answer as OpenAI's Chat Completions API says it, whole or in chunks.

Source: platform.openai.com, API reference, "Chat Completions" and "Chat Completions streaming".
Reasoning has no name there; ``reasoning_content`` is what servers and clients agree on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .compact import compact

DONE = "[DONE]"
"""The data of the last event."""


class ChatCompletion:
    """Parts in, chunks out; and at any time the whole, as without streaming.

    Args:
        id: What the client knows it by.
        model: What the client has asked for.
        created: Seconds since 1970.
        usage: Whether a chunk with the usage is wanted (``stream_options``).
    """

    def __init__(self, id: str, model: str, created: int, *, usage: bool = False) -> None:
        self._head = {"id": id, "created": created, "model": model}
        self._wants_usage = usage
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._usage: dict[str, int] | None = None
        self._reason: str | None = None

    def begin(self) -> Iterator[Mapping[str, Any]]:
        """The first chunk."""
        yield self._chunk({"role": "assistant", "content": ""})

    def feed(self, kind: str, data: Any) -> Iterator[Mapping[str, Any]]:
        """The chunks of one part; none for kinds that this API has no word for."""
        if kind == "text":
            self._text.append(data)
            yield self._chunk({"content": data})
        elif kind == "reasoning":
            self._reasoning.append(data)
            yield self._chunk({"reasoning_content": data})
        elif kind == "tool-call" and is_call(data):
            call = {"id": str(data["id"]), "type": "function", "function": function_of(data)}
            self._calls.append(call)
            yield self._chunk({"tool_calls": [{"index": len(self._calls) - 1, **call}]})
        elif kind == "usage":
            self._usage = usage_of(data, "prompt_tokens", "completion_tokens")

    def end(self, state: str, detail: str) -> Iterator[Mapping[str, Any]]:
        """The last chunks; an error where the answer is not whole."""
        if state not in ("done", "stopped"):
            yield {"error": error_of(detail)}
            return
        self._reason = "tool_calls" if self._calls else "stop"
        yield self._chunk({}, self._reason)
        if self._wants_usage and self._usage is not None:
            yield {**self._head, "object": _CHUNK, "choices": [], "usage": self._usage}

    def whole(self) -> Mapping[str, Any]:
        """All that was fed, as one object."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(self._text) if self._text or not self._calls else None,
            "refusal": None,
        }
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if self._calls:
            message["tool_calls"] = self._calls
        choice = {"index": 0, "message": message, "finish_reason": self._reason, "logprobs": None}
        found: dict[str, Any] = {**self._head, "object": "chat.completion", "choices": [choice]}
        return found if self._usage is None else {**found, "usage": self._usage}

    def _chunk(self, delta: Mapping[str, Any], reason: str | None = None) -> Mapping[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return {**self._head, "object": _CHUNK, "choices": [choice]}


_CHUNK = "chat.completion.chunk"


def is_call(data: Any) -> bool:
    """Whether a ``tool-call`` says what is called; of others these APIs have nothing to say."""
    return isinstance(data, Mapping) and "id" in data and "name" in data


def function_of(call: Mapping[str, Any]) -> dict[str, str]:
    """The function that a ``tool-call`` names; its arguments are JSON in a text."""
    arguments = call.get("arguments", "")
    if not isinstance(arguments, str):
        arguments = compact(arguments)
    return {"name": str(call["name"]), "arguments": arguments}


def usage_of(usage: Any, sent: str, made: str) -> dict[str, int]:
    """Tokens by the names of an API: those of the question, those of the answer, all. What is no
    number counts as none."""
    said = usage if isinstance(usage, Mapping) else {}
    question, answer = (
        int(value) if isinstance(value := said.get(name), int | float) else 0
        for name in ("input", "output")
    )
    return {sent: question, made: answer, "total_tokens": question + answer}


def error_of(detail: str, kind: str = "server_error", code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    return {"message": detail or "The answer failed.", "type": kind, "param": None, "code": code}
