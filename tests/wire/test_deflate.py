"""streaming/wire/deflate.py: the examples of RFC 7692, and websockets as an independent peer."""

import os
import random
import tracemalloc
import zlib

import pytest
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
)
from websockets.frames import Frame
from websockets.frames import Opcode as PeerOpcode
from websockets.headers import parse_extension

from streaming.errors import ProtocolError
from streaming.wire import frames
from streaming.wire.deflate import Compressor, Decompressor, Deflate

HELLO = bytes.fromhex("f248cdc9c90700")


@pytest.mark.parametrize(
    "packed",
    [
        HELLO,
        bytes.fromhex("000500faff48656c6c6f00"),  # a block without compression
        bytes.fromhex("f348cdc9c9070000"),  # a final block
        bytes.fromhex("f248050000 00ffffcac9c90700"),  # two blocks
    ],
)
def test_the_examples_of_the_rfc_are_read(packed: bytes) -> None:
    for takeover in (False, True):
        decompressor = Decompressor(takeover=takeover)
        assert decompressor.decompress(packed, 5) == b"Hello"
        assert decompressor.decompress(HELLO, 5) == b"Hello"


def test_a_message_can_refer_to_the_one_before_it_only_with_context_takeover() -> None:
    again = bytes.fromhex("f200110000")
    decompressor = Decompressor(takeover=True)
    assert [decompressor.decompress(packed, 5) for packed in (HELLO, again)] == [b"Hello"] * 2
    without = Decompressor()
    assert without.decompress(HELLO, 5) == b"Hello"
    with pytest.raises(ProtocolError) as caught:
        without.decompress(again, 5)
    assert caught.value.close_code == 1007


@pytest.mark.parametrize("takeover", [False, True])
def test_an_empty_message_is_one_zero_byte(takeover: bool) -> None:
    compressor, decompressor = Compressor(takeover=takeover), Decompressor(takeover=takeover)
    for _ in range(3):
        packed = compressor.compress(b"")
        assert packed == b"\x00"
        assert decompressor.decompress(packed, 0) == b""


def test_without_context_takeover_a_message_always_has_the_same_bytes() -> None:
    compressor = Compressor()
    assert compressor.compress(b"Hello" * 9) == compressor.compress(b"Hello" * 9)
    kept = Compressor(takeover=True)
    assert kept.compress(b"Hello" * 9) != kept.compress(b"Hello" * 9)


@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("bits", [9, 12, 15])
def test_an_independent_peer_and_we_read_each_other(takeover: bool, bits: int) -> None:
    rng = random.Random(7692)
    peer = PerMessageDeflate(not takeover, not takeover, bits, bits)
    compressor = Compressor(bits, takeover=takeover)
    decompressor = Decompressor(bits, takeover=takeover)
    for size in (0, 1, 100, 0, 70_000, 300_000):
        for data in (
            rng.randbytes(size),
            b"the same again " * (size // 15),
            "中😀".encode() * size,
        ):
            sent = Frame(PeerOpcode.BINARY, compressor.compress(data), rsv1=True)
            assert bytes(peer.decode(sent).data) == data
            packed = bytes(peer.encode(Frame(PeerOpcode.BINARY, data)).data)
            assert decompressor.decompress(packed, len(data)) == data


def test_a_zip_bomb_is_refused_and_never_unfolded() -> None:
    bomb = Compressor().compress(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError) as caught:
            Decompressor().decompress(bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()
    assert caught.value.close_code == 1009
    assert Decompressor().decompress(Compressor().compress(bytes(1000)), 1000) == bytes(1000)
    with pytest.raises(ProtocolError):
        Decompressor().decompress(Compressor().compress(bytes(1001)), 1000)


def test_random_bytes_raise_nothing_but_protocol_errors() -> None:
    rng = random.Random(1951)
    for _ in range(3000):
        decompressor = Decompressor(takeover=True)
        try:
            for _ in range(3):
                assert len(decompressor.decompress(rng.randbytes(rng.randint(0, 40)), 500)) <= 500
        except ProtocolError:
            pass


def test_data_after_a_final_block_is_refused() -> None:
    stream = zlib.compressobj(wbits=-15)
    final = stream.compress(b"Hello") + stream.flush()
    assert Decompressor().decompress(final, 5) == b"Hello"
    with pytest.raises(ProtocolError):
        Decompressor().decompress(final * 2, 10)


@pytest.mark.parametrize("bits", [8, 16, 0])
def test_a_window_that_zlib_cannot_use_is_refused_at_start(bits: int) -> None:
    with pytest.raises(ValueError):
        Deflate(server_max_window_bits=bits)


BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        ("permessage-deflate", BOTH),
        (" permessage-deflate ; client_no_context_takeover", BOTH),
        ("permessage-deflate; client_max_window_bits", BOTH + "; client_max_window_bits=15"),
        ("permessage-deflate; client_max_window_bits=10", BOTH + "; client_max_window_bits=10"),
        ("permessage-deflate; client_max_window_bits=8", BOTH + "; client_max_window_bits=8"),
        ("permessage-deflate; server_max_window_bits=10", BOTH + "; server_max_window_bits=10"),
        ('permessage-deflate; server_max_window_bits="10"', BOTH + "; server_max_window_bits=10"),
        ("permessage-deflate; server_max_window_bits = 15", BOTH + "; server_max_window_bits=15"),
        ("x-webkit-deflate-frame, foo; bar=1, permessage-deflate", BOTH),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", BOTH),
        ("permessage-deflate; unknown, permessage-deflate", BOTH),
    ],
)
def test_the_first_offer_that_can_be_met_is_taken(offered: str, answer: str) -> None:
    agreed = Deflate().negotiate(offered)
    assert agreed is not None
    assert agreed[1] == answer


@pytest.mark.parametrize(
    "offered",
    [
        None,
        "",
        ",;,",
        "permessage-deflates",
        "PERMESSAGE-DEFLATE2",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=012",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; client_max_window_bits=٩",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
        "permessage-deflate; ",
    ],
)
def test_an_offer_that_cannot_be_met_is_declined(offered: str | None) -> None:
    assert Deflate().negotiate(offered) is None


def test_the_client_is_not_told_of_a_window_it_did_not_offer_to_limit() -> None:
    agreed = Deflate(client_max_window_bits=9).negotiate("permessage-deflate")
    assert agreed is not None
    assert (agreed[0].client_max_window_bits, "client_max" in agreed[1]) == (15, False)


@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("limits", [(None, True), (10, 11), (15, 15), (None, None)])
def test_an_independent_client_agrees_and_the_messages_pass(
    takeover: bool, limits: tuple[int | None, int | bool | None]
) -> None:
    factory = ClientPerMessageDeflateFactory(
        server_max_window_bits=limits[0], client_max_window_bits=limits[1]
    )
    offer = "; ".join(
        ["permessage-deflate"]
        + [f"{name}={value}" if value else name for name, value in factory.get_request_params()]
    )
    ours = Deflate(not takeover, not takeover, 12, 12).negotiate(offer)
    assert ours is not None
    deflate, answer = ours
    ((_, params),) = parse_extension(answer)
    peer = factory.process_response_params(params, [])
    decoder = frames.Decoder(10_000, decompress=deflate.decompressor().decompress)
    compressor = deflate.compressor()
    for _ in range(3):
        wire = Frame(PeerOpcode.TEXT, b"Hello" * 500).serialize(mask=True, extensions=[peer])
        assert list(decoder.feed(wire)) == [frames.Text("Hello" * 500)]
        sent = Frame(PeerOpcode.TEXT, compressor.compress(b"Hello" * 500), rsv1=True)
        assert bytes(peer.decode(sent).data) == b"Hello" * 500


def test_a_compressed_message_in_fragments_is_put_together_and_bounded() -> None:
    packed = Compressor().compress(os.urandom(300) + bytes(600))
    first = frames.encode_client(frames.Opcode.BINARY, packed[:100], b"abcd", fin=False, rsv1=True)
    rest = frames.encode_client(frames.Opcode.CONTINUATION, packed[100:], b"efgh")
    ping = frames.encode_client(frames.Opcode.PING, b"?", b"ijkl")
    decoder = frames.Decoder(900, decompress=Decompressor().decompress)
    ponged, message = decoder.feed(first + ping + rest)
    assert ponged == frames.Ping(b"?")
    assert isinstance(message, frames.Binary)
    assert len(message.data) == 900
    with pytest.raises(ProtocolError) as caught:
        list(frames.Decoder(899, decompress=Decompressor().decompress).feed(first + rest))
    assert caught.value.close_code == 1009


@pytest.mark.parametrize("opcode", [frames.Opcode.PING, frames.Opcode.CLOSE])
def test_a_control_frame_is_never_compressed(opcode: frames.Opcode) -> None:
    wire = frames.encode_client(opcode, b"", b"abcd", rsv1=True)
    with pytest.raises(ProtocolError) as caught:
        list(frames.Decoder(100, decompress=Decompressor().decompress).feed(wire))
    assert caught.value.close_code == 1002


def test_only_the_first_fragment_says_that_a_message_is_compressed() -> None:
    wire = frames.encode_client(frames.Opcode.TEXT, HELLO[:2], b"abcd", fin=False, rsv1=True)
    wire += frames.encode_client(frames.Opcode.CONTINUATION, HELLO[2:], b"abcd", rsv1=True)
    with pytest.raises(ProtocolError) as caught:
        list(frames.Decoder(100, decompress=Decompressor().decompress).feed(wire))
    assert caught.value.close_code == 1002


def test_messages_may_stay_uncompressed() -> None:
    wire = frames.encode_client(frames.Opcode.TEXT, b"plain", b"abcd")
    decoder = frames.Decoder(100, decompress=Decompressor().decompress)
    assert list(decoder.feed(wire)) == [frames.Text("plain")]


def test_compressed_text_must_be_utf_8_too() -> None:
    wire = frames.encode_client(
        frames.Opcode.TEXT, Compressor().compress(b"\xff"), b"abcd", rsv1=True
    )
    with pytest.raises(ProtocolError) as caught:
        list(frames.Decoder(100, decompress=Decompressor().decompress).feed(wire))
    assert caught.value.close_code == 1007
