"""streaming/web/passage.py: whether what a body gives reaches the socket as it is."""

import functools
import socket
import ssl
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gunicorn.http.wsgi import Response as GunicornResponse
from werkzeug.middleware.lint import LintMiddleware
from werkzeug.middleware.profiler import ProfilerMiddleware

from streaming.web.passage import Passage, is_servers_own
from streaming.web.server.answers import Answer
from tests.sites import certificate, make_app, serve
from tests.sockets import tcp_pair

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with tcp_pair() as ends:
        yield ends


def run(
    passage: Passage, serve_piece: Callable[[bytes], None], piece: bytes = b"data: x\n\n"
) -> list[bytes]:
    """What a server is given for ``piece``, each handed to ``serve_piece``."""
    given = []
    for data in passage.prove(piece, b":\n"):
        serve_piece(data)
        given.append(data)
    return given


class Server:
    """Writes as servers do: the head first, then each piece as it comes, if middleware lets it."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        frame: Callable[[bytes], bytes] = chunk,
        is_head_early: bool = True,
        middleware: Callable[[bytes], bytes] = lambda piece: piece,
    ) -> None:
        self.sock = sock
        self.frame = frame
        self.is_head_early = is_head_early
        self.middleware = middleware
        self.is_headless = True

    def __call__(self, piece: bytes) -> None:
        piece = self.middleware(piece)
        if self.is_headless and (piece or self.is_head_early):
            self.sock.sendall(HEAD)
            self.is_headless = False
        if piece:
            self.sock.sendall(self.frame(piece))


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_server_that_passes_a_piece_on_is_proven_by_it(pair: Any, is_chunked: bool) -> None:
    passage = Passage(pair[0], is_chunked=is_chunked)
    assert not passage.is_clear, "nothing is known yet"
    server = Server(pair[0], frame=chunk if is_chunked else bytes)
    assert run(passage, server) == [b"", b"data: x\n\n"]
    assert passage.is_clear


def test_a_server_that_sends_the_head_with_the_first_piece_is_proven_by_the_probe(
    pair: Any,
) -> None:
    passage = Passage(pair[0], is_chunked=True)
    assert run(passage, Server(pair[0], is_head_early=False)) == [b"", b"data: x\n\n", b":\n"]
    assert passage.is_clear


def test_a_head_that_was_sent_before_is_not_counted(pair: Any) -> None:
    pair[0].sendall(HEAD)
    passage = Passage(pair[0], is_chunked=True)
    server = Server(pair[0])
    server.is_headless = False
    assert run(passage, server) == [b"", b"data: x\n\n"]
    assert passage.is_clear


HOLDERS: dict[str, Callable[[bytes], bytes]] = {
    "one that holds everything back": lambda piece: b"",
    "one that compresses": lambda piece: zlib.compress(piece) if piece else b"",
    "one that adds something": lambda piece: piece + b"<!-- -->" if piece else b"",
    "one that leaves something out": lambda piece: piece[:-1],
}


@pytest.mark.parametrize("name", HOLDERS)
def test_middleware_that_is_not_transparent_is_found_out(pair: Any, name: str) -> None:
    passage = Passage(pair[0], is_chunked=True)
    given = run(passage, Server(pair[0], middleware=HOLDERS[name]))
    assert given == [b"", b"data: x\n\n", b":\n"]
    assert not passage.is_clear


def test_middleware_that_gives_what_it_held_with_the_probe_is_found_out(pair: Any) -> None:
    held: list[bytes] = []

    def late(piece: bytes) -> bytes:
        held.append(piece)
        return held[-2] if len(held) > 1 else b""

    passage = Passage(pair[0], is_chunked=True)
    run(passage, Server(pair[0], middleware=late))
    assert not passage.is_clear


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_server_that_frames_in_another_way_is_found_out(pair: Any, is_chunked: bool) -> None:
    """Flask's own sends chunks to clients of HTTP/1.0, and none without threads."""
    passage = Passage(pair[0], is_chunked=is_chunked)
    run(passage, Server(pair[0], frame=bytes if is_chunked else chunk))
    assert not passage.is_clear


def test_behind_tls_it_is_known_only_that_pieces_arrive(pair: Any) -> None:
    """A record is longer than what it holds; who frames it as what cannot be seen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate())
    below = pair[0].dup()
    with below, context.wrap_socket(pair[0], True, do_handshake_on_connect=False) as sock:

        def record(data: bytes) -> bytes:
            return b"R" * 22 + chunk(data)

        for is_held in (False, True):
            passage = Passage(sock, is_chunked=True)
            passage.look(gunicorn_start(chunked=True))
            middleware = HOLDERS["one that holds everything back"] if is_held else bytes
            run(passage, Server(below, frame=record, middleware=middleware))
            assert (passage.is_clear, passage.is_open) == (False, not is_held)
        passage = Passage(sock, is_chunked=True)
        passage.look(own_start)
        run(passage, Server(below, frame=record))
        assert not passage.is_open, "it may be middleware that makes it longer"


def test_what_is_proven_is_open_too(pair: Any) -> None:
    passage = Passage(pair[0], is_chunked=True)
    passage.look(own_start)
    assert not passage.is_open
    run(passage, Server(pair[0]))
    assert passage.is_open


def test_without_a_socket_nothing_is_known() -> None:
    passage = Passage(None, is_chunked=True)
    assert run(passage, lambda piece: None) == [b"", b"data: x\n\n"]
    assert not passage.is_clear


# where gunicorn counts


def gunicorn_start(
    *, chunked: bool, kind: type[GunicornResponse] = GunicornResponse
) -> Callable[..., object]:
    """``start_response`` of a gunicorn that is answering."""
    response = kind.__new__(kind)
    response.chunked, response.sent = chunked, 7
    return response.start_response


def gunicorn_write(start: Any, middleware: Callable[[bytes], bytes] = bytes) -> Any:
    """What that gunicorn does with a piece, as far as it is to be seen."""
    response = getattr(start, "func", start).__self__ if start is not own_start else None

    def write(piece: bytes) -> None:
        if response is not None:
            response.sent += len(middleware(piece))

    return write


def own_start(*args: object) -> None:
    """Middleware's."""


@pytest.mark.parametrize(
    ("start", "is_chunked", "is_clear"),
    [
        (gunicorn_start(chunked=True), True, True),
        (gunicorn_start(chunked=False), False, True),
        (gunicorn_start(chunked=True, kind=Answer), True, True),  # our worker's
        (gunicorn_start(chunked=False), True, False),  # uwsgi's protocol
        (own_start, True, False),
        (functools.partial(gunicorn_start(chunked=True)), True, False),
    ],
)
def test_gunicorns_count_is_believed_if_nobody_stands_before_it(
    start: Callable[..., object], is_chunked: bool, is_clear: bool
) -> None:
    ours, theirs = socket.socketpair()  # of which the kernel tells nothing
    with ours, theirs:
        passage = Passage(ours, is_chunked=is_chunked)
        passage.look(start)
        given = run(passage, gunicorn_write(start))
        assert given == ([b"data: x\n\n"] if is_clear else [b"", b"data: x\n\n"])
        assert passage.is_clear is is_clear


@pytest.mark.parametrize("name", HOLDERS)
def test_gunicorns_count_tells_of_middleware_too(name: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        start = gunicorn_start(chunked=True)
        passage = Passage(ours, is_chunked=True)
        passage.look(start)
        run(passage, gunicorn_write(start, HOLDERS[name]))
        assert not passage.is_clear


# who is called with the head


def seen_by(wrap: Callable[[Any], Any]) -> bool:
    """Whether the server's own function reaches an application behind ``wrap``."""
    seen: list[bool] = []

    def app(environ: object, start_response: Any) -> list[bytes]:
        seen.append(is_servers_own(start_response))
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "1")])
        return [b"x"]

    with serve(make_app(), wrap=lambda _: wrap(app)) as site, site.get("/") as client:
        assert client.read_all() == b"x"
    return seen[0]


def test_the_servers_own_function_is_known() -> None:
    assert is_servers_own(gunicorn_start(chunked=True))
    assert seen_by(lambda app: app)


class Middleware:
    """Stands before the server in the ways there are."""

    def __init__(self, start_response: Any) -> None:
        self.start_response = start_response

    def start(self, *args: Any) -> Any:
        return self.start_response(*args)

    __call__ = start


@pytest.mark.parametrize(
    "wrap",
    [
        lambda app: lambda env, start: app(env, lambda *args: start(*args)),
        lambda app: lambda env, start: app(env, functools.partial(start)),
        lambda app: lambda env, start: app(env, Middleware(start)),
        lambda app: lambda env, start: app(env, Middleware(start).start),
        lambda app: ProfilerMiddleware(app, stream=None),
        LintMiddleware,
    ],
)
def test_the_function_of_middleware_is_not_the_servers_even_if_it_is_werkzeugs(wrap: Any) -> None:
    assert not seen_by(wrap)
