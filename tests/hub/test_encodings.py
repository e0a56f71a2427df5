"""streaming/hub/encodings.py and remainder.py: what clients are in the midst of."""

import gc
import math
import random
from collections.abc import Sequence

import pytest

from streaming.clients.formats import NDJSON, SSE
from streaming.errors import ClientGone, LogUnavailable
from streaming.hub.encodings import HELD, LARGE, SPAN, EncodedPage, Encodings
from streaming.hub.remainder import Remainder, begin, rest_of
from streaming.hub.sink import Format, encode_blocks
from streaming.logs import MemoryLog, Retention
from streaming.message import Message
from streaming.web.chat import CHAT
from streaming.web.protocol import JSON
from tests.broken_log import BrokenLog
from tests.hub.seats import all_of

FORMATS: list[Format] = [SSE, NDJSON, JSON, CHAT]
OTHERS = b".y_f-2"

TEXTS = {
    "plain": "x" * 200_000,
    "line feeds": "\n" * 100_000,
    "every second span begins in a CR LF": ("x" * (SPAN - 1) + "\r\n" + "y" * (SPAN - 1)) * 4,
    "escapes": '"\\\x01\u2028' * 30_000,
    "wide": "汉😀" * 20_000,
}


def publish(log: MemoryLog, text: str, **about: str) -> Message:
    return log.append("a", text, **about)  # type: ignore[arg-type]


def whole(form: Format, messages: Sequence[Message], client: str, others: bytes | None) -> bytes:
    return form.frame(encode_blocks(form, messages, client, others))


def push_out(few: Encodings, log: MemoryLog) -> None:
    """Let others take all the room there is."""
    for n in range(4):
        rest = begin(few, [publish(log, f"{n}" * 300_000)], NDJSON, "", None)
        rest.encoded.settle()


def held_by(common: Encodings) -> int:
    """Bytes of what is at hand."""
    owners = [owner() for owner, _, _ in common._kept]
    spans = {id(span): span for owner in owners if owner for span in owner.spans.values()}
    return sum(len(s) if isinstance(s, bytes) else s.size for s in spans.values())


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("form", FORMATS, ids=lambda form: type(form).__name__)
def test_a_large_message_in_spans_is_what_it_is_in_one(form: Format, text: str) -> None:
    log = MemoryLog()
    message = publish(log, text, event="tick", sender="me")
    assert message.size > LARGE
    kinds: list[tuple[str, bytes | None]] = [("you", None), ("me", None)]
    if form in (SSE, NDJSON):
        kinds.append(("you", OTHERS))
    for client, others in kinds:
        rest = begin(Encodings(log), [message], form, client, others)
        assert len(rest) == len(whole(form, [message], client, others))
        assert all_of(rest) == whole(form, [message], client, others)
        assert not rest


def test_any_way_of_taking_it_gives_the_same_bytes() -> None:
    log, dice = MemoryLog(), random.Random(3)
    message = publish(log, "line\n" * 30_000)
    expected = whole(SSE, [message], "", None)
    for most in (70, 5_000, 300_000):
        rest, taken = begin(Encodings(log), [message], SSE, "", None), b""
        while rest:
            pieces = b"".join(rest.pieces())
            count = min(dice.randint(1, most), len(pieces))
            taken += pieces[:count]
            rest.take(count)
        assert taken == expected


def test_what_is_at_hand_is_bounded_whatever_the_number_of_clients() -> None:
    log = MemoryLog(Retention(size=1 << 30))
    many = Encodings(log, most=1_000_000)
    rests = [begin(many, [publish(log, "x" * 300_000)], SSE, "", None) for _ in range(20)]
    assert 0 < held_by(many) <= 1_000_000
    for rest in rests:
        assert len(all_of(rest)) > 300_000
    assert sum(len(rest.encoded.spans) for rest in rests) < 100
    assert 0 < held_by(many) <= 1_000_000


def test_all_who_are_in_the_midst_of_one_message_share_its_bytes() -> None:
    log = MemoryLog()
    common, message = Encodings(log), publish(log, "x" * 300_000)
    one, other = (begin(common, [message], SSE, client, None) for client in "ab")
    among = begin(common, [message], SSE, "c", OTHERS)
    assert one.encoded is other.encoded is among.encoded
    assert begin(common, [message], NDJSON, "d", None).encoded is not one.encoded
    assert one.encoded.span(3) is other.encoded.span(3)


def test_nothing_is_at_hand_once_nobody_is_in_the_midst_of_anything() -> None:
    log = MemoryLog()
    common = Encodings(log)
    rest = begin(common, [publish(log, "x" * 300_000)], SSE, "", None)
    assert held_by(common) > 300_000
    del rest
    gc.collect()
    assert held_by(common) == 0


def test_bytes_that_had_to_go_are_made_again_from_the_log() -> None:
    log = BrokenLog()
    message, small = publish(log, "x" * 300_000), [publish(log, f"{n}" * 500) for n in range(40)]
    few = Encodings(log, most=1)
    for messages, client, others in (
        ([message], "me", None),
        (small, "me", None),
        (small, "me", OTHERS),
    ):
        expected, log.calls = whole(SSE, messages, client, others), []
        rest = begin(few, messages, SSE, client, others)
        rest.encoded.settle()
        push_out(few, log)
        assert all_of(rest) == expected
        assert log.calls, "nothing was read again"


def test_what_the_log_has_forgotten_meanwhile_cannot_be_gone_on_with() -> None:
    log = MemoryLog(Retention(messages=1))
    few, message = Encodings(log, most=1), publish(log, "x" * 300_000)
    rest = begin(few, [message], SSE, "", None)
    push_out(few, log)
    with pytest.raises(ClientGone, match="forgotten"):
        all_of(rest)


def test_what_another_log_has_in_its_place_is_never_taken_for_it() -> None:
    log = MemoryLog()
    few, message = Encodings(log, most=1), publish(log, "x" * 300_000)
    rest = begin(few, [message], SSE, "", None)
    push_out(few, log)
    few.log = other = MemoryLog()
    publish(other, "y" * 300_000)
    with pytest.raises(ClientGone):
        all_of(rest)


def test_a_log_that_is_away_leaves_a_client_where_it_stands() -> None:
    log = BrokenLog()
    few, message = Encodings(log, most=1), publish(log, "x" * 300_000)
    rest, expected = begin(few, [message], SSE, "", None), whole(SSE, [message], "", None)
    first = b"".join(rest.pieces())
    rest.take(len(first))
    push_out(few, log)
    log.broken = {"read"}
    with pytest.raises(LogUnavailable):
        rest.pieces()
    log.broken = set()
    assert first + all_of(rest) == expected


def test_of_a_page_little_is_held_as_it_is_and_much_as_a_place() -> None:
    log = MemoryLog()
    common, messages = Encodings(log), [publish(log, f"{n}" * 500) for n in range(40)]
    data = whole(SSE, messages, "", None)

    def page() -> EncodedPage:
        return EncodedPage(common, messages, SSE, "", None, data)

    assert rest_of(data, len(data) - HELD, page) == data[-HELD:]
    much = rest_of(data, 100, page)
    assert isinstance(much, Remainder)
    assert all_of(much) == data[100:]


def test_a_message_whose_text_is_measured_in_moments_is_measured_right() -> None:
    log = MemoryLog()
    message = publish(log, "x\n" * 100_000)
    encoded = Encodings(log).message(message, SSE)
    assert not encoded.measure(message, 0.0)
    assert len(encoded.starts) < 3
    assert encoded.measure(message, math.inf)
    assert encoded.starts[-1] == len(SSE.escape(message.data))
    assert len(encoded.starts) == encoded.count + 1 == -(-len(message.data) // SPAN) + 1


def test_a_message_larger_than_all_that_is_kept_is_read_once_at_a_time() -> None:
    log = BrokenLog(Retention(size=1 << 30))
    common, message = Encodings(log, most=100_000), publish(log, "x" * 3_000_000)
    push_out(common, log)
    log.calls = []
    rest = begin(common, [message], SSE, "", None)
    assert len(all_of(rest)) > 3_000_000
    assert len(log.calls) < 3, "its text was read for each span"
