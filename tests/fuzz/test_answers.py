"""Answers in others' formats: ``chat_completions``, ``responses``, ``ui_messages`` of ``wire``."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from streaming.hub.parts import KINDS, TEXTS, Part
from streaming.web.conversations import Encoder
from streaming.wire.chat_completions import ChatCompletion
from streaming.wire.compact import compact
from streaming.wire.responses import ResponseEvents
from streaming.wire.ui_messages import UiMessage
from tests.fuzz.strategies import json_values, texts

STATES = ["done", "stopped", "failed", "interrupted"]

_calls = st.fixed_dictionaries(
    {},
    optional={"id": json_values, "name": json_values, "arguments": json_values, "x": json_values},
)
_usages = st.fixed_dictionaries({}, optional={"input": json_values, "output": json_values})


def parts_of(kind: str) -> st.SearchStrategy[Part]:
    near = {"tool-call": _calls, "tool-result": _calls, "usage": _usages}.get(kind, json_values)
    data = texts if kind in TEXTS else near | json_values
    return data.map(lambda value: Part(kind, value))


answers = st.lists(st.sampled_from(KINDS).flatmap(parts_of), max_size=6)
encoders: st.SearchStrategy[Encoder] = st.sampled_from(
    [
        lambda: ChatCompletion("c", "m", 1, usage=True),
        lambda: ResponseEvents("r", "m", 1),
        lambda: UiMessage("u"),
    ]
).map(lambda make: make())


@given(encoders, answers, st.sampled_from(STATES), texts)
@example(ChatCompletion("c", "m", 1), [Part("tool-call", 5)], "done", "")
@example(ResponseEvents("r", "m", 1), [Part("usage", {"input": "many"})], "done", "")
def test_whatever_a_producer_says_each_format_has_json_for_it(
    encoder: Encoder, said: list[Part], state: str, detail: str
) -> None:
    chunks = list(encoder.begin())
    for part in said:
        chunks += encoder.feed(part.kind, part.data)
    chunks += encoder.end(state, detail)
    for chunk in chunks:
        assert json.loads(compact(chunk)) == chunk
    if isinstance(encoder, ChatCompletion | ResponseEvents):
        compact(encoder.whole())


@given(answers)
def test_all_the_text_of_an_answer_is_in_each_format(said: list[Part]) -> None:
    text = "".join(part.data for part in said if part.kind == "text")
    chat, events, ui = ChatCompletion("c", "m", 1), ResponseEvents("r", "m", 1), UiMessage("u")
    deltas: dict[str, list[Any]] = {"chat": [], "events": [], "ui": []}
    for part in said:
        for chunk in chat.feed(part.kind, part.data):
            deltas["chat"].append(chunk["choices"][0]["delta"].get("content", ""))
        for event in events.feed(part.kind, part.data):
            if event["type"] == "response.output_text.delta":
                deltas["events"].append(event["delta"])
        for chunk in ui.feed(part.kind, part.data):
            if chunk["type"] == "text-delta":
                deltas["ui"].append(chunk["delta"])
    assert {name: "".join(found) for name, found in deltas.items()} == dict.fromkeys(deltas, text)


@given(answers)
def test_events_are_numbered_without_a_hole_and_again_the_same(said: list[Part]) -> None:
    def events() -> list[Any]:
        encoder = ResponseEvents("r", "m", 1)
        found = list(encoder.begin())
        for part in said:
            found += encoder.feed(part.kind, part.data)
        return found + list(encoder.end("done", ""))

    assert [event["sequence_number"] for event in events()] == list(range(len(events())))
    assert events() == events()
