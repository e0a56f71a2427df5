"""WebSocket bytes: ``wire.frames``, ``decoder``, ``fragments``, ``header``, ``deflate``."""

from collections.abc import Callable, Iterable

from hypothesis import given
from hypothesis import strategies as st

from streaming.errors import ProtocolError
from streaming.wire import frames
from streaming.wire.decoder import Decoder
from streaming.wire.deflate import Compressor, Decompressor, Deflate
from streaming.wire.frames import Opcode, Progress, Received
from streaming.wire.masking import apply_mask, turn_mask
from tests.fuzz.strategies import frame_bytes, hostile_texts, payloads, pieces, spoken
from tests.steps import count_steps

CODES = {1002, 1007, 1009}
CONTROL = 131
"""Bytes of the longest control frame with its mask."""


def compressed() -> Decoder:
    return Decoder(5000, decompress=Decompressor(takeover=True).decompress)


MAKERS: list[Callable[[], Decoder]] = [
    lambda: Decoder(1 << 20),
    lambda: Decoder(100),
    lambda: Decoder(0),
    lambda: Decoder(5000, require_mask=False),
    compressed,
]
decoders = st.sampled_from(MAKERS)


def outcome(decoder: Decoder, arrived: Iterable[bytes]) -> tuple[list[Received], int | None]:
    """What came out, and the close code of the fault that ended it."""
    got: list[Received] = []
    for piece in arrived:
        try:
            for value in decoder.feed(piece):  # what comes before a fault counts
                if not isinstance(value, Progress):
                    got.append(value)
        except ProtocolError as fault:
            return got, fault.close_code
    return got, None


def size_of(value: Received) -> int:
    data = value.reason if isinstance(value, frames.Close) else value.data
    return len(data.encode() if isinstance(data, str) else data)


@given(decoders, pieces(frame_bytes))
def test_any_bytes_in_any_pieces_give_the_same_values_or_a_close_code(
    make: Callable[[], Decoder], arrived: list[bytes]
) -> None:
    got, code = outcome(make(), arrived)
    assert outcome(make(), [b"".join(arrived)]) == (got, code)
    assert code is None or code in CODES


@given(decoders, pieces(frame_bytes))
def test_a_decoder_holds_an_unfinished_message_and_no_more(
    make: Callable[[], Decoder], arrived: list[bytes]
) -> None:
    decoder, most = make(), make()._max_size
    for piece in arrived:
        outcome(decoder, [piece])
        message = decoder._message
        assert len(decoder._data) - decoder._at <= CONTROL
        assert message is None or len(message.data) <= most


@given(st.sampled_from(MAKERS[:-1]), frame_bytes)
def test_no_more_comes_out_of_a_decoder_than_was_sent(
    make: Callable[[], Decoder], data: bytes
) -> None:
    got, _ = outcome(make(), [data])
    assert sum(map(size_of, got)) <= len(data)


@given(pieces(frame_bytes))
def test_no_message_is_longer_than_its_limit_however_it_was_compressed(
    arrived: list[bytes],
) -> None:
    got, _ = outcome(compressed(), arrived)
    assert all(size_of(value) <= 5000 for value in got)


@given(frame_bytes)
def test_a_decoder_goes_on_raising_the_fault_that_it_has_found(data: bytes) -> None:
    decoder = Decoder(5000)
    code = outcome(decoder, [data])[1]
    if code is not None:
        again = frames.encode_client(Opcode.TEXT, b"x", b"mask")
        assert outcome(decoder, [again]) == ([], code)
        assert not decoder.is_between_frames


@given(decoders, frame_bytes)
def test_the_work_of_a_decoder_is_bounded_by_the_bytes_that_came(
    make: Callable[[], Decoder], data: bytes
) -> None:
    one = [data[at : at + 1] for at in range(len(data[:2000]))]
    steps = count_steps(lambda: outcome(make(), one))
    assert steps <= 200 + 100 * len(one)
    assert count_steps(lambda: outcome(make(), [data])) <= 400 + 100 * len(data)


@given(spoken(), st.integers(0, 2**32))
def test_what_was_encoded_is_decoded_as_it_was(
    conversation: tuple[list[Received], bytes], seed: int
) -> None:
    said, sent = conversation
    assert outcome(Decoder(1 << 20), [sent]) == (said, None)
    cut = seed % (len(sent) + 1)
    assert outcome(Decoder(1 << 20), [sent[:cut], sent[cut:]]) == (said, None)


@given(frame_bytes)
def test_a_lone_pong_is_what_a_decoder_takes_for_one(data: bytes) -> None:
    decoder = Decoder(5000)
    got, code = outcome(decoder, [data])
    is_one = (
        len(got) == 1
        and isinstance(got[0], frames.Pong)
        and code is None
        and decoder.is_between_frames
        and decoder._message is None
    )
    assert frames.is_lone_pong(data) == is_one


@given(payloads, st.binary(min_size=4, max_size=4), st.integers(0, 9000))
def test_a_mask_over_pieces_is_the_mask_over_the_whole(data: bytes, mask: bytes, cut: int) -> None:
    whole = apply_mask(data, mask)
    assert whole == bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
    first, rest = data[:cut], data[cut:]
    assert apply_mask(first, mask) + apply_mask(rest, turn_mask(mask, len(first))) == whole


# ---- permessage-deflate


@given(st.lists(payloads, max_size=5), st.integers(9, 15), st.booleans())
def test_what_was_compressed_is_decompressed_as_it_was(
    messages: list[bytes], bits: int, takeover: bool
) -> None:
    packer, reader = Compressor(bits, takeover=takeover), Decompressor(bits, takeover=takeover)
    for message in messages:
        assert reader.decompress(packer.compress(message), len(message)) == message


@given(st.lists(st.binary(max_size=200) | payloads, max_size=3), st.booleans())
def test_bytes_that_nobody_compressed_are_a_fault_or_a_bounded_message(
    messages: list[bytes], takeover: bool
) -> None:
    reader = Decompressor(takeover=takeover)
    for message in messages:
        try:
            assert len(reader.decompress(message, 1000)) <= 1000
        except ProtocolError as fault:
            assert fault.close_code in (1007, 1009)


FORMS = ("=8", "=09", '="10"', "=15", "=16", "= 12", "=")
_parameters = st.sampled_from(
    [
        "server_no_context_takeover",
        "client_no_context_takeover",
        "client_max_window_bits",
        *(f"{side}_max_window_bits{form}" for side in ("server", "client") for form in FORMS),
    ]
)
_offers = st.one_of(
    st.lists(
        st.lists(_parameters, max_size=4).map(lambda ps: "; ".join(["permessage-deflate", *ps])),
        max_size=3,
    ).map(", ".join),
    hostile_texts.map("permessage-deflate;{}".format),
    hostile_texts,
)


@given(st.none() | _offers, st.integers(9, 15), st.integers(9, 15), st.booleans())
def test_what_is_agreed_on_can_be_read_by_both_and_was_offered(
    offered: str | None, server: int, client: int, takeover: bool
) -> None:
    ours = Deflate(not takeover, not takeover, server, client)
    agreed = ours.negotiate(offered)
    if agreed is None:
        return
    deflate, answer = agreed
    assert offered is not None
    assert "permessage-deflate" in offered
    assert deflate.server_max_window_bits <= server
    said = dict(part.partition("=")[::2] for part in answer.split("; ")[1:])
    assert ("client_max_window_bits" in said) <= ("client_max_window_bits" in offered)
    told = int(said.get("client_max_window_bits", 15))
    theirs = Compressor(max(told, 9), takeover=not deflate.client_no_context_takeover)
    reader = deflate.decompressor()
    for message in (b"x" * 50_000, bytes(range(256)) * 100, b"x" * 50_000):
        assert reader.decompress(theirs.compress(message), 1 << 20) == message
