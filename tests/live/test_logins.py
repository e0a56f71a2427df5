"""An application with Flask-Login, on two workers: who logs out is let go of by both."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from streaming import Publisher
from tests.homes import SHARED_URLS
from tests.live.clients import RawClient
from tests.live.harness import gunicorn
from tests.live.server import Server
from tests.polling import PATIENCE, wait_until


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with SHARED_URLS[request.param](tmp_path) as url:
        yield url


@pytest.fixture
def server(url: str) -> Iterator[Server]:
    app = "tests.live.logins_app:app"
    with gunicorn(app, workers=2, extra_env={"STREAMING_LOG": url}) as server:
        yield server


on_each_home = pytest.mark.parametrize("url", SHARED_URLS, indirect=True)


class User:
    """Somebody who has logged in, and what is open on each worker."""

    def __init__(self, server: Server, name: str, stack: ExitStack) -> None:
        self.http = stack.enter_context(httpx.Client(base_url=server.url, timeout=PATIENCE))
        assert self.http.post("/login", data={"id": name}).status_code == 302
        cookie = f"session={self.http.cookies['session']}"
        on_each: dict[str, list[RawClient]] = defaultdict(list)

        def is_on_both() -> bool:
            """Whether two more streams are on each worker; the other may not be up yet."""
            where = f"{server.url}/streaming/events?channel=user:{name}&channel=lobby"
            stream = stack.enter_context(RawClient(where, headers={"Cookie": cookie}))
            assert stream.next_event() is not None
            its = on_each[stream.headers["x-worker"]]
            if len(its) < 2:
                its.append(stream)
            else:
                stream.close()
            return [len(its) for its in on_each.values()] == [2, 2]

        wait_until(is_on_both, "both workers have some")
        self.streams = [stream for its in on_each.values() for stream in its]
        self.sockets = [
            stack.enter_context(
                connect(
                    f"ws://127.0.0.1:{server.port}/chat",
                    additional_headers={"Cookie": cookie},
                    open_timeout=PATIENCE,
                    ping_interval=None,
                )
            )
            for _ in range(4)
        ]

    def ends(self) -> list[str]:
        """The last word on each connection."""
        lasts = [list(stream.events())[-1].event for stream in self.streams]
        for ws in self.sockets:
            with suppress(ConnectionClosed):
                while True:
                    ws.recv(PATIENCE)
            lasts.append(str(ws.close_code))
        return lasts


@on_each_home
@pytest.mark.parametrize("way", ["the page", "a script"])
def test_who_logs_out_is_let_go_of_on_both_workers(server: Server, url: str, way: str) -> None:
    with ExitStack() as stack:
        ada, eve = User(server, "ada", stack), User(server, "eve", stack)
        if way == "the page":
            assert ada.http.post("/logout").status_code == 302
        else:
            with Publisher(url) as publisher:
                publisher.revoke(identity="ada")
        assert ada.ends() == ["close"] * len(ada.streams) + ["1008"] * 4
        with ada.http.stream("GET", "/streaming/events?channel=lobby") as again:
            assert again.status_code == (403 if way == "the page" else 200)
        eve.sockets[0].send("still here")
        for stream in eve.streams:
            wait_until(
                lambda stream=stream: (e := stream.next_event()) and e.data == "still here",
                "it goes on",
            )


@on_each_home
def test_a_message_to_somebody_is_for_nobody_else(server: Server) -> None:
    with ExitStack() as stack:
        ada, eve = User(server, "ada", stack), User(server, "eve", stack)
        assert eve.http.post("/notify/ada").status_code == 204
        for stream in ada.streams:
            event = stream.next_event()
            assert event is not None
            assert event.data == "eve waves at you"
        assert eve.http.get("/streaming/events?channel=user:ada").status_code == 403
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as stranger:
            for channel in ("user:ada", "lobby"):
                assert stranger.get(f"/streaming/events?channel={channel}").status_code == 403
