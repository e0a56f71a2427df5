"""Another ticket for whoever is connected with one, before that ends."""

import json
import time
from collections.abc import Iterator
from itertools import count
from typing import Any
from unittest import mock

import pytest

from streaming import Identity
from streaming.errors import InvalidTicket, Recalled
from streaming.hub.hub import Hub
from streaming.hub.orders import give, order_of
from streaming.logs import MemoryLog, Retention
from streaming.logs.contract import MAX_KEYS
from streaming.settings import Settings
from streaming.web.issued import Issued
from streaming.web.tickets import CHAIN, LIFE
from tests.greenlets import is_green, run_file
from tests.house import House, url
from tests.live.clients import RawClient
from tests.live.raw_websocket import handshake
from tests.polling import wait_until
from tests.sites import WAYS, Way, drained, serve


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    hold(house)
    with drained(house.app):
        yield house


def hold(house: House) -> None:
    """Its tickets do not end, though they are renewed as often as if they did: for them a
    millisecond has passed each time they are looked at."""
    state, now, looks = house.app.extensions["streaming"], time.time(), count()
    state.issued = Issued(state.hub, lambda: now + next(looks) / 1000)


def next_message(client: RawClient) -> str | None:
    """The text of the next event that is neither the first nor a ticket."""
    while (event := client.next_event()) is not None and event.event in ("ready", "ticket"):
        pass
    assert event is not None
    return event.data


def next_ticket(client: RawClient) -> Any:
    while (event := client.next_event()) is not None:
        if event.event == "ticket":
            assert event.id is None
            return event.json()
    raise AssertionError("the stream ended")


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_stream_is_sent_another_one_before_it_ends(way: Way) -> None:
    house = House(STREAMING_DIRECT_WRITES=dict(way.settings).get("direct_writes", True))
    hold(house)
    house.open = {"news"}
    with serve(house.app, way=way) as site:
        with site.get(url("news", house.ticket("news", seconds=1))) as client:
            first = client.next_event()
            assert first is not None
            fresh = next_ticket(client)
            assert fresh["seconds"] == 1
            house.publish("news", "goes on")
            assert next_message(client) == "goes on"
            last = next_ticket(client)["ticket"]
            assert last != fresh["ticket"]
        with site.get(url("news", last) + f"&last_event_id={first.id}") as client:
            assert client.status == 200
            assert next_message(client) == "goes on"


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
    hold(house)
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


@pytest.mark.parametrize("whom", [{}, {"identity": "ada"}, {"identity": "eve"}])
def test_who_has_to_come_again_for_a_channel_is_asked_about_it(
    house: House, whom: dict[str, str]
) -> None:
    """Not half a minute later, when the ticket is renewed."""
    is_meant = whom.get("identity") != "eve"
    before = house.ticket("news", "other")
    with serve(house.app) as site:
        with site.get(url("news", before)) as client:
            client.next_event()
            house.revoke(channel="news", **whom)
            if is_meant:
                assert [event.event for event in client.events()] == ["restart"]
        after, ws = house.ticket("news"), f"/streaming/ws?ticket={before}"
        for shown, channel, code in (
            (before, "news", 403 if is_meant else 200),
            (before, "news:presence", 403 if is_meant else 200),
            (before, "other", 200),
            (after, "news", 200),
        ):
            with site.get(url(channel, shown)) as client:
                assert client.status == code, channel
        with site.json(ws) as socket:
            kind = "error" if is_meant else "ready"
            assert socket.ask(type="subscribe", channel="news")["type"] == kind
            assert socket.ask(type="subscribe", channel="other")["type"] == "ready"
        house.open = {"news"}
        with site.get(url("news", before)) as client:
            assert client.status == 200


def test_where_nobody_can_be_asked_about_a_channel_the_ticket_stands() -> None:
    house = House(authorize=False)
    with drained(house.app):
        ticket = house.ticket("private:a")
        house.revoke(channel="private:a")
        with house.app.test_client().get(url("private:a", ticket)) as answer:
            assert answer.status_code == 200


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
    state, clock = house.app.extensions["streaming"], [time.time()]
    issued = state.issued = Issued(state.hub, lambda: clock[0])
    ticket = issued.take(["secret"], house.ticket("news"))
    clock[0] += CHAIN - 5
    fresh, text = issued.renew(["secret"], ticket)
    clock[0] += 10
    with pytest.raises(Recalled):
        issued.renew(["secret"], fresh)
    with pytest.raises(InvalidTicket, match="for a day"):
        issued.take(["secret"], text)


def test_who_is_connected_then_comes_back_to_hear_it(house: House) -> None:
    house.open = {"news"}
    state, clock = house.app.extensions["streaming"], [time.time()]
    state.issued = Issued(state.hub, lambda: clock[0])
    with (
        serve(house.app) as site,
        site.get(url("news", house.ticket("news", seconds=1))) as client,
    ):
        client.next_event()
        clock[0] += CHAIN + 5
        assert [event.event for event in client.events()][-1] == "restart"


def test_a_log_that_cannot_tell_what_was_taken_back_has_all_of_it_taken_back() -> None:
    """But one that has lost its past, as with a restart in memory, has taken back nothing."""
    keys, of = ["secret"], {"streaming:*": Retention(messages=2)}
    hub, other = (Hub(MemoryLog(Retention(named=of))) for _ in range(2))
    said: Any = {"seconds": 60, "is_once": False}
    give(hub, order_of("eve", None, None, is_final=True))
    ticket = Issued(hub).give(keys, ["news"], ["subscribe"], Identity("ada"), **said)
    assert Issued(hub).take(keys, ticket).identity == Identity("ada")
    give(other, order_of("eve", None, None, is_final=True))
    assert Issued(other).take(keys, ticket).identity == Identity("ada")
    for _ in range(3):
        give(hub, order_of("eve", None, None, is_final=True))
    with pytest.raises(InvalidTicket, match="taken back"):
        Issued(hub).take(keys, ticket)


def test_what_was_used_or_taken_back_is_kept_for_longer_than_tickets_live() -> None:
    keep = Settings().retention.of("streaming:orders")
    assert keep.age is not None
    assert LIFE < keep.key_window < keep.age
    assert keep.messages >= MAX_KEYS
    assert keep.size > MAX_KEYS * 32


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
