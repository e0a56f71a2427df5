"""streaming/clients/formats.py: what a stream of events says, in each of its formats."""

import json

import pytest

from streaming import NDJSON, SSE, Gap, HubClosed, InvalidMessage, Lagged, Message
from streaming.clients import formats
from streaming.message import Position, print_place
from tests.live.clients import Event, SseReader

FORMATS = [SSE, NDJSON]
TEXTS = ["plain", "", "two\nlines", "\r\n", "\r", "end\n", "你好 \u2028 \u0085 \x0b😀", ": x", " "]

PLACE = print_place("a", Position("e", 7))


def message(data: str, *, event: str = "message", channel: str = "a") -> Message:
    return Message(channel, data, Position("e", 7), event)


def read(form: formats.EventFormat, block: bytes) -> dict[str, object]:
    """A block as a client reads it, with a decoder that shares no code with the package."""
    if form is NDJSON:
        assert block.endswith(b"\n")
        assert block.count(b"\n") == 1
        return json.loads(block)
    assert block.endswith(b"\n\n")
    (event,) = SseReader().feed(block)
    assert isinstance(event, Event)
    fields = {"event": event.event, "data": event.data, "id": event.id, "retry": event.retry}
    return {name: value for name, value in fields.items() if value is not None}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_message_arrives_with_its_text_event_and_id(form: formats.EventFormat, text: str) -> None:
    line = read(form, message(text, event="tick").encoded(form))
    as_read = text if form is NDJSON else text.replace("\r\n", "\n").replace("\r", "\n")
    assert (line["event"], line["data"], line["id"]) == ("tick", as_read, "e-7")


@pytest.mark.parametrize("form", FORMATS)
def test_a_message_is_encoded_once(form: formats.EventFormat) -> None:
    one = message("x")
    assert one.encoded(form) is one.encoded(form)
    assert form.encode_own(one) is one.encoded(form)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("text", TEXTS)
def test_in_a_stream_of_several_channels_only_the_id_is_another(
    form: formats.EventFormat, text: str
) -> None:
    one = message(text, event="tick")
    alone, among = read(form, form.encode(one)), read(form, b".y_f-2".join(form.cut([one])))
    assert among == alone | {"id": f"{PLACE}.y_f-2"}


@pytest.mark.parametrize("form", FORMATS)
def test_a_batch_for_several_channels_is_cut_where_the_other_places_go(
    form: formats.EventFormat,
) -> None:
    batch = [message("one"), message("two\n", event="tick"), message("好")]
    for others in (b".y_f-2", b".y_f-2.z_g-9"):
        blocks = [others.join(form.cut([each])) for each in batch]
        assert others.join(form.cut(batch)) == b"".join(blocks)


def test_the_id_is_the_last_line_of_an_event() -> None:
    block = message("a\nb", event="tick").encoded(SSE)
    assert block == b"event: tick\ndata: a\ndata: b\nid: e-7\n\n"
    among = b".b_c-1".join(SSE.cut([message("a")]))
    assert among == f"data: a\nid: {PLACE}.b_c-1\n\n".encode()


def test_a_line_of_ndjson_names_event_channel_data_and_id() -> None:
    assert message("好").encoded(NDJSON) == (
        '{"event":"message","channel":"a","data":"好","id":"e-7"}\n'.encode()
    )


def test_the_priming_event_names_the_channels_and_carries_the_cursor() -> None:
    assert formats.ready(SSE, ["a", "b"], "e-1") == (
        b'event: ready\ndata: {"channels":["a","b"]}\nid: e-1\n\n'
    )
    assert formats.ready(NDJSON, ("a",), "e-1") == (
        b'{"event":"ready","data":"{\\"channels\\":[\\"a\\"]}","id":"e-1"}\n'
    )


@pytest.mark.parametrize("form", FORMATS)
def test_a_gap_says_what_was_asked_for_and_what_is_held(form: formats.EventFormat) -> None:
    lost = Gap("a", Position("old", 3), Position("new", 5), Position("new", 9))
    line = read(form, form.gap(lost, "new-4"))
    assert (line["event"], line["id"]) == ("gap", "new-4")
    assert json.loads(str(line["data"])) == {
        "channel": "a",
        "requested": "old-3",
        "oldest": "new-5",
        "newest": "new-9",
    }


@pytest.mark.parametrize("form", FORMATS)
def test_a_gap_before_an_empty_log_has_nulls(form: formats.EventFormat) -> None:
    line = read(form, form.gap(Gap("a", Position("old", 3), None, None), "new-0"))
    data = json.loads(str(line["data"]))
    assert (data["oldest"], data["newest"]) == (None, None)


@pytest.mark.parametrize("form", FORMATS)
def test_a_restart_says_when_to_come_back_and_has_no_id(form: formats.EventFormat) -> None:
    line = read(form, formats.farewell(form, HubClosed("Restarting."), 1234))
    assert line == {"event": "restart", "data": "{}", "retry": 1234}


@pytest.mark.parametrize("form", FORMATS)
def test_whoever_was_too_slow_is_told_why_and_to_come_back(form: formats.EventFormat) -> None:
    line = read(form, formats.farewell(form, Lagged("Too slow."), 1234))
    assert (line["event"], line["retry"]) == ("restart", 1234)
    assert json.loads(str(line["data"]))["detail"] == "Too slow."


@pytest.mark.parametrize("form", FORMATS)
def test_what_does_not_pass_is_a_deliberate_end(form: formats.EventFormat) -> None:
    line = read(form, formats.farewell(form, InvalidMessage("No."), 1234))
    assert (line["event"], "retry" in line) == ("close", False)


@pytest.mark.parametrize("form", FORMATS)
def test_the_deliberate_end_has_empty_data_or_says_what_went_wrong(
    form: formats.EventFormat,
) -> None:
    assert read(form, formats.close(form)) == {"event": "close", "data": "{}"}
    line = read(form, formats.close(form, {"status": 500}))
    assert json.loads(str(line["data"])) == {"status": 500}


def test_heartbeats_are_what_clients_skip() -> None:
    reader = SseReader()
    assert reader.feed(SSE.heartbeat) == []
    assert reader.comments == [""]
    assert NDJSON.heartbeat == b"\n"


@pytest.mark.parametrize("form", FORMATS)
def test_a_direct_write_is_one_chunk_of_http(form: formats.EventFormat) -> None:
    blocks = "好".encode() * 100
    size, _, rest = form.frame(blocks).partition(b"\r\n")
    assert int(size, 16) == len(blocks) == 300
    assert rest == blocks + b"\r\n"


def test_a_line_break_in_an_id_or_event_name_is_refused() -> None:
    for breaks in ("a\nb", "a\rb", "a\0b"):
        with pytest.raises(InvalidMessage):
            SSE.event(breaks, "x")
        with pytest.raises(InvalidMessage):
            SSE.event("message", "x", id=breaks)
