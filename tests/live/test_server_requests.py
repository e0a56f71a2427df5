"""Our gunicorn worker against gunicorn's own, request by request: the same bytes come back.

What a request may be is decided by gunicorn; ours may be faster, and stricter where it says so.
"""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.live.echo_app import ANSWERS
from tests.live.harness import gunicorn
from tests.live.server import Server
from tests.polling import PATIENCE

SETTINGS: dict[str, tuple[list[str], dict[str, str]]] = {
    "defaults": ([], {}),
    "small limits": (
        [
            *("--limit-request-line", "60", "--limit-request-fields", "4"),
            *("--limit-request-field_size", "70"),
        ],
        {},
    ),
    "no limits": (["--limit-request-line", "0", "--limit-request-field_size", "0"], {}),
    "below a path": ([], {"SCRIPT_NAME": "/app"}),
    "a stranger's proxy": (["--forwarded-allow-ips", "10.0.0.1"], {}),
    "any proxy": (["--forwarded-allow-ips", "*"], {}),
    "underscores dropped": (["--header-map", "drop"], {}),
    "one request each": (["--keep-alive", "0"], {}),
    "the PROXY protocol": (["--proxy-protocol", "v1"], {}),
}

BROWSER = b"""\
GET /events?channel=news&x=%20y HTTP/1.1
Host: example.com
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0
Accept: text/event-stream
Accept-Language: en-US,en;q=0.5
Accept-Encoding: gzip, deflate, br, zstd
Referer: http://example.com/sse
Connection: keep-alive
Cookie: session=abcdef0123456789; theme=dark
Sec-Fetch-Dest: empty
Cache-Control: no-cache

"""


def lines(text: bytes) -> bytes:
    return text.replace(b"\n", b"\r\n")


def get(*fields: bytes, target: bytes = b"/", method: bytes = b"GET") -> bytes:
    head = [method + b" " + target + b" HTTP/1.1", b"Host: x", *fields]
    return b"\r\n".join([*head, b"", b""])


def post(*fields: bytes, body: bytes = b"", target: bytes = b"/") -> bytes:
    return get(*fields, target=target, method=b"POST") + body


CHUNKED = b"Transfer-Encoding: chunked"

REQUESTS = {
    # good
    "a browser": lines(BROWSER),
    "two in one": get(b"X-N: 1") + get(b"X-N: 2"),
    "three, the second with a body": get() + post(b"Content-Length: 3", body=b"abc") + get(),
    "five, plain": get() * 5,
    "below the path": get(target=b"/app/x"),
    "beside the path": get(target=b"/application/x"),
    "all methods": b"".join(
        get(method=method) for method in (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
    ),
    "HEAD": get(method=b"HEAD") + get(),
    "an unknown method": get(method=b"BREW"),
    "a body of known length": post(b"Content-Length: 5", body=b"hello") + get(),
    "a body of length 0": post(b"Content-Length: 0") + get(),
    "a chunked body": post(CHUNKED, body=b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n") + get(),
    "a chunked body with a trailer": post(CHUNKED, body=b"1\r\na\r\n0\r\nX-T: 1\r\n\r\n") + get(),
    "a body that is not read": post(b"Content-Length: 5", body=b"hello", target=b"/unread") + get(),
    "a chunked body not read": post(CHUNKED, body=b"1\r\na\r\n0\r\n\r\n", target=b"/unread")
    + get(),
    "100-continue": post(b"Content-Length: 2", b"Expect: 100-continue", body=b"ok") + get(),
    "100-continue in capitals": post(b"Content-Length: 2", b"Expect: 100-CONTINUE", body=b"ok"),
    "close": get(b"Connection: close") + get(),
    "Close": get(b"Connection: Close") + get(),
    "keep-alive": get(b"Connection: keep-alive") + get(),
    "close, and more": get(b"Connection: close, te") + get(),
    "HTTP/1.0": b"GET / HTTP/1.0\r\nHost: x\r\n\r\n" + get(),
    "HTTP/1.0, kept": b"GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n" + get(),
    "a name in small letters": get(b"x-small: 1"),
    "no space before the value": get(b"X-A:1"),
    "much space around the value": get(b"X-A: \t 1 \t "),
    "an empty value": get(b"X-A:", b"X-B: "),
    "Latin letters": get(b"X-A: \xe4\xf6\xfc"),
    "a value that ends in Latin spaces": get(b"X-A: \xa0\x85 "),
    "a content type": get(b"Content-Type: text/plain"),
    "repeated": get(b"X-A: 1", b"x-a: 2", b"X-A: 3"),
    "repeated cookies": get(b"Cookie: a=1", b"Cookie: b=2"),
    "an encoded path": get(target=b"/%C3%A4%20%2F?%C3%A4"),
    "a path with everything": get(target=b"/a;b=c/~!$&'()*+,=:@\"<>[]^`{|}\\"),
    "two question marks": get(target=b"/a?b?c=d?"),
    "an empty query": get(target=b"/a?"),
    "a fragment": get(target=b"/a?b#c"),
    "two slashes": get(target=b"//evil.example/a"),
    "two slashes and a bracket": get(target=b"//[x"),
    "two slashes within": get(target=b"/a//b"),
    "absolute": get(target=b"http://example.com:8000/a?b"),
    "an asterisk": get(target=b"*", method=b"OPTIONS"),
    "from a proxy": get(b"X-Forwarded-Proto: https", b"X-Forwarded-For: 1.2.3.4"),
    "from a proxy, plain": get(b"X-Forwarded-Proto: http"),
    "an empty line before": b"\r\n" + get(),
    "a long target": get(target=b"/" + b"a" * 4000),
    "a target too long": get(target=b"/" + b"a" * 4100),
    "a line of exactly 60": get(target=b"/" + b"a" * 46),
    "a line of 61": get(target=b"/" + b"a" * 47),
    "a field of exactly 70": get(b"X: " + b"a" * 65),
    "a field of 71": get(b"X: " + b"a" * 66),
    "four fields": get(b"A: 1", b"B: 2", b"C: 3"),
    "five fields": get(b"A: 1", b"B: 2", b"C: 3", b"D: 4"),
    "a long field": get(b"X-A: " + b"a" * 8100),
    "a field too long": get(b"X-A: " + b"a" * 8300),
    "long altogether": get(*(b"X-%d: " % n + b"a" * 900 for n in range(20))),
    "100 fields": get(*(b"X-%d: 1" % n for n in range(99))),
    "101 fields": get(*(b"X-%d: 1" % n for n in range(100))),
    "announced by a proxy": b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\n" + get() + get(),
    # strange
    "no fields": b"GET / HTTP/1.1\r\n\r\n",
    "nothing": b"",
    "half a line": b"GET / HT",
    "half a head": b"GET / HTTP/1.1\r\nHost: x\r\n",
    "half a body": post(b"Content-Length: 10", body=b"half"),
    "half a chunk": post(CHUNKED, body=b"5\r\nhe"),
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/3.0": b"GET / HTTP/3.0\r\nHost: x\r\n\r\n",
    "http/1.1": b"GET / http/1.1\r\nHost: x\r\n\r\n",
    "HTTP/1.10": b"GET / HTTP/1.10\r\nHost: x\r\n\r\n",
    "a method in small letters": b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n" + get(),
    "CONNECT to a path": b"CONNECT /a HTTP/1.1\r\nHost: x\r\n\r\n" + get(),
    "no slash": get(target=b"a"),
    "an asterisk for GET": get(target=b"*"),
    "an empty target": get(target=b""),
    "two spaces in the line": b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the target": get(target=b"/a b"),
    "a tab in the line": b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space behind the version": b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
    "a space before the method": b" GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes in the target": get(target=b"/\xc3\xa4"),
    "NUL in the target": get(target=b"/\0"),
    "Host twice": get(b"Host: y"),
    "Content-Type twice": get(b"Content-Type: a/b", b"Content-Type: c/d"),
    "an expectation": get(b"Expect: the-unexpected"),
    "underscores": get(b"X_A: 1"),
    "a script name": get(b"SCRIPT_NAME: /x"),
    "two schemes": get(b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: off"),
    # malicious
    "length and chunked": post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n") + get(),
    "chunked and length": post(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n") + get(),
    "GET with length and chunked": get(b"Content-Length: 5", CHUNKED) + b"0\r\n\r\n" + get(),
    "GET with a body": get(b"Content-Length: 4") + b"body" + get(),
    "two lengths": post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"),
    "the same length twice": post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "a list of lengths": post(b"Content-Length: 5, 5", body=b"hello"),
    "a negative length": post(b"Content-Length: -5", body=b"hello"),
    "a signed length": post(b"Content-Length: +5", body=b"hello"),
    "a length in hex": post(b"Content-Length: 0x5", body=b"hello"),
    "a length with a gap": post(b"Content-Length: 1 0", body=b"hellohello"),
    "a superscript length": post(b"Content-Length: \xb2", body=b"he"),
    "an empty length": post(b"Content-Length: ", body=b"hello"),
    "a space before the colon": post(b"Content-Length : 5", body=b"hello"),
    "a space before any colon": get(b"X-A : 1"),
    "a tab before the colon": post(b"Transfer-Encoding\t: chunked", body=b"0\r\n\r\n"),
    "a space before the name": get(b" X-A: 1"),
    "a folded line": get(b"X-A: 1", b" 2"),
    "a folded length": post(b"Content-Length:", b" 5", body=b"hello"),
    "no colon": get(b"X-A"),
    "no name": get(b": 1"),
    "a bare LF in the head": b"GET / HTTP/1.1\nHost: x\n\n",
    "a bare LF in a field": get(b"X-A: 1\nContent-Length: 5") + b"hello",
    "a bare CR in a field": get(b"X-A: 1\rContent-Length: 5") + b"hello",
    "a bare CR at the end": get(b"X-A: 1\r"),
    "CR CR LF": b"GET / HTTP/1.1\r\nHost: x\r\r\n\r\n",
    "LF at the end": b"GET / HTTP/1.1\r\nHost: x\r\n\n",
    "NUL in a value": get(b"X-A: 1\x002"),
    "NUL in a name": get(b"X\0A: 1"),
    "DEL in a value": get(b"X-A: 1\x7f"),
    "a control byte in a value": get(b"X-A: \x0b"),
    "a name that is no token": get(b"X(A): 1"),
    "a name beyond ASCII": get(b"X-\xdf: 1"),
    "chunked in capitals": post(b"Transfer-Encoding: CHUNKED", body=b"0\r\n\r\n") + get(),
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "chunked in two fields": post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
    "chunked before identity": post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "xchunked": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "gzip": post(b"Transfer-Encoding: gzip", body=b"0\r\n\r\n"),
    "gzip, chunked": post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n") + get(),
    "chunked with a vertical tab": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk size with a sign": post(CHUNKED, body=b"+5\r\nhello\r\n0\r\n\r\n") + get(),
    "a chunk size with 0x": post(CHUNKED, body=b"0x5\r\nhello\r\n0\r\n\r\n") + get(),
    "a chunk size with a space": post(CHUNKED, body=b"5 \r\nhello\r\n0\r\n\r\n") + get(),
    "an empty chunk size": post(CHUNKED, body=b"\r\nhello\r\n0\r\n\r\n") + get(),
    "a chunk too short": post(CHUNKED, body=b"6\r\nhello\r\n0\r\n\r\n") + get(),
    "a chunk too long": post(CHUNKED, body=b"4\r\nhello\r\n0\r\n\r\n") + get(),
    "a bare LF in chunks": post(CHUNKED, body=b"5\nhello\n0\n\n") + get(),
    "a bare CR in an extension": post(CHUNKED, body=b"1;a\rb\r\na\r\n0\r\n\r\n") + get(),
    "a length as trailer": post(CHUNKED, body=b"0\r\nContent-Length: 5\r\n\r\n") + get(),
    "plain, then malicious": get() + post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n") + get(),
    "plain, then half": get() + b"GET / HT",
    "rubbish behind": get() + b"\0\1\2\3" * 10,
}


def exchange(server: Server, request: bytes) -> str:
    """Everything that comes back, made comparable."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as client:
        client.sendall(request)
        with suppress(OSError):  # the server may have closed already, over what it did not want
            client.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while data := client.recv(65536):
                received += data
    text = received.decode("latin-1")
    text = re.sub(r"Date: [^\r]*", "Date: now", text)
    return re.sub(r'_PORT": "\d{5}"', '_PORT": "port"', text)


@pytest.fixture(scope="module", params=SETTINGS)
def servers(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Server]]:
    """gunicorn's own worker and ours, with the same settings."""
    arguments, env = SETTINGS[request.param]
    with ExitStack() as stack:
        theirs, ours = (
            stack.enter_context(
                gunicorn(
                    "tests.live.echo_app:app",
                    # what is half said may be ended late
                    extra_args=["--worker-class", worker, "--keep-alive", "60", *arguments],
                    extra_env=env,
                    expect_trouble=True,
                )
            )
            for worker in ("gevent", "streaming.web.server.StreamingWorker")
        )
        yield theirs, ours


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_answered_as_by_gunicorn(servers: tuple[Server, Server], name: str) -> None:
    theirs, ours = (exchange(server, REQUESTS[name]) for server in servers)
    assert ours == theirs


UNEQUAL = {"/slow", "/held", "/release", "/pid", "/swapped"}
"""What others in this module's servers, the clock or the worker have a say in."""


@pytest.mark.parametrize("path", sorted(ANSWERS.keys() - UNEQUAL))
@pytest.mark.parametrize("form", ["GET", "HEAD", "GET, closing", "HTTP/1.0"])
@pytest.mark.parametrize("servers", ["defaults", "one request each"], indirect=True)
def test_an_answer_leaves_as_from_gunicorn(
    servers: tuple[Server, Server], path: str, form: str
) -> None:
    target = path.encode()
    request = {
        "GET": get(target=target),
        "HEAD": get(target=target, method=b"HEAD"),
        "GET, closing": get(b"Connection: close", target=target),
        "HTTP/1.0": b"GET %b HTTP/1.0\r\nHost: x\r\n\r\n" % target,
    }[form]
    theirs, ours = (exchange(server, request + get()) for server in servers)
    assert ours == theirs
