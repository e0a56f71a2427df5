"""streaming/web/json_objects.py: one meaning for every object, and none for what is not JSON."""

import json
from typing import Any

import pytest

from streaming import InvalidRequest
from streaming.web.json_objects import parse_flat_object, parse_object

BOTH = pytest.mark.parametrize("parse", [parse_object, parse_flat_object])


@BOTH
@pytest.mark.parametrize("value", [{}, {"a": "好", "b": 1, "c": None, "d": [1, "x"]}])
def test_an_object_is_parsed_as_json_does(parse: Any, value: dict[str, object]) -> None:
    assert parse(json.dumps(value)) == value


@BOTH
@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"a": 1, "a": 2}', "'a' twice"),
        ('{"a": 1, "\\u0061": 2}', "'a' twice"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "Infinity is no number"),
        ("[]", "not a JSON object"),
        ("7", "not a JSON object"),
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"a":' * 100_000, "not JSON"),
        ('\ufeff{"a": 1}', "not JSON"),
    ],
)
def test_what_has_no_one_meaning_is_refused(parse: Any, text: str, word: str) -> None:
    with pytest.raises(InvalidRequest, match=word):
        parse(text)


def test_a_name_twice_further_inside_is_refused_too() -> None:
    with pytest.raises(InvalidRequest, match="'b' twice"):
        parse_object('{"a": [{"b": 1, "b": 2}]}')


def test_a_flat_object_has_no_other_in_it_and_is_refused_before_it_is_parsed_to_its_end() -> None:
    text = '{"a":[' + ",".join(["{}"] * 300_000)  # and no end
    with pytest.raises(InvalidRequest, match="another one in it"):
        parse_flat_object(text)
    assert parse_flat_object('{"a": 1}') == {"a": 1}  # and the next is none the worse
