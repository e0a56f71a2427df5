"""streaming/web/permissions.py: who a client is, and what it may do."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, abort, g, session
from werkzeug.local import LocalProxy

from streaming import ConfigurationError, Identity, Streaming
from streaming.web.permissions import as_identity
from tests.polling import wait_until
from tests.sites import serve

ADA = Identity("ada", "Ada")


def user(**about: Any) -> SimpleNamespace:
    """Somebody as Flask-Login has them."""
    return SimpleNamespace(**{"is_authenticated": True, "get_id": lambda: "7", **about})


@pytest.mark.parametrize(
    ("found", "identity"),
    [
        (None, None),
        ("", None),
        ("ada", Identity("ada")),
        (7, Identity("7")),
        (ADA, ADA),
        (user(), Identity("7")),
        (user(username="Ada"), Identity("7", "Ada")),
        (user(name="Ada", username="al"), Identity("7", "Ada")),
        (user(name="A" * 300), Identity("7", "A" * 100)),
        (user(is_authenticated=False), None),
        (user(get_id=lambda: None), None),
        (LocalProxy(lambda: user(name="Ada")), Identity("7", "Ada")),
        (LocalProxy(lambda: None), None),
    ],
)
def test_what_applications_have_is_an_identity(found: object, identity: Identity | None) -> None:
    assert as_identity(found) == identity


@pytest.mark.parametrize("found", [True, 1.5, b"ada", {"id": "ada"}, object()])
def test_what_is_nobody_is_not_taken_for_somebody(found: object) -> None:
    with pytest.raises(TypeError, match="identify returned"):
        as_identity(found)


def app_of(
    identify: Callable[[], object] | None = None,
    authorize: Callable[..., bool] | None = None,
    **config: Any,
) -> Flask:
    """An application with a session, in which ``POST /login/<id>`` says who somebody is."""
    app = Flask("x")
    app.secret_key = "secret"
    app.config.update(config)
    Streaming(app, authorize=authorize, identify=identify)

    @app.post("/login/<id>")
    def login(id: str) -> str:
        session["user"] = id
        return ""

    return app


def of_session() -> object:
    return session.get("user")


def status(app: Flask, channel: str, user: str = "") -> int:
    """What somebody is answered who asks for a channel."""
    client = app.test_client()
    if user:
        client.post(f"/login/{user}")
    with client.get(f"/streaming/events?channel={channel}") as answer:
        return answer.status_code


CHANNELS = ["news", "ticker:eur", "secret", "private:x", "user:ada", "user:eve"]


@pytest.mark.parametrize(
    ("who", "is_debug", "allowed"),
    [
        ("", False, ["news", "ticker:eur"]),
        ("", True, ["news", "ticker:eur", "secret"]),
        ("ada", False, ["news", "ticker:eur", "secret", "user:ada"]),
        ("eve", False, ["news", "ticker:eur", "secret", "user:eve"]),
    ],
)
def test_without_authorize_strangers_read_what_is_public(
    who: str, is_debug: bool, allowed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    app = app_of(of_session, STREAMING_PUBLIC=["news", "ticker:*"])
    app.debug = is_debug
    assert [channel for channel in CHANNELS if status(app, channel, who) == 200] == allowed
    said = [text for text in caplog.messages if "Debug mode" in text]
    assert len(said) == is_debug  # once, and what it would be refused without it
    assert all("STREAMING_PUBLIC lists, and 'secret'" in text for text in said)


def test_an_app_that_says_nothing_serves_nothing_and_says_what_to_set() -> None:
    app = app_of()
    answer = app.test_client().get("/streaming/events?channel=news")
    assert answer.status_code == 403
    assert answer.json is not None
    assert "STREAMING_PUBLIC" in answer.json["detail"]


@pytest.mark.parametrize("public", [["*"], ["private*", "u*"]])
def test_no_pattern_makes_private_channels_public(public: list[str]) -> None:
    app = app_of(STREAMING_PUBLIC=public)
    assert status(app, "private:x") == status(app, "user:ada") == 403
    answer = app.test_client().get("/streaming/events?channel=user:ada")
    assert answer.json is not None
    assert "Streaming(identify=…)" in answer.json["detail"], "what was forgotten"


@pytest.mark.parametrize("public", ["news", [7], ["a b"], ["private:x"], ["user:*"], None])
def test_a_list_that_makes_nothing_public_stops_the_start(public: object) -> None:
    with pytest.raises(ConfigurationError, match="STREAMING_PUBLIC"):
        app_of(STREAMING_PUBLIC=public)


def test_authorize_opens_private_channels_and_is_told_who_asks() -> None:
    asked: list[object] = []

    def authorize(action: str, channel: str, identity: Identity | None) -> bool:
        asked.append((action, channel, identity))
        return identity is not None and identity.id == "ada"

    app = app_of(of_session, authorize)
    assert status(app, "private:x") == 403
    assert status(app, "private:x", "ada") == 200
    assert asked == [("subscribe", "private:x", None), ("subscribe", "private:x", Identity("ada"))]


def test_what_belongs_to_one_is_not_for_authorize_to_give_to_another() -> None:
    app = app_of(of_session, lambda action, channel: True)
    assert status(app, "user:ada", "ada") == 200
    assert status(app, "user:ada:presence", "ada") == 200
    assert status(app, "user:ada", "eve") == 403
    assert status(app, "user:ada") == 403


def test_without_identify_authorize_decides_on_all_channels() -> None:
    assert status(app_of(None, lambda action, channel: channel == "user:1"), "user:1") == 200


@pytest.mark.parametrize("id", ["ada@example.org", "用户 1", "a" * 100])
def test_a_message_to_somebody_reaches_that_one(id: str) -> None:
    app = app_of(lambda: Identity(id))
    streaming = Streaming()
    with serve(app) as site, app.app_context():
        channel = streaming.user_channel(id)
        with site.get(f"/streaming/events?channel={channel}") as client:
            client.next_event()
            streaming.publish_to(id, {"hello": 1})
            event = client.next_event()
    assert event is not None
    assert event.data == '{"hello": 1}'


@pytest.mark.parametrize("way", ["identify", "authorize"])
def test_a_refusal_by_status_is_answered_with_it(way: str) -> None:
    def refuse(*_: object) -> bool:
        abort(401, "Log in.")

    answer = app_of(**{way: refuse}).test_client().get("/streaming/events?channel=a")
    assert answer.status_code == 401
    assert answer.json is not None
    assert "Log in." in answer.json["detail"]


@pytest.mark.parametrize("way", ["identify", "authorize"])
def test_an_error_refuses_and_is_for_the_log_alone(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> bool:
        raise LookupError("the table of users")

    client = app_of(**{way: fail}).test_client()
    for _ in range(3):
        answer = client.get("/streaming/events?channel=a")
        assert answer.status_code == 403
        assert "table" not in answer.get_data(as_text=True)
    assert caplog.text.count("LookupError: the table of users") == 1


def test_an_identity_that_is_none_refuses() -> None:
    assert status(app_of(lambda: "a\nb"), "news") == 403


def test_the_clients_identity_is_asked_for_once_and_seen_everywhere() -> None:
    asked: list[None] = []

    def identify() -> Identity:
        asked.append(None)
        return ADA

    app = app_of(identify, lambda action, channel, identity: identity == ADA)
    with serve(app) as site:
        with site.get("/streaming/events?channel=a&channel=b&channel=c") as client:
            client.next_event()
            (row,) = site.registry.snapshot()["clients"]
            assert row["identity"] == "ada"
        site.wait_empty()
        assert len(asked) == 1
        with site.json() as sender, site.json() as reader:
            reader.ask(type="subscribe", channel="a")
            sender.ask(type="publish", channel="a", data="hi")
            frame = reader.recv()
        assert frame["from"] == {"client": sender.client, "id": "ada", "name": "Ada"}
        (message,) = site.state.hub.log.read(
            "a", site.state.hub.start_of("a"), limit=9, size=99
        ).messages
        assert (message.client, message.identity) == (sender.client, ADA)


def test_what_is_published_over_http_says_who_did_it() -> None:
    app = app_of(lambda: ADA, lambda action, channel: True)
    with serve(app) as site, site.json() as reader:
        reader.ask(type="subscribe", channel="a")
        body = {"data": "hi"}
        assert app.test_client().post("/streaming/channels/a", json=body).status_code == 201
        assert reader.recv()["from"] == {"id": "ada", "name": "Ada"}


def test_over_a_websocket_authorize_finds_the_request_and_what_the_hooks_put_into_g() -> None:
    found: list[object] = []

    def authorize(action: str, channel: str) -> bool:
        found.append((g.tenant, session.get("user")))
        return True

    app = app_of(None, authorize)
    app.before_request(lambda: setattr(g, "tenant", "acme"))
    closed: list[object] = []
    app.teardown_request(lambda _: closed.append(g.pop("tenant")))
    with serve(app) as site, site.json() as client:
        for channel in ("a", "b"):
            assert client.ask(type="subscribe", channel=channel)["type"] == "ready"
        wait_until(lambda: closed.count("acme") >= 3, "all that was opened was closed")
    assert found == [("acme", None)] * 2


def test_a_hook_that_refuses_later_refuses_what_is_asked_later() -> None:
    is_over = False

    def check_login() -> object:
        if is_over:
            abort(401, "Not any more.")
        return None

    app = app_of(None, lambda action, channel: True)
    app.before_request(check_login)
    with serve(app) as site, site.json() as client:
        assert client.ask(type="subscribe", channel="a")["type"] == "ready"
        is_over = True
        refused = client.ask(type="subscribe", channel="b")
    assert (refused["type"], refused["status"]) == ("error", 401)


def test_a_view_of_the_applications_own_knows_who_it_is() -> None:
    app = app_of(of_session)
    streaming = Streaming()
    app.get("/me")(lambda: str(streaming.identity()))
    client = app.test_client()
    assert client.get("/me").get_data(as_text=True) == "None"
    client.post("/login/ada")
    assert "ada" in client.get("/me").get_data(as_text=True)


def test_the_applications_own_views_serve_what_they_want() -> None:
    app = app_of()
    streaming = Streaming()
    app.get("/mine")(lambda: streaming.events("private:x"))
    with app.test_client().get("/mine") as answer:
        assert answer.status_code == 200


def test_a_conversation_without_authorize_goes_by_who_it_is() -> None:
    app = app_of(lambda: ADA)
    with serve(app) as site, site.json() as client:
        assert client.ask(type="subscribe", channel="user:ada")["type"] == "ready"
        assert client.ask(type="subscribe", channel="user:eve")["status"] == 403
        assert client.ask(type="publish", channel="user:ada", data="x")["status"] == 403


@pytest.mark.parametrize("is_debug", [False, True])
def test_a_stranger_in_a_conversation_is_refused_what_is_not_public(is_debug: bool) -> None:
    app = app_of(STREAMING_PUBLIC=["news"])
    app.debug = is_debug
    with serve(app) as site, site.json() as client:
        assert client.ask(type="subscribe", channel="news")["type"] == "ready"
        answer = client.ask(type="subscribe", channel="secret")
        assert answer["type"] == ("ready" if is_debug else "error")
        assert client.ask(type="subscribe", channel="private:x")["status"] == 403


def test_a_hook_that_fails_later_refuses_and_the_conversation_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fails = False

    def look_up() -> None:
        if fails:
            raise LookupError("the table of tenants")

    app = app_of(None, lambda action, channel: True)
    app.before_request(look_up)
    with serve(app, expect_errors=True) as site, site.json() as client:
        fails = True
        refused = client.ask(type="subscribe", channel="a")
        fails = False
        assert (refused["type"], refused["status"]) == ("error", 403)
        assert client.ask(type="subscribe", channel="a")["type"] == "ready"
    assert "the table of tenants" in caplog.text
