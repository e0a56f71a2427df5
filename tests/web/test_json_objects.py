"""streaming/web/json_objects.py: one meaning for every object, and none for what is not JSON."""

import json
from typing import Any

import pytest

from streaming import InvalidRequest
from streaming.web import json_objects
from streaming.web.json_objects import parse_flat_object, parse_object, parse_sparse_object

ALL = pytest.mark.parametrize("parse", [parse_object, parse_sparse_object, parse_flat_object])


@ALL
@pytest.mark.parametrize("value", [{}, {"a": "好", "b": 1, "c": None, "d": [1, "x"]}])
def test_an_object_is_parsed_as_json_does(parse: Any, value: dict[str, object]) -> None:
    assert parse(json.dumps(value)) == value


@ALL
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
        ('{"a":' * 100_000, "not JSON|too much in it"),
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
    for count, said in ((100, "another one in it"), (300_000, "too much in it")):
        text = '{"a":[' + ",".join(["{}"] * count)  # and no end
        with pytest.raises(InvalidRequest, match=said):
            parse_flat_object(text)
    assert parse_flat_object('{"a": 1}') == {"a": 1}  # and the next is none the worse


@ALL
def test_a_name_twice_is_found_in_one_pass(parse: Any) -> None:
    """Comparing each name with all others would take minutes here, and seconds in one frame."""
    pairs = ",".join(f'"{n}":0' for n in range(100_000))
    with pytest.raises(InvalidRequest, match=r"'99999' twice|too much in it"):
        parse(f'{{{pairs},"99999":1}}')


DENSE = {
    "lists": '{"a":[' + "[]," * 5_000 + "[]]}",
    "deep": '{"a":' + "[" * 5_000 + "]" * 5_000 + "}",
    "numbers": '{"a":[' + "1," * 5_000 + "1]}",
    "names": "{" + ",".join(f'"{n}":0' for n in range(2_000)) + "}",
    "a long number": '{"a":1' + ",".join(["0"] * 1_000) + "}",
}


@pytest.mark.parametrize("text", DENSE.values(), ids=DENSE)
def test_a_flat_object_that_is_dense_is_refused_without_being_parsed(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_objects, "_FLAT", None)
        patch.setattr(json_objects, "_NESTED", None)
        for parse in (parse_flat_object, parse_sparse_object):
            with pytest.raises(InvalidRequest, match="too much in it"):
                parse(text)


@pytest.mark.parametrize(
    "data", ["[" * 5_000, '{"a":[1,2]},' * 500, "\\" * 3_000 + "," * 3_000, '"' * 2_000 + "," * 999]
)
def test_a_text_may_be_dense_with_anything(data: str) -> None:
    value = {"type": "publish", "data": data, "n": -1.5e10, "t": True, "z": None}
    for text in (json.dumps(value), json.dumps(value, indent=2), json.dumps(value)[:-1] + " \n}"):
        assert parse_flat_object(text) == value


def test_what_looks_flat_is_still_parsed_as_json() -> None:
    for text in ('{"a":truth,"b":"' + "," * 5_000 + '"}', '{"a":"' + ",\x01" * 5_000 + '"}'):
        with pytest.raises(InvalidRequest, match="not JSON"):
            parse_flat_object(text)
