"""streaming/clients/farewell.py: how a WebSocket uses the closing handshake."""

import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from typing import ClassVar
from unittest import mock

import pytest

from streaming import Connection, HubClosed
from streaming.clients import websocket_client
from streaming.clients.farewell import Farewell
from streaming.clients.inlet import Inlet
from streaming.clients.registry import Registry
from streaming.errors import ClientGone
from streaming.settings import Settings
from streaming.wire.closing import Ending, Move, Verdict
from tests.clients.routes import app_of, echo, raw, time_is_up
from tests.greenlets import is_green, run_file
from tests.live.raw_websocket import CLOSE, TEXT, RawWebSocket, encode
from tests.polling import PATIENCE, wait_until
from tests.sites import serve


class Story(Farewell):
    """A closing handshake that notes what happened, and what was refused."""

    told: ClassVar[list[tuple[Move, Ending]]]
    refused: ClassVar[list[RuntimeError]]
    waits: ClassVar[list[object]]

    def wait(self, inlet: Inlet, until: float) -> None:
        self.waits.append(inlet)
        super().wait(inlet, until)

    def move(self, event: Move) -> Verdict:
        try:
            return super().move(event)
        except RuntimeError as error:
            self.refused.append(error)
            raise
        finally:
            self.told.append((event, self.phase))


@pytest.fixture
def story() -> Iterator[type[Story]]:
    """What happens to the connections of this test; nothing of it may be refused."""
    Story.told, Story.refused, Story.waits = [], [], []
    with mock.patch.object(websocket_client, "Farewell", Story):
        yield Story
    assert Story.refused == []
    assert Story.told[-1][1] is Ending.OVER


def phases(story: type[Story]) -> list[str]:
    """The phases it went through, each once."""
    names = [phase.name for _, phase in story.told]
    return [name for name, _ in groupby(names)]


def test_the_story_of_one_that_we_end(story: type[Story]) -> None:
    with serve(app_of(lambda ws: None)) as site, raw(site) as ws:
        frame = ws.read_close()
        ws.send(CLOSE, frame.payload)
        assert ws.is_ended()
    assert story.told[0] == (Move.END, Ending.SAYING)
    # whether our frame is known to be out before theirs has come depends on who sent it
    assert phases(story) in (["SAYING", "SAID", "OVER"], ["SAYING", "ANSWERING", "OVER"])


def test_the_story_of_one_that_the_client_ends(story: type[Story]) -> None:
    with serve(app_of(echo)) as site, raw(site) as ws:
        ws.send(CLOSE, struct.pack("!H", 1000))
        ws.read_close()
        assert ws.is_ended()
    assert story.told[0] == (Move.HEARD, Ending.ANSWERING)
    assert phases(story) == ["ANSWERING", "OVER"]


def test_the_story_of_a_client_that_leaves_without_a_word(story: type[Story]) -> None:
    with serve(app_of(echo)) as site:
        with raw(site):
            wait_until(site.registry.clients, "the client")
        site.wait_empty()
    assert set(story.told) == {(Move.LOST, Ending.OVER)}


def test_the_story_of_a_client_that_never_answers(story: type[Story]) -> None:
    with serve(app_of(lambda ws: None)) as site, raw(site) as ws:
        ws.read_close()
        time_is_up(site.registry)
        assert ws.is_ended()
        site.wait_empty()
    assert phases(story) in (["SAYING", "SAID", "OVER"], ["SAYING", "OVER"])
    assert (Move.HEARD, Ending.OVER) not in story.told


def test_the_story_of_one_that_both_end_at_once(story: type[Story]) -> None:
    for _ in range(20):
        with serve(app_of(echo)) as site, raw(site) as ws:
            wait_until(site.registry.clients, "the client")
            closing = threading.Thread(target=site.state.close)
            closing.start()
            ws.send(CLOSE, struct.pack("!H", 1000))
            assert ws.read_close().close_code in (1000, 1012)
            assert ws.is_ended()
            closing.join(PATIENCE)
            site.wait_empty()


def test_the_story_of_one_that_is_cut_while_it_ends(story: type[Story]) -> None:
    """From two threads, in every order: what comes late changes nothing, and is no mistake."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for n in range(100):
            server, peer = socket.socketpair()
            with server, peer:
                registry = Registry()
                connection = Connection(registry.deadlines, Settings(), server)
                connection.line.start()
                peer.sendall(encode(CLOSE, struct.pack("!H", 1000)))
                acts: list[Callable[[], object]] = [
                    lambda ws=connection: list(ws),  # type: ignore[misc]
                    lambda ws=connection: ws.end(HubClosed("restart")),  # type: ignore[misc]
                    lambda ws=connection: ws.end(ClientGone("cut")),  # type: ignore[misc]
                ]
                threads = [threading.Thread(target=act) for act in (acts[n % 3 :] + acts[: n % 3])]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(PATIENCE)
                connection.close()
                registry.remove(connection, "over")
    finally:
        sys.setswitchinterval(interval)


@contextmanager
def readers() -> Iterator[list[int]]:
    """How many there were that read, whenever somebody began to."""
    read, reading, counts = Inlet.read, [], []

    def count(inlet: Inlet, timeout: float | None = None) -> bool | None:
        reading.append(inlet)
        counts.append(len(reading))
        try:
            return read(inlet, timeout)
        finally:
            reading.pop()

    with mock.patch.object(Inlet, "read", count):
        yield counts


WAITS: dict[str, Callable[[Connection], object]] = {
    "it receives": echo,
    "it has returned a function": lambda ws: ws.send,
}


def heard(ws: RawWebSocket) -> None:
    """The handler takes a message, and waits for the next."""
    ws.send(TEXT, b"x")
    assert ws.read_text() == "x"


@pytest.mark.parametrize("handler", WAITS.values(), ids=WAITS)
@pytest.mark.parametrize("answers", [True, False], ids=["answered", "never answered"])
@pytest.mark.parametrize("is_awake", [True, False], ids=["awake", "at rest"])
def test_anybody_may_close_while_another_waits_for_the_client(
    story: type[Story], handler: Callable[[Connection], object], answers: bool, is_awake: bool
) -> None:
    with (
        readers() as counts,
        serve(app_of(handler)) as site,
        raw(site) as ws,
        ThreadPoolExecutor(1) as others,
    ):
        (connection,) = wait_until(site.registry.clients, "the client")
        assert isinstance(connection, Connection)
        if is_awake:
            heard(ws)
            wait_until(lambda: connection.inlet.is_waiting, "it waits")
        closing = others.submit(connection.close, 4000)
        frame = ws.read_close()
        assert frame.close_code == 4000
        wait_until(lambda: story.waits, "it waits for the answer")
        if answers:
            ws.send(CLOSE, frame.payload)
        else:
            time_is_up(site.registry)
        assert ws.is_ended()
        closing.result(PATIENCE)
        site.wait_empty()
    assert set(counts) <= {1}
    is_heard = any(move is Move.HEARD for move, _ in story.told)
    assert is_heard == answers


def test_a_handler_may_return_while_another_closes(story: type[Story]) -> None:
    closes = threading.Event()

    def handle(ws: Connection) -> None:
        ws.open()
        assert closes.wait(PATIENCE)

    with (
        readers() as counts,
        serve(app_of(handle)) as site,
        raw(site) as ws,
        ThreadPoolExecutor(1) as others,
    ):
        (connection,) = wait_until(site.registry.clients, "the client")
        assert isinstance(connection, Connection)
        closing = others.submit(connection.close, 4000)
        frame = ws.read_close()
        assert frame.close_code == 4000
        wait_until(lambda: connection.inlet.is_waiting, "one waits for the answer")
        closes.set()
        wait_until(lambda: len(story.waits) == 2, "both do")
        ws.send(CLOSE, frame.payload)
        assert ws.is_ended()
        closing.result(PATIENCE)
        site.wait_empty()
    assert set(counts) == {1}


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
