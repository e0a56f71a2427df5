"""streaming/logs/redis/: announcements and listening, on a connection that tests can break."""

import socket
import threading
import time
from collections.abc import Iterable, Iterator

import pytest

from streaming.errors import LogUnavailable
from streaming.logs.redis import announcements, listening
from streaming.logs.redis.announcements import Announcements
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

    def look(self, name: str) -> str:
        self.looks.append(name)
        if self.is_away:
            raise LogUnavailable("It is away.")
        return self.found.get(name, "1")

    def announce(self, name: str) -> None:
        if self.ears and name in self.ears[-1].names:
            self.ears[-1].put("message", name)

    def cut(self) -> None:
        self.ears[-1].is_broken = True
        self.ears[-1].theirs.send(b"!")


class Ear:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.sock, self.theirs = socket.socketpair()
        self.sock.setblocking(False)
        self.said: list[tuple[str, str]] = []
        self.names: set[str] = set()
        self.asked: list[str] = []
        self.is_broken = False
        self.unanswered: list[tuple[str, str]] = []

    def answer(self, kind: str, name: str) -> None:
        self.unanswered.append((kind, name))
        if not self.server.is_silent:
            for answer in self.unanswered:
                self.put(*answer)
            self.unanswered.clear()

    def put(self, kind: str, name: str) -> None:
        self.said.append((kind, name))
        self.theirs.send(b"!")

    def subscribe(self, names: Iterable[str]) -> None:
        for name in names:
            self.asked.append(f"+{name}")
            self.names.add(name)
            self.answer("subscribe", name)

    def unsubscribe(self, names: Iterable[str]) -> None:
        for name in names:
            self.asked.append(f"-{name}")
            self.names.discard(name)

    def ping(self) -> None:
        self.asked.append("ping")
        self.answer("pong", "")

    def receive(self) -> tuple[str, str] | None:
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
def heard(server: Server) -> Iterator[Announcements]:
    heard = Announcements(server.connect, server.look)
    yield heard
    heard.close()


def test_one_connection_serves_all_names_and_rings_for_each(
    server: Server, heard: Announcements
) -> None:
    a, b, again = heard.follow("a"), heard.follow("b"), heard.follow("a")
    server.announce("a")
    assert a.wait(PATIENCE)
    assert again.wait(PATIENCE)
    assert not b.wait(0.01)
    assert server.ears[0].asked == ["+a", "+b"]
    assert len(server.ears) == 1


def test_nothing_runs_before_the_first_follower_and_after_the_last(
    server: Server, heard: Announcements
) -> None:
    def running() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name == "streaming announcements"]

    assert not running()
    for _ in range(3):
        bells = {name: heard.follow(name) for name in "ab"}
        assert len(running()) == 1
        for name, bell in bells.items():
            heard.leave(name, bell)
            heard.leave(name, bell)
        wait_until(lambda: not running(), "the thread has ended")


def test_a_lost_connection_is_made_anew_and_everybody_is_rung(
    server: Server, heard: Announcements, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = heard.follow("a"), heard.follow("b")
    server.cut()
    assert a.wait(PATIENCE)
    assert b.wait(PATIENCE)
    assert len(server.ears) == 2
    assert sorted(server.ears[1].asked) == ["+a", "+b"]
    assert "It broke off." in caplog.text
    wait_until(lambda: not heard.trouble, "the trouble is over")
    server.announce("b")
    assert b.wait(PATIENCE)
    assert not a.wait(0)


def test_while_the_server_is_away_following_waits_for_nothing_and_rings_when_it_is_back(
    server: Server, heard: Announcements
) -> None:
    server.is_away = True
    began = time.monotonic()
    bells = [heard.follow(f"c{n}") for n in range(50)]
    assert time.monotonic() - began < PATIENCE
    assert heard.trouble == "It is away."
    assert not bells[0].wait(0)
    server.is_away = False
    for bell in bells:
        assert bell.wait(PATIENCE)


def test_a_server_that_says_nothing_is_asked_and_then_given_up(
    server: Server, heard: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "SILENCE", 0.05)
    a = heard.follow("a")
    wait_until(lambda: server.ears[0].asked.count("ping") > 2, "it is asked again and again")
    assert len(server.ears) == 1, "it answers"
    server.is_silent = True
    wait_until(lambda: len(server.ears) > 1, "another connection is tried")
    server.is_silent = False
    assert a.wait(PATIENCE)


def test_whoever_waited_in_vain_to_be_heard_is_rung_later(
    server: Server, heard: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcements, "SETTLE", 0.05)
    server.is_silent = True
    a = heard.follow("a")
    assert heard.trouble
    assert not a.wait(0)
    server.ears[0].put("subscribe", "a")
    assert a.wait(PATIENCE)
    assert not heard.trouble


def test_a_name_given_up_and_followed_again_counts_as_heard_at_its_last_confirmation(
    server: Server, heard: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcements, "SETTLE", 0.05)
    keep = heard.follow("keep")
    server.is_silent = True
    first = heard.follow("a")
    heard.leave("a", first)
    wait_until(lambda: server.ears[0].asked[-1] == "-a", "it is given up")
    second = heard.follow("a")
    wait_until(lambda: server.ears[0].asked[-1] == "+a", "it is asked for again")
    server.ears[0].put("subscribe", "a")
    server.ears[0].put("message", "keep")
    assert keep.wait(PATIENCE)
    assert not second.wait(0), "that was the answer to the first"
    server.ears[0].put("subscribe", "a")
    assert second.wait(PATIENCE)


def test_what_no_announcement_tells_is_found_by_looking(
    server: Server, heard: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcements, "LOOK", 0.02)
    a, b = heard.follow("a"), heard.follow("b")
    wait_until(lambda: server.looks.count("b") > 2, "it looks again and again")
    assert not a.wait(0)
    server.found["a"] = "2"
    assert a.wait(PATIENCE)
    assert not b.wait(0)
    server.is_away = True
    assert b.wait(PATIENCE)
    server.is_away = False
    assert b.wait(PATIENCE), "it may have changed meanwhile"


def test_an_unforeseen_error_is_logged_and_tried_again(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [ZeroDivisionError("what is this")]

    def connect() -> Ear:
        if errors:
            raise errors.pop()
        return server.connect()

    heard = Announcements(connect, server.look)
    a = heard.follow("a")
    assert a.wait(PATIENCE)
    assert "ZeroDivisionError" in caplog.text
    heard.close()


def test_closing_rings_everybody(heard: Announcements) -> None:
    bells = [heard.follow(name) for name in "abc"]
    heard.close()
    assert all(bell.wait(PATIENCE) for bell in bells)
