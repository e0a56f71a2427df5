"""What peers, files and configurations may say: near to what is right, and far from it."""

import itertools
import random
from typing import Any

from hypothesis import strategies as st

from streaming.logs import Member
from streaming.message import Position
from streaming.wire import frames
from streaming.wire.deflate import Compressor
from streaming.wire.frames import Opcode

# ---- text and bytes

texts = st.text(max_size=200)
"""What Unicode has, and UTF-8 can carry."""

broken_texts = st.text(st.characters(), max_size=60)
"""Python's texts: halves of surrogate pairs, too."""

hostile_texts = st.text(
    st.sampled_from("\r\n\0\t :;,.*-_/\\\"'{}[]<>&=%@?#\x85\u2028\ufeff0a中😀"), max_size=40
)
"""Of what means something somewhere."""

words = st.one_of(texts, broken_texts, hostile_texts)


@st.composite
def pieces(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> list[bytes]:
    """Bytes as they may arrive: cut anywhere, some pieces empty."""
    data = draw(whole)
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=8).map(sorted))
    return [data[a:b] for a, b in itertools.pairwise([0, *cuts, len(data)])]


def mutated(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes that were right, with something in them that was not there."""
    foreign = st.one_of(
        st.binary(max_size=3), st.sampled_from([b"\r\n", b"\n", b"\0", b":", b" ", b"\xff", b","])
    )
    places = st.tuples(st.integers(0, 400), st.integers(0, 3), foreign)

    def change(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
        for at, gone, come in changes:
            at = min(at, len(data))
            data = data[:at] + come + data[at + gone :]
        return data

    return st.builds(change, whole, st.lists(places, max_size=3))


# ---- names, ids and cursors

legal_channels = st.from_regex(r"[A-Za-z0-9_.:-]{1,20}", fullmatch=True)
channels = st.one_of(legal_channels, st.sampled_from(["a", "a:presence", ":presence"]), words)
ids = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=100)
clients = st.from_regex(r"[0-9a-f]{16}", fullmatch=True)
positions = st.builds(
    Position, st.from_regex(r"[0-9A-Za-z]{1,32}", fullmatch=True), st.integers(0, 10**18 - 1)
)
cursors = st.one_of(
    positions.map(str),
    st.from_regex(r"([0-9a-f]{10}_[0-9A-Za-z]{1,8}-(0|[1-9][0-9]{0,17})\.?){0,4}", fullmatch=True),
    st.sampled_from(["start", "", "-", "a-01", "a-٣", "n1-1 ", "a" * 33 + "-1"]),
    words,
)
members = st.builds(Member, texts.filter(bool), texts, texts, st.integers(1, 5))

# ---- JSON

numbers = st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False))
leaves: st.SearchStrategy[Any] = st.one_of(st.none(), st.booleans(), numbers, texts)
json_values: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
json_objects = st.dictionaries(texts, json_values, max_size=6)
json_like = st.one_of(
    st.text(st.sampled_from('{}[]":, \\u0nulltrefasNI-+.eE1é\n'), max_size=60),
    st.integers(0, 3000).flatmap(lambda n: st.sampled_from(["[" * n, '{"a":' * n, "1" * 2 * n])),
    words,
)
"""What is JSON by chance at most."""

# ---- what Python has

anything: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        leaves,
        st.floats(),
        words,
        st.binary(max_size=20),
        st.integers(0, 4000).map(lambda n: 10**n),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(words, st.integers(), st.none()), inner, max_size=3),
        st.frozensets(words, max_size=3),
    ),
    max_leaves=6,
)

# ---- WebSocket frames

payloads = st.one_of(
    st.binary(max_size=130),
    texts.map(str.encode),
    st.tuples(
        st.binary(min_size=1, max_size=1), st.sampled_from([126, 127, 4096, 4097, 70_000])
    ).map(lambda pair: pair[0] * pair[1]),
    st.binary(max_size=60).map(Compressor().compress),
)


@st.composite
def frame(draw: st.DrawFn, masked: bool = True) -> bytes:
    """A frame; most are right by themselves."""
    opcode, payload = draw(st.sampled_from(Opcode)), draw(payloads)
    fin, rsv1 = draw(st.booleans()), draw(st.integers(0, 5)) == 0
    if opcode >= Opcode.CLOSE:
        payload, fin = payload[:125], True
    if opcode is Opcode.CLOSE and payload and draw(st.booleans()):
        return frames.encode_client(opcode, b"\x03\xe8" + payload[:100], b"mask")
    mask = draw(st.binary(min_size=4, max_size=4)) if masked else b""
    if not mask:
        return frames.encode(opcode, payload, fin=fin, rsv1=rsv1)
    return frames.encode_client(opcode, payload, mask, fin=fin, rsv1=rsv1)


frame_bytes = st.one_of(
    st.lists(frame(), max_size=6).map(b"".join),
    mutated(st.lists(frame(), max_size=4).map(b"".join)),
    st.lists(frame(masked=False), max_size=4).map(b"".join),
    st.binary(max_size=200),
)
"""What may come over a WebSocket."""


@st.composite
def spoken(draw: st.DrawFn) -> tuple[list[frames.Received], bytes]:
    """Messages and control frames, and the frames that say so: in fragments, pings between them."""
    said: list[frames.Received] = []
    sent: list[bytes] = []
    for value in draw(st.lists(_values, max_size=5)):
        if isinstance(value, frames.Text | frames.Binary):
            is_text = isinstance(value, frames.Text)
            data = value.data.encode() if isinstance(value, frames.Text) else value.data
            cuts = draw(st.lists(st.integers(0, len(data)), max_size=4).map(sorted))
            parts = [data[a:b] for a, b in itertools.pairwise([0, *cuts, len(data)])]
            opcode = Opcode.TEXT if is_text else Opcode.BINARY
            for number, part in enumerate(parts):
                is_last = number == len(parts) - 1
                sent.append(frames.encode_client(opcode, part, b"mask", fin=is_last))
                opcode = Opcode.CONTINUATION
                if not is_last and draw(st.booleans()):
                    said.append(frames.Ping(part[:100]))
                    sent.append(frames.encode_client(Opcode.PING, part[:100], b"task"))
            said.append(value)
        else:
            said.append(value)
            opcode = Opcode.PING if isinstance(value, frames.Ping) else Opcode.PONG
            sent.append(frames.encode_client(opcode, value.data, b"\0\1\2\3"))
    if draw(st.booleans()):
        code = draw(st.sampled_from([1000, 1001, 1011, 3000, 4999]))
        reason = draw(st.text(max_size=20))
        said.append(frames.Close(code, reason))
        body = code.to_bytes(2) + reason.encode()
        sent.append(frames.encode_client(Opcode.CLOSE, body, b"mask"))
        sent.append(draw(st.binary(max_size=20)))  # nobody reads it
    return said, b"".join(sent)


_values: st.SearchStrategy[Any] = st.one_of(
    texts.map(frames.Text),
    st.binary(max_size=300).map(frames.Binary),
    st.binary(max_size=125).map(frames.Ping),
    st.binary(max_size=125).map(frames.Pong),
)

# ---- heads of HTTP

hosts = st.one_of(
    st.from_regex(r"[a-z0-9_.-]{1,12}(:[0-9]{0,6})?", fullmatch=True),
    st.from_regex(r"\[[0-9a-f:.]{0,12}\](:[0-9]{0,6})?", fullmatch=True),
    words,
)
origins = st.one_of(
    st.builds("{}://{}".format, st.sampled_from(["http", "https", "HTTP", "ws", "x+y"]), hosts),
    st.sampled_from(["null", "", "http://", "http://a@b", "http://a/", "https://a:65536"]),
    words,
)


def chopped(data: bytes, seed: int) -> list[bytes]:
    """``data`` in pieces of one to seven bytes."""
    rng, cut = random.Random(seed), []
    while data:
        size = rng.randint(1, 7)
        cut.append(data[:size])
        data = data[size:]
    return cut
