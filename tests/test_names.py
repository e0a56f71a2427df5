"""streaming/names.py: what is said of channels by name and by pattern."""

import pytest

from streaming.errors import InvalidMessage
from streaming.names import Patterns, check_pattern


def test_a_name_goes_before_patterns_and_a_longer_pattern_before_a_shorter_one() -> None:
    said = Patterns({"*": 0, "job:*": 1, "job:a:*": 2, "job:a:b": 3, "job:": 4})
    expected = {"x": 0, "job": 0, "job:": 4, "job:b": 1, "job:a": 1, "job:a:": 2, "job:a:c": 2}
    expected |= {"job:a:b": 3, "job:a:bc": 2}
    assert {channel: said.of(channel, -1) for channel in expected} == expected


def test_a_channel_of_which_nothing_is_said_gets_the_rest() -> None:
    assert Patterns({"job:*": 1}).of("jobs", 7) == 7
    assert Patterns().of("job:1", 7) == 7


def test_false_values_are_said_too() -> None:
    said: Patterns[int | None] = Patterns({"a": None, "b*": 0})
    assert (said.of("a", 7), said.of("b1", 7)) == (None, 0)


@pytest.mark.parametrize("name", ["*", "a", "job:*", "a" * 128, "a" * 128 + "*"])
def test_names_and_their_beginnings_are_patterns(name: str) -> None:
    assert check_pattern(name) == name


@pytest.mark.parametrize(
    "name", ["", "**", "*a", "a*b", "a**", "a?", "a b*", "é*", "a\n", "a*\n", "a" * 129, 7, None]
)
def test_anything_else_is_refused_and_said(name: str) -> None:
    with pytest.raises(InvalidMessage, match=r"job:\*"):
        check_pattern(name)
    with pytest.raises(InvalidMessage):
        Patterns({name: 1})


def test_patterns_are_a_mapping_of_what_was_written() -> None:
    said = Patterns({"job:*": 1, "a": 2})
    assert dict(said) == {"job:*": 1, "a": 2} == said
    assert ("job:1" in said, len(said), list(said)) == (False, 2, ["job:*", "a"])
