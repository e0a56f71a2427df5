"""Permissions that end: streams and WebSockets of whom the application lets go of."""

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn
from unittest import mock

import pytest
from flask import Flask, abort, request
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from streaming import Connection, InvalidMessage, Sock, Streaming, Take, chat, stream
from streaming.clients import sockets
from streaming.clients.client import Client
from streaming.clients.registry import Registry
from streaming.clients.stream import EventStream
from streaming.hub.hub import Hub
from streaming.hub.orders import Order
from streaming.hub.subscription import Subscription
from streaming.web import state
from streaming.web.obeying import obey
from tests.greenlets import in_greenlets
from tests.live.clients import RawClient
from tests.polling import PATIENCE, wait_until
from tests.shortage import no_thread
from tests.sites import Site, drained, serve


class Door:
    """An application's table of users and rights, and the application around it."""

    def __init__(self, **config: Any) -> None:
        self.users = {"a-1": "ada", "a-2": "ada", "e-1": "eve"}
        self.open = {"news", "chat", "room"}
        self.fails = False
        self.app = app = Flask("x")
        app.secret_key = "secret"
        app.config.update(config)
        self.streaming = Streaming(app, identify=self.identify, authorize=self.authorize)
        sock = Sock(app)
        sock.route("/talk", endpoint="talk")(lambda ws: chat(ws, "chat"))
        sock.route("/late", endpoint="late")(late_talk)
        sock.route("/echo", endpoint="echo")(lambda ws: lambda message: ws.send(message))
        app.add_url_rule("/mine", "mine", lambda: self.streaming.events("private:mine"))
        pieces = iter(lambda: time.sleep(0.01) or "x", None)
        app.add_url_rule("/text", "text", lambda: stream(pieces))
        answer = iter(lambda: time.sleep(0.01) or "x", None)
        app.add_url_rule("/run", "run", lambda: self.streaming.run(lambda: answer).response())

    def identify(self) -> str | None:
        if self.fails:
            raise LookupError("the table of users is away")
        return self.users.get(request.headers.get("X-Token", ""))

    def authorize(self, action: str, channel: str) -> bool:
        return channel in self.open

    def order(self, how: str, **whom: Any) -> None:
        with self.app.app_context():
            getattr(self.streaming, how)(**whom)

    def order_and_wait(self, how: str, **whom: Any) -> None:
        """``order``, and wait until this process has followed it."""
        orders = self.app.extensions["streaming"].orders
        before = len(orders.since(0.0))
        self.order(how, **whom)
        self.order(how, identity="nobody")  # what is heard behind it is heard when it is done
        wait_until(lambda: len(orders.since(0.0)) == before + 2, "this process has heard of it")

    def ticket(self, *channels: str) -> str:
        with self.app.test_request_context():
            return self.streaming.ticket(
                *channels, actions=["subscribe", "publish"], identity="ada"
            )


def late_talk(ws: Connection) -> Take:
    ws.open()
    return chat(ws, "chat")


@contextmanager
def half_way(begins: str, act: Callable[[str], None]) -> Iterator[list[str]]:
    """``act`` is called with the name once somebody has subscribed to a channel of such a name,
    whose client does not follow it yet."""
    subscribe, names = Hub.subscribe, []

    def subscribe_and_act(self: Hub, channels: Any, **how: Any) -> Subscription:
        subscription = subscribe(self, channels, **how)
        if not names and subscription.channels[0].startswith(begins):
            names.append(subscription.channels[0])
            act(names[0])
        return subscription

    with mock.patch.object(Hub, "subscribe", subscribe_and_act):
        yield names


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    with drained(door.app):
        yield door


def events(site: Site, token: str, path: str = "/streaming/events?channel=news") -> RawClient:
    return site.get(path, headers={"X-Token": token})


def begun(client: RawClient) -> RawClient:
    event = client.next_event()
    assert event is not None
    assert event.event == "ready"
    return client


def closes(site: Site, token: str, path: str) -> Any:
    protocols: Any = ["streaming.v1.json"] if path.startswith("/streaming/ws") else None
    return connect(
        site.ws_url + path, subprotocols=protocols, additional_headers={"X-Token": token}
    )


def close_code(ws: Any) -> int:
    with suppress(ConnectionClosed):
        while True:
            ws.recv(PATIENCE)
    return int(ws.close_code)


@pytest.mark.parametrize(
    ("how", "last", "code"), [("revoke", "close", 1008), ("disconnect", "restart", 1012)]
)
def test_all_connections_of_one_end_and_nobody_elses(
    door: Door, how: str, last: str, code: int
) -> None:
    with (
        serve(door.app) as site,
        events(site, "a-1") as one,
        events(site, "a-2", "/mine") as two,
        events(site, "e-1") as other,
        closes(site, "a-1", "/streaming/ws") as ws,
        closes(site, "a-1", "/echo") as echo,
        closes(site, "a-1", "/talk") as talk,
    ):
        for client in (one, two, other):
            begun(client)
        wait_until(lambda: len(site.registry) == 6, "all are here")
        door.order(how, identity="ada")
        for client in (one, two):
            assert [event.event for event in client.events()] == [last]
        for each in (ws, echo, talk):
            assert close_code(each) == code
        wait_until(lambda: len(site.registry) == 1, "they are gone")
        with door.app.app_context():
            door.streaming.publish("news", "goes on")
        event = other.next_event()
        assert event is not None
        assert event.data == "goes on"


def test_whoever_counts_its_users_means_them_by_number(door: Door) -> None:
    door.users |= {"seven": 7, "seventy": 70}  # type: ignore[dict-item]
    with serve(door.app) as site, events(site, "seven") as one, events(site, "seventy") as other:
        begun(one), begun(other)
        with door.app.app_context():
            own = door.streaming.user_channel(7)
            assert own == door.streaming.user_channel("7") == "user:7"
            assert door.streaming.publish_to(7, "x").channel == own
        door.order("revoke", identity=7)
        ended = one.next_event()
        assert ended is not None
        assert ended.event == "close"
        door.order("disconnect", identity=70)
        ended = other.next_event()
        assert ended is not None
        assert ended.event == "restart"
        for nobody in (True, 7.0, ["7"]):
            with pytest.raises(InvalidMessage):
                door.order("revoke", identity=nobody)


def test_an_answer_of_pieces_ends_too(door: Door) -> None:
    with serve(door.app) as site, events(site, "a-1", "/text") as client:
        wait_until(lambda: len(site.registry), "it is here")
        door.order("revoke", identity="ada")
        site.wait_empty()
        site.wait_reason("You may not be here any more.")
        del client


def test_those_who_follow_a_channel_come_again_and_are_asked(door: Door) -> None:
    with serve(door.app) as site:
        with events(site, "a-1") as client, events(site, "a-1", "/mine") as other:
            begun(client)
            begun(other)
            door.open.discard("news")
            door.order("revoke", channel="news")
            assert [event.event for event in client.events()] == ["restart"]
            wait_until(lambda: len(site.registry) == 1, "that one alone is gone")
        with events(site, "a-1") as client:
            assert client.status == 403


def test_one_connection_is_let_go_of(door: Door) -> None:
    with serve(door.app) as site, events(site, "a-1") as one:
        begun(one)
        (row,) = site.registry.snapshot()["clients"]
        with events(site, "a-1") as two:
            begun(two)
            door.order("revoke", client=row["id"])
            assert [event.event for event in one.events()] == ["close"]
            wait_until(lambda: len(site.registry) == 1, "that one alone is gone")


def test_who_is_about_to_be_connected_is_let_go_of_too(door: Door) -> None:
    """It was asked who it is, and then logged out, before it was in the list."""
    begins: list[Callable[[], None]] = [lambda: door.order("revoke", identity="ada")]
    asked = door.authorize

    def authorize(action: str, channel: str) -> bool:
        if begins:
            begins.pop()()
            orders = door.app.extensions["streaming"].orders
            wait_until(lambda: orders.since(0.0), "this process has heard of it")
        return asked(action, channel)

    state = door.app.extensions["streaming"]
    with serve(door.app) as site:
        state.permissions._authorize = authorize
        with events(site, "a-1") as client:
            assert [event.event for event in client.events()][-1] == "close"


def test_who_was_let_into_a_room_and_is_not_in_it_yet_is_meant_with_it(door: Door) -> None:
    def leave_room(room: str) -> None:
        door.order_and_wait("revoke", channel=room)

    with serve(door.app) as site, half_way("chat", leave_room), closes(site, "a-1", "/talk") as ws:
        assert close_code(ws) == 1012


def test_who_shows_a_ticket_late_is_meant_though_it_was_nobody_before(door: Door) -> None:
    def log_out(room: str) -> None:
        door.order_and_wait("revoke", identity="ada")

    path = f"/late?ticket={door.ticket('chat')}"
    with serve(door.app) as site, half_way("chat", log_out), closes(site, "", path) as ws:
        assert close_code(ws) == 1008


def test_who_is_about_to_read_a_run_as_text_is_meant_with_its_channel(door: Door) -> None:
    def leave_run(channel: str) -> None:
        door.order_and_wait("revoke", channel=channel)

    with serve(door.app) as site:
        with half_way("run:", leave_run) as names, events(site, "a-1", "/run"):
            wait_until(lambda: names, "somebody reads it")
            site.wait_reason("Connect again.")
            site.wait_empty()
        with door.app.app_context():
            door.streaming.find_run(names[0].removeprefix("run:")).stop()


@in_greenlets
def test_who_is_another_object_when_an_order_reaches_it_is_let_go_of() -> None:
    door = Door()
    replace, reached, replaced = Registry.replace, threading.Event(), threading.Event()

    def no_descriptor(*_: object) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    def order_and_replace(registry: Registry, before: Client, client: Client) -> None:
        door.order("revoke", identity="ada")
        assert reached.wait(PATIENCE)
        replace(registry, before, client)
        replaced.set()

    def obey_late(order: Order, client: Client) -> None:
        if isinstance(client, EventStream):
            reached.set()
            assert replaced.wait(PATIENCE)
        obey(order, client)

    with (
        serve(door.app) as site,
        mock.patch.object(sockets, "exchange", no_descriptor),  # its connection is not given away
        mock.patch.object(Registry, "replace", order_and_replace),
        mock.patch.object(state, "obey", obey_late),
        events(site, "a-1") as client,
    ):
        assert [event.event for event in client.events()] == ["ready", "close"]


def test_a_ticket_from_before_an_order_lets_nobody_follow_unasked(door: Door) -> None:
    path = f"/streaming/ws?ticket={door.ticket('news')}"
    with serve(door.app) as site:
        with closes(site, "", path) as ws:
            ws.recv(PATIENCE)
            door.open.discard("news")
            door.order_and_wait("revoke", channel="news")
            ws.send('{"type":"subscribe","channel":"news"}')
            assert close_code(ws) == 1012
        with closes(site, "", path) as ws:
            ws.recv(PATIENCE)
            ws.send('{"type":"subscribe","channel":"news"}')
            assert '"status":403' in ws.recv(PATIENCE)


def test_nobody_reads_or_writes_orders_over_the_network() -> None:
    app = Flask("x")
    Streaming(app, authorize=lambda action, channel: True)
    with drained(app):
        client = app.test_client()
        assert client.get("/streaming/events?channel=streaming:orders").status_code == 403
        assert client.get("/streaming/presence/streaming:orders").status_code == 403
        body = {"data": '{"identity": "ada"}'}
        assert client.post("/streaming/channels/streaming:orders", json=body).status_code == 403


@pytest.mark.parametrize("path", ["/streaming/events?channel=news", "/mine"])
def test_a_connection_has_a_lifetime(path: str) -> None:
    door = Door(STREAMING_LIFETIME=0.2)
    with serve(door.app) as site, events(site, "a-1", path) as client:
        begun(client)
        assert [event.event for event in client.events()] == ["restart"]
        site.wait_reason("Its time is over. Connect again and resume.")


def test_a_websocket_has_a_lifetime() -> None:
    door = Door(STREAMING_LIFETIME=0.2)
    with serve(door.app) as site, closes(site, "a-1", "/echo") as ws:
        assert close_code(ws) == 1012


ENDS = {
    "logged out": lambda door: door.users.clear(),
    "somebody else": lambda door: door.users.update({"a-1": "eve"}),
    "not allowed": lambda door: door.open.clear(),
    "a hook": lambda door: door.app.before_request_funcs.setdefault(None, []).append(
        lambda: abort(401)
    ),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_who_may_not_any_more_is_found_by_asking_again(end: Callable[[Door], object]) -> None:
    door = Door(STREAMING_RECHECK=0.1)
    with (
        serve(door.app) as site,
        events(site, "a-1") as client,
        closes(site, "a-1", "/streaming/ws") as ws,
    ):
        begun(client)
        ws.recv(PATIENCE)
        ws.send('{"type":"subscribe","channel":"room"}')
        assert "ready" in ws.recv(PATIENCE)
        end(door)
        assert [event.event for event in client.events()] == ["restart"]
        assert close_code(ws) == 1012


def test_who_still_may_stays_also_where_nobody_answers_and_in_the_applications_views(
    caplog: pytest.LogCaptureFixture,
) -> None:
    door = Door(STREAMING_RECHECK=0.05)
    with (
        serve(door.app, expect_errors=True) as site,
        events(site, "a-1") as client,
        events(site, "a-1", "/mine") as own,
    ):
        begun(client)
        begun(own)
        asked: list[bool] = []
        identify = door.identify

        def count() -> str | None:
            asked.append(door.fails)
            return identify()

        door.app.extensions["streaming"].permissions._identify = count
        wait_until(lambda: asked.count(False) >= 4, "both were asked about")
        door.fails = True
        wait_until(lambda: asked.count(True) >= 4, "nobody has answered")
        door.fails = False
        with door.app.app_context():
            door.streaming.publish("news", "still here")
            door.streaming.publish("private:mine", "still here")
        for each in (client, own):
            event = each.next_event()
            assert event is not None
            assert event.data == "still here"
    assert "was not answered" in caplog.text


def test_whom_nobody_could_ask_again_about_is_told_to_come_again() -> None:
    door = Door(STREAMING_RECHECK=0.1)
    with serve(door.app) as site:
        with no_thread("streaming rechecks") as refused:
            for _ in range(2):
                with events(site, "a-1") as client:
                    assert [event.event for event in client.events()][-1] == "restart"
                with closes(site, "a-1", "/streaming/ws") as ws:
                    assert close_code(ws) == 1013
            site.wait_empty()
            assert len(refused) == 4
        with events(site, "a-1") as client:
            begun(client)
            door.users.clear()
            assert [event.event for event in client.events()] == ["restart"]
