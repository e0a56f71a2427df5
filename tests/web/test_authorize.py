"""streaming/web/state.py: what ``authorize`` is asked, and what its failures mean."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, abort
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect
from werkzeug.exceptions import Unauthorized

from streaming import ConfigurationError, Forbidden, InvalidMessage, LogUnavailable, Sock, chat
from streaming.hub.orders import give, order_of
from streaming.web.state import State
from streaming.web.ui_messages import ui_messages_api
from tests.polling import PATIENCE, wait_until
from tests.sites import Site, drained, make_app, serve

BAD_NAMES = ["", "private-1\n", "a b", "x" * 300_000, "ä", ":presence", None, 7]


class Door:
    """An ``authorize`` that remembers what it was asked."""

    def __init__(self, answer: Callable[[], object] = lambda: True) -> None:
        self.asked: list[tuple[str, str]] = []
        self._answer = answer

    def __call__(self, action: str, channel: str) -> Any:
        self.asked.append((action, channel))
        return self._answer()


def fail() -> bool:
    raise ZeroDivisionError("in authorize")


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def site(door: Door) -> Iterator[Site]:
    with serve(make_app(authorize=door)) as site:
        yield site


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("action", ["subscribe", "publish"])
def test_it_is_not_asked_for_what_is_no_name(door: Door, action: Any, name: Any) -> None:
    state = make_app(authorize=door).extensions["streaming"]
    with pytest.raises(InvalidMessage):
        state.check_allowed(action, name)
    assert door.asked == []


def test_to_no_channel_that_the_package_has_made_for_itself_anybody_publishes() -> None:
    app = make_app(authorize=Door())
    state: State = app.extensions["streaming"]
    app.register_blueprint(ui_messages_api(lambda *asked: ["hi"]), url_prefix="/chat")
    with drained(app):
        client = app.test_client()
        turns = [{"role": "user", "content": "hello"}]
        asked = client.post("/chat", json={"id": "c", "messages": turns})
        assert asked.status_code == 200
        asked.close()
        state.presence.join("room", "somebody")
        give(state.hub, order_of("ada", None, None))
        wait_until(lambda: len(state.hub.log.channels("", 99)) == 4, "all have been used")
        for name in state.hub.log.channels("", 99):
            refused = client.post(f"/streaming/channels/{name}", json={"data": "forged"})
            assert refused.status_code == 403, name


def test_nobody_says_what_is_in_somebodys_answer_but_its_producer(site: Site, door: Door) -> None:
    client, path = site.app.test_client(), "/streaming/channels/run:abc"
    refused = client.post(path, json={"data": "forged", "event": "text"})
    assert refused.status_code == 403
    assert "producer" in refused.get_json()["detail"]
    with site.json() as socket:
        answer = socket.ask(type="publish", channel="run:abc", data="forged", event="text")
    assert (answer["type"], answer["status"]) == ("error", 403)
    assert door.asked == []
    assert site.state.hub.log.channels("run:", 9) == []


def test_it_is_not_asked_over_http_for_requests_that_are_refused_anyway(door: Door) -> None:
    client = make_app(authorize=door).test_client()
    many = "&".join(f"channel=c{n}" for n in range(400))
    for path in (f"events?{many}", "events", "events?channel=ok&channel=a%20b", "presence/a%0A"):
        assert client.get(f"/streaming/{path}").status_code == 400
    assert client.post("/streaming/channels/a%20b", json={"data": "x"}).status_code == 400
    assert door.asked == []


def test_it_is_asked_once_for_a_channel_that_is_named_twice(site: Site, door: Door) -> None:
    with site.get("/streaming/events?channel=a&channel=a&channel=b") as stream:
        assert stream.status == 200
    assert door.asked == [("subscribe", "a"), ("subscribe", "b")]


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "subscribe", "channel": "a b"},
        {"type": "subscribe", "channel": "a", "history": -1},
        {"type": "subscribe", "channel": "a", "after": 7},
        {"type": "subscribe", "channel": "a", "after": "nonsense"},
        {"type": "publish", "channel": "a"},
        {"type": "publish", "channel": "", "data": "x"},
        {"type": "publish", "channel": "a", "data": "x", "event": 7},
        {"type": "publish", "channel": "a", "data": "x", "event": "ready"},
        {"type": "publish", "channel": "a", "data": "x", "key": ""},
        {"type": "join", "channel": "r:presence"},
        {"type": "join", "channel": "a", "info": 7},
        {"type": "presence", "channel": "r" * 120},
    ],
)
def test_it_is_not_asked_over_a_websocket_for_frames_that_are_refused_anyway(
    site: Site, door: Door, frame: dict[str, object]
) -> None:
    with site.json() as client:
        assert client.ask(**frame)["status"] == 400
    assert door.asked == []


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if "authorize" in r.getMessage()]


def app_of(answer: Callable[[], object]) -> Flask:
    return with_chat(make_app(authorize=Door(answer)))


def with_chat(app: Flask) -> Flask:
    Sock(app).route("/chat")(lambda ws: chat(ws, "chat"))
    return app


def test_an_exception_in_it_refuses_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with serve(app_of(fail), expect_errors=True) as site:
        for _ in range(3):
            with site.get("/streaming/events?channel=a") as stream:
                assert stream.status == 403
        with site.json() as client:
            for type in ("subscribe", "join", "presence", "publish"):
                error = client.ask(type=type, channel="a", data="x")
                assert (error["type"], error["status"]) == ("error", 403)
                assert "ZeroDivisionError" not in error["detail"]
        with pytest.raises(InvalidStatus, match="403"):
            connect(f"{site.ws_url}/chat")
    assert len(told(caplog)) == 1
    assert "in authorize" in caplog.text


def test_a_function_that_has_to_be_awaited_is_refused_at_the_start() -> None:
    async def authorize(action: str, channel: str) -> bool:
        return True

    with pytest.raises(ConfigurationError, match="authorize"):
        make_app(authorize=authorize)


def test_abort_in_it_is_its_refusal() -> None:
    with serve(app_of(lambda: abort(401, "Log in first."))) as site:
        with site.get("/streaming/events?channel=a") as stream:
            assert stream.status == 401
        with site.json() as client:
            error = client.ask(type="subscribe", channel="a")
            assert (error["status"], error["detail"]) == (401, "Log in first.")
        with pytest.raises(InvalidStatus, match="401"):
            connect(f"{site.ws_url}/chat")


@pytest.mark.parametrize("error", [Forbidden("Not you."), Unauthorized("Not you.")])
def test_its_own_words_are_told(error: Exception) -> None:
    def refuse() -> bool:
        raise error

    state = app_of(refuse).extensions["streaming"]
    with pytest.raises(Forbidden, match=r"Not you\."):
        state.check_allowed("subscribe", "a")


@pytest.mark.parametrize("how", ["http", "json", "chat"])
def test_a_publish_that_the_log_refuses_is_logged_on_every_way(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    with serve(with_chat(make_app())) as site:
        log = site.state.hub.log

        def refuse(*arguments: object, **options: object) -> None:
            raise LogUnavailable("/secret/path is full.")

        if how == "http":
            monkeypatch.setattr(log, "append", refuse)
            with site.get(
                "/streaming/channels/a",
                method="POST",
                body=b'{"data":"x"}',
                headers={"Content-Type": "application/json"},
            ) as answer:
                assert answer.status == 503
        elif how == "json":
            with site.json() as client:
                monkeypatch.setattr(log, "append", refuse)
                assert client.ask(type="publish", channel="a", data="x")["status"] == 503
        else:
            with connect(f"{site.ws_url}/chat") as ws:
                assert ws.recv(PATIENCE)
                monkeypatch.setattr(log, "append", refuse)
                ws.send("x")
                with pytest.raises(ConnectionClosedError):
                    ws.recv(PATIENCE)
                assert ws.close_code == 1013
        monkeypatch.undo()
    lines = [r.getMessage() for r in caplog.records if "/secret/path" in r.getMessage()]
    lines = [line for line in lines if not line.startswith("Presence waits")]
    assert lines == ["Log unavailable: /secret/path is full."]
