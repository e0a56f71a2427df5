"""streaming/wire/sse.py against httpx-sse and a reader that follows the spec word for word."""

import base64
import json
import random
import tracemalloc
from pathlib import Path

import httpx
import pytest
from httpx_sse import EventSource

from streaming.errors import InvalidMessage, ProtocolError
from streaming.wire import sse
from tests.wire.chopping import chop

VECTORS = json.loads((Path(__file__).parent / "vectors" / "sse.json").read_text("utf-8"))

AWKWARD = [
    "hello",
    "",
    " leading and trailing ",
    ": not a comment",
    "data: not a field",
    "one\ntwo",
    "one\rtwo",
    "one\r\ntwo",
    "ends with a break\n",
    "ends with two\n\n",
    "\n",
    "\r",
    "\r\n",
    "\n\r",
    "\r\r\n\n",
    "\nstarts with a break",
    "line separator \u2028 paragraph \u2029 next line \x85 tab \v feed \f fs \x1c gs \x1d rs \x1e",
    "NUL \0 inside",
    "\ufeffBOM",
    "中文 العربية 😀 e\u0301",
    "x" * 100_000,
    "\n" * 1000,
]


def normalised(text: str) -> str:
    """The one thing a round trip changes."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


class SlowReader:
    """Section 9.2.6 word for word, on a whole stream, one character after the other."""

    def __init__(self, stream: bytes) -> None:
        self.events: list[sse.Event] = []
        self.retry: int | None = None
        self.last_event_id = self.id_buffer = self.data_buffer = self.type_buffer = ""
        text = stream.decode("utf-8", "replace")
        if text.startswith("\ufeff"):
            text = text[1:]
        line, at = "", 0
        while at < len(text):
            if text[at] in "\r\n":
                at += 2 if text[at : at + 2] == "\r\n" else 1
                self.process(line)
                line = ""
            else:
                line += text[at]
                at += 1

    def process(self, line: str) -> None:
        if line == "":
            self.dispatch()
        elif line[0] == ":":
            pass
        elif ":" in line:
            field, value = line[: line.index(":")], line[line.index(":") + 1 :]
            self.process_field(field, value[1:] if value[:1] == " " else value)
        else:
            self.process_field(line, "")

    def process_field(self, field: str, value: str) -> None:
        if field == "event":
            self.type_buffer = value
        elif field == "data":
            self.data_buffer += value + "\n"
        elif field == "id":
            if "\0" not in value:
                self.id_buffer = value
        elif field == "retry" and value and all(c in "0123456789" for c in value):
            self.retry = int(value)

    def dispatch(self) -> None:
        self.last_event_id = self.id_buffer
        if self.data_buffer == "":
            self.type_buffer = ""
            return
        if self.data_buffer[-1] == "\n":
            self.data_buffer = self.data_buffer[:-1]
        name = self.type_buffer or "message"
        self.events.append(sse.Event(name, self.data_buffer, self.last_event_id))
        self.data_buffer = self.type_buffer = ""


def read_all(*chunks: bytes) -> tuple[list[sse.Event], sse.Decoder]:
    decoder = sse.Decoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)], decoder


def test_a_block_is_event_retry_data_and_id_in_this_order() -> None:
    assert sse.encode("one\ntwo", event="tick", id="a-1", retry=500) == (
        b"event: tick\nretry: 500\ndata: one\ndata: two\nid: a-1\n\n"
    )


def test_what_is_not_given_is_left_out() -> None:
    assert sse.encode("x") == b"data: x\n\n"
    assert sse.encode("x", event="message", id="1") == b"data: x\nid: 1\n\n"


def test_empty_data_still_gives_a_data_line_so_that_the_event_arrives() -> None:
    assert sse.encode("", event="tick") == b"event: tick\ndata:\n\n"
    events, _ = read_all(sse.encode("", event="tick"))
    assert events == [sse.Event("tick", "", "")]


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n"])
def test_a_text_of_nothing_but_line_breaks_costs_a_few_times_what_is_sent(line_break: str) -> None:
    """A list of its lines would be ten times as much, and take twenty times as long."""
    text = line_break * 100_000
    tracemalloc.start()
    try:
        block = sse.encode(text)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * len(block)


def test_a_text_may_be_written_a_stretch_at_a_time() -> None:
    for text in AWKWARD:
        for cut in range(min(len(text), 50)):
            if text[cut - 1 : cut + 1] != "\r\n":
                whole = sse.continued(text[:cut]) + sse.continued(text[cut:])
                assert whole == sse.continued(text)


def test_an_empty_id_is_sent_because_it_resets_the_clients_id() -> None:
    _, decoder = read_all(sse.encode("x", id="7"), sse.encode("y", id=""))
    assert decoder.last_event_id == ""


def test_one_body_is_completed_with_different_ids() -> None:
    body = sse.encode_body("x", "tick")
    assert sse.finish(body, "a") == sse.encode("x", event="tick", id="a")
    assert sse.finish(body, "b") == sse.encode("x", event="tick", id="b")


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\r\nb", "a\0b", "\n", "\ud800", "é\udfff"])
def test_an_event_name_or_id_that_could_inject_a_line_is_refused(bad: str) -> None:
    with pytest.raises(InvalidMessage):
        sse.encode("x", event=bad)
    with pytest.raises(InvalidMessage):
        sse.encode("x", id=bad)
    with pytest.raises(InvalidMessage):
        sse.check_event(bad)
    with pytest.raises(InvalidMessage):
        sse.check_id(bad)


def test_a_good_event_name_or_id_is_returned() -> None:
    assert sse.check_event("消息 one") == "消息 one"
    assert sse.check_id("a-1\u2028") == "a-1\u2028"


@pytest.mark.parametrize("data", ["\ud800", "one\n\udc00"])
def test_data_with_half_a_surrogate_pair_is_refused(data: str) -> None:
    with pytest.raises(InvalidMessage):
        sse.encode(data)


def test_a_negative_retry_is_refused() -> None:
    with pytest.raises(InvalidMessage):
        sse.encode("x", retry=-1)


def test_the_heartbeat_is_one_comment_line_without_a_blank_line() -> None:
    assert sse.COMMENT == b":\n"
    events, _ = read_all(b"data: a\n", sse.COMMENT, b"data: b\n\n")
    assert events == [sse.Event("message", "a\nb", "")]


@pytest.mark.parametrize("data", AWKWARD)
def test_any_text_comes_back(data: str) -> None:
    expected = [sse.Event("tick", normalised(data), "a-1")]
    block = sse.encode(data, event="tick", id="a-1")
    assert read_all(block)[0] == expected
    assert SlowReader(block).events == expected


@pytest.mark.parametrize("data", AWKWARD)
def test_httpx_sse_reads_what_is_written(data: str) -> None:
    # It reports blocks without data as events, where a browser does not; the encoder writes none.
    block = sse.encode(data, event="tick", id="a-1", retry=3) + sse.COMMENT
    response = httpx.Response(200, content=block, headers={"Content-Type": sse.MIMETYPE})
    (event,) = EventSource(response).iter_sse()
    assert (event.event, event.data, event.id, event.retry) == ("tick", normalised(data), "a-1", 3)


def test_random_text_comes_back_in_any_chunking() -> None:
    rng = random.Random(6202)
    letters = "ab:\n\n\r\r \0\u2028\u0085\ufeffé中😀"
    for _ in range(500):
        texts = ["".join(rng.choices(letters, k=rng.randint(0, 12))) for _ in range(3)]
        wire = b"".join(sse.encode(text, id=str(n)) for n, text in enumerate(texts))
        events, _ = read_all(*chop(wire, rng))
        assert events == [
            sse.Event("message", normalised(text), str(n)) for n, text in enumerate(texts)
        ]


def test_any_bytes_are_read_as_the_specification_says_in_any_chunking() -> None:
    rng = random.Random(1992)
    pieces = [b"data", b"event", b"id", b"retry", b":", b": ", b":  ", b"x", b"7", b"\0", b"\xff"]
    pieces += [b"\n", b"\n\n", b"\r", b"\r\n", b"\xef\xbb\xbf", b"\xe4\xb8", b"\xf0\x9f\x98\x80"]
    for _ in range(3000):
        stream = b"".join(rng.choices(pieces, k=rng.randint(0, 30)))
        slow = SlowReader(stream)
        for chunks in ([stream], chop(stream, rng), [bytes([byte]) for byte in stream]):
            events, decoder = read_all(*chunks)
            assert events == slow.events
            assert (decoder.retry, decoder.last_event_id) == (slow.retry, slow.last_event_id)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_shared_vectors_hold_at_every_split(vector: dict[str, object]) -> None:
    if "bytes_b64" in vector:
        stream = base64.b64decode(str(vector["bytes_b64"]))
    else:
        stream = str(vector["stream"]).encode()
    expected = vector["events"]
    for at in range(len(stream) + 1):
        events, decoder = read_all(stream[:at], stream[at:])
        assert [
            {"event": event.event, "data": event.data, "lastEventId": event.id} for event in events
        ] == expected
        if "retry" in vector:
            assert decoder.retry == vector["retry"]


def test_an_event_is_out_as_soon_as_its_blank_line_is() -> None:
    decoder = sse.Decoder()
    assert decoder.feed(b"data: x\r") == []
    assert decoder.feed(b"\r") == [sse.Event("message", "x", "")]
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"") == []


def test_the_id_counts_from_the_blank_line_on_and_lasts() -> None:
    decoder = sse.Decoder()
    decoder.feed(b"id: 1\ndata: x\n")
    assert decoder.last_event_id == ""
    decoder.feed(b"\n")
    assert decoder.last_event_id == "1"
    assert decoder.feed(b"data: y\n\n") == [sse.Event("message", "y", "1")]


@pytest.mark.parametrize("value", ["", "-1", "1.5", "1e3", "٣", "0x10", "1 ", "9" * 5000])
def test_a_retry_that_is_not_a_sane_number_is_ignored(value: str) -> None:
    _, decoder = read_all(b"retry: 5\n", f"retry:{value}\n\n".encode())
    assert decoder.retry == 5


@pytest.mark.parametrize("stream", [b"x" * 101, b"data:" + b"x" * 50 + b"\ndata:" + b"x" * 50])
def test_a_pending_event_is_bounded(stream: bytes) -> None:
    decoder = sse.Decoder(max_size=100)
    for byte in stream[:100]:
        assert decoder.feed(bytes([byte])) == []
    with pytest.raises(ProtocolError) as caught:
        decoder.feed(stream[100:])
    assert caught.value.close_code == 1009
    with pytest.raises(ProtocolError):
        decoder.feed(b"\n\n")


def test_the_bound_holds_for_an_event_that_comes_whole() -> None:
    with pytest.raises(ProtocolError):
        sse.Decoder(max_size=100).feed(b"data:" + b"x" * 50 + b"\ndata:" + b"x" * 50 + b"\n\n")
    with pytest.raises(ProtocolError):
        sse.Decoder(max_size=100).feed(b"data:" + b"x" * 100 + b"\n\n")


def test_empty_data_lines_count_too() -> None:
    decoder = sse.Decoder(max_size=100)
    with pytest.raises(ProtocolError):
        decoder.feed(b"data\n" * 101)


def test_events_before_one_that_is_too_large_are_not_lost() -> None:
    decoder = sse.Decoder(max_size=100)
    assert decoder.feed(b"data: x\n\n" + b"y" * 101) == [sse.Event("message", "x", "")]
    with pytest.raises(ProtocolError):
        decoder.feed(b"")


def test_any_number_of_events_below_the_bound_pass() -> None:
    decoder = sse.Decoder(max_size=100)
    assert len(decoder.feed(sse.encode("x" * 80) * 1000)) == 1000
