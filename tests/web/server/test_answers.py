"""streaming/web/server/answers.py: environs as gunicorn makes them, answers in fewer packets."""

import io
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from gunicorn.glogging import Logger
from gunicorn.http import wsgi

from streaming.web.passage import GIVEN
from streaming.web.server.answers import Answer, Desk, PlainAnswers
from streaming.web.server.heads import PlainRequest, Reader
from tests.web.server.heads import BROWSER, PEER, configured, read_by_gunicorn

SERVER = ("127.0.0.1", 8000)
UNIX = "/run/app.sock"


class Wire:
    """A socket that remembers each thing it was given to send; it takes ``most`` bytes at once."""

    def __init__(self, most: int = 1 << 20) -> None:
        self.sent: list[bytes] = []
        self._most = most

    def send(self, data: bytes) -> int:
        self.sent.append(data[: self._most])
        return min(len(data), self._most)

    def sendall(self, data: bytes) -> None:
        self.sent.append(data)


def read(data: bytes = BROWSER, peer: Any = PEER) -> PlainRequest:
    request, _ = Reader(configured()).read(data, peer)
    assert request is not None
    return request


def answer(wire: Wire, data: bytes = BROWSER) -> Answer:
    return Answer(read(data), wire, configured())


@pytest.mark.parametrize(
    ("server", "peer"), [(SERVER, PEER), (("::1", 80, 0, 0), ("::1", 5, 0, 0)), (UNIX, "")]
)
@pytest.mark.parametrize(
    "data",
    [
        BROWSER,
        BROWSER.replace(b"example.com", b"example.com:8080"),
        BROWSER.replace(b"Host: example.com\r\n", b""),
        BROWSER.replace(b"Host: example.com", b"Host:"),
        BROWSER.replace(b"Accept", b"Content-Type"),
        BROWSER.replace(b"Accept-Encoding: gzip", b"X-Forwarded-Proto: https"),
        BROWSER.replace(b"/events", b"/app/%E4%2f%zz"),
    ],
)
@pytest.mark.parametrize("script_name", ["", "/app"])
def test_environs_are_as_gunicorn_makes_them(
    server: Any, peer: Any, data: bytes, script_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = configured(workers=2)
    monkeypatch.setenv("SCRIPT_NAME", script_name)
    if script_name and b" /app" not in data:
        data = data.replace(b" /", b" /app/")
    request, wire = read(data, peer), Wire()
    response, ours = Desk(cfg, server).create(request, wire)
    assert type(response) is Answer
    _, theirs = wsgi.create(read_by_gunicorn(cfg, data, peer), wire, peer, server, cfg)
    theirs["wsgi.multithread"] = True  # the gevent worker's own addition
    objects = {"wsgi.input", "wsgi.errors", "wsgi.early_hints"}
    assert ours.keys() == theirs.keys()
    assert {k: v for k, v in ours.items() if k not in objects} == {
        k: v for k, v in theirs.items() if k not in objects
    }
    assert ours["wsgi.input"].read() == b""


def test_each_request_has_an_environ_of_its_own() -> None:
    request, desk = read(), Desk(configured(), SERVER)
    (_, one), (_, two) = (desk.create(request, Wire()) for _ in range(2))
    one["HTTP_HOST"] = one["wsgi.version"] = "changed"
    assert two["HTTP_HOST"] == "example.com"
    assert desk.create(request, Wire())[1]["wsgi.version"] == (1, 0)


def test_a_request_that_a_hook_has_seen_is_gunicorns_again() -> None:
    def hook(worker: object, req: Any) -> None:
        """May change anything."""

    request = read()
    request.headers += [("X-FORWARDED-FOR", "1"), ("X-FORWARDED-FOR", "2"), ("SCRIPT_NAME", "/e")]
    _, environ = Desk(configured(pre_request=hook), SERVER).create(request, Wire())
    assert environ["HTTP_X_FORWARDED_FOR"] == "1,2"
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/e", "vents")
    assert environ["wsgi.multithread"] is True


def test_a_stream_begins_with_one_packet() -> None:
    wire = Wire()
    response = answer(wire)
    response.start_response("200 OK", [("Content-Type", "text/event-stream")])
    response.write(b"first")
    (packet,) = wire.sent
    head, _, body = packet.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Transfer-Encoding: chunked" in head.split(b"\r\n")
    assert body == b"5\r\nfirst\r\n"
    response.write(b"second")
    response.close()
    assert wire.sent[1:] == [b"6\r\nsecond\r\n", b"0\r\n\r\n"]
    assert response.sent == len(b"firstsecond")


@pytest.mark.parametrize("is_given", [False, True])
def test_to_a_connection_that_was_given_away_nothing_is_written(is_given: bool) -> None:
    wire, environ = Wire(), dict[str, Any](Desk(configured(), SERVER).create(read(), Wire())[1])
    response, worker = answer(wire), PlainAnswers.__new__(PlainAnswers)
    worker.log = Logger(configured())

    def pieces() -> Iterator[bytes]:
        yield b"first"
        environ[GIVEN] = is_given

    response.start_response("200 OK", [("Content-Type", "text/event-stream")])
    worker._send(pieces(), response, environ, datetime.now())
    assert b"".join(wire.sent).endswith(b"first\r\n" if is_given else b"first\r\n0\r\n\r\n")
    assert response.should_close() is is_given, "nor is there another request on it"


def test_a_page_is_one_packet() -> None:
    wire = Wire()
    response = answer(wire)
    response.start_response("200 OK", [("Content-Length", "4")])
    response.write(b"page")
    response.close()
    (packet,) = wire.sent
    assert packet.endswith(b"\r\n\r\npage")
    assert response.sent == 4


@pytest.mark.parametrize("most", [1, 50, 400])
def test_what_the_kernel_does_not_take_at_once_follows(most: int) -> None:
    wires = Wire(), Wire(most)
    for wire in wires:
        response = answer(wire)
        response.start_response("200 OK", [("Content-Length", "500")])
        response.write(b"x" * 500)
    assert b"".join(wires[0].sent) == b"".join(wires[1].sent)


@pytest.mark.parametrize(
    ("method", "status", "headers", "pieces", "body"),
    [
        (b"HEAD", "200 OK", [("Content-Length", "4")], [b"page"], b""),
        (b"HEAD", "200 OK", [], [b"page"], b""),
        (b"GET", "204 No Content", [], [b"page"], b""),
        (b"GET", "304 Not Modified", [("Content-Length", "4")], [b"page"], b""),
        (b"GET", "200 OK", [("Content-Length", "2")], [b"page"], b"pa"),
        (b"GET", "200 OK", [("Content-Length", "6")], [b"page", b"page"], b"pagepa"),
        (b"GET", "200 OK", [("Content-Length", "0")], [b""], b""),
        (b"GET", "200 OK", [], [b""], b"0\r\n\r\n"),
        (b"GET", "200 OK", [], [], b"0\r\n\r\n"),
    ],
)
def test_a_body_is_not_longer_than_it_may_be(
    method: bytes, status: str, headers: list[Any], pieces: list[bytes], body: bytes
) -> None:
    wire = Wire()
    response = answer(wire, BROWSER.replace(b"GET", method))
    response.start_response(status, headers)
    for piece in pieces:
        response.write(piece)
    response.close()
    assert b"".join(wire.sent).partition(b"\r\n\r\n")[2] == body


def test_a_head_cannot_be_split_by_a_value() -> None:
    for header in (("X-A", "1\r\nX-B: 2"), ("X-A", "1\n"), ("X-A\r\n", "1"), ("X-A", "\0")):
        with pytest.raises(Exception, match=r"(?i)header"):
            answer(Wire()).start_response("200 OK", [header])
    for status in ("200 OK\r\nX-B: 2", "200 OK\n"):
        wire = Wire()
        response = answer(wire)
        with pytest.raises(ValueError, match="status"):  # noqa: PT012 - gunicorn 27 sees it at once
            response.start_response(status, [])
            response.write(b"page")
        assert wire.sent == []


def test_errors_go_to_the_log_as_it_is_when_they_are_written(tmp_path: Path) -> None:
    cfg = configured(errorlog=str(tmp_path / "error.log"))
    log = Logger(cfg)
    try:
        _, environ = Desk(cfg, SERVER).create(read(), Wire())
        environ["wsgi.errors"].write("before\n")
        (tmp_path / "error.log").rename(tmp_path / "error.log.1")
        log.reopen_files()
        print("after", file=environ["wsgi.errors"], flush=True)
    finally:
        for handler in log.error_log.handlers:
            handler.close()
        log.error_log.handlers.clear()
    assert (tmp_path / "error.log.1").read_text() == "before\n"
    assert (tmp_path / "error.log").read_text() == "after\n"
    assert isinstance(environ["wsgi.errors"], io.IOBase)
