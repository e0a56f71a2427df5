"""streaming/web/routes.py: the blueprint that every application serves."""

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from streaming import LogUnavailable, Streaming
from tests.live.raw_websocket import RawWebSocket, handshake
from tests.problems import check_problem
from tests.sites import make_app, serve

MINE = "0123456789abcdef"


def post(client: FlaskClient, body: object, channel: str = "a", **how: Any) -> TestResponse:
    return client.post(f"/streaming/channels/{channel}", json=body, **how)


def test_a_message_is_published_and_its_id_returned() -> None:
    app = make_app()
    answer = post(app.test_client(), {"data": "你好", "event": "tick"})
    assert answer.status_code == 201
    log = app.extensions["streaming"].hub.log
    assert answer.get_json() == {"channel": "a", "id": str(log.tail("a"))}
    (message,) = log.read("a", log.tail("a", 1), limit=9, size=999).messages
    assert (message.data, message.event, message.sender) == ("你好", "tick", None)


def test_a_repeated_key_gives_the_first_id() -> None:
    client = make_app().test_client()
    body = {"data": "x", "key": "k", "secret": MINE}
    assert len({post(client, body).get_json()["id"] for _ in range(3)}) == 1


def test_a_key_that_a_stranger_guesses_suppresses_nothing() -> None:
    app = make_app()
    client, log = app.test_client(), app.extensions["streaming"].hub.log
    with app.app_context():
        post(client, {"data": "the stranger's", "key": "order-17", "secret": "f" * 32})
        app.extensions["streaming"].hub.publish("a", "the application's", key="order-17")
        post(client, {"data": "mine", "key": "order-17", "secret": MINE})
    texts = [m.data for m in log.read("a", log.tail("a", 9), limit=9, size=999).messages]
    assert texts == ["the stranger's", "the application's", "mine"]


def test_a_secret_is_kept_nowhere() -> None:
    app = make_app()
    post(app.test_client(), {"data": "x", "key": "k", "secret": MINE})
    log = app.extensions["streaming"].hub.log
    (message,) = log.read("a", log.tail("a", 1), limit=9, size=999).messages
    assert MINE not in repr((message, message.key))


def test_nobody_publishes_over_the_network_unless_the_application_allows_it() -> None:
    app = Flask("x")
    Streaming(app)
    check_problem(post(app.test_client(), {"data": "x"}), 403, "may not publish")


def test_the_application_decides_by_action_and_channel() -> None:
    asked: list[tuple[str, str]] = []

    def authorize(action: str, channel: str) -> bool:
        asked.append((action, channel))
        return channel == "open"

    client = make_app(authorize=authorize).test_client()
    assert post(client, {"data": "x"}, "open").status_code == 201
    check_problem(post(client, {"data": "x"}, "shut"), 403)
    check_problem(client.get("/streaming/events?channel=open&channel=shut"), 403, "may not subscr")
    assert asked == [
        ("publish", "open"),
        ("publish", "shut"),
        ("subscribe", "open"),
        ("subscribe", "shut"),
    ]


def test_too_many_channels_or_illegal_names_are_refused_before_anybody_is_asked() -> None:
    asked: list[str] = []

    def authorize(action: str, channel: str) -> bool:
        asked.append(channel)
        return True

    client = make_app(authorize=authorize).test_client()
    many = "&".join(f"channel=c{n}" for n in range(400))
    check_problem(client.get(f"/streaming/events?{many}"), 400, "1 to 32")
    check_problem(client.get("/streaming/events"), 400, "1 to 32")
    for name in ("", "private-1%0A", "x" * 300_000, ":presence"):
        check_problem(client.get(f"/streaming/events?channel=ok&channel={name}"), 400, "name")
        if name:
            check_problem(post(client, {"data": "x"}, name), 400, "name")
            check_problem(client.get(f"/streaming/presence/{name}"), 400)
    check_problem(client.get("/streaming/events?channel=ok&history=x"), 400, "history")
    assert asked == []
    client.get("/streaming/events?channel=ok&channel=ok&channel=other").close()
    assert asked == ["ok", "other"]


@pytest.mark.parametrize("path", ["events", "presence/a", "healthz", "readyz", "ws"])
def test_an_unknown_parameter_is_refused_on_every_route_and_the_known_are_named(path: str) -> None:
    app = make_app(parameters=["token"])
    client = app.test_client()
    answer = client.get(f"/streaming/{path}?channels=a&token=x")
    check_problem(answer, 400, "Unknown in the URL: 'channels'. Known: ")
    assert ("channel, history, last_event_id" in answer.text) == (path == "events")
    check_problem(client.post("/streaming/channels/a?key=k", json={"data": "x"}), 400, "'key'")
    assert app.extensions["streaming"].hub.log.tail("a").offset == 0
    assert client.options("/streaming/events?channels=a").status_code == 200
    client.get("/streaming/static/index.js?v=1").close()


def test_a_websocket_with_an_unknown_parameter_is_refused_before_it_opens() -> None:
    with serve(make_app(parameters=["token"])) as site:
        for query, status in (("channel=chat", 400), ("token=x", 101)):
            ask = handshake(site, f"/streaming/ws?{query}")  # type: ignore[arg-type]
            assert site.raw(ask)[0] == status


def test_views_of_the_application_take_what_parameters_they_like() -> None:
    app = make_app()
    app.add_url_rule("/own", view_func=lambda: "fine")
    assert app.test_client().get("/own?anything=x").text == "fine"


def test_a_polyfill_that_resumes_by_its_own_name_misses_nothing() -> None:
    app = make_app()
    ids = [str(app.extensions["streaming"].hub.publish("a", str(n)).id) for n in range(3)]
    with (
        serve(app) as site,
        site.get(f"/streaming/events?channel=a&lastEventId={ids[0]}") as client,
    ):
        assert [client.next_event().data for _ in range(3)][1:] == ["1", "2"]  # type: ignore[union-attr]


def test_an_unknown_field_with_a_long_name_is_not_said_back_whole() -> None:
    answer = post(make_app().test_client(), {"data": "x", "y" * 100_000: 1})
    check_problem(answer, 400, "is unknown")
    assert len(answer.data) < 400


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({}, "'data'"),
        ({"data": None}, "'data'"),
        ({"data": 7}, "'data'"),
        ({"data": {"a": 1}}, "'data'"),
        ({"data": "x", "evnet": "tick"}, "'evnet' is unknown"),
        ({"data": "x", "sender": "me"}, "'sender' is unknown"),
        ({"data": "x", "event": ""}, "event name"),
        ({"data": "x", "event": "a\nb"}, "event name"),
        ({"data": "x", "event": "ready"}, "used by the stream"),
        ({"data": "x", "event": 7}, "event name"),
        ({"data": "x", "event": None}, "event name"),
        ({"data": "x", "key": "", "secret": MINE}, "idempotency key"),
        ({"data": "x", "key": 7, "secret": MINE}, "'key'"),
        ({"data": "x", "key": "k" * 129, "secret": MINE}, "idempotency key"),
        ({"data": "x", "key": "\ud800", "secret": MINE}, "idempotency key"),
        ({"data": "x", "key": "k"}, "'secret'"),
        ({"data": "x", "key": "k", "secret": None}, "'secret'"),
        ({"data": "x", "key": "k", "secret": "s" * 15}, "'secret'"),
        ({"data": "x", "key": "k", "secret": "s" * 129}, "'secret'"),
        ({"data": "x", "key": "k", "secret": "\ud800" * 16}, "'secret'"),
        ({"data": "x", "secret": MINE}, "'secret' is the owner"),
        ({"data": "\ud800"}, "surrogate"),
        ([], "JSON object"),
        ("text", "JSON object"),
    ],
)
def test_a_message_that_cannot_be_published_is_refused_and_not_appended(
    body: object, part: str
) -> None:
    app = make_app()
    check_problem(post(app.test_client(), body), 400, part)
    assert app.extensions["streaming"].hub.log.tail("a").offset == 0


@pytest.mark.parametrize("channel", ["a b", "%00", "你", "a" * 129, "a%0Ab", "%ff"])
def test_an_illegal_channel_name_is_refused(channel: str) -> None:
    check_problem(post(make_app().test_client(), {"data": "x"}, channel), 400, "channel name")


def test_malformed_json_another_type_and_invalid_utf_8_are_refused() -> None:
    client, url = make_app().test_client(), "/streaming/channels/a"
    check_problem(client.post(url, data="{", content_type="application/json"), 400, "not JSON")
    body = b'{"data": "\xff"}'
    check_problem(client.post(url, data=body, content_type="application/json"), 400, "UTF-8")
    check_problem(client.post(url, data="data=x"), 415, "Content-Type")
    check_problem(client.post(url), 415)


def test_an_oversized_body_or_text_is_refused() -> None:
    client = make_app(message_size=1000).test_client()
    check_problem(post(client, {"data": "x" * 12_000}), 413, "larger than")
    check_problem(post(client, {"data": "x" * 1001}), 413, "at most 1000")
    assert post(client, {"data": "x" * 1000}).status_code == 201


def test_an_oversized_body_over_a_real_connection_is_answered() -> None:
    with serve(make_app(message_size=1000)) as site:
        headers = {"Content-Type": "application/json"}
        body = json.dumps({"data": "x" * 200_000}).encode()
        with site.get("/streaming/channels/a", method="POST", headers=headers, body=body) as client:
            assert client.status == 413
            assert client.json()["title"] == "Too large"


def test_the_wrong_method_is_refused() -> None:
    client = make_app().test_client()
    assert client.post("/streaming/events?channel=a").status_code == 405
    assert client.get("/streaming/channels/a").status_code == 405
    assert client.delete("/streaming/channels/a").status_code == 405
    assert client.post("/streaming/ws").status_code == 405


def test_a_plain_request_for_the_websocket_is_told_to_upgrade() -> None:
    answer = make_app().test_client().get("/streaming/ws")
    check_problem(answer, 426, "WebSocket client")
    assert answer.headers["Upgrade"] == "websocket"
    assert answer.headers["Sec-WebSocket-Version"] == "13"


def test_publishing_during_the_drain_is_refused_with_when_to_try_again() -> None:
    app = make_app()
    app.extensions["streaming"].close()
    answer = post(app.test_client(), {"data": "x"})
    check_problem(answer, 503, "Try again")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_log_that_cannot_be_reached_is_503_and_where_it_lies_is_for_the_servers_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()

    def fail(*_: object, **__: object) -> None:
        raise LogUnavailable("The log /srv/secret.db is away.")

    monkeypatch.setattr(app.extensions["streaming"].hub.log, "append", fail)
    answer = post(app.test_client(), {"data": "x"})
    check_problem(answer, 503, "cannot be reached now")
    assert answer.headers["Retry-After"]
    assert "secret" not in answer.text
    assert "/srv/secret.db" in caplog.text


def test_an_error_of_ours_in_the_applications_own_view_becomes_a_problem_too() -> None:
    app = Flask("x")
    streaming = Streaming(app)
    app.add_url_rule("/own", view_func=lambda: streaming.events("a"))
    check_problem(app.test_client().get("/own?last_event_id=x"), 400, "not a cursor")


def test_the_browser_client_is_served_as_a_module() -> None:
    answer = make_app().test_client().get("/streaming/static/index.js")
    assert answer.status_code == 200
    assert answer.mimetype in {"text/javascript", "application/javascript"}
    answer.close()


def test_pages_of_listed_origins_may_read_and_publish_and_others_may_not() -> None:
    client = make_app(origins=["https://listed.example"]).test_client()
    header, listed = "Access-Control-Allow-Origin", {"Origin": "https://listed.example"}
    assert post(client, {"data": "x"}, headers=listed).headers[header] == listed["Origin"]
    evil = {"Origin": "https://evil.example"}
    assert header not in post(client, {"data": "x"}, headers=evil).headers
    preflight = client.options("/streaming/channels/a", headers=listed)
    assert preflight.headers["Access-Control-Allow-Headers"]


UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


@pytest.mark.parametrize("offered", [None, "", "unknown", "STREAMING.V1.JSON", "a, b"])
def test_a_websocket_that_does_not_speak_our_subprotocol_is_refused(offered: str | None) -> None:
    with serve(make_app()) as site:
        headers = {} if offered is None else {"Sec-WebSocket-Protocol": offered}
        with site.get("/streaming/ws", headers={**UPGRADE, **headers}) as answer:
            assert answer.status == 400
            assert answer.headers["content-type"] == "application/problem+json"
            assert "subprotocol 'streaming.v1.json'" in answer.json()["detail"]
        assert len(site.registry) == 0
        assert site.state.hub.subscribers("chat") == 0


def test_a_websocket_that_offers_our_subprotocol_among_others_gets_it() -> None:
    with (
        serve(make_app()) as site,
        RawWebSocket(site, subprotocol="x, streaming.v1.json") as raw,  # type: ignore[arg-type]
    ):
        assert raw.headers["sec-websocket-protocol"] == "streaming.v1.json"
        assert raw.read_json()["type"] == "welcome"


def test_a_websocket_asked_for_during_the_drain_is_refused_with_503() -> None:
    with serve(make_app()) as site:
        site.state.close()
        status, headers, _ = site.raw(handshake(site, "/streaming/ws"))  # type: ignore[arg-type]
        assert status == 503
        assert headers["content-type"] == "application/problem+json"


def test_who_is_in_a_room_is_told_over_http_too() -> None:
    with serve(make_app()) as site, site.json() as one, site.json() as two:
        client = site.app.test_client()
        assert client.get("/streaming/presence/r").get_json() == {"room": "r", "members": []}
        one.ask(type="join", channel="r", info="安娜")
        two.ask(type="join", channel="r")
        answer = client.get("/streaming/presence/r")
        assert answer.get_json()["members"] == [
            {"id": one.client, "info": "安娜"},
            {"id": two.client, "info": ""},
        ]
        assert answer.headers["Cache-Control"] == "no-store"
        page = client.get(f"/streaming/presence/r?after={one.client}").get_json()
        assert page["members"] == [{"id": two.client, "info": ""}]


def test_who_is_in_a_room_is_told_to_those_who_may_subscribe_to_it() -> None:
    asked: list[tuple[str, str]] = []

    def authorize(action: str, channel: str) -> bool:
        asked.append((action, channel))
        return channel == "open"

    client = make_app(authorize=authorize).test_client()
    assert client.get("/streaming/presence/open").status_code == 200
    check_problem(client.get("/streaming/presence/shut"), 403, "may not subscribe")
    check_problem(client.get("/streaming/events?channel=shut:presence"), 403, "may not subscribe")
    assert asked == [("subscribe", "open"), ("subscribe", "shut"), ("subscribe", "shut")]


@pytest.mark.parametrize("room", ["a%20b", "chat:presence", "r" * 120])
def test_what_is_no_room_has_no_members(room: str) -> None:
    check_problem(make_app().test_client().get(f"/streaming/presence/{room}"), 400)


def test_nobody_publishes_who_is_there_over_http() -> None:
    app = make_app()
    body = {"data": '{"id":"boss","info":""}', "event": "join"}
    check_problem(post(app.test_client(), body, "chat:presence"), 403, "joining and leaving")
    assert app.extensions["streaming"].hub.log.tail("chat:presence").offset == 0


def test_a_worker_is_ready_while_clients_and_messages_are_taken() -> None:
    answer = make_app().test_client().get("/streaming/readyz")
    assert answer.status_code == 200
    assert answer.get_json() == {"status": "ok", "clients": 0}
    assert answer.headers["Cache-Control"] == "no-store"


def test_not_ready_tells_of_a_drain_and_of_a_log_that_is_away_but_not_where_it_is(
    tmp_path: Path,
) -> None:
    app = make_app(log=f"sqlite:///{tmp_path}")  # a folder is no file
    client = app.test_client()
    answer = client.get("/streaming/readyz")
    check_problem(answer, 503, "cannot be reached now")
    assert str(tmp_path) not in answer.text
    assert answer.headers["Retry-After"]
    app.extensions["streaming"].close()
    check_problem(client.get("/streaming/readyz"), 503, "restarting")
    app.extensions["streaming"].hub.log.close()


def test_a_worker_is_alive_while_it_drains_and_its_log_is_away_which_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = make_app()
    state = app.extensions["streaming"]
    looks: list[int] = []
    monkeypatch.setattr(type(state.hub.log), "check", lambda self: looks.append(1))
    state.close()
    answer = app.test_client().get("/streaming/healthz")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok"})
    assert answer.headers["Cache-Control"] == "no-store"
    assert looks == []
