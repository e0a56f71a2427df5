"""streaming/web/chat.py: the tutorial's chat, plain text both ways."""

import re
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from streaming import Connection, Gap, Lagged, Sock, Take, chat
from streaming.message import Position
from streaming.web.chat import CHAT, WELCOME
from tests.greenlets import is_green, run_file
from tests.live.raw_websocket import BINARY, CLOSE, TEXT, RawWebSocket, encode, handshake
from tests.polling import PATIENCE, wait_until
from tests.sites import Site, make_app, serve


def make_room(
    room: str,
    authorize: Any = lambda action, channel: True,
    message_size: int = 1_000_000,
    **how: Any,
) -> Flask:
    app = make_app(authorize=authorize, message_size=message_size)

    @Sock(app).route("/room")
    def talk(ws: Connection) -> Take:
        return chat(ws, room, **how)

    return app


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(make_room("chat", message_size=10_000)) as site:
        yield site


def enter(site: Site) -> RawWebSocket:
    """Connect, and stay until the welcome."""
    ws = RawWebSocket(site, "/room", subprotocol=None)  # type: ignore[arg-type]
    assert ws.read_text() == WELCOME == "Welcome to the WebSocket server!"
    return ws


@pytest.mark.parametrize("text", ["hello", "", "你好 😀", "<b>&</b>", "a\nb\r\n\0", "x" * 10_000])
def test_a_message_comes_back_to_its_sender_and_reaches_all_others(site: Site, text: str) -> None:
    with enter(site) as ann, enter(site) as ben, enter(site) as cat:
        wait_until(lambda: site.state.hub.subscribers("chat") == 3, "three in the room")
        ann.send(TEXT, text.encode())
        assert ann.read_text() == f"You said: {text}"
        assert ben.read_text() == f"Other client said: {text}"
        assert cat.read_text() == f"Other client said: {text}"


def test_everybody_sees_one_order(site: Site) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(enter(site)) for _ in range(3)]
        wait_until(lambda: site.state.hub.subscribers("chat") == 3, "three in the room")
        for n in range(30):
            clients[n % 3].send(TEXT, str(n).encode())
        told = [[ws.read_text() for _ in range(30)] for ws in clients]
    numbers = [[line.split(": ")[1] for line in lines] for lines in told]
    assert numbers[0] == numbers[1] == numbers[2]
    for which, lines in enumerate(told):
        own = [int(line.split(": ")[1]) for line in lines if line.startswith("You said")]
        assert own == list(range(which, 30, 3))


def test_what_was_said_before_somebody_came_is_not_told_to_them(site: Site) -> None:
    site.state.hub.publish("chat", "before")
    with enter(site) as ws:
        ws.send(TEXT, b"after")
        assert ws.read_text() == "You said: after"


def test_a_binary_frame_is_taken_as_utf_8_text(site: Site) -> None:
    with enter(site) as ws:
        ws.send(BINARY, "好".encode() + b"\xff")
        assert ws.read_text() == "You said: 好\ufffd"


def test_a_message_followed_at_once_by_a_close_gets_its_answer_and_reaches_the_others(
    site: Site,
) -> None:
    for n in range(20):
        with enter(site) as other, enter(site) as ws:
            goodbye = encode(CLOSE, struct.pack("!H", 1000))
            ws.socket.sendall(encode(TEXT, str(n).encode()) + goodbye)
            assert ws.read_text() == f"You said: {n}"
            assert ws.read_close().close_code == 1000
            assert other.read_text() == f"Other client said: {n}"


def test_a_json_client_is_in_the_same_room(site: Site) -> None:
    with enter(site) as ws, site.json() as client:
        assert client.ask(type="subscribe", channel="chat")["type"] == "ready"
        ws.send(TEXT, b"hi")
        message = client.recv()
        assert (message["data"], message["event"]) == ("hi", "message")
        assert message["from"]["client"] not in ("", client.client)
        assert ws.read_text() == "You said: hi"
        client.send(type="publish", channel="chat", data="hello")
        assert ws.read_text() == "Other client said: hello"


def test_what_the_application_publishes_is_of_nobody_in_the_room(site: Site) -> None:
    with enter(site) as ws:
        wait_until(lambda: site.state.hub.subscribers("chat"), "somebody in the room")
        site.state.hub.publish("chat", "news")
        assert ws.read_text() == "Other client said: news"


def test_somebody_who_leaves_is_forgotten_and_the_others_go_on(site: Site) -> None:
    with enter(site) as stays:
        with enter(site):
            wait_until(lambda: site.state.hub.subscribers("chat") == 2, "two in the room")
        wait_until(lambda: site.state.hub.subscribers("chat") == 1, "one in the room")
        stays.send(TEXT, b"alone")
        assert stays.read_text() == "You said: alone"
    site.wait_empty()
    wait_until(lambda: site.state.hub.subscribers("chat") == 0, "an empty room")


def test_a_message_over_the_limit_ends_its_sender_only(site: Site) -> None:
    with enter(site) as ann, enter(site) as ben:
        ann.send(TEXT, b"x" * 10_001)
        assert ann.read_close().close_code == 1009
        ben.send(TEXT, b"still here")
        assert ben.read_text() == "You said: still here"


def test_bytes_that_grow_beyond_the_limit_as_text_end_their_sender_properly(site: Site) -> None:
    with enter(site) as ws:
        ws.send(BINARY, b"\xff" * 10_000)  # three bytes each as a replacement character
        assert ws.read_close().close_code == 1009


def test_a_drain_closes_the_room_with_1012(site: Site) -> None:
    with connect(f"{site.ws_url}/room") as ws:
        assert ws.recv(PATIENCE) == WELCOME
        wait_until(lambda: site.state.hub.subscribers("chat"), "somebody in the room")
        site.state.close()
        with pytest.raises(ConnectionClosedError):
            ws.recv(PATIENCE)
        assert ws.close_code == 1012


def test_a_gap_ends_the_connection_since_plain_text_has_no_words_for_it() -> None:
    with pytest.raises(Lagged, match="'chat' are lost") as caught:
        CHAT.gap(Gap("chat", Position("e", 1), None, None), "e-2")
    assert caught.value.close_code == 1013


def test_everybody_in_the_room_is_a_member_of_it_for_as_long_as_they_stay(site: Site) -> None:
    with enter(site), site.json() as client:
        (member,) = wait_until(lambda: site.state.presence.members("chat"), "a member")
        row = next(r for r in site.registry.snapshot()["clients"] if r["id"] == member.id)
        assert (row["channels"], member.info) == (["chat"], "")
        assert client.ask(type="presence", channel="chat")["members"] == [
            {"id": member.id, "info": ""}
        ]
    site.wait_empty()
    assert site.state.presence.members("chat") == []


def test_joining_says_nothing_that_the_tutorial_does_not_say(site: Site) -> None:
    with enter(site) as ann, enter(site):
        wait_until(lambda: len(site.state.presence.members("chat")) == 2, "two members")
        ann.send(TEXT, b"hi")
        assert ann.read_text() == "You said: hi"


def test_history_follows_the_welcome_if_asked_for() -> None:
    with serve(make_room("r", history=2)) as site:
        for text in "abc":
            site.state.hub.publish("r", text)
        with site.chat("/room") as ws:
            told = [ws.recv() for _ in range(3)]
            assert told == [WELCOME, "Other client said: b", "Other client said: c"]


@pytest.mark.parametrize("room", ["a b", "r:presence", "r" * 120])
def test_a_room_that_can_have_no_members_refuses_the_handshake(room: str) -> None:
    with serve(make_room(room)) as site:
        assert site.raw(handshake(site, "/room"))[0] == 400  # type: ignore[arg-type]


@pytest.mark.parametrize("refused", ["subscribe", "publish"])
def test_who_may_not_follow_or_speak_is_not_let_in(refused: str) -> None:
    app = make_room("private-1", lambda action, channel: action != refused)
    with serve(app) as site:
        assert site.raw(handshake(site, "/room"))[0] == 403  # type: ignore[arg-type]
        assert site.state.hub.subscribers("private-1") == 0
        assert site.state.presence.members("private-1") == []


def test_a_handler_that_has_decided_itself_says_so() -> None:
    app = make_room("private-1", lambda action, channel: False, check=False)
    with serve(app) as site, site.chat("/room") as ws:
        assert ws.recv() == WELCOME
        ws.send("x")
        assert ws.recv() == "You said: x"


ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "README.zh-CN.md", "docs/quickstart.md"]


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_example_lets_nobody_into_a_room_that_its_authorize_forbids(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    (source,) = [block for block in blocks if "return chat(ws" in block]
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(compile(source, page, "exec"), namespace)
    with serve(namespace["app"]) as site:
        assert site.raw(handshake(site, "/rooms/private-1"))[0] == 403  # type: ignore[arg-type]
        for path in ("/streaming/presence/", "/streaming/events?channel="):
            with site.get(f"{path}private-1") as refused:
                assert refused.status == 403
        with connect(f"{site.ws_url}/rooms/lobby") as ws:
            assert ws.recv(PATIENCE) == WELCOME
            ws.send("x")
            assert ws.recv(PATIENCE) == "You said: x"


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
