"""streaming/wire/decoder.py: its short way says what its long way says."""

import random
from collections.abc import Callable, Iterable
from unittest import mock

import pytest

from streaming.errors import ProtocolError
from streaming.wire import frames
from streaming.wire.decoder import Decoder
from streaming.wire.deflate import Compressor, Decompressor
from streaming.wire.frames import Binary, Opcode, Ping, Pong, Received, Text

Outcome = tuple[list[Received], tuple[str, int] | None, bool]


def outcome(decoder: Decoder, chunks: Iterable[bytes]) -> Outcome:
    """What came out, the fault that ended it, and whether the decoder is between frames now."""
    got: list[Received] = []
    for chunk in chunks:
        try:
            got.extend(decoder.feed(chunk))
        except ProtocolError as fault:
            return got, (str(fault), fault.close_code), decoder.is_between_frames
    return got, None, decoder.is_between_frames


def long_way(decoder: Decoder, chunks: Iterable[bytes]) -> Outcome:
    with mock.patch.object(Decoder, "_short", return_value=None):
        return outcome(decoder, chunks)


def single(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def chop(data: bytes, rng: random.Random) -> list[bytes]:
    cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(0, 6)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


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
