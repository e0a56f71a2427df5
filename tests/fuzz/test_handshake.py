"""What a request says of itself: ``wire.handshake``, ``wire.origins``, ``web.server.heads``."""

import re
from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st

from streaming.errors import HandshakeError
from streaming.web.server.heads import Reader
from streaming.wire.handshake import accept_key, check_handshake, choose_subprotocol
from streaming.wire.origins import LONGEST, Origin, parse_host, parse_origin
from tests.fuzz.strategies import hostile_texts, hosts, mutated, origins, words
from tests.web.server.heads import BROWSER, PEER, configured, read_by_gunicorn

KEY = b64encode(bytes(range(16))).decode()
RIGHT = {
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}

_fields = st.dictionaries(
    st.sampled_from([*RIGHT, "content-length", "Transfer-Encoding", "UPGRADE", "x"]),
    st.one_of(st.sampled_from([*RIGHT.values(), "0", "", " 13 ", KEY + " "]), hostile_texts, words),
    max_size=3,
)
_versions = st.one_of(st.sampled_from(["HTTP/1.1", "1.1", "2", "HTTP/1.0", "HTTP/999.999"]), words)


@given(
    st.sampled_from(["GET", "POST"]) | words, _versions, _fields, st.sets(st.sampled_from([*RIGHT]))
)
def test_a_handshake_is_accepted_by_its_key_or_refused_with_a_status(
    method: str, version: str, more: dict[str, str], gone: set[str]
) -> None:
    headers = {name: value for name, value in RIGHT.items() if name not in gone} | more
    try:
        accepted = check_handshake(method, version, headers)
    except HandshakeError as refusal:
        assert refusal.status in (400, 426)
        assert len(str(refusal)) < 200
    else:
        keys = [v.strip() for k, v in headers.items() if k.lower() == "sec-websocket-key"]
        assert accepted == accept_key(keys[-1])
        assert method == "GET"


@given(st.none() | words | hostile_texts, st.lists(words, max_size=3))
def test_a_subprotocol_is_chosen_from_those_that_both_know(
    offered: str | None, supported: list[str]
) -> None:
    name = choose_subprotocol(offered, supported)
    assert name is None or (name in supported and name in (offered or ""))


@given(origins)
def test_an_origin_is_read_back_as_it_was_printed(text: str) -> None:
    origin = parse_origin(text)
    if origin is not None:
        assert parse_origin(str(origin)) == origin
        assert origin.host == origin.host.lower()
        assert not set(origin.host) & set("/@?#\\, \r\n")
        assert len(text) <= LONGEST


@given(hosts, st.sampled_from(["http", "https", "ws", "wss", "HTTPS"]))
def test_the_own_origin_is_that_of_a_page_at_this_host(host: str, scheme: str) -> None:
    own = parse_host(host, scheme)
    if own is not None:
        assert own.scheme in ("http", "https")
        assert parse_origin(str(own)) == own
        assert own.port is None or 0 <= own.port <= 65535


@given(origins, origins)
def test_two_origins_are_equal_only_if_they_look_the_same(one: str, other: str) -> None:
    first, second = parse_origin(one), parse_origin(other)
    if first is not None and first == second:
        assert isinstance(second, Origin)
        assert _plain(one) == _plain(other)


@given(origins, hosts, st.sampled_from(["http", "https"]))
def test_an_origin_covers_itself_or_with_a_star_what_is_below_it(
    page: str, host: str, scheme: str
) -> None:
    listed, found = parse_origin(f"{scheme}://{host}"), parse_origin(page)
    if listed is not None and found is not None and listed.covers(found):
        assert (listed.scheme, listed.port) == (found.scheme, found.port)
        if listed != found:
            assert found.host.endswith(listed.host.removeprefix("*"))
            assert "*" not in found.host


def _plain(text: str) -> str:
    """An origin without what browsers leave out."""
    scheme, _, rest = text.lower().partition("://")
    host, port = re.fullmatch(r"(.*?)(?::0*([0-9]+))?", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    default = {"http": "80", "https": "443"}.get(scheme)
    return f"{scheme}://{host}:{port or default}"


_heads = mutated(
    st.one_of(
        st.just(BROWSER),
        st.builds(
            b"%b /%b HTTP/1.1\r\nHost: %b\r\nX-%b: %b\r\n\r\n%b".__mod__,
            st.tuples(
                st.sampled_from([b"GET", b"POST", b"HEAD"]),
                *(hostile_texts.map(lambda t: t.encode()) for _ in range(5)),
            ),
        ),
    )
)


@given(_heads)
def test_what_our_reader_takes_for_a_plain_head_gunicorn_reads_the_same(data: bytes) -> None:
    cfg = configured()
    ours, size = Reader(cfg).read(data, PEER)
    if ours is None:
        assert size == 0
        return
    theirs = read_by_gunicorn(cfg, data)
    for name in ("method", "uri", "path", "query", "headers", "scheme", "version"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert data[size:] == theirs.unreader.take_buffered()
