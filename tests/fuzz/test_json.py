"""JSON of strangers: ``json_objects``, ``owners``, ``requests``, ``conversations`` of ``web``."""

import json
from typing import Any

from flask import Request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from streaming.errors import InvalidMessage, InvalidRequest, StreamingError
from streaming.web.conversations import turns_of
from streaming.web.json_objects import (
    LIGHT,
    parse_flat_object,
    parse_object,
    parse_sparse_object,
)
from streaming.web.owners import owner_of
from streaming.web.requests import check_parameters, last_seen, read_count, read_json
from tests.fuzz.strategies import cursors, json_like, json_objects, json_values, words

PARSERS = st.sampled_from([parse_object, parse_sparse_object, parse_flat_object])


@given(json_objects, st.booleans(), st.none() | st.integers(0, 3))
def test_an_object_is_read_as_it_was_written(
    value: dict[str, Any], is_ascii: bool, indent: int | None
) -> None:
    assert parse_object(json.dumps(value, ensure_ascii=is_ascii, indent=indent)) == value


@given(PARSERS, json_like | json_values.map(json.dumps))
def test_a_text_is_an_object_without_names_twice_or_it_is_refused(parse: Any, text: str) -> None:
    try:
        value = parse(text)
    except InvalidRequest as error:
        assert len(error.told) <= 400
        return
    pairs: list[list[Any]] = []
    json.loads(text, object_pairs_hook=lambda found: pairs.append(found) or dict(found))
    assert value == json.loads(text)
    assert all(len(dict(found)) == len(found) for found in pairs)
    if parse is parse_flat_object:
        assert len(pairs) == 1


@given(PARSERS, json_objects, st.sampled_from(["NaN", "Infinity", "-Infinity"]))
def test_a_number_that_json_does_not_have_is_refused(
    parse: Any, value: dict[str, Any], number: str
) -> None:
    text = json.dumps({**value, "x": 0.125}).replace("0.125", number)
    try:
        parse(text)
    except InvalidRequest:
        return
    raise AssertionError(f"it was read: {text}")


@given(st.dictionaries(words.filter(bool), words | st.integers(), max_size=4), st.integers(1, 500))
def test_a_few_names_with_long_texts_are_read_whatever_is_in_them(
    value: dict[str, Any], times: int
) -> None:
    value = {k: v * times if isinstance(v, str) else v for k, v in value.items()}
    assert parse_flat_object(json.dumps(value, ensure_ascii=False)) == value


@given(st.sampled_from(["[", "{", '{"a":', "[[],", '"a",', "{},"]), st.integers(LIGHT, 50_000))
def test_what_is_dense_is_refused_without_being_parsed(piece: str, length: int) -> None:
    text = '{"x":[' + piece * (length // len(piece) + 1)
    try:
        parse_sparse_object(text)
    except InvalidRequest as error:
        assert "too much in it" in str(error)
        return
    raise AssertionError("it was parsed")


_keyed = st.fixed_dictionaries(
    {}, optional={"key": words | json_values, "secret": words | json_values}
)


@given(_keyed)
def test_a_key_has_an_owner_that_is_text_or_is_refused(value: dict[str, Any]) -> None:
    try:
        owner = owner_of(value)
    except (InvalidMessage, InvalidRequest):
        return
    assert (owner is None) == ("key" not in value)
    assert owner is None or owner.encode()


_turns = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": words | json_values,
            "content": words | json_values | st.lists(st.fixed_dictionaries({"text": json_values})),
            "parts": json_values,
        },
    )
    | json_values,
    max_size=3,
)


@given(_turns | json_values)
def test_a_conversation_is_turns_of_role_and_text_or_refused(value: Any) -> None:
    try:
        turns = turns_of(value, "messages")
    except InvalidRequest as error:
        assert len(error.told) <= 400
        return
    assert all(isinstance(t["role"], str) and isinstance(t["content"], str) for t in turns)


# ---- requests


def request_of(**how: Any) -> Request:
    return Request(EnvironBuilder(**how).get_environ())


@given(st.none() | words)
def test_a_number_of_messages_is_one_or_refused(text: str | None) -> None:
    try:
        assert 0 <= read_count(text, "history") <= 999_999
    except InvalidRequest as error:
        assert len(str(error)) < 100


_queries = st.lists(
    st.tuples(
        st.sampled_from(["channel", "last_event_id", "lastEventId", "LAST-EVENT-ID", "x"]) | words,
        cursors,
    ),
    max_size=4,
)


def query_of(pairs: list[tuple[str, str]]) -> Request:
    kept = [(k.encode("utf-8", "replace"), v.encode("utf-8", "replace")) for k, v in pairs]
    environ = EnvironBuilder("/").get_environ()
    environ["QUERY_STRING"] = "&".join(f"{k.hex('%', 1)}={v.hex()}" for k, v in kept)
    return Request(environ)


@given(_queries, st.binary(max_size=40))
def test_a_query_is_known_names_or_refused(pairs: list[tuple[str, str]], noise: bytes) -> None:
    request = query_of(pairs)
    request.environ["QUERY_STRING"] += "&" + noise.decode("latin-1")
    try:
        check_parameters(request, ["channel", "last_event_id"], ["x"])
    except InvalidRequest as error:
        assert len(str(error)) < 400
    seen = last_seen(request)
    assert seen is None or seen


@given(
    st.binary(max_size=60) | json_objects.map(lambda v: json.dumps(v).encode()),
    st.sampled_from(["application/json", "application/x+json; charset=utf-16", "text/plain", ""]),
    st.integers(0, 80),
)
def test_a_body_is_a_json_object_within_its_limit_or_an_error_of_ours(
    body: bytes, kind: str, limit: int
) -> None:
    try:
        value = read_json(request_of(method="POST", data=body, content_type=kind), limit)
    except StreamingError as error:
        assert 400 <= error.status < 500
        assert len(error.told) <= 400
    else:
        assert value == json.loads(body.decode("utf-8-sig"))
        assert len(body) <= limit
