"""streaming/web/memberships.py: who is in a room, as the application says."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask, request
from websockets.sync.client import connect

from streaming import Identity, Sock, Streaming, chat
from tests.polling import wait_until
from tests.sites import Site, serve


@pytest.fixture
def site() -> Iterator[Site]:
    app = Flask("x")

    def identify() -> Identity | None:
        name = request.headers.get("X-User") or request.cookies.get("user")
        return Identity(name, name.title()) if name else None

    Streaming(app, identify=identify, authorize=lambda action, channel: True)
    Sock(app).route("/talk")(lambda ws: chat(ws, "room"))
    with serve(app) as site:
        yield site


def enter(site: Site, stack: ExitStack, user: str = "", info: str = "") -> Any:
    client = stack.enter_context(site.json(headers={"X-User": user} if user else {}))
    client.ask(type="join", channel="room", info=info)
    return client


def members(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(site.state.presence.roster("room").page().join("{}"))[
        "members"
    ]
    return found


def test_three_tabs_of_one_are_one_member_until_the_last_is_closed(site: Site) -> None:
    with ExitStack() as stack, site.json() as watcher:
        watcher.ask(type="subscribe", channel="room:presence")
        tabs = [ExitStack() for _ in range(3)]
        for tab in tabs:
            enter(site, stack.enter_context(tab), "ada")
        assert members(site) == [{"id": "user:ada", "info": "", "name": "Ada", "connections": 3}]
        for tab in tabs:
            tab.close()
        told = [watcher.recv() for _ in range(2)]
        assert [(t["event"], json.loads(t["data"])["id"]) for t in told] == [
            ("join", "user:ada"),
            ("leave", "user:ada"),
        ]


def test_what_somebody_says_of_itself_stands_beside_who_it_is(site: Site) -> None:
    with ExitStack() as stack:
        enter(site, stack, "eve", info="I am ADMIN")
        assert members(site) == [{"id": "user:eve", "info": "I am ADMIN", "name": "Eve"}]


def test_a_stranger_is_there_under_the_id_of_its_connection(site: Site) -> None:
    with ExitStack() as stack:
        client = enter(site, stack, info="user:ada")
        assert members(site) == [{"id": client.client, "info": "user:ada"}]


def test_leaving_with_one_tab_leaves_the_others_there(site: Site) -> None:
    with ExitStack() as stack:
        first, _ = enter(site, stack, "ada"), enter(site, stack, "ada")
        first.ask(type="leave", channel="room")
        assert members(site) == [{"id": "user:ada", "info": "", "name": "Ada"}]


def test_the_tutorials_chat_and_the_protocol_are_one_member_too(site: Site) -> None:
    with ExitStack() as stack:
        enter(site, stack, "ada")
        talk = connect(f"{site.ws_url}/talk", additional_headers={"X-User": "ada"})
        stack.enter_context(talk)
        wait_until(lambda: members(site)[0].get("connections") == 2, "both are there")
