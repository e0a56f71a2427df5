"""The tutorial's endpoints, byte for byte what pages written for the Node originals expect.

Both servers, and for WebSocket two client libraries that know nothing of this package.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Protocol

import pytest
import websocket
from websockets.exceptions import ConnectionClosed
from websockets.sync import client as websockets_client

from tests.live.clients import Event, RawClient
from tests.live.harness import flask_run, gunicorn
from tests.live.server import Server
from tests.polling import PATIENCE, wait_until

GREETING = re.compile(
    r'\{"message":"Hello World","timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"\}'
)
WELCOME = "Welcome to the WebSocket server!"
WAIT = PATIENCE


class Talker(Protocol):
    """One WebSocket connection, whichever library holds it."""

    def send(self, data: str | bytes) -> None: ...
    def receive(self) -> str | bytes | None: ...
    def send_and_close(self, text: str) -> None: ...
    def close(self) -> None: ...


class WebSocketClientTalker:
    """websocket-client."""

    def __init__(self, url: str) -> None:
        self._socket: Any = websocket.create_connection(url, timeout=WAIT)

    def send(self, data: str | bytes) -> None:
        if isinstance(data, bytes):
            self._socket.send_binary(data)
        else:
            self._socket.send(data)

    def receive(self) -> str | bytes | None:
        code, data = self._socket.recv_data()
        if code == websocket.ABNF.OPCODE_CLOSE:
            return None
        return str(data, "utf-8") if code == websocket.ABNF.OPCODE_TEXT else bytes(data)

    def send_and_close(self, text: str) -> None:
        # one write: the server finds the message and the close together
        message = websocket.ABNF.create_frame(text, websocket.ABNF.OPCODE_TEXT).format()
        close = websocket.ABNF.create_frame(b"\x03\xe8", websocket.ABNF.OPCODE_CLOSE).format()
        self._socket.sock.sendall(message + close)

    def close(self) -> None:
        self._socket.close()
        self._socket.shutdown()  # close() does nothing where the server has closed first


class WebsocketsTalker:
    """websockets."""

    def __init__(self, url: str) -> None:
        self._stack = contextlib.ExitStack()
        self._socket = self._stack.enter_context(websockets_client.connect(url, open_timeout=WAIT))

    def send(self, data: str | bytes) -> None:
        self._socket.send(data)

    def receive(self) -> str | bytes | None:
        try:
            return self._socket.recv(timeout=WAIT)
        except ConnectionClosed:
            return None

    def send_and_close(self, text: str) -> None:
        self._socket.send(text)
        self._socket.close()

    def close(self) -> None:
        self._stack.close()


Connect = Callable[[], Talker]


@pytest.fixture(params=["/ws", "/"])
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


LIBRARIES: dict[str, Callable[[str], Talker]] = {
    "websocket-client": WebSocketClientTalker,
    "websockets": WebsocketsTalker,
}


@pytest.fixture(params=LIBRARIES)
def connect(request: pytest.FixtureRequest, server: Server, path: str) -> Iterator[Connect]:
    """Opens connections that have received their welcome, and closes them at the end."""
    with contextlib.ExitStack() as stack:

        def connected() -> Talker:
            talker: Talker = LIBRARIES[request.param](server.ws_url + path)
            stack.callback(talker.close)
            assert talker.receive() == WELCOME
            return talker

        yield connected


def test_the_first_greeting_does_not_wait_for_the_second(server: Server) -> None:
    def comes_alone() -> bool:
        """Whether nothing has come behind it: never so, if it did wait."""
        with RawClient(server.url + "/events") as client:
            events: list[Event] = []
            while not events:
                piece = client.read()
                assert piece, "it ended before the first"
                events = client.reader.feed(piece)
        assert events[0].json()["message"] == "Hello World"
        return len(events) == 1

    wait_until(comes_alone, "the first alone, unless we were stopped meanwhile")


def test_a_message_comes_back_to_its_sender_and_reaches_the_others(connect: Connect) -> None:
    anna, ben, carl = connect(), connect(), connect()
    anna.send("hello 你好 👋")
    assert anna.receive() == "You said: hello 你好 👋"
    assert ben.receive() == "Other client said: hello 你好 👋"
    assert carl.receive() == "Other client said: hello 你好 👋"
    ben.send("hi")
    assert ben.receive() == "You said: hi"
    assert anna.receive() == "Other client said: hi"


def test_messages_keep_their_order(connect: Connect) -> None:
    anna, ben = connect(), connect()
    texts = [f"message {n}" for n in range(200)]
    for text in texts:
        anna.send(text)
    assert [anna.receive() for _ in texts] == [f"You said: {text}" for text in texts]
    assert [ben.receive() for _ in texts] == [f"Other client said: {text}" for text in texts]


def test_an_empty_message_is_a_message(connect: Connect) -> None:
    anna, ben = connect(), connect()
    anna.send("")
    assert anna.receive() == "You said: "
    assert ben.receive() == "Other client said: "


def test_a_binary_frame_is_taken_as_text(connect: Connect) -> None:
    anna, ben = connect(), connect()
    anna.send("binär 二进制".encode())
    assert anna.receive() == "You said: binär 二进制"
    assert ben.receive() == "Other client said: binär 二进制"


def test_a_message_followed_at_once_by_a_close_still_gets_its_answer(
    server: Server, path: str
) -> None:
    for _ in range(5):
        talker = WebSocketClientTalker(server.ws_url + path)
        assert talker.receive() == WELCOME
        talker.send_and_close("last words")
        assert talker.receive() == "You said: last words"
        assert talker.receive() is None
        talker.close()


def test_last_words_reach_the_others(connect: Connect) -> None:
    anna, ben = connect(), connect()
    anna.send_and_close("goodbye")
    assert ben.receive() == "Other client said: goodbye"


def test_both_addresses_are_one_room(server: Server) -> None:
    anna = WebSocketClientTalker(server.ws_url + "/ws")
    ben = WebSocketClientTalker(server.ws_url + "/")
    assert (anna.receive(), ben.receive()) == (WELCOME, WELCOME)
    anna.send("from /ws")
    assert ben.receive() == "Other client said: from /ws"
    anna.close()
    ben.close()


def test_events_greets_five_times_then_says_close_and_ends() -> None:
    # it takes ten seconds: both servers at the same time
    with gunicorn() as production, flask_run() as development, ThreadPoolExecutor(2) as pool:
        seen = list(pool.map(greetings, [production, development]))
    for events, ending, seconds in seen:
        *greeted, close = events
        assert [event.event for event in greeted] == ["message"] * 5
        assert all(GREETING.fullmatch(event.data or "") for event in greeted), greeted
        times = [event.json()["timestamp"] for event in greeted]
        assert times == sorted(set(times))
        assert (close.event, close.data) == ("close", "{}")
        assert ending == "whole"
        assert seconds > 9.5  # ten seconds after the start
        assert all(map(is_apart, times, times[1:])), times


def is_apart(one: str, next: str) -> bool:
    """Whether two of them came one after the other, two seconds apart."""
    return (datetime.fromisoformat(next) - datetime.fromisoformat(one)).total_seconds() > 1.9


def greetings(server: Server) -> tuple[list[Event], str | None, float]:
    """All of ``/events``, how it ended, and the seconds it took."""
    begun = time.monotonic()
    with RawClient(server.url + "/events") as client:
        assert client.status == 200
        assert client.headers["content-type"].partition(";")[0] == "text/event-stream"
        return list(client.events()), client.ending, time.monotonic() - begun
