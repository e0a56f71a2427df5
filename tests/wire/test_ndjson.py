"""streaming/wire/ndjson.py: one object per line, whatever the chunks."""

import json
import random

import pytest

from streaming.errors import InvalidMessage, ProtocolError
from streaming.wire import ndjson


class Grid(dict[str, object]):
    """A mapping that is not a plain dict."""


def test_an_object_is_one_compact_line_of_utf_8() -> None:
    line = ndjson.encode({"event": "message", "data": "中\u2028\n\r", "n": 1, "none": None})
    assert line == '{"event":"message","data":"中\u2028\\n\\r","n":1,"none":null}\n'.encode()
    assert line.count(b"\n") == 1


def test_any_mapping_can_be_encoded() -> None:
    assert ndjson.encode(Grid(a=1)) == b'{"a":1}\n'


def nested(depth: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def circle() -> dict[str, object]:
    value: dict[str, object] = {}
    value["itself"] = value
    return value


@pytest.mark.parametrize(
    "value",
    [
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": "\ud800"},
        {"\udfff": "a"},
        {"a": object()},
        {"a": b"bytes"},
        {("a",): 1},
        circle(),
        nested(100_000),
    ],
    ids=["nan", "inf", "data", "key", "object", "bytes", "tuple", "circle", "deep"],
)
def test_what_json_has_no_form_for_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(InvalidMessage):
        ndjson.encode(value)


def test_objects_come_back_in_any_chunking() -> None:
    rng = random.Random(74)
    for _ in range(300):
        values: list[dict[str, object]] = [
            {"data": "".join(rng.choices('ab\n\r"\\中😀\u2028', k=6)), "n": rng.random()}
            for _ in range(4)
        ]
        wire = ndjson.HEARTBEAT.join(ndjson.encode(value) for value in values)
        cuts = sorted(rng.randint(0, len(wire)) for _ in range(rng.randint(0, 9)))
        decoder = ndjson.Decoder()
        got = []
        for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            got += decoder.feed(wire[a:b])
        assert got == values


def test_what_another_encoder_writes_is_read() -> None:
    value = {"data": "é \u2028", "list": [1, {"a": None}]}
    wire = json.dumps(value).encode() + b"\r\n\r\n" + json.dumps(value).encode() + b"\n"
    assert ndjson.Decoder().feed(wire) == [value, value]


def test_empty_lines_are_skipped() -> None:
    assert ndjson.Decoder().feed(b'\n\r\n \t\n{"a":1}\n\n') == [{"a": 1}]


def test_a_line_without_its_end_waits() -> None:
    decoder = ndjson.Decoder()
    assert decoder.feed(b'{"a":1}') == []
    assert decoder.feed(b"\n") == [{"a": 1}]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"nonsense",
        b"[1]",
        b'"text"',
        b"null",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":"\xff"}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":1}\x0b{"b":2}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":' * 100_000,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
    ids=range(13),
)
def test_a_line_that_is_not_a_json_object_is_the_peers_fault(line: bytes) -> None:
    decoder = ndjson.Decoder()
    assert decoder.feed(b'{"ok":true}\n' + line + b'\n{"lost":true}\n') == [{"ok": True}]
    for _ in range(2):
        with pytest.raises(ProtocolError):
            decoder.feed(b'{"ok":true}\n')


def test_a_line_is_bounded_before_it_ends() -> None:
    decoder = ndjson.Decoder(max_size=100)
    assert len(decoder.feed(ndjson.encode({"a": "x" * 80}) * 100)) == 100
    assert decoder.feed(b"x" * 100) == []
    with pytest.raises(ProtocolError) as caught:
        decoder.feed(b"x")
    assert caught.value.close_code == 1009


def test_random_bytes_raise_nothing_but_protocol_errors() -> None:
    rng = random.Random(7464)
    for _ in range(2000):
        decoder = ndjson.Decoder(max_size=50)
        try:
            for _ in range(5):
                decoder.feed(bytes(rng.choices(b'{}[]":,\\u1e-.\nNa \xff\xc3', k=20)))
        except ProtocolError:
            pass
