"""Behind an nginx that nobody has tuned: it buffers, and passes its own idea of Host upstream."""

import json
from collections.abc import Iterator

import pytest
import websocket

from tests.live.clients import RawClient, post_json
from tests.live.harness import gunicorn, nginx
from tests.live.server import Server
from tests.polling import PATIENCE

# Host is left as nginx makes it: the address of the upstream. Only the upgrade is passed on,
# without which no WebSocket works at all.
PROXY = """
    map $http_upgrade $connection_upgrade { default upgrade; "" ""; }
    gzip on;
    gzip_types text/event-stream application/x-ndjson;
    gzip_min_length 0;
    server {
        listen LISTEN;
        location / {
            proxy_pass UPSTREAM;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }
    }
"""
PUBLIC = "https://chat.example.org"


@pytest.fixture(scope="module")
def proxy() -> Iterator[Server]:
    """nginx in front of a demo that knows its public address."""
    with (
        gunicorn(extra_env={"STREAMING_ORIGINS": json.dumps([PUBLIC])}) as upstream,
        nginx(PROXY.replace("UPSTREAM", upstream.url)) as server,
    ):
        yield server


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_sse_arrives_event_by_event(proxy: Server, encoding: str) -> None:
    url = proxy.url + "/streaming/events?channel=news"
    with RawClient(url, headers={"Accept-Encoding": encoding}) as client:
        ready = client.next_event()
        assert ready is not None
        assert ready.event == "ready"
        for text in ("first", "second"):
            publish(proxy, text)
            event = client.next_event()  # packed or not, it does not wait for the next one
            assert event is not None
            assert event.data == text


def test_a_proxy_that_compresses_and_ignores_what_a_stream_says_shows_nothing() -> None:
    ignoring = PROXY.replace("proxy_http", "proxy_ignore_headers X-Accel-Buffering; proxy_http")
    with gunicorn() as upstream, nginx(ignoring.replace("UPSTREAM", upstream.url)) as proxy:
        url = proxy.url + "/streaming/events?channel=news"
        with pytest.raises(TimeoutError):  # not even a head
            RawClient(url, headers={"Accept-Encoding": "gzip"}, timeout=1)
        with RawClient(url) as client:
            assert client.next_event()


def test_ndjson_arrives_line_by_line(proxy: Server) -> None:
    url = proxy.url + "/streaming/events?channel=news"
    headers = {"Accept": "application/x-ndjson", "Accept-Encoding": "gzip"}
    with RawClient(url, headers=headers) as client:
        assert json.loads(client.read())["event"] == "ready"
        publish(proxy, "line")
        assert json.loads(client.read())["data"] == "line"


def test_a_typed_answer_arrives_piece_by_piece(proxy: Server) -> None:
    with RawClient(
        proxy.url + "/ask",
        method="POST",
        headers={"Content-Type": "application/json", "Accept-Encoding": "gzip"},
        body=b'{"question": "What is SSE?"}',
    ) as client:
        assert client.read()
        assert client.ending is None  # more is to come: the first piece did not wait for it


def test_a_client_that_leaves_the_proxy_leaves_the_upstream_too(proxy: Server) -> None:
    with RawClient(proxy.url + "/streaming/events?channel=news") as client:
        assert client.next_event() is not None
    # nginx closes its upstream connection, which the log of the upstream would show as trouble
    # if the server did not take it as a client that left


def test_a_websocket_from_the_public_address_is_accepted(proxy: Server) -> None:
    connection = websocket.create_connection(proxy.ws_url + "/ws", origin=PUBLIC, timeout=PATIENCE)
    assert connection.recv() == "Welcome to the WebSocket server!"
    connection.send("through the proxy")
    assert connection.recv() == "You said: through the proxy"
    connection.close()


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://chat.example.org", "https://chat.example.org.evil.example"],
)
def test_a_websocket_from_another_address_is_refused(proxy: Server, origin: str) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(proxy.ws_url + "/ws", origin=origin, timeout=PATIENCE)
    assert refused.value.status_code == 403


def test_an_unlisted_public_address_is_refused() -> None:
    with (
        gunicorn() as upstream,
        nginx(PROXY.replace("UPSTREAM", upstream.url)) as server,
        pytest.raises(websocket.WebSocketBadStatusException) as refused,
    ):
        websocket.create_connection(server.ws_url + "/ws", origin=PUBLIC, timeout=PATIENCE)
    assert refused.value.status_code == 403


def publish(server: Server, text: str) -> None:
    status, answer = post_json(server.url + "/streaming/channels/news", {"data": text})
    assert status == 201, answer
