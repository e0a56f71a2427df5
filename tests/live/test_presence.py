"""Who is in a room, under real servers: whatever happens to a client, the list is soon right."""

import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from streaming.hub.hub import Hub
from streaming.hub.presence import Presence
from streaming.logs import open_log
from streaming.logs.contract import BEAT, LEASE
from tests.homes import SHARED_URLS
from tests.hub.rooms import Told
from tests.live.harness import gunicorn
from tests.live.raw_websocket import CLOSE, RawWebSocket
from tests.live.server import Server
from tests.polling import PATIENCE, wait_until

DEAD = LEASE + BEAT
"""Seconds until a process that was killed is found to be dead."""


def listed(server: Server, room: str) -> list[str]:
    """The ids of the members, over HTTP."""
    with urlopen(f"{server.url}/streaming/presence/{room}", timeout=PATIENCE) as answer:
        value = json.load(answer)
    assert value["room"] == room
    return [member["id"] for member in value["members"]]


@contextmanager
def member(server: Server, room: str) -> Iterator[tuple[RawWebSocket, str]]:
    with RawWebSocket(server) as ws:
        client = ws.read_json()["client"]
        ws.send_json(type="join", channel=room, info="somebody")
        joined = ws.read_json()
        assert joined["type"] == "joined"
        assert {"id": client, "info": "somebody"} in joined["members"]
        yield ws, client


def vanish(ws: RawWebSocket) -> None:
    """End the connection with a reset, as a process that was killed does."""
    ws.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ws.socket.close()


def worker_of(server: Server, ws: RawWebSocket) -> int:
    """The process at its other end, as the system has it."""
    ports = f":{server.port:04X}", f":{ws.socket.getsockname()[1]:04X}"

    def sockets() -> set[str]:
        """The system tells its table in parts: what changes meanwhile is in two of them, or none.
        What has closed has the number 0."""
        table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        return {row[9] for row in table if (row[1][-5:], row[2][-5:]) == ports} - {"0"}

    (its,) = wait_until(sockets, "the server's end of the connection")
    (worker,) = [pid for pid in server.worker_pids() if f"socket:[{its}]" in open_files(pid)]
    return worker


def open_files(pid: int) -> set[str]:
    found = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed just now
            found.add(str(file.readlink()))
    return found


def read_events(ws: RawWebSocket, count: int) -> list[tuple[str, str]]:
    frames: list[Any] = [ws.read_json() for _ in range(count)]
    return [(frame["event"], json.loads(frame["data"])["id"]) for frame in frames]


def test_members_that_leave_in_all_ways_are_gone_and_everybody_is_told_once(
    server: Server,
) -> None:
    with RawWebSocket(server) as watcher, ExitStack() as stack:
        assert watcher.read_json()["type"] == "welcome"
        watcher.send_json(type="subscribe", channel="crowd:presence")
        assert watcher.read_json()["type"] == "ready"
        crowd = [stack.enter_context(member(server, "crowd")) for _ in range(40)]
        ids = [client for _, client in crowd]
        assert listed(server, "crowd") == ids
        assert read_events(watcher, 40) == [("join", client) for client in ids]

        random.Random(7).shuffle(crowd)
        for n, (ws, _) in enumerate(crowd[:30]):
            if n % 3 == 0:
                ws.send_json(type="leave", channel="crowd")
            elif n % 3 == 1:
                ws.send(CLOSE, struct.pack("!H", 1000))
            else:
                vanish(ws)
        stayed = {client for _, client in crowd[30:]}
        wait_until(lambda: set(listed(server, "crowd")) == stayed, "only those who stayed")
        left = read_events(watcher, 30)
        assert sorted(left) == sorted(("leave", client) for _, client in crowd[:30])
    wait_until(lambda: listed(server, "crowd") == [], "an empty room")


@pytest.mark.parametrize("home", SHARED_URLS)
def test_members_of_a_worker_that_is_killed_are_gone_in_15_seconds(
    home: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(SHARED_URLS[home](tmp_path))
        env = {"STREAMING_LOG": url, "STREAMING_PONG_TIMEOUT": "600"}  # nobody reads the pings
        server = stack.enter_context(gunicorn(workers=2, extra_env=env, expect_trouble=True))
        on_each: dict[int, set[str]] = {}

        def is_on_both() -> bool:
            """Whether both workers have members, after one more; one may not be up yet."""
            ws, client = stack.enter_context(member(server, "doomed"))
            on_each.setdefault(worker_of(server, ws), set()).add(client)
            return len(on_each) == 2 and sum(map(len, on_each.values())) >= 40

        wait_until(is_on_both, "both workers have members")
        (doomed, gone), (_, stayed) = on_each.items()
        assert set(listed(server, "doomed")) == gone | stayed
        os.kill(doomed, signal.SIGKILL)
        wait_until(lambda: set(listed(server, "doomed")) == stayed, "only who is there", 5 * DEAD)
        assert DEAD <= 15, "the README says so"


def test_clients_of_the_tutorial_are_members_until_they_vanish(server: Server) -> None:
    with ExitStack() as stack:
        before = len(listed(server, "chat"))
        plain = [RawWebSocket(server, "/ws", subprotocol=None) for _ in range(10)]
        crowd = [stack.enter_context(ws) for ws in plain]
        for ws in crowd:
            assert ws.read_text() == "Welcome to the WebSocket server!"
        wait_until(lambda: len(listed(server, "chat")) == before + 10, "ten more in the chat")
        for ws in crowd:
            vanish(ws)
        wait_until(lambda: len(listed(server, "chat")) == before, "all gone again")


class Worker:
    """Another process with the application, which lets ada into the room and takes her out."""

    CODE = """
import sys
from flask import Flask
from streaming import Streaming
app = Flask("worker")
app.config["STREAMING_LOG"] = sys.argv[1]
streaming = Streaming(app)
with app.app_context():
    for verb in sys.stdin:
        getattr(streaming, verb.strip())("hall", "ada")
        print("done", flush=True)
"""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.CODE, url],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def do(self, verb: str) -> None:
        """Call ``join`` or ``leave`` there, and wait until it has returned."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{verb}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(params=SHARED_URLS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with SHARED_URLS[request.param](tmp_path) as url:
        yield url


JOINED, LEFT = ("join", {"id": "ada", "info": ""}), ("leave", {"id": "ada"})


def test_a_member_that_two_workers_let_in_is_there_until_both_have_taken_it_out(url: str) -> None:
    with closing(open_log(url)) as log, Worker(url) as one, Worker(url) as two:
        hub = Hub(log)
        with Told(hub, "hall") as told:
            one.do("join")
            two.do("join")
            one.do("leave")
            assert [member.id for member in log.members("hall")] == ["ada"]
            two.do("leave")
            assert log.members("hall") == []
            told.wait_for(JOINED, LEFT)


def test_only_the_death_of_the_last_worker_that_has_a_member_is_told_and_once(url: str) -> None:
    with closing(open_log(url)) as log, Worker(url) as one, Worker(url) as two:
        hub = Hub(log)
        here = Presence(hub)
        here.join("elsewhere", "witness")
        with Told(hub, "hall") as told:
            one.do("join")
            two.do("join")
            two.kill()  # which let her in last
            wait_until(
                lambda: [member.connections for member in log.members("hall")] == [1],
                "two is taken for dead",
                5 * DEAD,
            )
            one.kill()
            wait_until(lambda: told.all == [JOINED, LEFT], "it is told, and no more", 5 * DEAD)
            assert log.members("hall") == []
        here.leave("elsewhere", "witness")
