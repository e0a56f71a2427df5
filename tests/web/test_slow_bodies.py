"""A body that does not come is given up; under gunicorn see ``tests/live/test_slow_bodies.py``."""

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from unittest import mock

import pytest
from flask import request

from streaming.clients import intake
from streaming.web.requests import read_json
from tests.greenlets import is_green, run_file
from tests.live.clients import RawClient, read_head
from tests.polling import PATIENCE
from tests.sites import PLAIN, Site, Way, make_app, serve, trusting

HEAD = "Host: x\r\nContent-Type: application/json\r\n"
WAYS = [PLAIN, Way("TLS", tls=True)]


@pytest.fixture
def hurry() -> Iterator[None]:
    """Nobody has much time."""
    with mock.patch.multiple(intake, GRACE=0.2, LOOK=0.05):
        yield


def post(site: Site, path: str, fields: str, body: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE)
    if site.way.tls:
        connection = trusting().wrap_socket(connection)
    connection.sendall(f"POST {path} HTTP/1.1\r\n{HEAD}{fields}\r\n\r\n".encode() + body)
    return connection


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ("Content-Length: 100", b""),
        ("Content-Length: 100", b'{"data": '),
        ("Transfer-Encoding: chunked", b""),
        ("Transfer-Encoding: chunked", b"2\r\n{}\r\n"),
    ],
)
@pytest.mark.parametrize("path", ["/streaming/channels/a", "/own"])
def test_a_body_that_does_not_come_is_given_up(
    hurry: None, way: Way, path: str, fields: str, body: bytes
) -> None:
    app = make_app(way=way)
    app.post("/own")(lambda: read_json(request, 1000))
    with serve(app, way=way) as site, post(site, path, fields, body) as connection:
        if way.tls:  # it cannot say anything where it was cut off from reading
            with pytest.raises((OSError, AssertionError)):
                read_head(connection)
            assert site.state.hub.log.tail("a").is_mark, "nothing was published"
            return
        status, headers, start = read_head(connection)
        assert status == 408
        assert headers["content-type"] == "application/problem+json"
        problem = start + b"".join(iter(lambda: connection.recv(4096), b""))
        assert json.loads(problem)["title"] == "Too slow"
        assert site.state.hub.log.tail("a").is_mark, "nothing was published"


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_body_that_comes_in_drops_is_given_up(hurry: None, way: Way) -> None:
    with (
        serve(make_app(way=way), way=way) as site,
        post(site, "/streaming/channels/a", "Content-Length: 100000") as connection,
    ):
        if way.tls:
            with pytest.raises(OSError, match=r"alert|EOF|reset|pipe"):
                drip(connection, b" ", times=1000)
        else:
            assert drip(connection, b" ", times=1000).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_comes_steadily_may_take_long() -> None:
    text = json.dumps({"data": "x" * 5000}).encode()
    fields = f"Content-Length: {len(text)}"
    with (
        mock.patch.multiple(intake, GRACE=PATIENCE, RATE=500 / PATIENCE, LOOK=0.05),
        serve(make_app()) as site,
        post(site, "/streaming/channels/a", fields, text[:-5000]) as connection,
    ):
        connection.sendall(b"x" * 500)
        with mock.patch.object(intake, "GRACE", 0.1):  # what has come has bought it the rest
            assert not drip(connection, b"x" * 500, times=8)
        connection.sendall(text[-500:])
        assert read_head(connection)[0] == 201


def drip(connection: socket.socket, drop: bytes, *, times: int) -> bytes:
    """Send a drop now and then, until there is an answer."""
    connection.settimeout(0.04)
    for _ in range(times):
        try:
            connection.sendall(drop)
        except ConnectionError:  # it was closed behind the answer, which lies here
            if isinstance(connection, ssl.SSLSocket):
                raise
        with suppress(TimeoutError):
            return connection.recv(4096)
    connection.settimeout(PATIENCE)
    return b""


def test_a_connection_with_a_body_that_did_not_come_is_closed(hurry: None) -> None:
    with serve(make_app()) as site:
        with post(site, "/streaming/channels/a", "Content-Length: 100") as connection:
            assert read_head(connection)[0] == 408
            while connection.recv(4096):
                pass
        with RawClient(f"{site.url}/streaming/readyz") as client:
            assert client.status == 200


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
