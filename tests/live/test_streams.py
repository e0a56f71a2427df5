"""The blueprint's streams against clients of other people, on both servers."""

import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websocket
from httpx_sse import ServerSentEvent, connect_sse

from tests.live.clients import RawClient, post_json
from tests.live.harness import flask_run, gunicorn
from tests.live.raw_websocket import PING, PONG, RawWebSocket
from tests.live.server import Server
from tests.polling import PATIENCE, wait_until

SUBPROTOCOL = "streaming.v1.json"
# httpx reads the system's certificates for every client otherwise, which takes longer than a test
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that has answers wait in the middle, while it is there."""
    return tmp_path_factory.mktemp("held") / "here"


@pytest.fixture(scope="module", params=["gunicorn", "flask run"])
def server(request: pytest.FixtureRequest, held: Path) -> Iterator[Server]:
    """The demo, in which no heartbeat finds out within a test's patience who has left."""
    env = {"STREAMING_HEARTBEAT": "60", "HELD": str(held)}
    start = gunicorn if request.param == "gunicorn" else flask_run
    with start("tests.live.held_app:app", extra_env=env) as running:
        yield running


@contextmanager
def listening(
    server: Server, *channels: str, after: str | None = None, **query: Any
) -> Iterator[Iterator[ServerSentEvent]]:
    """The events of the channels, read by httpx-sse."""
    headers = {} if after is None else {"Last-Event-ID": after}
    params = {"channel": list(channels), **query}
    with (
        httpx.Client(timeout=PATIENCE, verify=NO_TLS) as client,
        connect_sse(
            client, "GET", server.url + "/streaming/events", params=params, headers=headers
        ) as source,
    ):
        source.response.raise_for_status()
        yield source.iter_sse()


@contextmanager
def socket(server: Server) -> Iterator[Any]:
    """A WebSocket connection that has been welcomed."""
    connection: Any = websocket.create_connection(
        server.ws_url + "/streaming/ws", subprotocols=[SUBPROTOCOL], timeout=PATIENCE
    )
    try:
        assert connection.getsubprotocol() == SUBPROTOCOL
        assert json.loads(connection.recv())["type"] == "welcome"
        yield connection
    finally:
        connection.close()


def publish(server: Server, data: str, channel: str = "news", **more: str) -> str:
    """Publish over HTTP and return the message's id."""
    url = f"{server.url}/streaming/channels/{channel}"
    status, answer = post_json(url, {"data": data, **more})
    assert status == 201, answer
    assert answer["channel"] == channel
    return str(answer["id"])


def test_a_stream_says_that_it_is_ready_and_then_what_is_published(server: Server) -> None:
    with listening(server, "news") as events:
        ready = next(events)
        assert (ready.event, json.loads(ready.data)) == ("ready", {"channels": ["news"]})
        assert ready.id
        for data in ("first", "two\nlines", "", "  spaces ", "你好 👋\u2028still one line"):
            id = publish(server, data)
            event = next(events)
            assert (event.event, event.data, event.id) == ("message", data, id)
        publish(server, "named", event="weather")
        assert next(events).event == "weather"


def test_headers_are_those_of_a_stream(server: Server) -> None:
    with RawClient(server.url + "/streaming/events?channel=news") as client:
        assert client.headers["content-type"].startswith("text/event-stream")
        assert client.headers["cache-control"] == "no-cache, no-transform"
        assert client.headers["x-accel-buffering"] == "no"


def test_a_stream_resumes_after_the_last_event_id(server: Server) -> None:
    ids = [publish(server, f"message {n}") for n in range(5)]
    with listening(server, "news", after=ids[1]) as events:
        assert next(events).event == "ready"
        assert [next(events).id for _ in ids[2:]] == ids[2:]
        live = publish(server, "live")
        assert next(events).id == live
    with listening(server, "news", last_event_id=ids[3]) as events:
        assert next(events).event == "ready"
        assert [next(events).id for _ in range(2)] == [ids[4], live]


def test_the_ready_events_id_resumes_too(server: Server) -> None:
    with listening(server, "news") as events:
        start = next(events).id
    missed = publish(server, "while away")
    with listening(server, "news", after=start) as events:
        assert next(events).event == "ready"
        assert next(events).id == missed


def test_one_id_resumes_several_channels(server: Server) -> None:
    with listening(server, "news", "chat") as events:
        assert json.loads(next(events).data) == {"channels": ["news", "chat"]}
        publish(server, "n1")
        publish(server, "c1", channel="chat")
        seen = [next(events) for _ in range(2)]
        assert {event.data for event in seen} == {"n1", "c1"}
        last = seen[-1].id
    publish(server, "n2")
    publish(server, "c2", channel="chat")
    with listening(server, "news", "chat", after=last) as events:
        assert next(events).event == "ready"
        assert {next(events).data for _ in range(2)} == {"n2", "c2"}


def test_history_begins_with_the_newest_messages(server: Server) -> None:
    ids = [publish(server, f"message {n}") for n in range(5)]
    with listening(server, "news", history=3) as events:
        assert next(events).event == "ready"
        assert [next(events).id for _ in range(3)] == ids[-3:]


def test_an_id_of_a_lost_past_is_answered_with_a_gap(server: Server) -> None:
    epoch, _, offset = publish(server, "here").rpartition("-")
    stranger = f"{epoch[::-1] if epoch != epoch[::-1] else epoch + '0'}-{offset}"
    with listening(server, "news", after=stranger) as events:
        kinds = [next(events), next(events)]
    gap = next(event for event in kinds if event.event == "gap")
    told = json.loads(gap.data)
    assert set(told) == {"channel", "requested", "oldest", "newest"}
    assert (told["channel"], told["requested"]) == ("news", stranger)


@pytest.mark.parametrize("value", ["nonsense", "'; drop table", "-", "a-b"])
def test_an_unreadable_last_event_id_is_refused(server: Server, value: str) -> None:
    url = server.url + "/streaming/events"
    response = httpx.get(
        url,
        params={"channel": "news"},
        headers={"Last-Event-ID": value},
        timeout=PATIENCE,
        verify=NO_TLS,
    )
    assert_problem(response, 400)


def test_the_same_id_resumes_on_every_transport(server: Server) -> None:
    start = publish(server, "start")
    missed = [publish(server, f"missed {n}") for n in range(3)]
    with listening(server, "news", after=start) as events:
        next(events)
        assert [next(events).id for _ in missed] == missed
    url = server.url + "/streaming/events"
    headers = {"Accept": "application/x-ndjson", "Last-Event-ID": start}
    with httpx.stream(
        "GET", url, params={"channel": "news"}, headers=headers, timeout=PATIENCE, verify=NO_TLS
    ) as response:
        assert response.headers["content-type"].startswith("application/x-ndjson")
        lines = (json.loads(line) for line in response.iter_lines() if line)
        assert next(lines)["event"] == "ready"
        assert [next(lines)["id"] for _ in missed] == missed
    with socket(server) as connection:
        connection.send(json.dumps({"type": "subscribe", "channel": "news", "after": start}))
        assert json.loads(connection.recv())["type"] == "ready"
        assert [json.loads(connection.recv())["id"] for _ in missed] == missed


def test_a_message_is_the_same_on_every_transport(server: Server) -> None:
    with listening(server, "chat") as events, socket(server) as connection:
        next(events)
        connection.send(json.dumps({"type": "subscribe", "channel": "chat", "ref": "s"}))
        ready = json.loads(connection.recv())
        assert (ready["type"], ready["channel"], ready["ref"]) == ("ready", "chat", "s")
        frame = {"type": "publish", "channel": "chat", "data": "over WebSocket", "ref": "p"}
        connection.send(json.dumps(frame))
        frames = [json.loads(connection.recv()) for _ in range(2)]
        ack = next(frame for frame in frames if frame["type"] == "ack")
        message = next(frame for frame in frames if frame["type"] == "message")
        event = next(events)
        assert ack["ref"] == "p"
        assert ack["id"] == message["id"] == event.id
        assert message["data"] == event.data == "over WebSocket"


def test_a_repeated_key_is_published_once(server: Server) -> None:
    with listening(server, "news") as events:
        next(events)
        own = {"key": "key-1", "secret": "of this publisher"}
        first = publish(server, "once", **own)
        assert publish(server, "once", **own) == first
        assert publish(server, "not mine", key="key-1", secret="of another publisher") != first
        publish(server, "end")
        assert [next(events).data for _ in range(3)] == ["once", "not mine", "end"]


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
def test_a_client_that_leaves_is_noticed_without_a_heartbeat(
    server: Server, accept: str, leave: str
) -> None:
    wait_until(lambda: not clients(server), "an empty registry")
    quiet = "/streaming/events?channel=nobody-publishes-here"
    stream = RawClient(server.url + quiet, headers={"Accept": accept})
    stream.read()
    wait_until(lambda: len(clients(server)) == 1, "the client in the registry")
    getattr(stream, leave)()
    wait_until(lambda: not clients(server), "its absence from the registry")


def test_a_websocket_that_breaks_off_is_noticed_without_a_ping(server: Server) -> None:
    wait_until(lambda: not clients(server), "an empty registry")
    with socket(server) as connection:
        assert [each["transport"] for each in clients(server)] == ["websocket"]
        connection.sock.close()
        wait_until(lambda: not clients(server), "its absence from the registry")


def test_an_answer_whose_reader_has_left_is_given_up(server: Server, held: Path) -> None:
    wait_until(lambda: not clients(server), "an empty registry")
    held.touch()  # it does not come to its end
    headers, body = {"Content-Type": "application/json"}, b'{"question": "What is SSE?"}'
    try:
        with RawClient(server.url + "/ask", method="POST", headers=headers, body=body) as reader:
            assert reader.read()
            wait_until(lambda: len(clients(server)) == 1, "the reader in the registry")
        wait_until(lambda: not clients(server), "its absence from the registry")
    finally:
        held.unlink()


def test_silence_is_broken_by_heartbeats() -> None:
    url = "/streaming/events?channel=nobody-publishes-here"
    with gunicorn(extra_env={"STREAMING_HEARTBEAT": "0.3"}) as server:
        with RawClient(server.url + url) as stream:
            assert read_lines(stream, 6)[-2:] == [b":", b":"]
        with RawClient(server.url + url, headers={"Accept": "application/x-ndjson"}) as stream:
            ready, *silence = read_lines(stream, 3)
            assert b'"ready"' in ready
            assert silence == [b"", b""]
        with RawWebSocket(server) as connection:
            assert connection.read_json()["type"] == "welcome"
            for _ in range(2):
                ping = connection.read()
                assert ping.opcode == PING
                connection.send(PONG, ping.payload)


def read_lines(stream: RawClient, count: int) -> list[bytes]:
    """The first so many lines, however many of them come at once."""
    body = b""
    while body.count(b"\n") < count:
        piece = stream.read()
        assert piece, body
        body += piece
    return body.split(b"\n")[:count]


@pytest.mark.parametrize("channel", ["", "a b", "ä", "a/b", "x" * 129])
def test_an_illegal_channel_name_is_refused(server: Server, channel: str) -> None:
    response = httpx.get(
        server.url + "/streaming/events",
        params={"channel": channel},
        timeout=PATIENCE,
        verify=NO_TLS,
    )
    assert_problem(response, 400)


def test_bad_requests_get_a_problem_and_nobody_else_notices(server: Server) -> None:
    channels = server.url + "/streaming/channels"
    as_json = {"Content-Type": "application/json"}
    with httpx.Client(timeout=PATIENCE, verify=NO_TLS) as http, listening(server, "news") as events:
        next(events)
        assert_problem(http.get(server.url + "/nowhere"), 404)
        assert_problem(http.delete(server.url + "/streaming/events"), 405)
        assert_problem(http.get(server.url + "/streaming/events"), 400)
        assert_problem(http.post(channels + "/news", content=b"{", headers=as_json), 400)
        assert_problem(http.post(channels + "/news", content=b"\xff", headers=as_json), 400)
        assert_problem(http.post(channels + "/news", json={}), 400)
        assert_problem(http.post(channels + "/news", json={"data": 7}), 400)
        assert_problem(http.post(channels + "/news", json=["data"]), 400)
        assert_problem(http.post(channels + "/news", json={"data": "x", "event": "a\nb"}), 400)
        assert_problem(http.post(channels + "/private", json={"data": "x"}), 403)
        assert_problem(http.post(channels + "/news", json={"data": "x" * 20_000_000}), 413)
        for body in ({}, {"question": ""}, {"question": "  "}, {"question": 7}, ["question"]):
            assert_problem(http.post(server.url + "/ask", json=body), 400)
        assert_problem(http.post(server.url + "/ask", content=b"{", headers=as_json), 400)
        assert_problem(http.get(server.url + "/ask"), 405)
        publish(server, "still here")
        assert next(events).data == "still here"


def test_an_answer_comes_as_text_lines_or_events(server: Server) -> None:
    url, question = server.url + "/ask", {"question": "What is SSE?"}

    def answer(accept: str) -> httpx.Response:
        return httpx.post(url, json=question, headers={"Accept": accept}, timeout=60, verify=NO_TLS)

    # one answer takes as long as typing it: ask in parallel
    with ThreadPoolExecutor(4) as pool:
        anything, text, lines, events = pool.map(
            answer, ["*/*", "text/plain", "application/x-ndjson", "text/event-stream"]
        )
    assert text.headers["content-type"].startswith("text/plain")
    assert len(text.text) > 100
    assert anything.text == text.text
    objects = [json.loads(line) for line in lines.text.split("\n") if line]
    assert objects[-1] == {"event": "close", "data": "{}"}
    said = [each["data"] for each in objects if each["event"] == "text"]
    assert "".join(said) == text.text
    assert len(said) > 10
    assert events.text.endswith("event: close\ndata: {}\n\n")


def clients(server: Server) -> list[dict[str, Any]]:
    with RawClient(server.url + "/clients") as client:
        assert client.status == 200
        return list(client.json()["clients"])


def assert_problem(response: httpx.Response, status: int) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    problem = response.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
