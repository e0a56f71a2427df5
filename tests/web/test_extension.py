"""streaming/web/extension.py: the package as a Flask extension, or as a blueprint."""

import logging
import threading
from collections.abc import Callable

import pytest
from flask import Flask, Response, abort, request, stream_with_context, url_for
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from streaming import (
    NDJSON,
    ConfigurationError,
    HubClosed,
    InvalidMessage,
    InvalidRequest,
    Member,
    Message,
    Sock,
    Streaming,
    chat,
    stream,
)
from tests.polling import PATIENCE, wait_until
from tests.sites import drained, serve

JSON = "application/json"


def test_the_extension_is_one_line() -> None:
    app = Flask("x")
    app.config["STREAMING_PUBLIC"] = ["a"]
    streaming = Streaming(app)
    with serve(app) as site, site.get("/streaming/events?channel=a") as client:
        assert client.next_event().event == "ready"  # type: ignore[union-attr]
        with app.app_context():
            posted = streaming.publish("a", "hello", event="tick", key="k")
            assert streaming.publish("a", "hello", event="tick", key="k") is posted
        event = client.next_event()
        assert event is not None
        assert (event.event, event.data, event.id) == ("tick", "hello", str(posted.id))


def test_init_app_serves_several_applications_of_a_factory() -> None:
    streaming = Streaming()

    def create_app() -> Flask:
        app = Flask("x")
        streaming.init_app(app)
        return app

    one, two = create_app(), create_app()
    with one.app_context():
        streaming.publish("a", "of one")
    assert one.extensions["streaming"].hub.log.tail("a").offset == 1
    assert two.extensions["streaming"].hub.log.tail("a").offset == 0


def test_each_application_of_a_factory_may_have_its_own_say() -> None:
    streaming = Streaming(authorize=lambda *_: False, identify=lambda: "ada")
    one, two = Flask("one"), Flask("two")
    streaming.init_app(one)
    streaming.init_app(two, authorize=lambda *_: True, identify=lambda: "bob")
    for app, who, status in ((one, "ada", 403), (two, "bob", 201)):
        answer = app.test_client().post("/streaming/channels/a", json={"data": "x"})
        assert answer.status_code == status
        with app.test_request_context():
            found = streaming.identity()
            assert found is not None
            assert found.id == who
    with pytest.raises(ConfigurationError, match="must be a function"):
        streaming.init_app(Flask("three"), identify="ada")  # type: ignore[arg-type]


def test_the_chat_of_an_app_that_allows_nothing_lets_nobody_in() -> None:
    app = Flask("x")
    app.config["STREAMING_PUBLIC"] = ["*"]
    Streaming(app)
    Sock(app).route("/talk")(lambda ws: chat(ws, "chat"))
    with serve(app) as site:
        with pytest.raises(InvalidStatus, match="403") as refused:
            connect(f"{site.ws_url}/talk")
        assert b"may not publish" in (refused.value.response.body or b"")
        assert app.extensions["streaming"].hub.log.tail("chat").offset == 0


@pytest.mark.parametrize("how", ["blueprint", "url_prefix"])
def test_the_blueprint_goes_under_any_prefix_in_a_factory(how: str) -> None:
    def create_app() -> Flask:
        app = Flask("x")
        if how == "blueprint":
            streaming = Streaming(authorize=lambda action, channel: channel in {"a", "chat"})
            app.register_blueprint(streaming.blueprint, url_prefix="/live/api")
        else:
            Streaming(authorize=lambda *_: True, url_prefix="/live/api").init_app(app)
        return app

    with serve(create_app()) as site:
        with site.get("/live/api/events?channel=a") as client:
            assert client.next_event().event == "ready"  # type: ignore[union-attr]
        with site.json("/live/api/ws") as client:
            assert client.ask(type="subscribe", channel="a")["type"] == "ready"
        with site.get("/streaming/events?channel=a") as client:
            assert client.status == 404
        with site.app.test_request_context():
            name = url_for("streaming.static", filename="index.js")
            assert name == "/live/api/static/index.js"


@pytest.mark.parametrize(
    "second",
    [
        lambda app, streaming: streaming.init_app(app),
        lambda app, streaming: Streaming(app),
        lambda app, streaming: app.register_blueprint(
            Streaming().blueprint, name="again", url_prefix="/again"
        ),
    ],
)
def test_a_second_init_of_one_app_raises_and_says_what_to_do(
    second: Callable[[Flask, Streaming], None],
) -> None:
    app = Flask("x")
    streaming = Streaming(app)
    with pytest.raises(ConfigurationError, match=r"set up twice.*Keep one"):
        second(app, streaming)


def test_an_unknown_setting_stops_the_start_and_names_the_nearest() -> None:
    app = Flask("x")
    app.config["STREAMING_HEARTBEET"] = 5
    with pytest.raises(ConfigurationError, match="Did you mean STREAMING_HEARTBEAT"):
        Streaming(app)


def test_a_setting_that_cannot_be_used_stops_the_start() -> None:
    app = Flask("x")
    app.config["STREAMING_HEARTBEAT"] = "often"
    with pytest.raises(ConfigurationError, match="STREAMING_HEARTBEAT is 'often'"):
        Streaming(app)


@pytest.mark.parametrize(
    ("url", "part"),
    [
        (None, "None"),
        ("sqlite:///", "names no file"),
        ("sqlite:///x.db?timeout=5", "no option timeout"),
        ("sqlite:///x.db?synchronous=yes", "synchronous='yes'"),
        ("redis://", "host:port"),
    ],
)
def test_a_log_url_that_cannot_be_used_stops_the_start_by_its_key(
    url: str | None, part: str
) -> None:
    app = Flask("x")
    app.config["STREAMING_LOG"] = url
    with pytest.raises(ConfigurationError, match=part) as refused:
        Streaming(app)
    assert "STREAMING_LOG" in str(refused.value)


def test_an_argument_that_cannot_be_used_stops_the_start() -> None:
    for wrong in (True, "publish"):
        with pytest.raises(ConfigurationError, match=r"authorize is .*must be a function"):
            Streaming(authorize=wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=r"identify is .*must be a function"):
            Streaming(identify=wrong)  # type: ignore[arg-type]


def test_an_authorize_that_would_allow_everything_stops_the_start() -> None:
    async def authorize(action: str, channel: str) -> bool:
        return False

    with pytest.raises(ConfigurationError, match="not async"):
        Streaming(authorize=authorize)  # type: ignore[arg-type]


def test_a_prefix_that_is_none_stops_the_start() -> None:
    for prefix in (None, "live", 7):
        with pytest.raises(ConfigurationError, match=r"url_prefix is .*begins with '/'"):
            Streaming(url_prefix=prefix)  # type: ignore[arg-type]


def test_setting_up_starts_no_thread_since_workers_fork_after_it() -> None:
    before = set(threading.enumerate())
    app = Flask("x")
    Streaming(app)
    app.test_client().get("/streaming/events")
    assert set(threading.enumerate()) <= before


def test_publish_needs_an_application_and_checks_what_it_is_given() -> None:
    streaming = Streaming()
    with pytest.raises(RuntimeError, match=r"app\.app_context\(\): ….*streaming\.Publisher"):
        streaming.publish("a", "x")
    app = Flask("x")
    streaming.init_app(app)
    with app.app_context(), pytest.raises(InvalidMessage):
        streaming.publish("not a channel", "x")
    with app.app_context(), pytest.raises(InvalidMessage, match=r"user_channel\(id\)"):
        streaming.publish("user:ada@example.org", "x")


def test_a_view_of_the_application_may_follow_channels_that_it_chose() -> None:
    app = Flask("x")
    streaming = Streaming(app)

    @app.get("/mine")
    def mine() -> Response:
        after = request.args.get("after")
        return streaming.events("a", "b", after=after, history=int(request.args.get("n", 0)))

    hub = app.extensions["streaming"].hub
    posted = [hub.publish("a", str(n)) for n in range(4)]
    with serve(app) as site:
        with site.get("/mine?n=2") as client:
            assert [client.next_event().data for _ in range(3)][1:] == ["2", "3"]  # type: ignore[union-attr]
        with site.get(f"/mine?after={posted[0].id}") as client:
            assert [client.next_event().data for _ in range(4)][1:] == ["1", "2", "3"]  # type: ignore[union-attr]
        with site.get("/mine", headers={"Last-Event-ID": str(posted[2].id)}) as client:
            assert [client.next_event().data for _ in range(2)][1:] == ["3"]  # type: ignore[union-attr]


def test_any_iterator_becomes_a_stream_with_one_call() -> None:
    app = Flask("x")
    Streaming(app)
    app.add_url_rule("/answer", "answer", lambda: stream(iter(["a", "b"])))
    app.add_url_rule("/lines", "lines", lambda: stream(iter(["a"]), form=NDJSON))
    client = app.test_client()
    assert client.get("/answer").data == b"ab"
    sse = client.get("/answer", headers={"Accept": "text/event-stream"})
    assert sse.data == b"data: a\n\ndata: b\n\nevent: close\ndata: {}\n\n"
    assert client.get("/lines").mimetype == "application/x-ndjson"


def test_a_generator_that_needs_the_request_may_use_stream_with_context() -> None:
    app = Flask("x")
    Streaming(app)

    @app.get("/answer")
    def answer() -> Response:
        def pieces():  # type: ignore[no-untyped-def]
            yield request.args["q"]

        return stream(stream_with_context(pieces()))

    assert app.test_client().get("/answer?q=x").data == b"x"


def test_authorize_is_asked_inside_the_request() -> None:
    app = Flask("x")
    app.config["STREAMING_PARAMETERS"] = ["token"]
    Streaming(app, authorize=lambda action, channel: request.args.get("token") == "open")
    with serve(app) as site:
        for token, allowed in (("open", True), ("shut", False)):
            path, headers = f"/streaming/channels/a?token={token}", {"Content-Type": JSON}
            with site.get(path, method="POST", headers=headers, body=b'{"data": "x"}') as client:
                assert client.status == (201 if allowed else 403)
            with site.get(f"/streaming/events?channel=a&token={token}") as client:
                assert client.status == (200 if allowed else 403)


def test_authorize_is_asked_for_each_frame_of_a_websocket() -> None:
    app = Flask("x")
    Streaming(app, authorize=lambda action, channel: (action, channel) == ("subscribe", "open"))
    with serve(app) as site, site.json() as client:
        assert client.ask(type="subscribe", channel="open")["type"] == "ready"
        assert client.ask(type="subscribe", channel="shut")["status"] == 403
        assert client.ask(type="publish", channel="open", data="x")["status"] == 403


def test_an_authorize_that_fails_refuses_and_its_websocket_stays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def authorize(action: str, channel: str) -> bool:
        if channel == "login":
            abort(401)
        return {"open": True}[channel]

    app = Flask("x")
    Streaming(app, authorize=authorize)
    caplog.set_level(logging.CRITICAL, "x")
    client = app.test_client()
    assert client.get("/streaming/events?channel=login").status_code == 401
    with serve(app, expect_errors=True) as site, site.json() as socket:
        for channel, status in (("shut", 403), ("login", 401)):
            assert socket.ask(type="subscribe", channel=channel)["status"] == status
        assert socket.ask(type="subscribe", channel="open")["type"] == "ready"
        assert any("KeyError: 'shut'" in error for error in site.errors)
    assert client.get("/streaming/events?channel=shut").status_code == 403


def test_the_application_lets_somebody_into_a_room_and_takes_them_out() -> None:
    app = Flask("x")
    streaming = Streaming(app)
    with serve(app), app.app_context():
        assert streaming.members("r") == []
        assert streaming.join("r", "bot", "Bot")
        assert not streaming.join("r", "bot", "Bot")
        assert streaming.members("r") == [Member("bot", "Bot")]
        assert not streaming.join("r", "bot", "Bot", name="Robot")
        assert streaming.members("r") == [Member("bot", "Bot", "Robot")]
        streaming.leave("r", "bot")
        streaming.leave("r", "bot")
        assert streaming.members("r") == []
        for call in (streaming.members, lambda room: streaming.join(room, "bot")):
            with pytest.raises(InvalidMessage) as refused:
                call("no room")
            assert refused.value.status == 500  # a bug of the view, not its visitor's


def test_the_application_follows_channels_itself_until_the_process_is_to_stop() -> None:
    app = Flask("x")
    streaming = Streaming(app)
    seen: list[object] = []

    def bot() -> None:
        with app.app_context(), streaming.subscribe("a", "b", history=1) as items:
            seen.append("there")
            seen.extend(item.data for item in items if isinstance(item, Message))

    with serve(app) as site:
        for text in ("old", "held"):
            site.state.hub.publish("a", text)
        thread = threading.Thread(target=bot)
        thread.start()
        wait_until(lambda: "held" in seen, "the history")
        site.state.hub.publish("b", "new")
        wait_until(lambda: "new" in seen, "what is new")
        site.state.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert seen == ["there", "held", "new"]
        assert site.state.hub.subscribers("a") == 0
        with app.app_context(), pytest.raises(HubClosed):
            streaming.subscribe("a")


def test_the_application_resumes_behind_an_id_that_it_has_kept() -> None:
    app = Flask("x")
    streaming = Streaming(app)
    app.testing = True  # or that nobody hears it is said at the end
    with drained(app), app.app_context():
        first, _ = streaming.publish("a", 1), streaming.publish("a", 2)
        with streaming.subscribe("a", after=str(first.id)) as items:
            assert [item.data for item in items.take(0) if isinstance(item, Message)] == ["2"]
        for channels, how, error in [
            ((), {}, InvalidRequest),
            (("a",), {"history": -1}, InvalidRequest),
            (("a b",), {}, InvalidMessage),
        ]:
            with pytest.raises(error):
                streaming.subscribe(*channels, **how)  # type: ignore[arg-type]


def test_a_view_asks_authorize_for_what_its_visitor_names() -> None:
    app = Flask("x")
    streaming = Streaming(app, authorize=lambda action, channel: channel != "private")

    @app.get("/<room>")
    def view(room: str) -> str:
        streaming.check_allowed("subscribe", room)
        return "seen"

    client = app.test_client()
    statuses = {room: client.get(f"/{room}").status_code for room in ("open", "private", "a b")}
    assert statuses == {"open": 200, "private": 403, "a b": 400}


def test_who_is_connected_is_told_to_the_application() -> None:
    app = Flask("x")
    app.config["STREAMING_PUBLIC"] = ["a"]
    streaming = Streaming(app)
    with serve(app) as site, app.app_context():
        with site.get("/streaming/events?channel=a") as client:
            assert client.next_event()
            (row,) = streaming.clients()["clients"]
            assert (row["transport"], row["channels"]) == ("sse", ("a",))
        site.wait_empty()
        assert len(streaming.clients()["ended"]) == 1


def test_a_thread_of_the_application_is_told_when_it_is_to_stop() -> None:
    app = Flask("x")
    streaming = Streaming(app)
    with app.app_context():
        assert not streaming.closed.is_set()
        app.extensions["streaming"].close()
        assert streaming.closed.wait(0)


def test_a_view_of_the_application_is_readable_by_listed_pages() -> None:
    app = Flask("x")
    app.config["STREAMING_ORIGINS"] = ["https://listed.example"]
    streaming = Streaming(app)
    app.after_request(streaming.allow_origin)
    app.get("/mine")(lambda: "mine")
    for page, allowed in (("https://listed.example", True), ("https://other.example", False)):
        answer = app.test_client().get("/mine", headers={"Origin": page})
        assert (answer.headers.get("Access-Control-Allow-Origin") == page) is allowed
        assert answer.headers["Vary"] == "Origin"
