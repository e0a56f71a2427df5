"""Answers as others read them: ``wire/chat_completions``, ``responses``, ``ui_messages``."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion as Completion
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from streaming.wire.chat_completions import ChatCompletion
from streaming.wire.responses import ResponseEvents
from streaming.wire.ui_messages import UiMessage

VECTORS = json.loads((Path(__file__).parent / "vectors" / "answers.json").read_text("utf-8"))

ENCODERS: dict[str, Callable[[], Any]] = {
    "chat_completions": lambda: ChatCompletion("id", "m", 7, usage=True),
    "responses": lambda: ResponseEvents("id", "m", 7),
    "ui_messages": lambda: UiMessage("id"),
}


def encode(encoder: Any, case: Any) -> Iterator[Any]:
    yield from encoder.begin()
    for kind, data in case["parts"]:
        yield from encoder.feed(kind, data)
    yield from encoder.end(case["state"], case["detail"])


@pytest.mark.parametrize("form", ENCODERS)
@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_an_answer_is_said_as_the_vectors_have_it(form: str, case: Any) -> None:
    assert list(encode(ENCODERS[form](), case)) == case[form]


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_the_whole_has_what_the_pieces_had(case: Any) -> None:
    text = "".join(data for kind, data in case["parts"] if kind == "text")
    completion, response = ENCODERS["chat_completions"](), ENCODERS["responses"]()
    events = [list(encode(each, case)) for each in (completion, response)]
    (choice,) = completion.whole()["choices"]
    assert (choice["message"]["content"] or "") == text
    whole = response.whole()
    found = [
        part["text"]
        for item in whole["output"]
        for part in item.get("content", [])
        if part["type"] == "output_text"
    ]
    assert "".join(found) == text
    assert events[1][-1]["response"] == whole
    assert [event["sequence_number"] for event in events[1]] == list(range(len(events[1])))


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_openais_own_types_take_every_event(case: Any) -> None:
    event_type: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for event in case["responses"]:
        assert event_type.validate_python(event).type == event["type"]
        if "response" in event:
            assert Response.model_validate(event["response"]).id == "id"
    for chunk in case["chat_completions"]:
        if "error" not in chunk:
            assert ChatCompletionChunk.model_validate(chunk).id == "id"
    completion = ENCODERS["chat_completions"]()
    assert list(encode(completion, case))
    if case["state"] in ("done", "stopped"):
        assert Completion.model_validate(completion.whole()).model == "m"
