"""``streaming.v1.json``: whole conversations with a hub in memory, and what is left of them."""

import functools
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from streaming.clients.websocket import Connection
from streaming.errors import ProtocolError
from streaming.hub.hub import Hub
from streaming.logs import MemoryLog
from streaming.settings import Settings
from streaming.web.permissions import Permissions
from streaming.web.protocol import converse
from streaming.web.state import State
from streaming.wire import frames
from tests.fuzz.strategies import cursors, json_like, json_values, words
from tests.polling import PATIENCE

ANSWERS = {
    "subscribe": "ready",
    "unsubscribe": "unsubscribed",
    "publish": "ack",
    "join": "joined",
    "leave": "left",
    "presence": "presence",
}
LATER = {"message", "gap", "ended"}
"""What comes of a subscription, whenever it comes."""
SECRET = "0123456789abcdef"

_channels = st.sampled_from(["a", "b", "a:presence", "secret", "streaming:orders", "end"])
_common = {
    "channel": _channels,
    "data": words,
    "event": st.sampled_from(["tick", "end", "", "message"]) | words,
    "after": st.sampled_from(["start", "own"]) | cursors,
    "history": st.sampled_from([0, 3, -1, 2**70, True, 1.0, "1"]),
    "key": st.sampled_from(["k", "l"]) | words,
    "secret": st.just(SECRET) | words,
    "info": words,
    "ref": st.integers() | st.text(max_size=70) | json_values,
}


def frame_of(verb: str) -> st.SearchStrategy[dict[str, Any]]:
    needed = {"publish": ["channel", "data"]}.get(verb, ["channel"])
    wrong = {name: st.one_of(value, value, value, json_values) for name, value in _common.items()}
    return st.fixed_dictionaries(
        {"type": st.just(verb), **{name: _common[name] for name in needed}},
        optional={name: value for name, value in wrong.items() if name not in needed},
    )


_frames = st.one_of(
    st.sampled_from([*ANSWERS]).flatmap(frame_of).map(json.dumps),
    st.sampled_from([*ANSWERS]).flatmap(
        lambda verb: st.builds(
            lambda channel: json.dumps({"type": verb, "channel": channel, "data": "x"}), _channels
        )
    ),
    st.dictionaries(st.sampled_from([*_common, "type"]) | words, json_values | words).map(
        json.dumps
    ),
    json_like,
    st.binary(max_size=20),
)


@functools.cache
def app() -> Flask:
    return Flask("fuzzed")


class Peer:
    """A client whose frames are followed in this thread, and what it has been sent."""

    def __init__(self, state: State, sock: socket.socket, connection: Connection) -> None:
        self.state, self.connection, self._socket = state, connection, sock
        self._decoder = frames.Decoder(1 << 24, require_mask=False)
        self._take = converse(connection, state)
        assert [frame["type"] for frame in self.sent()] == ["welcome"]

    def ask(self, frame: str | bytes) -> list[dict[str, Any]]:
        """What the frame is answered with, but for deliveries."""
        self._take(frame)
        return [said for said in self.sent() if said["type"] not in LATER]

    def sent(self) -> list[dict[str, Any]]:
        """What has come. An answer is with the kernel before its frame is through."""
        found = []
        while True:
            try:
                data = self._socket.recv(1 << 20)
            except BlockingIOError:
                return found
            for value in self._decoder.feed(data):
                assert isinstance(value, frames.Text)
                found.append(json.loads(value.data, parse_constant=lambda name: 1 / 0))

    def facts(self) -> tuple[Any, ...]:
        """What a frame that is refused may not change."""
        tails = [self.state.hub.log.tail(channel, 0) for channel in ("a", "b", "secret", "end")]
        heads = [None if tail.is_mark else str(tail) for tail in tails]  # marks are of now
        followed = self.followed() - {"end"}  # that one is let go of by its delivery
        return followed, heads, [self.joined(room) for room in ("a", "b", "secret")]

    def followed(self) -> set[str]:
        return {sub.channels[0] for sub in self.connection.line.subscriptions()}

    def joined(self, room: str) -> bool:
        return any(m.id == self.connection.id for m in self.state.presence.members(room))


def may(action: str, channel: str) -> bool:
    return channel != "secret"


@contextmanager
def connected() -> Iterator[Peer]:
    """A peer; when it has left, nothing of it is left."""
    before = set(threading.enumerate())
    hub = Hub(MemoryLog())
    state = State(Settings(), hub, Permissions(may))
    hub.end("end")
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with closing(ours), closing(theirs), app().test_request_context("/"):
        connection = Connection(state.registry.deadlines, state.settings, ours)
        connection.line.start()
        try:
            yield Peer(state, theirs, connection)
        finally:
            for ending in connection.take_endings():
                ending()
            connection.line.stop()
            state.close()
        assert not connection.line.subscriptions()
        assert hub._dispatcher._channels.keys() <= {"streaming:orders"}
        assert len(state.presence) == 0
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive(), thread.name


@given(st.lists(_frames, max_size=10))
def test_each_frame_has_one_answer_and_one_that_is_refused_changes_nothing(
    conversation: list[str | bytes],
) -> None:
    with connected() as peer:
        for frame in conversation:
            before = peer.facts()
            if isinstance(frame, bytes):
                try:
                    peer.ask(frame)
                except ProtocolError as fault:
                    assert fault.close_code == 1003
                assert peer.facts() == before
                continue
            (said,) = peer.ask(frame)
            if said["type"] == "error":
                assert 400 <= said["status"] < 500
                assert len(json.dumps(said)) < 4000
                assert peer.facts() == before
            else:
                check_done(peer, json.loads(frame), said)


def check_done(peer: Peer, asked: dict[str, Any], said: dict[str, Any]) -> None:
    """What was asked for is what was done."""
    verb, channel = asked["type"], asked["channel"]
    assert said["type"] == ANSWERS[verb]
    assert said["channel"] == channel
    assert said.get("ref") == asked.get("ref")
    assert channel not in ("secret", "streaming:orders")
    if verb in ("subscribe", "unsubscribe"):
        assert (channel in peer.followed()) == (verb == "subscribe") or channel == "end"
    elif verb in ("join", "leave"):
        assert peer.joined(channel) == (verb == "join")
    elif verb == "publish":
        log = peer.state.hub.log
        held = log.read(channel, log.tail(channel, 999), limit=999, size=10**7).messages
        (message,) = [message for message in held if str(message.id) == said["id"]]
        assert message.client == peer.connection.id
        assert message.data == asked["data"] or "key" in asked


_plain = st.tuples(st.sampled_from([*ANSWERS]), st.sampled_from("abc"))


@given(st.lists(_plain, max_size=20))
def test_what_is_followed_and_joined_is_what_the_answers_have_said(
    asked: list[tuple[str, str]],
) -> None:
    followed: set[str] = set()
    joined: set[str] = set()
    with connected() as peer:
        for verb, channel in asked:
            (said,) = peer.ask(json.dumps({"type": verb, "channel": channel, "data": "x"}))
            is_wrong = {
                "subscribe": channel in followed,
                "unsubscribe": channel not in followed,
                "leave": channel not in joined,
            }.get(verb, False)
            assert (said["type"] == "error") == is_wrong
            {
                "subscribe": followed.add,
                "unsubscribe": followed.discard,
                "join": joined.add,
                "leave": joined.discard,
            }.get(verb, lambda _: None)(channel)
            assert peer.followed() == followed
            assert {room for room in "abc" if peer.joined(room)} == joined
