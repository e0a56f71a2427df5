"""Tickets in URLs: who is let in with one, as whom, to what, how often, until when."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, abort, request
from websockets.sync.client import connect

from streaming import ConfigurationError, InvalidMessage, Streaming
from streaming.web.admission import mask
from streaming.web.issued import Issued
from tests.homes import SHARED_URLS
from tests.house import House, url
from tests.live.raw_websocket import handshake
from tests.problems import check_problem
from tests.sites import drained, serve


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    with drained(house.app):
        yield house


def status(house: House, channel: str, ticket: str) -> int:
    with house.app.test_client().get(url(channel, ticket)) as answer:
        return answer.status_code


# ---- what it opens


def test_it_lets_in_to_what_it_lists_and_to_nothing_else(house: House) -> None:
    ticket = house.ticket("news", "room:*", "private:a", house.streaming.user_channel("ada"))
    house.open = {"other"}
    with house.app.test_client().get("/streaming/events?channel=news") as answer:
        assert answer.status_code == 403
    for channel in ("news", "room:7", "room:7:presence", "private:a", "user:ada"):
        assert status(house, channel, ticket) == 200
    for channel in ("other", "private:b", "user:eve", "streaming:orders"):
        assert status(house, channel, ticket) == 403


def test_a_ticket_that_is_not_good_is_401_before_anything_else(house: House) -> None:
    house.open = {"news"}
    good = house.ticket("news")
    for bad in ("", "4711", good[:-5], f"{good}&ticket={good}"):
        with house.app.test_client().get(url("news", bad)) as answer:
            check_problem(answer, 401, "Get another one")
            assert answer.headers["WWW-Authenticate"] == "Ticket"
    with house.app.test_client().get(
        url("news", "4711"), headers={"Accept": "text/event-stream"}
    ) as answer:
        assert answer.status_code == 401  # which an EventSource takes as final


def test_it_says_who_it_is_on_all_ways(house: House) -> None:
    ticket = house.ticket("room", "run:*", actions=("subscribe", "publish"))
    with serve(house.app) as site:
        with site.json(f"/streaming/ws?ticket={ticket}") as ws:
            assert ws.ask(type="subscribe", channel="room")["type"] == "ready"
            ws.send(type="publish", channel="room", data="hi")
            said = {frame["type"]: frame for frame in (ws.recv(), ws.recv())}
            assert said.keys() == {"ack", "message"}
            assert said["message"]["from"] == {"client": ws.client, "id": "ada", "name": "Ada"}
            assert ws.ask(type="join", channel="room")["members"][0]["name"] == "Ada"
            assert ws.ask(type="subscribe", channel="news")["status"] == 403
            assert ws.ask(type="publish", channel="news", data="x")["status"] == 403
            (row,) = site.registry.snapshot()["clients"]
            assert row["identity"] == "ada"
            body = json.dumps({"data": "by post"}).encode()
            json_type = {"Content-Type": "application/json"}
            for path, code in (("room", 201), ("news", 403)):
                with site.get(
                    f"/streaming/channels/{path}?ticket={ticket}",
                    method="POST",
                    headers=json_type,
                    body=body,
                ) as client:
                    assert client.status == code
            assert _message(ws)["from"] == {"id": "ada", "name": "Ada"}
            for path, code in (
                (f"/streaming/presence/room?ticket={ticket}", 200),
                (f"/streaming/presence/news?ticket={ticket}", 403),
                (f"/streaming/runs/x?ticket={ticket}", 404),
                (f"/streaming/readyz?ticket={ticket}", 400),
            ):
                with site.get(path) as client:
                    assert client.status == code, path
        assert site.raw(handshake(site, "/streaming/ws?ticket=st1.x.y"))[0] == 401  # type: ignore[arg-type]


def _message(ws: Any) -> Any:
    while (frame := ws.recv())["type"] != "message":
        pass
    return frame


def test_a_chat_of_ones_own_takes_it(house: House) -> None:
    ticket = house.ticket("room", actions=("subscribe", "publish"))
    with serve(house.app) as site:
        for path, code in (
            ("/talk", 403),
            (f"/talk?ticket={house.ticket('room')}", 403),
            (f"/talk?ticket={ticket[:-3]}", 401),
        ):
            assert site.raw(handshake(site, path))[0] == code  # type: ignore[arg-type]
        with site.chat(f"/talk?ticket={ticket}") as ws:
            ws.recv()
            ws.send("hello")
            assert ws.recv() == "You said: hello"
            (row,) = site.registry.snapshot()["clients"]
            assert row["identity"] == "ada"


def test_a_websocket_of_ones_own_is_its_holders(house: House) -> None:
    ticket = house.ticket("news")
    with serve(house.app) as site, connect(f"{site.ws_url}/echo?ticket={ticket}") as ws:
        ws.send("hello")
        assert ws.recv() == "hello"
        (row,) = site.registry.snapshot()["clients"]
        assert row["identity"] == "ada"
        house.revoke(identity="ada")
        site.wait_empty()


def test_in_a_view_of_ones_own_it_counts_where_check_allowed_asks(house: House) -> None:
    ticket, client = house.ticket("news"), house.app.test_client()
    with client.get(f"/mine/news?ticket={ticket}") as answer:
        assert answer.status_code == 200
    with client.get(f"/mine/user:ada?ticket={ticket}") as answer:
        assert answer.status_code == 403  # it narrows what the view would give to its holder
    with client.get("/mine/news") as answer:
        assert answer.status_code == 403
    assert client.get(f"/whoami?ticket={ticket}").json == {"who": None, "ticket": "***"}
    house.open = {"news"}
    assert client.get("/whoami?ticket=4711").json == {"who": None, "ticket": "4711"}
    with client.get("/mine/news?ticket=4711") as answer:
        assert answer.status_code == 200  # a parameter of the application's own


def test_an_application_may_have_tickets_of_its_own_on_our_addresses() -> None:
    house = House(STREAMING_PARAMETERS=["ticket"])
    house.open = {"news"}
    with drained(house.app):
        assert [status(house, "news", t) for t in ("4711", "", "st1.x.y")] == [200, 200, 401]
        assert status(house, "private:a", house.ticket("private:a")) == 200


def test_it_is_given_to_the_client_of_the_request_unless_said_otherwise() -> None:
    app = Flask("x")
    app.config["SECRET_KEY"] = "secret"
    streaming = Streaming(app, identify=lambda: request.headers.get("X-User"))
    who = {}

    @app.get("/ticket")
    def give() -> str:
        return streaming.ticket("news", **who)

    def holder(user: str) -> str | None:
        ticket = app.test_client().get("/ticket", headers={"X-User": user}).text
        issued = app.extensions["streaming"].issued
        identity = issued.take(["secret"], ticket).identity
        return identity and identity.id

    with drained(app):
        assert holder("ada") == "ada"
        assert holder("") is None
        who["identity"] = "eve"
        assert holder("ada") == "eve"
        with app.app_context(), pytest.raises(TypeError):
            streaming.ticket("news", identity=object())
        with app.app_context(), pytest.raises(InvalidMessage):
            streaming.ticket()
        app.secret_key = None
        with app.app_context(), pytest.raises(ConfigurationError, match="SECRET_KEY"):
            streaming.ticket("news")


def test_a_server_whose_secret_was_changed_takes_those_of_before(house: House) -> None:
    ticket = house.ticket("news")
    house.app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["secret"])
    assert status(house, "news", ticket) == status(house, "news", house.ticket("news")) == 200
    house.app.config["SECRET_KEY_FALLBACKS"] = None
    assert status(house, "news", ticket) == 401


# ---- once, until, taken back


@pytest.fixture(params=SHARED_URLS)
def workers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[House]]:
    """Two applications as two workers have them: one secret, one log."""
    with SHARED_URLS[request.param](tmp_path) as log, ExitStack() as stack:
        houses = [House(STREAMING_LOG=log) for _ in range(2)]
        for house in houses:
            stack.enter_context(closing(house.app.extensions["streaming"].hub.log))
            stack.enter_context(drained(house.app))
        yield houses


def test_one_that_is_good_once_is_used_up_everywhere(workers: list[House]) -> None:
    one, two = workers
    ticket = one.ticket("news", once=True)
    assert [status(house, "news", ticket) for house in (two, one, two)] == [200, 401, 401]
    assert status(two, "news", one.ticket("news", once=True)) == 200


@pytest.mark.parametrize("budget", ["CLIENTS", "CLIENTS_PER_IDENTITY"])
def test_one_that_is_good_once_is_not_used_up_where_nobody_gets_in(budget: str) -> None:
    house = House(**{f"STREAMING_{budget}": 1})
    ticket = house.ticket("news", once=True)
    wanted = {"Accept": "text/event-stream"}
    with serve(house.app) as site:
        with site.get(url("news", house.ticket("news"))) as first:
            assert first.next_event()
            with site.get(url("news", ticket), headers=wanted) as client:
                assert [event.event for event in client.events()] == ["restart"]
        site.wait_empty()
        with site.get(url("news", ticket)) as client:
            assert client.next_event()


def test_what_was_given_before_a_revoke_is_taken_back_everywhere(workers: list[House]) -> None:
    one, two = workers
    before, other = one.ticket("news"), one.ticket("news", identity="eve")
    nobodys = one.ticket("news", identity=None)
    two.revoke(identity="ada")
    two.revoke(identity="eve", client="0" * 16)  # one connection
    assert status(one, "news", before) == status(two, "news", before) == 401
    for ticket in (other, nobodys, one.ticket("news")):
        assert status(two, "news", ticket) == 200


def test_it_ends_in_time(house: House) -> None:
    state, ticket = house.app.extensions["streaming"], house.ticket("news")
    state.issued = Issued(state.hub, lambda: time.time() + 61)
    with house.app.test_client().get(url("news", ticket)) as answer:
        check_problem(answer, 401, "has ended")


# ---- no log has it


def test_no_log_has_a_ticket_and_no_answer_either(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    house.app.add_url_rule("/fails", "fails", lambda: 1 / 0)
    house.app.add_url_rule("/no", "no", lambda: abort(404, request.url))
    seen: list[str] = []
    house.app.after_request(lambda r: seen.append(f"{request.url} {request.environ}") or r)
    ticket = house.ticket("news", once=True)
    client = house.app.test_client()
    for path in (url("news", ticket), url("news", ticket), url("other", house.ticket("x"))):
        with client.get(path) as answer:
            seen.append(answer.text if answer.status_code != 200 else "")
    for path in ("fails", "no", "nowhere"):
        seen.append(client.get(f"/{path}?ticket={ticket}").text)
    with house.app.app_context():
        seen.append(str(house.streaming.clients()))
    signature = ticket.rpartition(".")[2]
    assert signature not in caplog.text
    assert signature not in "".join(seen)
    assert "ticket=***" in "".join(seen)


def test_who_answers_before_us_does_not_see_it_either() -> None:
    app, seen = Flask("x"), []
    app.before_request(lambda: (seen.append(request.url), ("closed", 503))[1])
    app.after_request(lambda response: seen.append(str(request.environ)) or response)
    Streaming(app)
    with drained(app):
        assert app.test_client().get("/?ticket=st1.a.b").status_code == 503
    assert "st1.a.b" not in "".join(seen)


@pytest.mark.parametrize(
    ("sent", "masked"),
    [
        ("ticket=st1.a.b", "ticket=***"),
        ("a=b&ticket=st1.a.b&c=d", "a=b&ticket=***&c=d"),
        ("/x?ticket=st1.a.b#c", "/x?ticket=***#c"),
        ("/x?ticket=st1%2Ea.b", "/x?ticket=***"),
        ("GET /x?ticket=st1.a.b HTTP/1.1", "GET /x?ticket=*** HTTP/1.1"),
        ("ticket=4711&ticket=st1.", "ticket=4711&ticket=***"),
        ("/x?myticket=st1.a.b", "/x?myticket=st1.a.b"),
        ("", ""),
    ],
)
def test_only_tickets_of_ours_are_masked(sent: str, masked: str) -> None:
    assert mask(sent) == masked
