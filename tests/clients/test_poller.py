"""streaming/clients/poller.py: one wait for all clients at rest, in greenlets only."""

import errno
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from unittest import mock

import pytest

from streaming.clients import poller as pollers
from streaming.clients.poller import Poller
from tests.greenlets import is_green, run_file
from tests.polling import wait_until
from tests.sockets import no_descriptor_left, open_descriptors

NAME = "streaming poller"


def at_work() -> int:
    return [thread.name for thread in threading.enumerate()].count(NAME)


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)


class Resting:
    """A client at rest: hears what its peer says, and listens on until the peer leaves."""

    def __init__(self, poller: Poller, stack: ExitStack) -> None:
        self.poller = poller
        self.sock, self.peer = socket.socketpair()
        stack.callback(self.leave)
        self.heard = b""
        self.calls = 0
        self.is_over = False
        self.watch()

    def leave(self) -> None:
        self.peer.close()
        wait_until(lambda: self.is_over, "its end is heard")

    def watch(self) -> None:
        self.poller.watch(self.sock, self._hear)

    def _hear(self) -> None:
        self.calls += 1
        try:
            said = os.read(self.sock.fileno(), 100)
        except BlockingIOError:
            self.watch()
            return
        self.heard += said
        if said:
            self.watch()
        else:
            self.is_over = True
            self.sock.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Lets everybody leave that the test made; then there is no poller any more."""
    with ExitStack() as stack:
        yield stack
    wait_until(lambda: not at_work(), "no poller")


def green_one_that_says_something_is_called_once_and_one_that_is_silent_is_not(
    stack: ExitStack,
) -> None:
    poller = Poller()
    ours, peer = map(stack.enter_context, socket.socketpair())
    silent = Resting(poller, stack)
    calls: list[str] = []
    poller.watch(ours, lambda: calls.append("one"))
    peer.send(b"x")
    wait_until(lambda: calls, "the call")
    peer.send(b"more")
    other = Resting(poller, stack)
    other.peer.send(b"y")
    wait_until(lambda: other.heard, "another call")
    assert calls == ["one"]
    assert silent.calls == 0


def green_who_listens_again_hears_all_there_is_and_the_end(stack: ExitStack) -> None:
    poller = Poller()
    client = Resting(poller, stack)
    for n in range(20):
        client.peer.send(b"%d," % n)
    client.peer.close()
    wait_until(lambda: client.is_over, "the end")
    assert client.heard == b"".join(b"%d," % n for n in range(20))


def green_a_socket_that_is_shut_on_our_side_is_readable(stack: ExitStack) -> None:
    client = Resting(Poller(), stack)
    client.sock.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: client.is_over, "the end")


def green_one_thread_waits_for_all_and_for_nobody_there_is_none(stack: ExitStack) -> None:
    poller, before = Poller(), open_descriptors()
    assert at_work() == 0
    clients = [Resting(poller, stack) for _ in range(50)]
    assert at_work() == 1
    for client in clients:
        client.peer.close()
    wait_until(lambda: all(client.is_over for client in clients), "all ends")
    wait_until(lambda: not at_work(), "no poller")
    wait_until(lambda: open_descriptors() == before, "all is closed")
    again = Resting(poller, stack)
    again.peer.send(b"x")
    wait_until(lambda: again.heard, "it works again")


def green_one_that_fails_is_reported_and_costs_the_others_nothing(
    stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    poller = Poller()
    ours, peer = map(stack.enter_context, socket.socketpair())
    sound = Resting(poller, stack)

    def fail() -> None:
        raise ZeroDivisionError("broken client")

    with caplog.at_level(logging.ERROR, "streaming.clients.poller"):
        poller.watch(ours, fail)
        peer.send(b"x")
        sound.peer.send(b"x")
        wait_until(lambda: sound.heard, "the sound one is called")
        wait_until(lambda: "broken client" in caplog.text, "the report")


# faults


def green_without_a_pipe_nobody_is_watched_and_nothing_is_left_open(stack: ExitStack) -> None:
    poller, before = Poller(), open_descriptors()
    ours, peer = map(stack.enter_context, socket.socketpair())
    with no_descriptor_left(), pytest.raises(OSError, match="Too many open files"):
        poller.watch(ours, lambda: None)
    wait_until(lambda: open_descriptors() == before + 2, "all is closed")
    assert at_work() == 0
    calls: list[int] = []
    poller.watch(ours, lambda: calls.append(1))
    peer.send(b"x")
    wait_until(lambda: calls, "it works once there is one")


@pytest.mark.parametrize("where", ["the selector", "its registration", "the thread"])
def green_a_poller_that_cannot_start_leaves_nothing_open(where: str, stack: ExitStack) -> None:
    poller, before = Poller(), open_descriptors()
    ours, _ = map(stack.enter_context, socket.socketpair())
    error: Exception = OSError(errno.EMFILE, "Too many open files")
    if where == "the selector":
        patch = mock.patch.object(pollers.selectors, "DefaultSelector", side_effect=error)
    elif where == "its registration":
        patch = mock.patch.object(pollers.selectors.DefaultSelector, "register", side_effect=error)
    else:
        error = RuntimeError("can't start new thread")
        patch = mock.patch.object(threading.Thread, "start", side_effect=error)
    with patch, pytest.raises(type(error)):
        poller.watch(ours, lambda: None)
    wait_until(lambda: open_descriptors() == before + 2, "all is closed")
    assert at_work() == 0
    client = Resting(poller, stack)
    client.peer.send(b"x")
    wait_until(lambda: client.heard, "it works once it can")


def green_a_client_that_cannot_be_watched_any_more_says_so_and_the_others_are(
    stack: ExitStack,
) -> None:
    poller = Poller()
    client = Resting(poller, stack)
    late, _ = map(stack.enter_context, socket.socketpair())
    with (
        mock.patch.object(
            pollers.selectors.DefaultSelector,
            "register",
            side_effect=OSError(errno.ENOSPC, "No space left on device"),
        ),
        pytest.raises(OSError, match="No space"),
    ):
        poller.watch(late, lambda: None)
    client.peer.send(b"x")
    wait_until(lambda: client.heard, "the others are heard")


def green_a_poller_that_fails_once_orphans_nobody(
    stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    poller, before = Poller(), open_descriptors()
    clients = [Resting(poller, stack) for _ in range(20)]
    failed: list[OSError] = []
    wait = pollers.selectors.DefaultSelector.select

    def fail_once(self: object, timeout: float | None = None) -> object:
        if not failed:
            failed.append(OSError(errno.EBADF, "broken wait"))
            raise failed[0]
        return wait(self, timeout)  # type: ignore[arg-type]

    with mock.patch.object(pollers.selectors.DefaultSelector, "select", fail_once):
        clients[0].peer.send(b"x")  # it wakes, and waits again
        wait_until(lambda: failed, "the failure")
        for client in clients:
            client.peer.send(b"y")
        wait_until(lambda: all(b"y" in client.heard for client in clients), "all are heard")
    assert "broken wait" in caplog.text
    for client in clients:
        client.peer.close()
    wait_until(lambda: all(client.is_over for client in clients), "all ends")
    wait_until(lambda: not at_work(), "no poller")
    wait_until(lambda: open_descriptors() == before, "all is closed")


def green_a_poller_that_fails_for_ever_tries_once_a_second_and_hears_all_when_it_is_mended(
    stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    poller, before = Poller(), open_descriptors()
    clients = [Resting(poller, stack) for _ in range(3)]
    failures, pauses = [0], []
    wait, sleep = pollers.selectors.DefaultSelector.select, pollers.time.sleep

    def fail(self: object, timeout: float | None = None) -> object:
        if 0 < failures[0] < 20:
            failures[0] += 1
            raise OSError(errno.EBADF, "broken wait")
        return wait(self, timeout)  # type: ignore[arg-type]

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        clients.append(Resting(poller, stack))  # who comes meanwhile is heard, too
        sleep(0.0)

    with (
        mock.patch.object(pollers.selectors.DefaultSelector, "select", fail),
        mock.patch.object(pollers, "time", mock.Mock(wraps=pollers.time, sleep=pause)),
    ):
        failures[0] = 1
        clients[0].peer.send(b"x")  # it wakes, and waits again
        wait_until(lambda: failures[0] == 20, "it is mended")
        for client in clients:
            client.peer.send(b"y")
        wait_until(lambda: all(b"y" in client.heard for client in clients), "all are heard")
        failures[0] = 19
        clients[0].peer.send(b"z")
        wait_until(lambda: b"z" in clients[0].heard, "it is heard")
        wait_until(lambda: len(pauses) >= 20, "it pauses before it waits again")
    assert len(pauses) == 20
    assert pauses[0] == pauses[-1] < 0.1
    assert pauses[1:-1] == sorted(pauses[1:-1])
    assert max(pauses) == 1.0
    assert caplog.text.count("The poller failed") == 2, "once for each row of failures"
    for client in clients:
        client.peer.close()
    wait_until(lambda: all(client.is_over for client in clients), "all ends")
    wait_until(lambda: not at_work(), "no poller")
    wait_until(lambda: open_descriptors() == before, "all is closed")


def green_clients_that_leave_together_do_not_keep_others_from_their_turn(
    stack: ExitStack,
) -> None:
    """Counted in turns, not in time: each client takes longer than a slice, by this one's clock."""
    poller, clients = Poller(), []
    with (
        mock.patch.object(pollers, "SLICE", -1.0),
        mock.patch.object(pollers, "give_turn") as turns,
    ):
        clients = [Resting(poller, stack) for _ in range(200)]
        for client in clients:
            client.peer.close()
        wait_until(lambda: all(client.is_over for client in clients), "all ends")
        wait_until(lambda: not at_work(), "no poller")
    assert turns.call_count >= 200


def green_hundreds_that_leave_are_heard_in_slices_with_turns_between_them() -> None:
    """By a clock that says that each look at it takes a tenth of a slice."""
    pairs = [socket.socketpair() for _ in range(400)]
    poller, over, turns = Poller(), [], []
    ticks = iter(range(10**9))
    give_turn = pollers.give_turn

    def note() -> None:
        turns.append(len(over))
        give_turn()

    with (
        mock.patch.object(pollers, "give_turn", note),
        mock.patch.object(pollers, "time") as clock,
    ):
        clock.monotonic = lambda: next(ticks) * pollers.SLICE / 10
        for n, (ours, _) in enumerate(pairs):
            poller.watch(ours, lambda n=n: over.append(n))  # type: ignore[misc]
        for _, peer in pairs:
            peer.close()
        wait_until(lambda: len(over) == 400, "all ends")
        wait_until(lambda: not at_work(), "no poller")
    assert len(turns) >= 30
    assert max(later - sooner for sooner, later in pairwise(turns)) <= 12
    for ours, _ in pairs:
        ours.close()
