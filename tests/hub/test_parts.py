"""streaming/hub/parts.py: what a run says, and what its channel comes to."""

import json

import pytest

from streaming.errors import InvalidMessage
from streaming.hub.parts import KINDS, Answer, Part
from streaming.message import Gap, Message, Position


def messages(*said: tuple[str, str]) -> list[Message]:
    return [Message("run:x", text, Position("e", n), event) for n, (event, text) in enumerate(said)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_part_comes_out_of_its_message_as_it_went_in(kind: str) -> None:
    data = "say\n \u4f60\u597d " if kind in ("text", "reasoning", "error") else {"a": [1, None]}
    part = Part(kind, data)
    (message,) = messages((part.event, part.printed))
    assert Part.of(message) == part


def test_no_part_has_an_event_name_that_an_event_source_takes_for_its_own() -> None:
    events = {Part(kind, "text").event for kind in KINDS}
    assert not events & {"open", "error", "message", "close", "end", "start", "running"}
    assert len(events) == len(KINDS)


@pytest.mark.parametrize(
    ("kind", "data"), [("words", "x"), ("text", 5), ("text", b"x"), ("reasoning", None)]
)
def test_what_is_no_part_is_refused_with_what_is_wrong(kind: str, data: object) -> None:
    with pytest.raises(InvalidMessage, match=r"no part|is text"):
        Part(kind, data)


@pytest.mark.parametrize("data", [{1, 2}, b"x", object()])
def test_data_that_json_cannot_say_is_refused(data: object) -> None:
    with pytest.raises(InvalidMessage, match="no JSON"):
        _ = Part("data", data).printed


def test_an_answer_is_what_its_channel_says_texts_in_a_row_as_one() -> None:
    answer = Answer("x")
    said = messages(
        ("start", '{"id":"x","state":"queued","started":"2026-01-01T00:00:00.000Z"}'),
        ("running", "{}"),
        ("reasoning", "hm"),
        ("reasoning", "m"),
        ("text", "a"),
        ("text", "b"),
        ("text", "c"),
        ("data", "[1]"),
        ("text", "d"),
        ("problem", "sorry"),
        ("end", '{"state":"failed","ended":"later","detail":"No.","status":502}'),
    )
    for cut in range(len(said) + 1):
        answer = Answer("x")
        answer.add(said[:cut])
        answer.add(said[cut:])
        assert answer.parts == [
            Part("reasoning", "hmm"),
            Part("text", "abc"),
            Part("data", [1]),
            Part("text", "d"),
            Part("error", "sorry"),
        ]
        assert answer.text == "abcd"
        assert (answer.state, answer.ended, answer.detail) == ("failed", "later", "No.")
        assert (answer.cursor, answer.before) == ("e-10", "e-9")
        assert answer.failure == {"status": 502}
        assert answer.is_over
        assert answer.is_whole
    assert json.loads(json.dumps(answer.describe()))["text"] == "abcd"


def test_an_answer_whose_beginning_is_no_longer_held_says_so() -> None:
    answer = Answer("x")
    answer.add([Gap("run:x", Position("e", 0), None, None), *messages(("text", "rest"))])
    assert not answer.is_whole
    assert answer.describe()["whole"] is False
    assert answer.snapshot()["whole"] is False
