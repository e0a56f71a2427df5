"""streaming/clients/intake.py: whoever has us wait for too long is cut off."""

import socket
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from streaming.clients import deadlines, intake, sockets
from streaming.clients.deadlines import Deadlines
from streaming.clients.intake import GRACE, HASTE, HURRY, LOOK, RATE, Intake
from tests.greenlets import is_green, run_file
from tests.pairs import PAIRS
from tests.polling import PATIENCE, wait_until
from tests.sockets import tcp_pair

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both ends of a TCP connection, the server's first."""
    with tcp_pair() as ends:
        yield ends


class Crowd:
    """Whether others wait to be served."""

    def __init__(self) -> None:
        self.is_there = False

    def __call__(self) -> bool:
        return self.is_there


def waiting(sock: socket.socket, **how: Any) -> Intake:
    """What somebody waits for, and nobody looks at by itself."""
    one = Intake(mock.create_autospec(Deadlines), sock, **how)
    one.begin()
    return one


def check(one: Intake, seconds: float) -> float | None:
    """Look at it when somebody will have waited so long; how long until the next look."""
    when = one.due(one.since + seconds)
    return None if when is None else when - one.since - seconds


def send(pair: Pair, size: int) -> None:
    """So many bytes come, and are read."""
    pair[1].sendall(b"x" * size)
    while size:
        size -= len(pair[0].recv(size))


@pytest.mark.parametrize("kind", PAIRS)
def test_who_sends_nothing_is_cut_off_and_can_still_be_told_why(kind: str) -> None:
    ours, theirs = PAIRS[kind]()
    with ours, theirs:
        one = waiting(ours)
        assert check(one, GRACE - 1) == pytest.approx(1)
        assert not one.is_late
        assert check(one, GRACE) is None
        assert one.is_late
        assert ours.recv(9) == b""
        ours.sendall(b"408")
        assert theirs.recv(9) == b"408"


def test_what_comes_buys_time(pair: Pair) -> None:
    one = waiting(pair[0])
    send(pair, 5 * RATE)
    assert check(one, GRACE + 4.5) == pytest.approx(0.5)
    assert check(one, GRACE + 5) is None


def test_on_a_unix_socket_what_was_announced_buys_time() -> None:
    ours, theirs = PAIRS["unix"]()
    with ours, theirs:
        one = waiting(ours, size=3 * RATE)
        assert check(one, GRACE + 2.5) == pytest.approx(0.5)
        assert check(one, GRACE + 3) is None


def test_a_fixed_time_is_not_for_sale(pair: Pair) -> None:
    one = waiting(pair[0], grace=10.0)
    send(pair, 5 * RATE)
    assert check(one, 9) == pytest.approx(1)
    assert check(one, 10) is None


def test_only_the_waiting_counts(pair: Pair) -> None:
    one = waiting(pair[0])
    with mock.patch.object(intake.time, "monotonic", return_value=one.since + GRACE - 1):
        one.end()
    assert one.due(one.since + 1000) is None, "nobody waits"
    assert not one.is_late
    one.begin()
    assert check(one, 0.5) == pytest.approx(0.5), "all the waits count together"
    assert check(one, 1) is None
    assert one.is_late


def test_a_look_that_a_wait_ends_in_the_midst_of_cuts_nobody_off(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one is done by the deadlines' thread, the other by the request's."""
    one, unread = waiting(pair[0]), sockets.unread
    ending = threading.Thread(target=one.end)

    def look(sock: socket.socket) -> int:
        ending.start()
        ending.join(0.1)  # as far as it comes
        return unread(sock)

    monkeypatch.setattr(sockets, "unread", look)
    one.due(one.since)
    ending.join()
    assert not one.is_late
    pair[1].sendall(b"the next request")
    pair[0].settimeout(PATIENCE)
    assert pair[0].recv(99) == b"the next request"


def test_who_is_not_read_is_not_late(pair: Pair) -> None:
    one = waiting(pair[0])
    pair[1].sendall(b"x")
    wait_until(lambda: pair[0].recv(1, socket.MSG_PEEK), "it has come")
    assert check(one, GRACE + 1) is not None
    assert not one.is_late


def test_in_a_crowd_time_is_short_and_dearer() -> None:
    crowd = Crowd()
    for come in (0, 30_000):
        with tcp_pair() as pair:
            one = waiting(pair[0], is_crowded=crowd)
            send(pair, come)
            crowd.is_there = False
            assert check(one, HURRY) == pytest.approx(LOOK)
            crowd.is_there = True
            late = HURRY + come / (RATE * HASTE)
            assert check(one, late - 0.5) == pytest.approx(0.5)
            assert check(one, late) is None
            assert one.is_late


def test_who_need_not_begin_has_time_from_the_first_byte_on(pair: Pair) -> None:
    crowd = Crowd()
    one = waiting(pair[0], grace=10.0, is_idle=True, is_crowded=crowd)
    assert check(one, 1000) == pytest.approx(LOOK)
    send(pair, 1)
    began = one.since
    assert one.due(began + 1000) == pytest.approx(began + 1000 + LOOK)
    assert check(one, 9.5) == pytest.approx(0.5)
    assert check(one, 10) is None


def test_that_somebody_had_begun_before_is_found_at_the_first_look(pair: Pair) -> None:
    send(pair, 3)
    pair[1].sendall(b"x")
    wait_until(lambda: pair[0].recv(1, socket.MSG_PEEK), "it has come")
    one = waiting(pair[0], grace=10.0, is_idle=True)
    assert pair[0].recv(9) == b"x"
    assert check(one, 0) == pytest.approx(LOOK)
    assert check(one, 9.5) == pytest.approx(0.5)
    assert check(one, 10) is None


def test_who_does_not_begin_is_let_go_in_a_crowd(pair: Pair) -> None:
    crowd = Crowd()
    one = waiting(pair[0], grace=10.0, is_idle=True, is_crowded=crowd)
    crowd.is_there = True
    assert check(one, HURRY) is None
    assert one.is_late


def test_the_deadlines_cut_off_who_is_late(pair: Pair) -> None:
    wheel = Deadlines()
    with (
        mock.patch.object(deadlines, "TICK", 0.01),
        mock.patch.multiple(intake, GRACE=0.03, LOOK=0.01),
    ):
        one = Intake(wheel, pair[0])
        with one.wait():
            pair[0].settimeout(PATIENCE)
            assert pair[0].recv(1) == b""
        assert one.is_late
        one.drop()
    assert len(wheel) == 0


def test_a_wait_that_ends_in_time_leaves_nothing(pair: Pair) -> None:
    wheel = Deadlines()
    one = Intake(wheel, pair[0])
    for _ in range(2):
        with one.wait():
            wait_until(lambda: len(wheel) == 1, "somebody will look at it")
    one.drop()
    assert len(wheel) == 0
    assert not one.is_late


def test_where_no_thread_can_be_had_it_is_read_all_the_same(pair: Pair) -> None:
    wheel = Deadlines()
    no_thread = mock.patch.object(wheel, "set", side_effect=RuntimeError("no thread"))
    with no_thread, Intake(wheel, pair[0]).wait():
        pair[1].sendall(b"x")
        assert pair[0].recv(1) == b"x"


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
