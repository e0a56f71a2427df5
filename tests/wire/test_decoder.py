"""streaming/wire/decoder.py: its short ways say what its long way says, in bounded steps."""

import random
from collections.abc import Callable, Iterable
from unittest import mock

import pytest

from streaming.errors import ProtocolError
from streaming.wire import frames
from streaming.wire.decoder import Decoder
from streaming.wire.deflate import Compressor, Decompressor
from streaming.wire.fragments import STRETCH, Fragments
from streaming.wire.frames import Binary, Opcode, Ping, Pong, Progress, Received, Text
from tests.wire.chopping import chop

Outcome = tuple[list[Received], tuple[str, int] | None, bool]


def outcome(decoder: Decoder, chunks: Iterable[bytes]) -> Outcome:
    """What came out, the fault that ended it, and whether the decoder is between frames now."""
    got: list[Received] = []
    for chunk in chunks:
        try:
            got.extend(v for v in decoder.feed(chunk) if not isinstance(v, Progress))
        except ProtocolError as fault:
            return got, (str(fault), fault.close_code), decoder.is_between_frames
    return got, None, decoder.is_between_frames


def long_way(decoder: Decoder, chunks: Iterable[bytes]) -> Outcome:
    def nothing(self: Fragments, data: bytes, start: int, max_size: int) -> tuple[int, int]:
        return start, 0

    with (
        mock.patch.object(Decoder, "_short", return_value=None),
        mock.patch.object(Fragments, "read_many", nothing),
    ):
        return outcome(decoder, chunks)


def single(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def frame(rng: random.Random, mask: bytes) -> bytes:
    """One frame; most are common, some are not allowed."""
    size = rng.choice([0, 1, 2, 3, 4, 5, 20, 124, 125, 126, 127, 128, 300, 1024, 1025, 4096, 4097])
    opcode = rng.choice([Opcode.TEXT] * 3 + [Opcode.BINARY] * 3 + list(Opcode))
    payload = rng.randbytes(size)
    if opcode is Opcode.TEXT and rng.random() < 0.9:
        payload = "".join(rng.choices("aé中😀\0", k=size)).encode()[:size]
        payload = payload.decode(errors="ignore").encode() if rng.random() < 0.9 else payload
    fin, rsv1 = rng.random() < 0.9, rng.random() < 0.1
    if rsv1:
        payload = Compressor().compress(payload)
    if opcode >= Opcode.CLOSE:
        payload, fin = payload[:125], True
    if rng.random() < 0.03:
        return frame_of_a_longer_form(rng, opcode, payload[:200])
    if mask:
        return frames.encode_client(opcode, payload, mask, fin=fin, rsv1=rsv1)
    return frames.encode(opcode, payload, fin=fin, rsv1=rsv1)


def frame_of_a_longer_form(rng: random.Random, opcode: Opcode, payload: bytes) -> bytes:
    form, width = rng.choice([(126, 2), (127, 8)])
    head = bytes((0x80 | opcode, 0x80 | form)) + len(payload).to_bytes(width)
    return head + b"mask" + frames.apply_mask(payload, b"mask")


def conversation(rng: random.Random, is_masked: bool) -> list[bytes]:
    sent = []
    for _ in range(rng.randint(1, 6)):
        follows_the_rule = rng.random() < 0.97
        sent.append(frame(rng, rng.randbytes(4) if is_masked is follows_the_rule else b""))
    if rng.random() < 0.3:  # one wrong bit
        at = rng.randrange(len(sent))
        broken = bytearray(sent[at])
        broken[rng.randrange(min(len(broken), 12))] ^= 1 << rng.randrange(8)
        sent[at] = bytes(broken)
    if rng.random() < 0.3:  # the end is missing
        sent[-1] = sent[-1][: rng.randrange(len(sent[-1]))]
    return sent


MAKERS: dict[str, Callable[[], Decoder]] = {
    "much": lambda: Decoder(1 << 20),
    "4096": lambda: Decoder(4096),
    "100": lambda: Decoder(100),
    "nothing": lambda: Decoder(0),
    "compressed": lambda: Decoder(5000, decompress=Decompressor().decompress),
    "unmasked": lambda: Decoder(5000, require_mask=False),
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_short_way_gives_the_values_and_faults_of_the_long_way(name: str) -> None:
    rng, make = random.Random(6455), MAKERS[name]
    for _ in range(1000):
        sent = conversation(rng, is_masked=name != "unmasked")
        whole = b"".join(sent)
        expected = long_way(make(), [whole])
        assert outcome(make(), sent) == expected
        assert outcome(make(), [whole]) == expected
        assert outcome(make(), chop(whole, rng)) == expected


@pytest.mark.parametrize("name", MAKERS)
def test_the_short_way_gives_what_comes_out_byte_by_byte(name: str) -> None:
    rng, make = random.Random(1999), MAKERS[name]
    for _ in range(60):
        sent = conversation(rng, is_masked=name != "unmasked")
        assert outcome(make(), sent) == long_way(make(), single(b"".join(sent)))


def message_in_fragments(rng: random.Random, mask: int) -> list[bytes]:
    """One message in many frames, with pings between them; often something is wrong with it."""
    is_text = rng.random() < 0.7
    length = rng.choice([0, 1, 5, 20, 130, 300, 2000])
    text = "".join(rng.choices("aé中😀", k=length)).encode()
    payload = bytearray(text if is_text else rng.randbytes(length))
    if payload and rng.random() < 0.3:
        payload[rng.randrange(len(payload))] ^= 1 << rng.randrange(8)
    sent, at, opcode = [], 0, Opcode.TEXT if is_text else Opcode.BINARY
    most = rng.choice([1, 1, 2, 5, 200])
    while at < len(payload) or rng.random() < 0.5:
        piece = bytes(payload[at : at + rng.randint(0, most)])
        at += len(piece)
        fin = rng.random() < 0.002
        sent.append(frames.encode_client(opcode, piece, rng.randbytes(mask), fin=fin))
        opcode = Opcode.CONTINUATION
        if rng.random() < 0.01:
            sent.append(frame(rng, rng.randbytes(mask)))
    sent.append(frames.encode_client(opcode, b"", rng.randbytes(mask), fin=rng.random() < 0.9))
    return sent


@pytest.mark.parametrize("max_size", [1 << 20, 1000])
def test_fragments_in_one_piece_give_what_the_long_way_gives(max_size: int) -> None:
    rng = random.Random(54)
    for turn in range(200):
        sent = message_in_fragments(rng, 4) + message_in_fragments(rng, 4)
        whole = b"".join(sent)
        expected = long_way(Decoder(max_size), [whole])
        assert outcome(Decoder(max_size), [whole]) == expected
        assert outcome(Decoder(max_size), chop(whole, rng)) == expected
        assert outcome(Decoder(max_size), sent) == expected
        if turn < 40:
            assert long_way(Decoder(max_size), single(whole)) == expected


def test_a_fault_in_the_text_of_many_fragments_is_found_before_what_comes_after_it() -> None:
    begin = frames.encode_client(Opcode.TEXT, b"a", b"mask", fin=False)
    more = frames.encode_client(Opcode.CONTINUATION, b"b", b"mask", fin=False)
    wrong = frames.encode_client(Opcode.CONTINUATION, b"\xff", b"mask", fin=False)
    for after in (frames.encode_client(Opcode.PING, b"", b"mask"), b"\xf0\x80", more * 500):
        got, fault, _ = outcome(Decoder(1000), [begin + more * 10 + wrong + more + after])
        assert (got, fault) == ([], ("Text that is not UTF-8.", 1007))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 4096, 65535])
def test_whole_messages_need_the_short_way_only(size: int) -> None:
    sent = frames.encode_client(Opcode.TEXT, b"x" * size, b"mask")
    sent += frames.encode_client(Opcode.BINARY, b"y" * size, b"task")
    with mock.patch.object(Decoder, "_next", side_effect=AssertionError("the long way")):
        assert list(Decoder(1 << 20).feed(sent)) == [Text("x" * size), Binary(b"y" * size)]


def test_pings_and_pongs_need_the_short_way_only() -> None:
    sent = frames.encode_client(Opcode.PING, b"?", b"mask")
    sent += frames.encode_client(Opcode.PONG, b"!" * 125, b"mask")
    with mock.patch.object(Decoder, "_next", side_effect=AssertionError("the long way")):
        assert list(Decoder(1 << 20).feed(sent)) == [Ping(b"?"), Pong(b"!" * 125)]


# Bounded steps


def client(opcode: Opcode, payload: bytes = b"", *, fin: bool = True) -> bytes:
    return frames.encode_client(opcode, payload, b"mask", fin=fin)


def server(opcode: Opcode, payload: bytes = b"", *, fin: bool = True) -> bytes:
    return frames.encode(opcode, payload, fin=fin)


TIRESOME = {
    "of one byte": [b"x"],
    "of text in one byte": [b"\xc3", b"\xa9"],
    "of some bytes, one of many": [b"x"] * 126 + [b"y" * 126],
    "of many bytes": [b"z" * 126],
}


@pytest.mark.parametrize("encode", [client, server])
@pytest.mark.parametrize("name", TIRESOME)
def test_many_fragments_give_progress_at_short_intervals(
    name: str, encode: Callable[..., bytes]
) -> None:
    pieces = TIRESOME[name]
    count = 10_000 // len(pieces) * len(pieces)
    sent = encode(Opcode.TEXT, fin=False)
    sent += b"".join(encode(Opcode.CONTINUATION, p, fin=False) for p in pieces) * (
        count // len(pieces)
    )
    sent += encode(Opcode.CONTINUATION)
    decoder = Decoder(10_000_000, require_mask=encode is client)
    *steps, last = decoder.feed(sent)
    assert last == Text((b"".join(pieces) * (count // len(pieces))).decode())
    assert all(isinstance(step, Progress) for step in steps)
    assert count / (2 * STRETCH) - 1 <= len(steps) <= count / STRETCH


def test_stopping_at_a_progress_loses_nothing() -> None:
    begin, more = client(Opcode.TEXT, fin=False), client(Opcode.CONTINUATION, b"x", fin=False)
    decoder = Decoder(1000)
    assert isinstance(next(decoder.feed(begin + more * 300)), Progress)
    assert not decoder.is_between_frames
    *_, last = decoder.feed(more + client(Opcode.CONTINUATION))
    assert last == Text("x" * 301)
    assert decoder.is_between_frames


def test_few_fragments_give_no_progress() -> None:
    begin, more = client(Opcode.TEXT, fin=False), client(Opcode.CONTINUATION, b"x", fin=False)
    sent = (begin + more * 100 + client(Opcode.CONTINUATION)) * 5
    assert list(Decoder(1000).feed(sent)) == [Text("x" * 100)] * 5


def test_progress_is_a_pong_to_those_who_do_not_know_it_but_equals_none() -> None:
    assert isinstance(frames.PROGRESS, Progress)
    assert isinstance(frames.PROGRESS, Pong)
    assert frames.PROGRESS not in (Pong(b""), Ping(b""))


def test_a_message_that_is_forgotten_is_not_held_and_nothing_of_it_passes_for_frames() -> None:
    decoder = Decoder(1000)
    inner = client(Opcode.TEXT, b"smuggled")
    first = client(Opcode.TEXT, b"x" * 100 + inner, fin=False)
    assert list(decoder.feed(first[: -len(inner)])) == []
    assert decoder.held == 100
    decoder.forget()
    assert decoder.held == 0
    for data in (inner, client(Opcode.TEXT, b"another")):
        with pytest.raises(ProtocolError, match="nobody waits"):
            list(decoder.feed(data))
    assert decoder.held == 0
