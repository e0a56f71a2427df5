"""streaming/web/refusals.py: errors as problems, and in streams where a status would be final."""

import json
from collections.abc import Callable

import pytest
from flask import Flask, Response
from werkzeug.test import TestResponse

from streaming import (
    SSE,
    Connection,
    HubClosed,
    InvalidMessage,
    LogUnavailable,
    Sock,
    Streaming,
    stream,
)
from streaming.clients.budgets import NOBODY
from streaming.errors import StreamingError, TooManyClients, TooMuch
from tests.live.clients import SseReader
from tests.live.raw_websocket import handshake
from tests.sites import make_app, serve

EVENTS = {"Accept": "text/event-stream"}
LINES = {"Accept": "application/x-ndjson"}


@pytest.fixture
def full_app() -> Flask:
    """An application that has as many clients as it takes."""
    app = make_app(clients=1)
    app.extensions["streaming"].registry._places.take(NOBODY)
    return app


def check_restart(answer: TestResponse, title: str = "") -> int:
    """The stream's one event says to come back; the milliseconds after which."""
    assert answer.status_code == 200
    assert answer.mimetype == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-cache, no-transform"
    (event,) = SseReader().feed(answer.data)
    assert (event.event, event.id) == ("restart", None)
    assert event.json().get("title", "") == title
    assert event.retry is not None
    return event.retry


@pytest.mark.parametrize("headers", [EVENTS, {"Accept": "*/*"}, {}])
def test_an_event_source_that_finds_a_full_server_is_told_to_come_back(
    headers: dict[str, str], full_app: Flask
) -> None:
    client = full_app.test_client()
    waits = {
        check_restart(
            client.get("/streaming/events?channel=a", headers=headers), "Too many clients"
        )
        for _ in range(20)
    }
    assert all(2500 <= wait <= 12_000 for wait in waits)
    assert len(waits) > 5  # they do not come back all at once


def test_another_format_of_a_full_server_is_503_with_when_to_try_again(full_app: Flask) -> None:
    client = full_app.test_client()
    answer = client.get("/streaming/events?channel=a", headers=LINES)
    assert answer.status_code == 503
    assert answer.content_type == "application/problem+json"
    assert 5 <= int(answer.headers["Retry-After"]) <= 8


def test_a_view_that_follows_channels_refuses_like_the_route(full_app: Flask) -> None:
    app = full_app
    streaming = Streaming()
    app.add_url_rule("/mine", view_func=lambda: streaming.events("a"))
    client = app.test_client()
    check_restart(client.get("/mine"), "Too many clients")
    check_restart(client.get("/mine", headers=EVENTS), "Too many clients")
    assert client.get("/mine", headers=LINES).status_code == 503


def test_an_answer_in_events_of_a_full_server_is_refused_so_that_it_is_asked_for_again(
    full_app: Flask,
) -> None:
    app = full_app
    app.add_url_rule("/answer", "answer", lambda: stream(["x"], form=SSE), methods=["GET", "POST"])
    client = app.test_client()
    check_restart(client.get("/answer", headers=EVENTS), "Too many clients")
    assert client.post("/answer", headers=EVENTS).status_code == 503  # no EventSource posts
    assert client.get("/answer").status_code == 503


@pytest.mark.parametrize("headers", [EVENTS, {}])
def test_an_event_source_that_meets_a_drain_is_told_to_come_back(headers: dict[str, str]) -> None:
    with serve(make_app()) as site:
        site.state.close()
        with site.get("/streaming/events?channel=a", headers=headers) as client:
            assert client.status == 200
            (event,) = client.events()
            assert (event.event, event.data) == ("restart", "{}")
            assert 1000 <= (event.retry or 0) <= 3000


@pytest.mark.parametrize("headers", [EVENTS, {}])
def test_an_event_source_that_meets_a_log_that_is_away_is_told_to_come_back(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(make_app()) as site:

        def fail(*_: object, **__: object) -> None:
            raise LogUnavailable("/srv/secret.db is away.")

        monkeypatch.setattr(site.state.hub.log, "tail", fail)
        with site.get("/streaming/events?channel=a", headers=headers) as client:
            assert client.status == 200
            (event,) = client.events()
            assert event.event == "restart"
            assert event.json()["title"] == "Log unavailable"
            assert "secret" not in (event.data or "")
            assert event.retry


@pytest.mark.parametrize(
    ("error", "title"),
    [
        (LogUnavailable("/srv/secret.db"), "Log unavailable"),
        (HubClosed(), ""),
        (TooManyClients("full"), "Too many clients"),
        (TooMuch("too often", 1.0), "Too much"),
    ],
)
def test_what_passes_is_told_in_a_stream_wherever_an_event_source_asks(
    error: StreamingError, title: str
) -> None:
    app = make_app()

    def fail() -> Response:
        raise error

    app.add_url_rule("/view", "view", fail)
    client = app.test_client()
    answer = client.get("/view", headers=EVENTS)
    check_restart(answer, title)
    assert b"secret" not in answer.data
    for others in (EVENTS | LINES, {"Accept": "text/html"}):
        assert client.get("/view", headers=others).status_code == error.status
    assert client.head("/view", headers=EVENTS).status_code == 200


def test_what_does_not_pass_stays_final_for_an_event_source() -> None:
    client = make_app(authorize=lambda *_: False).test_client()
    assert client.get("/streaming/events?channel=a", headers=EVENTS).status_code == 403
    assert client.get("/streaming/events?channel=a b", headers=EVENTS).status_code == 400


def mistaken(call: Callable[[Streaming], object]) -> tuple[Flask, Streaming]:
    app = make_app()
    streaming = Streaming()
    app.add_url_rule("/view", "view", lambda: str(call(streaming)))
    return app, streaming


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda s: s.publish("not a channel", "x"), "'not a channel' is not a channel name"),
        (lambda s: s.publish("a", "\ud800"), "half of a surrogate pair"),
        (lambda s: s.publish("a", b"x"), "A message is text or JSON, not bytes"),
        (lambda s: s.publish("a", {1, 2}), "set is not JSON serializable"),
        (lambda s: s.publish("a", "x", event="ready"), "'ready' is used by the stream"),
        (lambda s: s.publish("a", "x", key=""), "idempotency key"),
        (lambda s: s.members("no room"), "'no room' is not a channel name"),
        (lambda s: s.join("no room", "bot"), "'no room' is not a channel name"),
        (lambda s: s.join("a", ""), "The id of a member is a text"),
        (lambda s: s.leave("no room", "bot"), "'no room' is not a channel name"),
        (lambda s: s.subscribe("no channel"), "'no channel' is not a channel name"),
        (lambda s: s.subscribe("a", after="no id"), "'no id' is not a cursor"),
        (lambda s: s.events("no channel"), "'no channel' is not a channel name"),
        (lambda s: s.events(["a", "b"]), "['a', 'b'] is not a channel name"),
        (lambda s: s.events("a", history="10"), "history is '10'; it is a number"),
        (lambda s: s.events("a", history=-1), "history is -1"),
        (lambda s: s.events(), "0 channels asked for"),
        (lambda s: s.events(*map(str, range(33))), "33 channels asked for"),
    ],
)
def test_a_mistake_of_the_application_is_a_500_with_its_reason_in_the_log_alone(
    call: Callable[[Streaming], object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, _ = mistaken(call)
    for headers in ({}, EVENTS):
        caplog.clear()
        answer = app.test_client().get("/view", headers=headers)
        assert answer.status_code == 500
        assert reason not in answer.text
        assert reason in caplog.text
        assert "Traceback" in caplog.text


def test_a_mistake_of_the_application_is_raised_in_its_tests_and_answered_by_its_own_page() -> None:
    app, _ = mistaken(lambda streaming: streaming.publish("not a channel", "x"))
    app.register_error_handler(500, lambda error: ("Our own page.", 500))
    assert app.test_client().get("/view").text == "Our own page."
    app.testing = True
    with pytest.raises(Exception, match="is not a channel name"):
        app.test_client().get("/view")


def test_what_a_client_sent_is_its_own_mistake_in_a_view_of_the_application_too() -> None:
    app = make_app()
    streaming = Streaming()
    app.add_url_rule("/view", "view", lambda: streaming.events("a"))
    answer = app.test_client().get("/view", headers={"Last-Event-ID": "what is this"})
    assert (answer.status_code, answer.get_json(force=True)["title"]) == (400, "Unreadable cursor")


def test_a_text_over_the_limit_is_the_visitors() -> None:
    app, _ = mistaken(lambda streaming: streaming.publish("a", "x" * 2_000_000))
    assert app.test_client().get("/view").status_code == 413


def test_a_view_may_still_catch_what_cannot_be_sent() -> None:
    app = make_app()
    streaming = Streaming()

    def view() -> str:
        try:
            streaming.publish("not a channel", "x")
        except InvalidMessage as error:
            return f"caught: {error}"
        return "sent"

    app.add_url_rule("/view", "view", view)
    assert "is not a channel name" in app.test_client().get("/view").text


@pytest.mark.parametrize("is_open", [False, True])
def test_a_mistake_over_a_websocket_is_not_told_to_the_visitor(is_open: bool) -> None:
    app = make_app()
    streaming = Streaming()

    def own(ws: Connection) -> None:
        if is_open:
            ws.open()
        streaming.publish("not a channel", "x")

    Sock(app).route("/own")(own)
    with serve(app, expect_errors=not is_open) as site:
        if not is_open:
            status, _, body = site.raw(handshake(site, "/own"))  # type: ignore[arg-type]
            assert (status, b"not a channel" in body) == (500, False)
            return
        with site.chat("/own") as ws:
            opcode, data = ws.recv_data(control_frame=True)
            assert (opcode, int.from_bytes(data[:2])) == (8, 1011)
            assert b"not a channel" not in data


def test_no_error_says_back_more_than_a_little_of_what_a_peer_sent() -> None:
    client = make_app().test_client()
    long = "y" * 100_000
    answers = [
        client.get(f"/streaming/events?channel={long}"),
        client.get(f"/streaming/events?channel=a&last_event_id={long}"),
        client.get(f"/streaming/events?channel=a&history={long}"),
        client.get(f"/streaming/events?channel=a&{long}=1"),
        client.get("/streaming/events?channel=a", headers={"Last-Event-ID": long}),
        client.get(f"/streaming/presence/{long}"),
        client.post(f"/streaming/channels/{long}", json={"data": "x"}),
        client.post("/streaming/channels/a", json={"data": "x", long: 1}),
        client.post("/streaming/channels/a", json={"data": "x", "event": long}),
        client.post("/streaming/channels/a", json={"data": "x", "key": long}),
        client.post("/streaming/channels/a", data=long, content_type="application/json"),
    ]
    for answer in answers:
        assert answer.status_code == 400
        assert answer.text.count("y") < 130, answer.text
        assert json.loads(answer.data)["detail"]


def test_a_json_connection_says_back_little_of_what_it_was_sent() -> None:
    with serve(make_app(frame_size=4_000_000)) as site, site.json() as client:
        long = "y" * 100_000
        for frame in (
            {"type": long},
            {"type": "subscribe", "channel": long},
            {"type": "unsubscribe", "channel": long},
            {"type": "leave", "channel": long},
            {"type": "join", "channel": long},
            {"type": "publish", "channel": "a", "data": "x", "event": long},
            {"type": "subscribe", "channel": "a", "after": long},
        ):
            answer = client.ask(**frame)
            assert answer["type"] == "error"
            assert len(answer["detail"]) <= 400
