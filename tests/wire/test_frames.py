"""streaming/wire/frames.py: RFC 6455 section 5, with websockets as an independent peer."""

import contextlib
import random
import tracemalloc
from collections.abc import Iterable

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame as PeerFrame
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from streaming.errors import InvalidMessage, ProtocolError
from streaming.wire import frames
from streaming.wire.frames import Binary, Close, Decoder, Opcode, Ping, Pong, Text
from tests.wire.chopping import chop

MASK = b"\x12\x00\xfe\x80"
SIZES = (0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 65535, 65536, 65537)


def masked(opcode: Opcode, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    return frames.encode_client(opcode, payload, MASK, fin=fin, rsv1=rsv1)


def raw(first: int, second: int, *rest: bytes) -> bytes:
    return bytes((first, second)) + b"".join(rest)


def outcome(
    chunks: Iterable[bytes], *, max_size: int = 1 << 20, require_mask: bool = True
) -> tuple[list[frames.Received], int | None]:
    """What came out, and the close code of the fault that ended it."""
    decoder = Decoder(max_size, require_mask=require_mask)
    got: list[frames.Received] = []
    try:
        for chunk in chunks:
            got.extend(v for v in decoder.feed(chunk) if not isinstance(v, frames.Progress))
    except ProtocolError as error:
        with pytest.raises(ProtocolError):
            list(decoder.feed(masked(Opcode.PING)))
        return got, error.close_code
    return got, None


def single(data: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in data]


# Encoding


def test_the_examples_of_the_rfc_are_written() -> None:
    assert frames.encode_text("Hello") == bytes.fromhex("810548656c6c6f")
    hello = frames.encode_client(Opcode.TEXT, b"Hello", bytes.fromhex("37fa213d"))
    assert hello == bytes.fromhex("818537fa213d7f9f4d5158")
    assert frames.encode(Opcode.TEXT, b"Hel", fin=False) == bytes.fromhex("010348656c")
    assert frames.encode(Opcode.CONTINUATION, b"lo") == bytes.fromhex("80026c6f")
    assert frames.encode(Opcode.PING, b"Hello") == bytes.fromhex("890548656c6c6f")
    assert frames.encode(Opcode.BINARY, bytes(256))[:4] == bytes.fromhex("827e0100")
    assert frames.encode(Opcode.BINARY, bytes(65536))[:10] == bytes.fromhex("827f0000000000010000")


def test_rsv1_marks_a_compressed_message() -> None:
    assert frames.encode(Opcode.TEXT, b"x", rsv1=True)[0] == 0xC1


@pytest.mark.parametrize("size", SIZES)
def test_another_librarys_client_reads_what_is_written(size: int) -> None:
    client = ClientProtocol(parse_uri("ws://x/"), state=State.OPEN)
    text = "é" * (size // 2)
    client.receive_data(frames.encode(Opcode.BINARY, bytes(size)) + frames.encode_text(text))
    client.receive_data(frames.encode_close(1012, "restart"))
    binary, spoken, close = client.events_received()
    assert isinstance(binary, PeerFrame)
    assert isinstance(spoken, PeerFrame)
    assert isinstance(close, PeerFrame)
    assert bytes(binary.data) == bytes(size)
    assert bytes(spoken.data) == text.encode()
    assert bytes(close.data) == b"\x03\xf4restart"


def test_text_with_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(InvalidMessage):
        frames.encode_text("\ud800")


def test_a_close_reason_is_cut_at_the_end_of_a_character() -> None:
    frame = frames.encode_close(1000, "é" * 100)
    assert len(frame) == 2 + 2 + 122
    assert frame[4:].decode() == "é" * 61
    assert len(frames.encode_close(1000, "x" * 200)) == 2 + 125
    assert frames.encode_close(1000, "\ud800") == b"\x88\x03\x03\xe8?"
    assert frames.encode_close() == b"\x88\x00"


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
def test_a_close_code_that_may_not_be_sent_is_refused(code: int) -> None:
    with pytest.raises(InvalidMessage):
        frames.encode_close(code)


def test_a_control_frame_that_the_rfc_forbids_is_refused() -> None:
    with pytest.raises(InvalidMessage):
        frames.encode(Opcode.PING, bytes(126))
    with pytest.raises(InvalidMessage):
        masked(Opcode.PONG, b"", fin=False)


def test_a_mask_has_four_bytes() -> None:
    with pytest.raises(ValueError):
        frames.encode_client(Opcode.TEXT, b"x", b"123")


@pytest.mark.parametrize("size", [*range(40), 1023, 1024, 1025, 8191, 8192, 8193, 100_001])
def test_masking_is_what_the_rfc_says_byte_by_byte(size: int) -> None:
    payload = random.Random(size).randbytes(size)
    expected = bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))
    assert frames.apply_mask(payload, MASK) == expected
    assert frames.apply_mask(expected, MASK) == payload


# Decoding what is allowed


@pytest.mark.parametrize("size", SIZES)
def test_messages_of_any_size_come_back(size: int) -> None:
    payload = random.Random(size).randbytes(size)
    wire = masked(Opcode.BINARY, payload) + masked(Opcode.TEXT, b"x" * size)
    assert outcome([wire]) == ([Binary(payload), Text("x" * size)], None)
    unmasked = frames.encode(Opcode.BINARY, payload) + frames.encode_text("x" * size)
    assert outcome([unmasked], require_mask=False) == ([Binary(payload), Text("x" * size)], None)


def test_what_another_librarys_client_sends_is_read() -> None:
    client = ClientProtocol(parse_uri("ws://x/"), state=State.OPEN)
    client.send_text("中".encode(), fin=False)
    client.send_ping(b"now?")
    client.send_continuation(b" and more", fin=True)
    client.send_binary(bytes(70_000))
    client.send_pong(b"")
    client.send_close(1001, "bye 😀")
    wire = b"".join(client.data_to_send())
    assert outcome([wire[:7], wire[7:70_000], wire[70_000:]]) == (
        [
            Ping(b"now?"),
            Text("中 and more"),
            Binary(bytes(70_000)),
            Pong(b""),
            Close(1001, "bye 😀"),
        ],
        None,
    )


def test_what_another_librarys_server_sends_is_read() -> None:
    server = ServerProtocol(state=State.OPEN)
    server.send_text(b"hi")
    server.send_close(1000)
    wire = b"".join(server.data_to_send())
    assert outcome([wire], require_mask=False) == ([Text("hi"), Close(1000)], None)


def test_random_conversations_come_back_in_any_chunking() -> None:
    rng = random.Random(6455)
    for _ in range(300):
        wire, expected = random_conversation(rng)
        for chunks in ([wire], chop(wire, rng), single(wire)):
            assert outcome(chunks) == (expected, None)


def random_conversation(rng: random.Random) -> tuple[bytes, list[frames.Received]]:
    wire, expected = b"", list[frames.Received]()
    for _ in range(rng.randint(1, 5)):
        text = "".join(rng.choices("aé中😀\0", k=rng.choice([0, 1, 9, 130])))
        payload = text.encode()
        is_text = rng.random() < 0.5
        opcode = Opcode.TEXT if is_text else Opcode.BINARY
        pieces = chop(payload, rng)
        for number, piece in enumerate(pieces):
            mask, last = rng.randbytes(4), number == len(pieces) - 1
            wire += frames.encode_client(opcode, piece, mask, fin=last)
            opcode = Opcode.CONTINUATION
            if not last and rng.random() < 0.3:
                wire += masked(Opcode.PING, piece[:125]) + masked(Opcode.PONG)
                expected += [Ping(piece[:125]), Pong(b"")]
        expected.append(Text(text) if is_text else Binary(payload))
    return wire, expected


def test_a_payload_masked_with_zeros_is_masked() -> None:
    assert outcome([frames.encode_client(Opcode.TEXT, b"x", bytes(4))]) == ([Text("x")], None)


def test_a_close_may_say_nothing() -> None:
    assert outcome([masked(Opcode.CLOSE)]) == ([Close(None, "")], None)


def test_nothing_comes_after_a_close() -> None:
    wire = masked(Opcode.CLOSE, b"\x03\xe8") + masked(Opcode.TEXT, b"late") + b"\xff\xff\xff"
    assert outcome([wire, masked(Opcode.TEXT, b"later")]) == ([Close(1000)], None)
    assert outcome(single(wire)) == ([Close(1000)], None)


def test_a_close_ends_a_message_that_was_never_finished() -> None:
    wire = masked(Opcode.TEXT, b"beg", fin=False) + masked(Opcode.CLOSE)
    assert outcome([wire]) == ([Close(None)], None)


def test_stopping_in_the_middle_loses_nothing() -> None:
    decoder = Decoder(100)
    wire = masked(Opcode.TEXT, b"1") + masked(Opcode.TEXT, b"2") + masked(Opcode.TEXT, b"3")[:5]
    assert next(decoder.feed(wire)) == Text("1")
    decoder.feed(masked(Opcode.TEXT, b"3")[5:])
    assert list(decoder.feed(b"")) == [Text("2"), Text("3")]


def test_values_before_a_fault_come_out_before_it_is_raised() -> None:
    wire = masked(Opcode.TEXT, b"good") + b"\xf0" + masked(Opcode.TEXT, b"never")
    assert outcome([wire]) == ([Text("good")], 1002)


# Faults


@pytest.mark.parametrize(
    "wire",
    [
        raw(0xC1, 0x80, MASK),
        raw(0xA1, 0x80, MASK),
        raw(0x91, 0x80, MASK),
        raw(0xC9, 0x80, MASK),
        *(raw(0x80 | opcode, 0x80, MASK) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        raw(0x09, 0x80, MASK),
        raw(0x08, 0x80, MASK),
        raw(0x89, 0xFE),
        raw(0x8A, 0xFF),
        raw(0x81, 0x00),
        raw(0x81, 0x05, b"Hello"),
        raw(0x89, 0x00),
        raw(0x80, 0x80, MASK),
        raw(0x00, 0x80, MASK),
        raw(0x01, 0x80, MASK, b"\x81\x80", MASK),
        raw(0x02, 0x80, MASK, b"\x02\x80", MASK),
        raw(0x01, 0x80, MASK, b"\xc0\x80", MASK),
        raw(0x82, 0xFE, b"\x00\x7d"),
        raw(0x82, 0xFE, b"\x00\x00"),
        raw(0x82, 0xFF, (65535).to_bytes(8)),
        raw(0x82, 0xFF, (0).to_bytes(8)),
        raw(0x82, 0xFF, (1 << 63).to_bytes(8)),
        raw(0x82, 0xFF, b"\xff" * 8),
        masked(Opcode.CLOSE, b"\x03"),
    ],
    ids=lambda wire: wire[:4].hex(),
)
def test_a_frame_that_the_rfc_forbids_is_answered_with_1002(wire: bytes) -> None:
    assert outcome([wire]) == ([], 1002)
    assert outcome(single(wire)) == ([], 1002)


def test_a_server_must_not_mask() -> None:
    assert outcome([masked(Opcode.TEXT, b"x")], require_mask=False) == ([], 1002)


@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 4000, 4999])
def test_a_close_code_that_may_be_sent_is_accepted(code: int) -> None:
    assert outcome([masked(Opcode.CLOSE, code.to_bytes(2) + b"why")]) == (
        [Close(code, "why")],
        None,
    )


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535])
def test_any_other_close_code_is_answered_with_1002(code: int) -> None:
    assert outcome([masked(Opcode.CLOSE, code.to_bytes(2))]) == ([], 1002)


BROKEN = [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ok \xe4\xb8", b"\x80"]


@pytest.mark.parametrize("text", BROKEN)
def test_text_that_is_not_utf_8_is_answered_with_1007(text: bytes) -> None:
    pieces = [masked(Opcode.TEXT, text[:1], fin=False), masked(Opcode.CONTINUATION, text[1:])]
    for wire in (masked(Opcode.TEXT, text), b"".join(pieces)):
        assert outcome([wire]) == ([], 1007)
        assert outcome(single(wire)) == ([], 1007)


@pytest.mark.parametrize("text", BROKEN)
def test_a_close_reason_that_is_not_utf_8_is_answered_with_1007(text: bytes) -> None:
    assert outcome([masked(Opcode.CLOSE, b"\x03\xe8" + text)]) == ([], 1007)


def test_invalid_text_is_noticed_before_the_message_or_even_the_frame_ends() -> None:
    assert outcome([masked(Opcode.TEXT, b"\xf4\x90", fin=False)]) == ([], 1007)
    frame = masked(Opcode.TEXT, b"ok \xff" + b"x" * 1000)
    assert outcome([frame[:-900]]) == ([], 1007)


def test_a_character_may_lie_in_two_fragments() -> None:
    one, two = masked(Opcode.TEXT, b"\xf0\x9f", fin=False), masked(Opcode.CONTINUATION, b"\x98\x80")
    assert outcome([one + two]) == ([Text("😀")], None)


def test_a_header_that_announces_too_much_is_refused_before_anything_follows() -> None:
    assert outcome([masked(Opcode.BINARY, bytes(1000))], max_size=1000)[1] is None
    assert outcome([raw(0x82, 0xFE, (1001).to_bytes(2))], max_size=1000) == ([], 1009)
    assert outcome([raw(0x82, 0xFF, (1 << 62).to_bytes(8))]) == ([], 1009)
    assert outcome([raw(0x81, 0x80 | 11)], max_size=10) == ([], 1009)


def test_fragments_that_sum_up_to_too_much_are_refused_by_the_header() -> None:
    wire = masked(Opcode.BINARY, bytes(600), fin=False)
    assert outcome([wire, masked(Opcode.CONTINUATION, bytes(400))], max_size=1000)[1] is None
    assert outcome([wire, raw(0x80, 0xFE, (401).to_bytes(2))], max_size=1000) == ([], 1009)


def test_a_control_frame_does_not_count_against_the_size_of_a_message() -> None:
    wire = masked(Opcode.TEXT, b"12", fin=False) + masked(Opcode.PING, bytes(125))
    wire += masked(Opcode.CONTINUATION, b"3")
    assert outcome([wire], max_size=3) == ([Ping(bytes(125)), Text("123")], None)


def test_endless_empty_fragments_are_refused() -> None:
    empty = masked(Opcode.CONTINUATION, fin=False)
    assert outcome([masked(Opcode.TEXT, b"", fin=False), empty * 999])[1] is None
    assert outcome([masked(Opcode.TEXT, b"", fin=False), empty * 1000]) == ([], 1009)


def test_very_many_fragments_with_something_in_them_are_fine() -> None:
    wire = masked(Opcode.BINARY, b"x", fin=False)
    wire += masked(Opcode.CONTINUATION, b"x", fin=False) * 20_000 + masked(Opcode.CONTINUATION)
    assert outcome([wire]) == ([Binary(b"x" * 20_001)], None)


def test_random_bytes_raise_nothing_but_protocol_errors_and_chunks_change_nothing() -> None:
    rng = random.Random(2011)
    starts = [raw(first, 0x80 | n) for first in (1, 2, 0, 0x80, 0x81, 0x88, 0x89) for n in range(4)]
    for _ in range(5000):
        wire = rng.choice(starts) + rng.randbytes(rng.randint(0, 40))
        assert outcome([wire], max_size=300) == outcome(single(wire), max_size=300)


def test_a_conversation_with_one_wrong_byte_raises_nothing_but_protocol_errors() -> None:
    rng = random.Random(1997)
    for _ in range(2000):
        wire = bytearray(random_conversation(rng)[0])
        wire[rng.randrange(len(wire))] ^= 1 << rng.randrange(8)
        whole = outcome([bytes(wire)], max_size=2000)
        assert whole == outcome(chop(bytes(wire), rng), max_size=2000)


# Size


def test_20_mb_in_64_kib_pieces_arrive_intact() -> None:
    payload = random.Random(20).randbytes(20_000_000)
    wire = frames.encode_client(Opcode.BINARY, payload, MASK)
    decoder = Decoder(20_000_000)
    got: list[frames.Received] = []
    for at in range(0, len(wire), 65536):
        got.extend(decoder.feed(wire[at : at + 65536]))
    assert got == [Binary(payload)]


def test_100_000_frames_in_one_piece_come_out_one_by_one() -> None:
    wire = masked(Opcode.TEXT, b"tiny") * 100_000
    assert sum(value == Text("tiny") for value in Decoder(100).feed(wire)) == 100_000


def held_by(decoder: Decoder, chunks: Iterable[bytes]) -> tuple[int, int]:
    """Bytes of memory held after the chunks, and at most while they were read."""
    tracemalloc.start()
    try:
        for chunk in chunks:
            with contextlib.suppress(ProtocolError):
                list(decoder.feed(chunk))
        chunk = b""
        return tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


def test_an_unfinished_message_holds_no_more_than_the_limit() -> None:
    decoder = Decoder(1_000_000)
    assert list(decoder.feed(masked(Opcode.TEXT, b"x" * 1000, fin=False))) == []
    more = masked(Opcode.CONTINUATION, b"x" * 1000, fin=False)
    held, peak = held_by(decoder, (bytes(bytearray(more)) for _ in range(999)))
    assert held < 1_200_000
    assert peak < 1_400_000


def test_a_connection_that_is_idle_closed_or_faulty_holds_nothing() -> None:
    text = masked(Opcode.TEXT, b"x" * 1000) * 1000
    for end in (masked(Opcode.PING), masked(Opcode.CLOSE), b"\xff\xff", text[:3]):
        held, _ = held_by(Decoder(2000), (text + end for _ in range(3)))
        assert held < 20_000


@pytest.mark.parametrize("size", [0, 1, 125])
def test_a_lone_pong_is_told_from_everything_else(size: int) -> None:
    pong = bytes([0x8A, 0x80 | size]) + b"mask" + b"x" * size
    assert frames.is_lone_pong(pong)
    for other in (
        pong[:-1],
        pong + b"\x8a",
        pong + pong,
        b"\x89" + pong[1:],  # a ping
        b"\x0a" + pong[1:],  # not the last fragment
        b"\xca" + pong[1:],  # a reserved bit
        bytes([0x8A, size]) + b"x" * size,  # not masked
        bytes([0x8A, 0x80 | 126, 0, size]) + b"mask" + b"x" * size,
        b"",
        b"\x8a",
    ):
        assert not frames.is_lone_pong(other)


def test_a_decoder_knows_whether_it_is_between_frames() -> None:
    decoder = frames.Decoder(100)
    assert decoder.is_between_frames
    whole = bytes([0x81, 0x82]) + bytes(4) + b"ab"
    assert not list(decoder.feed(whole[:3]))
    assert not decoder.is_between_frames
    assert list(decoder.feed(whole[3:])) == [frames.Text("ab")]
    assert decoder.is_between_frames
    decoder.feed(whole)
    assert not decoder.is_between_frames  # not iterated over


def test_a_decoder_is_between_frames_only_where_a_header_begins() -> None:
    message = [
        masked(Opcode.TEXT, b"ab", fin=False),
        masked(Opcode.CONTINUATION, b"", fin=False),
        masked(Opcode.PING, b"now?"),
        masked(Opcode.CONTINUATION, b"c" * 130),
        masked(Opcode.BINARY, b"x" * 70_000),
    ]
    decoder = Decoder(100_000)
    for frame in message:
        for at, byte in enumerate(single(frame)):
            assert decoder.is_between_frames == (at == 0)
            list(decoder.feed(byte))
    assert decoder.is_between_frames


def test_a_payload_that_looks_like_a_pong_is_not_taken_for_one() -> None:
    pong = masked(Opcode.PONG)
    frame = frames.encode_client(Opcode.BINARY, pong, bytes(4))
    decoder = Decoder(100)
    assert list(decoder.feed(frame[: -len(pong)])) == []
    assert frames.is_lone_pong(frame[-len(pong) :])
    assert not decoder.is_between_frames
    assert list(decoder.feed(frame[-len(pong) :])) == [Binary(pong)]


@pytest.mark.parametrize("last", [masked(Opcode.CLOSE), b"\xf0\x80"])
def test_no_header_begins_after_a_close_or_a_fault(last: bytes) -> None:
    decoder = Decoder(100)
    with contextlib.suppress(ProtocolError):
        list(decoder.feed(last))
    assert not decoder.is_between_frames
