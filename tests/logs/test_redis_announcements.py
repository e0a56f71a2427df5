"""streaming/logs/redis/: announcements and listening, on a connection that tests can break."""

import itertools
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing

import pytest

from streaming.errors import LogUnavailable
from streaming.logs.redis import announcements as module
from streaming.logs.redis import listening
from streaming.logs.redis.announcements import Announcements
from streaming.message import Message, Position
from tests.listener import Listener
from tests.polling import PATIENCE, wait_until


class Server:
    """Stands for Redis: confirms, announces, falls silent, breaks off."""

    def __init__(self) -> None:
        self.ears: list[Ear] = []
        self.is_away = False
        self.is_silent = False
        self.found: dict[str, str] = {}
        self.looks: list[str] = []

    def connect(self) -> "Ear":
        if self.is_away:
            raise LogUnavailable("It is away.")
        self.ears.append(Ear(self))
        return self.ears[-1]

    def look(self, channel: str) -> str:
        self.looks.append(channel)
        if self.is_away:
            raise LogUnavailable("It is away.")
        return self.found.get(channel, "e-0")

    def announce(self, channel: str, said: str = "") -> None:
        if self.ears and channel in self.ears[-1].channels:
            self.ears[-1].put("message", channel, said)

    def cut(self) -> None:
        self.ears[-1].is_broken = True
        self.ears[-1].theirs.send(b"!")


class Ear:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.sock, self.theirs = socket.socketpair()
        self.sock.setblocking(False)
        self.said: list[tuple[str, str, str]] = []
        self.channels: set[str] = set()
        self.asked: list[str] = []
        self.is_broken = False
        self.unanswered: list[tuple[str, str]] = []

    def answer(self, kind: str, channel: str) -> None:
        self.unanswered.append((kind, channel))
        if not self.server.is_silent:
            for answer in self.unanswered:
                self.put(*answer)
            self.unanswered.clear()

    def put(self, kind: str, channel: str, said: str = "") -> None:
        self.theirs.send(b"!")  # first: who finds a word takes a byte
        self.said.append((kind, channel, said))

    def subscribe(self, channels: Iterable[str]) -> None:
        for channel in channels:
            self.asked.append(f"+{channel}")
            self.channels.add(channel)
            self.answer("subscribe", channel)

    def unsubscribe(self, channels: Iterable[str]) -> None:
        for channel in channels:
            self.asked.append(f"-{channel}")
            self.channels.discard(channel)

    def ping(self) -> None:
        self.asked.append("ping")
        self.answer("pong", "")

    def receive(self) -> tuple[str, str, str] | None:
        if self.is_broken:
            raise LogUnavailable("It broke off.")
        if not self.said:
            return None
        self.sock.recv(1)
        return self.said.pop(0)

    def close(self) -> None:
        self.sock.close()
        self.theirs.close()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def announcements(server: Server) -> Iterator[Announcements]:
    announcements = Announcements(server.connect, server.look)
    yield announcements
    announcements.close()


def follow(announcements: Announcements, *channels: str) -> list[Listener]:
    listeners = [Listener() for _ in channels]
    for channel, listener in zip(channels, listeners, strict=True):
        announcements.follow(channel, listener)
    return listeners


def message(offset: int, epoch: str = "e") -> Message:
    return Message("a", "text", Position(epoch, offset))


def test_one_connection_serves_all_channels_and_tells_of_each(
    server: Server, announcements: Announcements
) -> None:
    a, b, again = follow(announcements, "a", "b", "a")
    server.announce("a")
    assert a.wait(PATIENCE)
    assert again.wait(PATIENCE)
    assert not b.wait(0.01)
    assert server.ears[0].asked == ["+a", "+b"]
    assert len(server.ears) == 1


def test_nothing_runs_before_the_first_follower_and_after_the_last(
    server: Server, announcements: Announcements
) -> None:
    def running() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name == "streaming announcements"]

    assert not running()
    for _ in range(3):
        listeners = dict(zip("ab", follow(announcements, *"ab"), strict=True))
        assert len(running()) == 1
        for channel, listener in listeners.items():
            announcements.unfollow(channel, listener)
            announcements.unfollow(channel, listener)
        wait_until(lambda: not running(), "the thread has ended")


def test_following_is_counted(server: Server, announcements: Announcements) -> None:
    follow(announcements, "keep")
    a, stranger = Listener(), Listener()
    for _ in range(3):
        announcements.follow("a", a)
    for _ in range(2):
        announcements.unfollow("a", a)
        announcements.unfollow("a", stranger)
    server.announce("a")
    wait_until(lambda: len(a.calls) == 1, "it is told, and once")
    announcements.unfollow("a", a)
    wait_until(lambda: server.ears[0].asked[-1] == "-a", "it is given up")
    assert server.ears[0].asked == ["+keep", "+a", "-a"]
    announcements.appended(message(1))
    assert len(a.calls) == 1


def test_an_unfollow_beside_a_follow_leaves_nobody_deaf(
    server: Server, announcements: Announcements
) -> None:
    follow(announcements, "keep")
    gate = threading.Barrier(2)
    stays = [Listener() for _ in range(200)]

    def come_and_go() -> None:
        for _ in stays:
            leaves = Listener()
            announcements.follow("a", leaves)
            gate.wait(PATIENCE)
            announcements.unfollow("a", leaves)
            gate.wait(PATIENCE)

    thread = threading.Thread(target=come_and_go)
    thread.start()
    for listener in stays:
        gate.wait(PATIENCE)
        announcements.follow("a", listener)
        gate.wait(PATIENCE)
        server.announce("a")
        assert listener.wait(PATIENCE), f"deaf after {server.ears[0].asked}"
        announcements.unfollow("a", listener)
    thread.join()


# What is told


def test_what_was_told_already_is_not_told_again(
    server: Server, announcements: Announcements
) -> None:
    (a,) = follow(announcements, "a")
    announcements.appended(message(5))
    for said in ("e-5", "e-4", "e-1"):
        server.announce("a", said)
    server.announce("a", "e-6")
    wait_until(lambda: len(a.calls) == 2, "the newer one is told")
    announcements.appended(message(6))
    announcements.appended(message(4))
    server.announce("a", "f-1")
    wait_until(lambda: len(a.calls) == 3, "another epoch is told")
    announcements.appended(message(2, "f"))
    assert a.calls == [("a", message(5)), ("a", None), ("a", None), ("a", message(2, "f"))]


def test_what_cannot_be_read_is_told_and_hides_nothing(
    server: Server, announcements: Announcements
) -> None:
    (a,) = follow(announcements, "a")
    announcements.appended(message(5))
    for count, said in enumerate(("", "", "5", "nonsense-x"), start=2):
        server.announce("a", said)
        wait_until(lambda c=count: len(a.calls) == c, "it is told")
    server.announce("a", "e-5")
    server.announce("a", "e-6")
    wait_until(lambda: len(a.calls) == 6, "the newer one is told")


def test_appending_where_nobody_follows_tells_nobody(announcements: Announcements) -> None:
    (b,) = follow(announcements, "b")
    announcements.appended(message(1))
    assert b.calls == []


def test_following_goes_on_while_announcements_do_not_end(
    server: Server, announcements: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    (a,) = follow(announcements, "a")
    ear, numbers = server.ears[0], itertools.count(1)
    receive = ear.receive
    monkeypatch.setattr(ear, "receive", lambda: receive() or ("message", "a", f"e-{next(numbers)}"))
    server.announce("a")
    assert a.wait(PATIENCE)
    (b,) = follow(announcements, "b")
    assert not announcements.trouble, "it took too long"
    server.announce("b")
    assert b.wait(PATIENCE)


def test_what_no_announcement_tells_is_found_by_looking(
    server: Server, announcements: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.02)
    a, b = follow(announcements, "a", "b")
    wait_until(lambda: server.looks.count("b") > 2, "it looks again and again")
    assert len(a.calls) == len(b.calls) == 1, "what was there at the first look"
    server.found["a"] = "e-2"
    wait_until(lambda: len(a.calls) == 2, "it is told")
    server.found["a"] = "e-1"
    wait_until(lambda: len(a.calls) == 3, "what vanished is told too")
    assert len(b.calls) == 1
    server.is_away = True
    wait_until(lambda: len(b.calls) == 2, "that it is away is told")
    server.is_away = False
    wait_until(lambda: len(b.calls) == 3, "it may have changed meanwhile")


def test_a_look_finds_nothing_new_in_what_was_announced(
    server: Server, announcements: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.02)
    server.found["a"] = "e-3"
    (a,) = follow(announcements, "a")
    server.announce("a", "e-3")
    assert a.wait(PATIENCE)
    looks = server.looks.count("a")
    wait_until(lambda: server.looks.count("a") > looks + 1, "it is looked at again")
    assert len(a.calls) == 1


# What goes wrong


def test_a_lost_connection_is_made_anew_and_everybody_is_told(
    server: Server, announcements: Announcements, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = follow(announcements, "a", "b")
    server.cut()
    assert a.wait(PATIENCE)
    assert b.wait(PATIENCE)
    assert len(server.ears) == 2
    assert sorted(server.ears[1].asked) == ["+a", "+b"]
    assert "It broke off." in caplog.text
    wait_until(lambda: not announcements.trouble, "the trouble is over")
    server.announce("b")
    assert b.wait(PATIENCE)
    assert not a.wait(0)


def test_while_the_server_is_away_following_waits_for_nothing_and_is_told_when_it_is_back(
    server: Server, announcements: Announcements
) -> None:
    server.is_away = True
    began = time.monotonic()
    listeners = follow(announcements, *(f"c{n}" for n in range(50)))
    assert time.monotonic() - began < PATIENCE
    assert announcements.trouble == "It is away."
    assert not listeners[0].wait(0)
    server.is_away = False
    for listener in listeners:
        assert listener.wait(PATIENCE)


def test_a_server_that_says_nothing_is_asked_and_then_given_up(
    server: Server, announcements: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "SILENCE", 0.05)
    (a,) = follow(announcements, "a")
    wait_until(lambda: server.ears[0].asked.count("ping") > 2, "it is asked again and again")
    assert len(server.ears) == 1, "it answers"
    server.is_silent = True
    wait_until(lambda: len(server.ears) > 1, "another connection is tried")
    server.is_silent = False
    assert a.wait(PATIENCE)


def test_a_server_that_was_asked_late_has_as_long_to_answer_as_any(server: Server) -> None:
    """Whoever listens was held up for longer than a server may take."""
    ear = server.connect()
    server.is_silent = True
    with closing(ear.sock), closing(ear.theirs):
        session = listening.Session(ear, announced=print, confirmed=print)  # type: ignore[arg-type]
        session._spoke -= 10 * listening.SILENCE
        for _ in range(3):
            session.check()
        assert ear.asked == ["ping"]
        assert session.next > time.monotonic()
        assert session._asked_at is not None
        session._asked_at -= listening.SILENCE
        with pytest.raises(LogUnavailable, match="fallen silent"):
            session.check()


def test_whoever_waited_in_vain_to_be_heard_is_told_later(
    server: Server, announcements: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE", 0.05)
    server.is_silent = True
    (a,) = follow(announcements, "a")
    assert announcements.trouble
    assert not a.wait(0)
    wait_until(lambda: server.ears and server.ears[0].asked == ["+a"], "it is asked for")
    server.ears[0].put("subscribe", "a")
    assert a.wait(PATIENCE)
    wait_until(lambda: not announcements.trouble, "the trouble is over")


def test_a_channel_given_up_and_followed_again_counts_as_heard_at_its_last_confirmation(
    server: Server, announcements: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    (keep,) = follow(announcements, "keep")
    monkeypatch.setattr(module, "SETTLE", 0.05)
    server.is_silent = True
    (first,) = follow(announcements, "a")
    wait_until(lambda: server.ears[0].asked[-1] == "+a", "it is asked for")
    announcements.unfollow("a", first)
    wait_until(lambda: server.ears[0].asked[-1] == "-a", "it is given up")
    (second,) = follow(announcements, "a")
    wait_until(lambda: server.ears[0].asked[-1] == "+a", "it is asked for again")
    server.ears[0].put("subscribe", "a")
    server.ears[0].put("message", "keep")
    assert keep.wait(PATIENCE)
    assert not second.wait(0), "that was the answer to the first"
    server.ears[0].put("subscribe", "a")
    assert second.wait(PATIENCE)


def test_an_unforeseen_error_is_logged_and_tried_again(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    errors = [ZeroDivisionError("what is this")]

    def connect() -> Ear:
        if errors:
            raise errors.pop()
        return server.connect()

    announcements = Announcements(connect, server.look)
    (a,) = follow(announcements, "a")
    assert a.wait(PATIENCE)
    assert "ZeroDivisionError" in caplog.text
    announcements.close()


def test_closing_tells_everybody(announcements: Announcements) -> None:
    listeners = follow(announcements, *"abc")
    announcements.close()
    assert all(listener.wait(PATIENCE) for listener in listeners)
