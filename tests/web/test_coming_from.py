"""The pages for those who come from other packages: the code "after" does what they say."""

from contextlib import suppress

import pytest
from flask import Flask
from flask.testing import FlaskClient

from streaming.testing import serve
from streaming.testing.talk import Refused
from tests.guides import run_shown, shown


def app_of(page: str, name: str) -> Flask:
    app: Flask = run_shown(page, name)["app"]
    return app


def test_flask_sses_greeting_reaches_the_page_with_one_line_changed() -> None:
    source = shown("from-flask-sse.md", "after.py").replace("redis://localhost:6379", "memory:")
    defined: dict[str, object] = {"__name__": "after"}
    exec(compile(source, "after.py", "exec"), defined)
    app = defined["app"]
    assert isinstance(app, Flask)
    with serve(app) as site, site.events("/stream/events?channel=users.7") as reader:
        app.test_client().post("/hello")
        event = reader.next()
    assert (event.event, event.json()) == ("greeting", {"message": "Hello!"})


def test_sse_starlettes_numbers_come_as_a_generator_and_as_a_channel() -> None:
    with (
        serve(app_of("from-sse-starlette.md", "after.py")) as site,
        site.events("/events") as reader,
    ):
        told = [(event.event, event.data) for event in reader.rest()]
    assert told == [*(("message", str(n)) for n in range(3)), ("close", "{}")]
    app = app_of("from-sse-starlette.md", "channel.py")
    with serve(app) as site, site.events("/events") as reader:
        app.test_client().post("/numbers/1")
        first = reader.next()
        assert (first.event, first.data) == ("number", "1")
        reader.close()
        app.test_client().post("/numbers/2")
        assert reader.reconnect().next().data == "2"


def logged_in(app: Flask, user: str) -> FlaskClient:
    client = app.test_client()
    with client.session_transaction() as session:
        session["user"] = user
    return client


def test_socketios_rooms_are_channels_for_those_who_may() -> None:
    app = app_of("from-flask-socketio.md", "after.py")
    path, ours = "/streaming/ws", {"subprotocols": ["streaming.v1.json"]}
    with serve(app) as site:
        with (
            site.websocket(path, login=logged_in(app, "ada"), **ours) as ada,
            site.websocket(path, login=logged_in(app, "bob"), **ours) as bob,
        ):
            for talk in (ada, bob):
                assert talk.json()["type"] == "welcome"
                talk.send({"type": "subscribe", "channel": "room:7", "history": 50})
                assert talk.json()["type"] == "ready"
            ada.send({"type": "publish", "channel": "room:7", "data": "hello"})
            frames = {frame["type"]: frame for frame in (ada.json(), ada.json())}
            assert frames["ack"]["id"] == frames["message"]["id"]
            told = bob.json()
            assert (told["from"]["id"], told["data"]) == ("ada", "hello")
            bob.send({"type": "subscribe", "channel": "other"})
            assert bob.json()["type"] == "error"
        with suppress(Refused), site.websocket(path, **ours) as stranger:
            stranger.json()
            stranger.send({"type": "subscribe", "channel": "room:7"})
            assert stranger.json()["type"] == "error"


@pytest.mark.parametrize(("pieces", "status"), [(3, 200), (11, 422)])
def test_what_an_event_handler_did_a_view_does(pieces: int, status: int) -> None:
    app = app_of("from-flask-socketio.md", "orders.py")
    with serve(app) as site, site.events("/streaming/events?channel=orders&history=1") as reader:
        answer = app.test_client().post("/orders", json={"pieces": pieces})
        assert answer.status_code == status
        if status == 200:
            event = reader.next()
            assert (event.event, event.json()) == ("ordered", {"pieces": 3})
            assert answer.json == {"id": event.id}
