"""Another ticket for whoever is connected with one, before that ends."""

import json
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from streaming.errors import InvalidTicket
from streaming.web.issued import Issued
from tests.greenlets import is_green, run_file
from tests.house import House, url
from tests.live.clients import RawClient
from tests.live.raw_websocket import handshake
from tests.sites import WAYS, Way, drained, serve, wait_until


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    with drained(house.app):
        yield house


def next_ticket(client: RawClient) -> Any:
    while (event := client.next_event()) is not None:
        if event.event == "ticket":
            assert event.id is None
            return event.json()
    raise AssertionError("the stream ended")


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_stream_is_sent_another_one_before_it_ends(way: Way) -> None:
    house = House(STREAMING_DIRECT_WRITES=dict(way.settings).get("direct_writes", True))
    house.open = {"news"}
    with serve(house.app, way=way) as site:
        with site.get(url("news", house.ticket("news", seconds=1))) as client:
            first = client.next_event()
            assert first is not None
            fresh = next_ticket(client)
            assert fresh["seconds"] == 1
            house.publish("news", "goes on")
            while (event := client.next_event()) is not None and event.event == "ticket":
                pass
            assert event is not None
            assert event.data == "goes on"
            last = next_ticket(client)["ticket"]
            assert last != fresh["ticket"]
        with site.get(url("news", last) + f"&last_event_id={first.id}") as client:
            assert client.status == 200
            client.next_event()
            event = client.next_event()
            assert event is not None
            assert event.data == "goes on"


def test_a_websocket_is_sent_another_one(house: House) -> None:
    house.open = {"news"}
    with serve(house.app) as site:
        ticket = house.ticket("news", seconds=1, once=True)
        with site.json(f"/streaming/ws?ticket={ticket}") as ws:
            frame = ws.recv()
            assert frame.keys() == {"type", "ticket", "seconds"}
            assert frame["type"] == "ticket"
        with site.json(f"/streaming/ws?ticket={frame['ticket']}") as ws:
            assert ws.ask(type="subscribe", channel="news")["type"] == "ready"
        assert site.raw(handshake(site, f"/streaming/ws?ticket={ticket}"))[0] == 401  # type: ignore[arg-type]


def test_lines_of_json_say_it_too() -> None:
    house = House(authorize=False)
    with serve(house.app) as site:
        path = url("private:a", house.ticket("private:a", seconds=1))
        with site.get(path, headers={"Accept": "application/x-ndjson"}) as client:
            text = b""
            while b'"event":"ticket"' not in text:
                text += client.read()
            line = json.loads(text.splitlines()[-1])
            assert line.keys() == {"event", "data"}
            assert json.loads(line["data"])["seconds"] == 1


def test_it_is_renewed_for_as_long_as_authorize_says_yes(house: House) -> None:
    house.open = {"news"}
    with serve(house.app) as site:
        with (
            site.get(url("news", house.ticket("news", seconds=1))) as client,
            site.json(f"/streaming/ws?ticket={house.ticket('news', seconds=1)}") as ws,
        ):
            next_ticket(client)
            assert ws.recv()["type"] == "ticket"
            house.open = set()
            last = [event for event in client.events() if event.event != "ticket"][-1]
            assert last.event == "close"
            assert last.json()["status"] == 403
            wait_until(lambda: ws.socket.recv() == "" or not ws.socket.connected, "its end")
        site.wait_empty()


def test_who_was_revoked_is_let_go_of_and_gets_no_other(house: House) -> None:
    house.open = {"news"}
    with serve(house.app) as site, site.get(url("news", house.ticket("news"))) as client:
        client.next_event()
        house.revoke(identity="ada")
        assert [event.event for event in client.events()] == ["close"]


def test_who_is_revoked_while_it_comes_is_let_go_of_too(house: House) -> None:
    issued = house.app.extensions["streaming"].issued
    take = issued.take

    def take_and_revoke(*what: Any) -> Any:
        ticket = take(*what)
        house.revoke(identity="ada")
        return ticket

    with (
        mock.patch.object(issued, "take", take_and_revoke),
        serve(house.app) as site,
        site.get(url("news", house.ticket("news"))) as client,
    ):
        assert [event.event for event in client.events()][-1] == "close"


def test_what_cannot_be_asked_now_is_asked_later(house: House) -> None:
    house.open = {"news"}
    asked = house.authorize
    answers: list[Any] = [LookupError("the table of rights is away")]

    def authorize(*what: Any) -> bool:
        if answers:
            raise answers.pop()
        return asked(*what)

    state = house.app.extensions["streaming"]
    with (
        mock.patch.object(state.permissions, "_authorize", authorize),
        serve(house.app, expect_errors=True) as site,
        site.get(url("news", house.ticket("news", seconds=1))) as client,
    ):
        assert next_ticket(client)["seconds"] == 1
        assert not answers


def test_after_a_day_another_has_to_be_given(house: House) -> None:
    issued = house.app.extensions["streaming"].issued
    ticket = issued.take(["secret"], house.ticket("news"))
    clock = [time.time() + 24 * 3600 - 5]
    later = Issued(house.app.extensions["streaming"].hub, lambda: clock[0])
    fresh, _ = later.renew(["secret"], ticket)
    clock[0] += 10
    with pytest.raises(InvalidTicket, match="for a day"):
        later.renew(["secret"], fresh)


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
