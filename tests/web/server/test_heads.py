"""streaming/web/server/heads.py: what is plain, and that gunicorn reads it the same."""

import random
from typing import Any

import pytest

from streaming.web.server.heads import Reader
from tests.web.server.heads import BROWSER, PEER, configured, read_by_gunicorn

COMPARED = (
    *("method", "uri", "path", "query", "fragment", "version", "headers", "trailers", "scheme"),
    *("must_close", "remote_addr", "peer_addr"),
)


def get(*fields: bytes, target: bytes = b"/", method: bytes = b"GET") -> bytes:
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: x", *fields, b"", b""])


def is_plain(data: bytes, peer: Any = PEER, **settings: Any) -> bool:
    request, _ = Reader(configured(**settings)).read(data, peer)
    return request is not None


def check_same(data: bytes, peer: Any = PEER, **settings: Any) -> None:
    """What our reader takes, gunicorn's parser takes for the same."""
    cfg = configured(**settings)
    ours, size = Reader(cfg).read(data, peer)
    theirs = read_by_gunicorn(cfg, data, peer)
    assert ours is not None
    for name in COMPARED:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.should_close() == theirs.should_close()
    assert ours.body.read() == theirs.body.read() == b""
    rest = theirs.unreader.take_buffered()
    assert data[size:] == rest
    assert ours.behind == len(rest)


@pytest.mark.parametrize(
    "data",
    [
        BROWSER,
        BROWSER + BROWSER,
        BROWSER + b"\0rubbish",
        get(),
        *(get(method=m) for m in (b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")),
        get(target=b"/a;b=c/~!$&'()*+,=:@\"<>[]^`{|}\\?a?b"),
        get(target=b"/?"),
        get(target=b"/a//b"),
        get(target=b"//x/a?b"),
        get(target=b"//[x"),
        get(b"x-small: 1", b"X-Spaced: \t 1 2\t ", b"X-None:", b"X-Latin: \xa0\xe4\x85"),
        get(b"Connection: close"),
        get(b"Connection: Keep-Alive"),
    ],
)
def test_a_plain_request_is_read_as_by_gunicorn(data: bytes) -> None:
    check_same(data)


@pytest.mark.parametrize("size", range(len(BROWSER)))
def test_a_head_that_is_not_all_there_is_not_plain(size: int) -> None:
    assert not is_plain(BROWSER[:size])


@pytest.mark.parametrize(
    "data",
    [
        get(b"Content-Length: 0"),
        get(b"content-length: 5"),
        get(b"Transfer-Encoding: chunked"),
        get(b"Expect: 100-continue"),
        get(b"X_A: 1"),
        get(b"X-A: 1", b"x-a: 2"),
        get(b"Host: y"),
        get(b"X-A : 1"),
        get(b" X-A: 1"),
        get(b"X-A: 1", b"\t2"),
        get(b"X-A"),
        get(b": 1"),
        get(b"X(A): 1"),
        *(get(b"X-A: 1%c2" % byte) for byte in (*range(9), *range(10, 32), 127)),
        *(get(target=b"/%c" % byte) for byte in (*range(33), 35, *range(127, 256))),
        get(target=b"a"),
        get(target=b"*", method=b"OPTIONS"),
        get(target=b"http://x/"),
        get(method=b"CONNECT"),
        get(method=b"get"),
        get(method=b"BREW"),
        b"\r\n" + get(),
        get().replace(b"HTTP/1.1", b"HTTP/1.0"),
        get().replace(b"HTTP/1.1", b"HTTP/2.0"),
        get().replace(b"\r\n", b"\n"),
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"",
    ],
)
def test_what_needs_a_judgement_is_not_plain(data: bytes) -> None:
    assert not is_plain(data)


MUTATIONS = (
    *(
        b"\r",
        b"\n",
        b"\r\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b"_",
        b"#",
        b"%",
        b"/",
        b"\xe4",
        b"\x7f",
        b"a",
    ),
    *(b"\r\nContent-Length: 5", b"\r\nTransfer-Encoding: chunked", b"\r\n a", b"\r\n\r\n"),
    *(b"\r\nHost: y", b"\r\nX-A: 1", b" HTTP/1.1", b"GET / "),
)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_plain_that_gunicorn_reads_otherwise(seed: int) -> None:
    random_ = random.Random(seed)
    plain = 0
    for _ in range(300):
        data = bytearray(random_.choice([BROWSER, get(b"X-B: 2"), get(b"Accept: */*") * 2]))
        for _ in range(random_.randint(1, 3)):
            at = random_.randrange(len(data))
            data[at : at + random_.choice([0, 0, 1, 3])] = random_.choice(MUTATIONS)
        if is_plain(bytes(data)):
            plain += 1
            check_same(bytes(data))
    assert plain > 20


def test_limits_are_gunicorns() -> None:
    line = len(b"GET /aaa HTTP/1.1")
    assert is_plain(get(target=b"/aaa"), limit_request_line=line)
    assert not is_plain(get(target=b"/aaaa"), limit_request_line=line)
    assert is_plain(get(b"A: 1"), limit_request_fields=2)
    assert not is_plain(get(b"A: 1", b"B: 2"), limit_request_fields=2)
    whole = get(b"A: 1")
    assert is_plain(whole, limit_request_field_size=len(whole))
    assert not is_plain(whole, limit_request_field_size=len(whole) - 1)
    long = get(b"A: " + b"a" * 8000)
    assert is_plain(long)
    assert not is_plain(get(b"A: " + b"a" * 8190))  # longer than is looked at
    assert is_plain(long, limit_request_line=0, limit_request_field_size=0)


HTTPS = get(b"X-Forwarded-Proto: https")


@pytest.mark.parametrize("value", [b"https", b"http", b"HTTPS", b"", b"ftp"])
def test_a_trusted_proxy_says_the_scheme(value: bytes) -> None:
    check_same(get(b"X-Forwarded-Proto: " + value))
    check_same(get(b"X-Forwarded-Proto: " + value), "")  # a Unix socket
    check_same(get(b"X-Forwarded-Proto: " + value), ("9.9.9.9", 1), forwarded_allow_ips="*")


def test_whom_to_trust_otherwise_gunicorn_decides() -> None:
    stranger = ("9.9.9.9", 1)
    assert not is_plain(HTTPS, stranger)
    assert not is_plain(HTTPS, stranger, forwarded_allow_ips="9.0.0.0/8")
    assert is_plain(get(), stranger)
    assert is_plain(HTTPS, stranger, secure_scheme_headers={})
    assert not is_plain(get(b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: on"))


def test_below_a_path_others_are_not_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPT_NAME", "/app")
    assert is_plain(get(target=b"/app/a"))
    assert not is_plain(get(target=b"/other"))
