"""docs/tutorial.md: its files do what the page says of them, plain and with the package."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from streaming.web.piece_body import PieceBody
from tests.guides import run_shown, serving, shown
from tests.live.clients import RawClient, read_head
from tests.polling import PATIENCE, wait_until

PAGE = "tutorial.md"
GREETING = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
WELCOME = "Welcome to the WebSocket server!"


def app_of(name: str, **changed: str) -> Flask:
    app: Flask = run_shown(PAGE, name, **changed)["app"]
    return app


@pytest.mark.parametrize("name", ["words.py", "words_with_streaming.py"])
def test_the_words_come_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def pause(body: PieceBody) -> Iterator[bytes]:
        go_on.wait(PATIENCE)
        yield from ()

    monkeypatch.setattr(PieceBody, "pause", pause)
    defined = run_shown(PAGE, name)
    defined["time"] = SimpleNamespace(sleep=lambda seconds: go_on.wait(PATIENCE))
    with (
        serving(defined["app"]) as port,
        RawClient(f"http://127.0.0.1:{port}/answer") as client,
    ):
        assert client.read() == b"One ", "before the others"
        go_on.set()
        assert client.read_all() == b"word after the other. "
        assert client.ending == "whole"


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("greet.py", {"sleep": "time.sleep(0.02)"}),
        ("greet_with_streaming.py", {"every": "every=0.02"}),
    ],
)
def test_one_response_greets_five_times_and_says_close(name: str, changed: dict[str, str]) -> None:
    with (
        serving(app_of(name, **changed)) as port,
        RawClient(f"http://127.0.0.1:{port}/events") as client,
    ):
        assert client.headers["content-type"].partition(";")[0] == "text/event-stream"
        *greetings, close = client.events()
        assert client.ending == "whole"
    assert [event.event for event in greetings] == ["message"] * 5
    assert all(event.json()["message"] == "Hello World" for event in greetings)
    assert all(GREETING.fullmatch(event.json()["timestamp"]) for event in greetings)
    assert (close.event, close.data) == ("close", "{}")


def test_a_client_that_does_not_read_stops_the_generator() -> None:
    app, made, whole = Flask("full"), 0, 300

    @app.get("/")
    def full() -> Iterator[bytes]:
        nonlocal made
        for _ in range(whole):
            made += 1
            yield b"x" * 100_000

    with serving(app) as port, socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        wait_until(lambda: made > 1, "it has begun")
        read = ahead = 0
        while data := client.recv(1 << 16):
            read += len(data)
            ahead = max(ahead, made * 100_000 - read)
    assert read > whole * 100_000
    assert ahead < whole * 100_000 / 2, "what the kernel keeps, and no more"


def test_who_comes_back_gets_what_was_said_meanwhile() -> None:
    app = app_of("news.py")
    say = app.test_client().post
    with serving(app) as port:
        url = f"http://127.0.0.1:{port}/streaming/events?channel=news"
        with RawClient(url) as client:
            assert client.next_event()
            say("/say", data="one")
            seen = client.next_event()
            assert seen is not None
            assert (seen.event, seen.data) == ("message", "one")
        for text in ("two", "three"):
            say("/say", data=text)
        with RawClient(url, headers={"Last-Event-ID": str(seen.id)}) as client:
            events = [client.next_event() for _ in range(3)]
    assert [event and event.data for event in events[-2:]] == ["two", "three"]


@contextmanager
def talkers(*ports: int) -> Iterator[list[ClientConnection]]:
    """A client at each of these ports, welcomed."""
    with ExitStack() as stack:
        all_of_them = []
        for port in ports:
            ws = stack.enter_context(connect(f"ws://127.0.0.1:{port}/ws", close_timeout=0.3))
            assert ws.recv(PATIENCE) == WELCOME
            all_of_them.append(ws)
        yield all_of_them


@pytest.mark.parametrize("name", ["chat.py", "chat_with_streaming.py"])
def test_the_chat_answers_and_tells_the_others(name: str) -> None:
    with serving(app_of(name)) as port, talkers(port, port, port) as (ada, bob, cyd):
        ada.send("hello 你好")
        assert ada.recv(PATIENCE) == "You said: hello 你好"
        assert {bob.recv(PATIENCE), cyd.recv(PATIENCE)} == {"Other client said: hello 你好"}
        bob.close()
        ada.send("still here")
        assert ada.recv(PATIENCE) == "You said: still here"
        assert cyd.recv(PATIENCE) == "Other client said: still here"


def test_two_workers_are_two_chats_or_one(tmp_path: Path) -> None:
    with ExitStack() as stack:
        ports = [stack.enter_context(serving(app_of("chat.py"))) for _ in range(2)]
        ada, bob = stack.enter_context(talkers(*ports))
        ada.send("is anybody there?")
        assert ada.recv(PATIENCE) == "You said: is anybody there?"
        bob.send("nobody")  # what comes first is what came first
        assert bob.recv(PATIENCE) == "You said: nobody"
    line = 'app.config["STREAMING_LOG"] = "sqlite:///streaming.db"\n'
    assert line in (Path(__file__).parents[2] / "docs" / PAGE).read_text("utf-8")
    shared = line.replace("/streaming.db", f"/{tmp_path}/streaming.db")
    source = shown(PAGE, "chat_with_streaming.py").replace(
        "Streaming(app,", shared + "Streaming(app,"
    )
    with ExitStack() as stack:
        ports = []
        for _ in range(2):
            defined: dict[str, Any] = {"__name__": "chat"}
            exec(compile(source, "chat.py", "exec"), defined)
            ports.append(stack.enter_context(serving(defined["app"])))
        ada, bob = stack.enter_context(talkers(*ports))
        ada.send("is anybody there?")
        assert bob.recv(PATIENCE) == "Other client said: is anybody there?"


def test_a_websocket_begins_as_http_on_the_same_connection() -> None:
    page = (Path(__file__).parents[2] / "docs" / PAGE).read_text("utf-8")
    (asked, answered) = re.findall(
        r"^((?:    .+\n){4,})", page.partition("a capture -->")[2], re.M
    )[:2]
    request, answer = (re.sub(r"^    ", "", text, flags=re.M) for text in (asked, answered))
    for name in ("chat.py", "chat_with_streaming.py"):
        with (
            serving(app_of(name)) as port,
            socket.create_connection(("127.0.0.1", port), PATIENCE) as one,
        ):
            one.sendall(request.replace("\n", "\r\n").encode() + b"\r\n")
            status, headers, rest = read_head(one)
            assert status == 101
            assert f"Sec-WebSocket-Accept: {headers['sec-websocket-accept']}" in answer
            while len(rest) < len(WELCOME) + 2:
                rest += one.recv(1000)
            assert rest == bytes([0x81, len(WELCOME)]) + WELCOME.encode(), "a frame, on this socket"


def test_pages_of_other_origins_are_let_in_by_the_one_and_refused_by_the_other() -> None:
    how: dict[str, Any] = {"origin": "https://elsewhere.example", "close_timeout": 0.3}
    with serving(app_of("chat.py")) as port, connect(f"ws://127.0.0.1:{port}/ws", **how) as ws:
        assert ws.recv(PATIENCE) == WELCOME
    with (
        serving(app_of("chat_with_streaming.py")) as port,
        pytest.raises(InvalidStatus, match="403"),
    ):
        connect(f"ws://127.0.0.1:{port}/ws", **how)


def test_a_client_that_does_not_read_stops_the_one_chat_and_not_the_other() -> None:
    """Ada speaks until nobody gets on any more, while Mallory reads nothing."""
    text = "x" * 60_000
    for name, stops in (("chat.py", True), ("chat_with_streaming.py", False)):
        app = app_of(name)
        with serving(app) as port, talkers(port) as (ada,), silent(port):
            heard = 0
            with suppress(TimeoutError):
                while heard < 200:
                    ada.send(text)
                    ada.recv(1.5 if stops else 20)
                    heard += 1
            assert (heard < 200) == stops, name


@contextmanager
def silent(port: int) -> Iterator[None]:
    """A client of the chat that never reads."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        head = (
            "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        )
        head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        client.sendall(head.encode())
        assert b"101" in client.recv(200)
        yield
