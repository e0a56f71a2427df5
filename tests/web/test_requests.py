"""streaming/web/requests.py: what clients ask for over HTTP, parsed and checked."""

import io
import socket
from typing import Any

import pytest
from flask import Flask, request

from streaming import InvalidRequest, TooLarge
from streaming.errors import UnsupportedMediaType
from streaming.web.requests import check_parameters, last_seen, read_count, read_json
from tests.live.clients import read_head
from tests.polling import PATIENCE
from tests.sites import make_app, serve

app = Flask("x")


def read(body: bytes, *, kind: str | None = "application/json", limit: int = 100) -> Any:
    with app.test_request_context("/", method="POST", data=body, content_type=kind):
        return read_json(request, limit)


def test_a_json_object_is_read() -> None:
    assert read('{"a": "好", "b": [1]}'.encode()) == {"a": "好", "b": [1]}
    assert read(b"{}", kind="application/json; charset=utf-8") == {}
    assert read(b"{}", kind="application/vnd.api+json") == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"[]",
        b'"text"',
        b"7",
        b"null",
        b'{"a": "\xff"}',
        b"\xff\xfe\x00",
        b'{"a": 1} {"b": 2}',
        b"9" * 90,
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-16-le"),
        '{"a": 1}'.encode("utf-32"),
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(body)
    assert caught.value.status == 400
    assert str(caught.value)


def test_a_body_nested_too_deeply_or_with_a_number_too_long_is_refused() -> None:
    for body in (b'{"a":' * 100_000, b'{"a":' + b"9" * 100_000 + b"}"):
        with pytest.raises(InvalidRequest):
            read(body, limit=1_000_000)


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_of_another_type_is_refused(kind: str | None) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        read(b"{}", kind=kind)
    assert caught.value.status == 415


def test_a_body_over_the_limit_is_refused_and_one_at_the_limit_is_read() -> None:
    body = b'{"a":"' + b"x" * 92 + b'"}'
    assert len(body) == 100
    assert read(body) == {"a": "x" * 92}
    with pytest.raises(TooLarge) as caught:
        read(body + b" ")
    assert caught.value.status == 413


def test_a_body_that_does_not_say_its_length_is_limited_too() -> None:
    environ = {
        "wsgi.input": io.BytesIO(b'{"a":"' + b"x" * 1000 + b'"}'),
        "wsgi.input_terminated": True,
        "CONTENT_TYPE": "application/json",
        "REQUEST_METHOD": "POST",
        "HTTP_TRANSFER_ENCODING": "chunked",
    }
    environ = app.test_request_context("/").request.environ | environ
    with app.request_context(environ), pytest.raises(TooLarge):
        read_json(request, 100)


@pytest.mark.parametrize(
    ("url", "header", "seen"),
    [
        ("/", None, None),
        ("/", "", None),
        ("/?last_event_id=", None, None),
        ("/?last_event_id=e-1", None, "e-1"),
        ("/", "e-2", "e-2"),
        ("/?lastEventId=e-3", None, "e-3"),  # event-source-polyfill
        ("/?lastEventID=e-3", None, "e-3"),
        ("/?last-event-id=e-3", None, "e-3"),
        ("/?Last-Event-ID=e-3", None, "e-3"),
        ("/?last_event_id=e-1&lastEventId=e-3", None, "e-3"),  # a library adds its own behind
        ("/?lastEventId=e-3&last_event_id=", None, "e-3"),
        ("/?lastEventId=e-3", "e-4", "e-4"),
        ("/?last_event=e-3&id=e-3", None, None),
        ("/?last_event_id=e-1", "e-2", "e-2"),  # an EventSource that reconnects keeps its URL
    ],
)
def test_what_the_client_saw_last_is_in_the_header_or_the_url(
    url: str, header: str | None, seen: str | None
) -> None:
    headers = {} if header is None else {"Last-Event-ID": header}
    with app.test_request_context(url, headers=headers):
        assert last_seen(request) == seen


def check(query: str, known: tuple[str, ...] = ("channel", "last_event_id")) -> None:
    with app.test_request_context(f"/?{query}"):
        check_parameters(request, known, {"token"})


@pytest.mark.parametrize("query", ["", "channel=a&channel=b", "lastEventId=e-1&token=x", "token="])
def test_what_a_url_may_say_passes(query: str) -> None:
    check(query)


@pytest.mark.parametrize(
    "query", ["chanel=a", "channel=a&since=3", "lastEvent=e-1", "Token=x", "=x"]
)
def test_what_means_nothing_in_a_url_is_named_with_what_would(query: str) -> None:
    with pytest.raises(InvalidRequest, match=r"Unknown in the URL: '.* Known: channel, last_event"):
        check(query)


def test_many_unknown_parameters_with_long_names_make_a_short_error() -> None:
    with pytest.raises(InvalidRequest, match="and 298 more") as refused:
        check("&".join(f"{'x' * 500}{n}=1" for n in range(300)), ())
    assert len(str(refused.value)) < 300
    assert "no parameters" in str(refused.value)


def test_a_count_is_a_whole_number() -> None:
    assert read_count(None, "n") == 0
    assert read_count("0", "n") == 0
    assert read_count("999999", "n") == 999_999


@pytest.mark.parametrize("text", ["", "-1", "1.0", "1e3", " 1", "²", "٣", "1000000", "many", "\0"])
def test_a_count_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="'n' is a whole number"):
        read_count(text, "n")


@pytest.mark.parametrize(
    "rest", [b"zz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}XX0\r\n\r\n", b"-1\r\n\r\n", b"50\r\n{}"]
)
def test_a_body_in_chunks_that_are_none_is_the_clients_fault(rest: bytes) -> None:
    with serve(make_app()) as site:
        head = b"POST /streaming/channels/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
            connection.sendall(head + b"Content-Type: application/json\r\n\r\n" + rest)
            connection.shutdown(socket.SHUT_WR)
            assert read_head(connection)[0] == 400
