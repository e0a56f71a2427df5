"""Streams of events: ``wire.sse``, ``wire.ndjson``, ``clients.formats``, ``wire.compact``."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.clients.formats import NDJSON, SSE
from streaming.errors import InvalidMessage, ProtocolError
from streaming.hub.sink import Format
from streaming.message import Message, Position
from streaming.web.protocol import JSON
from streaming.wire import frames, ndjson, sse
from streaming.wire.compact import compact, escaped
from tests.fuzz.strategies import (
    anything,
    chopped,
    hostile_texts,
    json_like,
    json_objects,
    mutated,
    pieces,
    texts,
    words,
)
from tests.steps import count_steps


def parse_by_the_book(stream: str) -> list[tuple[str, str, str]]:
    """Type, data and last event id of each event (WHATWG HTML 9.2.6), written for this test."""
    found, data, event, held, last = [], "", "", "", ""
    lines = re.split("\r\n|\r|\n", stream.removeprefix("\ufeff"))
    for line in lines[:-1]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            last = held
            if data:
                found.append((event or "message", data.removesuffix("\n"), last))
            data = event = ""
        elif name == "event":
            event = value
        elif name == "data":
            data += value + "\n"
        elif name == "id" and "\0" not in value:
            held = value
    return found


def read(decoder: Any, arrived: list[bytes]) -> tuple[list[Any], bool]:
    """What came out, and whether it ended in a fault."""
    got: list[Any] = []
    for piece in arrived:
        try:
            got += decoder.feed(piece)
        except ProtocolError:
            return got, True
    try:
        got += decoder.feed(b"")
    except ProtocolError:
        return got, True
    return got, False


def lines_of(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


_lines = texts.filter(lambda t: not set(t) & set("\r\n\0")) | st.just("message")
_retries = st.none() | st.integers(0, 10**6)
_blocks = st.lists(
    st.tuples(texts | hostile_texts, _lines, st.none() | _lines, _retries), max_size=4
)


@given(_blocks, st.integers(0, 9))
def test_any_text_comes_out_of_an_event_stream_as_it_went_in(
    blocks: list[tuple[str, str, str | None, int | None]], seed: int
) -> None:
    sent, expected, last = b"", [], ""
    for data, event, id, retry in blocks:
        sent += sse.encode(data, event=event, id=id, retry=retry)
        last = last if id is None else id
        expected.append((event or "message", lines_of(data), last))
    assert parse_by_the_book(sent.decode()) == expected
    got, has_failed = read(sse.Decoder(), chopped(sent, seed))
    assert [(e.event, e.data, e.id) for e in got] == expected
    assert not has_failed


@given(words, words, words)
def test_what_cannot_stand_in_an_event_is_refused_before_a_byte_is_made(
    data: str, event: str, id: str
) -> None:
    try:
        sent = sse.encode(data, event=event, id=id)
    except InvalidMessage:
        assert re.search("[\r\n\0\ud800-\udfff]", event + id) or re.search("[\ud800-\udfff]", data)
    else:
        assert parse_by_the_book(sent.decode()) == [(event or "message", lines_of(data), id)]


_streams = mutated(
    st.lists(
        st.tuples(
            st.sampled_from(["data", "event", "id", "retry", "", "x", "data ", "\ufeffdata"]),
            st.sampled_from([":", ": ", "", ":  "]),
            hostile_texts,
            st.sampled_from(["\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n"]),
        ).map("".join),
        max_size=8,
    ).map(lambda lines: "".join(lines).encode())
)


@given(pieces(_streams))
def test_an_event_stream_is_read_as_browsers_read_it_in_any_pieces(arrived: list[bytes]) -> None:
    whole = b"".join(arrived)
    got, has_failed = read(sse.Decoder(), arrived)
    assert not has_failed
    assert [(e.event, e.data, e.id) for e in got] == parse_by_the_book(
        whole.decode("utf-8", "replace")
    )


@given(pieces(_streams), st.integers(0, 40))
def test_a_reader_of_events_holds_no_more_than_its_limit(arrived: list[bytes], most: int) -> None:
    decoder = sse.Decoder(max_size=most)
    for piece in arrived:
        read(decoder, [piece])
        assert len(decoder._line) + len(decoder._data) <= most


@given(_streams)
def test_the_work_of_a_reader_of_events_is_bounded_by_the_bytes_that_came(data: bytes) -> None:
    one = [data[at : at + 1] for at in range(len(data))]
    assert count_steps(lambda: read(sse.Decoder(), one)) <= 200 + 100 * len(one)


@given(hostile_texts, hostile_texts)
def test_stretches_of_a_text_together_are_what_the_whole_is(one: str, other: str) -> None:
    assert escaped(one) + escaped(other) == escaped(one + other)
    if not (one.endswith("\r") and other.startswith("\n")):
        assert sse.continued(one) + sse.continued(other) == sse.continued(one + other)


FORMATS: list[Format] = [SSE, NDJSON, JSON]
_messages = st.builds(
    Message,
    st.just("a"),
    (texts | hostile_texts).filter(bool),
    st.just(Position("e", 7)),
    _lines.filter(bool),
    st.none() | st.just("0123456789abcdef") | st.just(' ["1","A"]'),
)


@given(st.sampled_from(FORMATS), _messages, st.integers(0, 300))
def test_a_message_that_goes_out_in_stretches_is_the_message_in_one_piece(
    form: Format, message: Message, cut: int
) -> None:
    first, rest = message.data[:cut], message.data[cut:]
    if first.endswith("\r") and rest.startswith("\n"):
        first, rest = first + rest, ""
    before, behind = form.around(message, False, None)
    said = before + form.escape(first) + form.escape(rest) + behind
    start, end = form.ends(len(said))
    assert start + said + end == form.frame(form.encode(message))


@given(st.sampled_from(FORMATS), _messages)
def test_a_message_is_read_back_from_each_format(form: Format, message: Message) -> None:
    said = form.encode(message)
    if form is SSE:
        assert parse_by_the_book(said.decode()) == [(message.event, lines_of(message.data), "e-7")]
        return
    if form is JSON:
        (frame,) = frames.Decoder(1 << 20, require_mask=False).feed(said)
        said = frame.data.encode() if isinstance(frame, frames.Text) else b""
    value = json.loads(said)
    assert (value["data"], value["event"], value["id"]) == (message.data, message.event, "e-7")


# ---- NDJSON


@given(st.lists(json_objects, max_size=4), st.integers(0, 9))
def test_objects_come_out_of_ndjson_as_they_went_in(
    values: list[dict[str, Any]], seed: int
) -> None:
    sent = b"\n".join(map(ndjson.encode, values))  # with empty lines between them
    assert read(ndjson.Decoder(), chopped(sent, seed)) == (values, False)


@given(
    pieces(
        mutated(
            (st.lists(json_like | json_objects.map(compact)).map("\n".join)).map(
                lambda t: t.encode("utf-8", "replace")
            )
        )
    )
)
def test_any_bytes_in_any_pieces_are_the_same_objects_or_a_fault(arrived: list[bytes]) -> None:
    got, has_failed = read(ndjson.Decoder(max_size=200), arrived)
    again, failed_again = read(ndjson.Decoder(max_size=200), [b"".join(arrived)])
    assert (repr(got), has_failed) == (repr(again), failed_again)
    assert all(isinstance(value, dict) for value in got)


@given(anything)
def test_a_value_is_one_line_of_json_or_refused(value: object) -> None:
    try:
        line = ndjson.encode({"v": value})
    except InvalidMessage:
        return
    assert line.count(b"\n") == 1
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
