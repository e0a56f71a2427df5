"""streaming/clients/inlet.py: what has arrived does not wait, and leaves others their turns."""

import socket
import struct
import threading
import time
from unittest import mock

import pytest

from streaming import Connection
from streaming.clients import client as clients
from streaming.clients import farewell, inlet, life, sockets
from streaming.clients.registry import Registry
from streaming.clients.turns import Turns
from streaming.settings import Settings
from tests.clients.routes import Handler, app_of, echo, raw
from tests.greenlets import is_green, run_file
from tests.live.raw_websocket import BINARY, CLOSE, CONTINUATION, PONG, TEXT, RawWebSocket, encode
from tests.polling import PATIENCE, wait_until
from tests.sites import Site, serve
from tests.sockets import cooperative, tcp_pair


def test_a_close_that_came_with_the_last_message_is_not_waited_for() -> None:
    """It was read from the socket together with the message, and nothing more will come."""

    def take_one(ws: Connection) -> None:
        ws.send(f"took {ws.receive()!r}")

    with (
        mock.patch.object(clients, "FAREWELL", 60.0),
        serve(app_of(take_one)) as site,
        raw(site) as ws,
    ):
        ws.socket.sendall(encode(TEXT, b"one") + encode(CLOSE, struct.pack("!H", 1000)))
        assert ws.read_text() == "took 'one'"
        assert ws.read_close().close_code == 1000
        assert ws.is_ended()
        site.wait_empty()


def takes_after(greeting: int) -> Handler:
    """Reads so many messages in the handler, and takes all others in the function it returns."""

    def greet(ws: Connection) -> object:
        for _ in range(greeting):
            ws.send(f"greeted {ws.receive()}")
        return lambda message: ws.send(f"took {message}")

    return greet


@pytest.mark.parametrize("greeting", [0, 1, 2])
def test_messages_that_came_in_one_packet_are_all_answered(greeting: int) -> None:
    with serve(app_of(takes_after(greeting))) as site, raw(site) as ws:
        ws.socket.sendall(b"".join(encode(TEXT, b"%d" % n) for n in range(4)))
        texts = [f"greeted {n}" for n in range(greeting)]
        texts += [f"took {n}" for n in range(greeting, 4)]
        assert [ws.read_text() for _ in texts] == texts


@pytest.mark.parametrize("cut", [1, 5, 7, 40])
def test_a_frame_that_comes_in_two_parts_is_answered_when_it_is_whole(cut: int) -> None:
    """Once while the handler reads, once at rest or awake."""
    frame = encode(TEXT, b"x" * 40)
    with serve(app_of(takes_after(1))) as site, raw(site) as ws:
        ws.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ws.socket.sendall(encode(TEXT, b"one") + frame[:cut])
        assert ws.read_text() == "greeted one"
        ws.socket.sendall(frame[cut:] + frame[:cut])
        assert ws.read_text() == "took " + "x" * 40
        ws.socket.sendall(frame[cut:])
        assert ws.read_text() == "took " + "x" * 40


def test_the_rest_of_a_message_that_looks_like_a_pong_is_the_rest_of_a_message() -> None:
    """What comes at rest is looked at before anybody gets up: most of it is a pong."""
    key = b"\0\0\0\0"  # masks nothing
    pong = encode(PONG, b"")
    text = b"A" * 10 + pong.replace(pong[2:], key)
    frame = bytes([0x82, 0x80 | len(text)]) + key + text
    with (
        mock.patch.object(life, "AWAKE", 0.01),
        serve(app_of(takes_after(0))) as site,
        raw(site) as ws,
    ):
        ws.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(3):
            rest(site)
            (connection,) = site.registry.clients()
            since = connection.inlet.heard  # type: ignore[attr-defined]
            ws.socket.sendall(frame[:-6])
            wait_until(lambda: connection.inlet.heard > since, "its first part has come")  # type: ignore[attr-defined]  # noqa: B023
            rest(site)
            ws.socket.sendall(frame[-6:])
            assert ws.read_text() == f"took {text!r}"


def rest(site: Site) -> None:
    """Wait until nobody is awake for the only client: under threads somebody always is."""

    def is_at_rest() -> bool:
        return not any(thread.name.startswith("websocket ") for thread in threading.enumerate())

    (connection,) = wait_until(site.registry.clients, "the client")
    if connection.line.is_direct:  # type: ignore[attr-defined]
        wait_until(is_at_rest, "it is at rest")


def test_to_receive_without_waiting_gives_none_while_there_is_nothing() -> None:
    asked = threading.Event()

    def ask(ws: Connection) -> None:
        assert ws.receive(timeout=0) is None
        ws.send("go on")
        asked.set()
        while (answer := ws.receive(timeout=0)) is None:
            ws.send("x" * 1000)  # which may have to wait, although reading must not
        ws.send(f"got {answer!r}")

    with serve(app_of(ask)) as site, raw(site, receive_buffer=4096) as ws:
        assert ws.read_text() == "go on"
        (connection,) = site.registry.clients()
        wait_until(lambda: connection.line.progress, "the line is full")  # type: ignore[attr-defined]
        ws.send(TEXT, b"now")
        while (text := ws.read_text()) == "x" * 1000:
            pass
        assert text == "got 'now'"


# turns for others


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When turns were given, where every piece of work is long enough for one."""
    given: list[float] = []
    monkeypatch.setattr(inlet, "SLICE", -1.0)
    monkeypatch.setattr(Turns, "take", lambda *_: given.append(time.monotonic()))
    return given


def test_reads_that_complete_no_message_give_turns_too(turns: list[float]) -> None:
    with serve(app_of(echo, frame_size=1_000_000)) as site, raw(site) as ws:
        ws.send(BINARY, b"x" * 900_000)
        assert len(ws.read().payload) == 900_000
    assert len(turns) >= 900_000 // inlet.READ


def test_one_read_full_of_tiny_frames_gives_turns_in_between(turns: list[float]) -> None:
    with serve(app_of(echo)) as site, raw(site) as ws:
        ws.socket.sendall(encode(PONG) * 5000 + encode(TEXT, b"x"))
        assert ws.read_text() == "x"
    assert len(turns) >= 5000 // 256


class Clock:
    """Stands for ``time``. ``ahead``: how many seconds have passed at once, so far. ``worked``: how
    many of its processor's time each thread has had besides.
    """

    def __init__(self) -> None:
        self.ahead = 0.0
        self.worked: dict[int, float] = {}

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def thread_time(self) -> float:
        return time.thread_time() + self.worked.get(threading.get_ident(), 0.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of all incoming sides."""
    clock = Clock()
    monkeypatch.setattr(inlet, "time", clock)
    return clock


def test_who_says_a_little_while_a_crowd_floods_does_not_wait_behind_it(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    waited: list[object] = []
    monkeypatch.setattr(Turns, "take", lambda self, who, used: waited.append(who))
    monkeypatch.setattr(clock, "thread_time", lambda: clock.ahead)  # the processor's, for others
    with serve(app_of(echo)) as site, raw(site) as ws:
        (connection,) = wait_until(site.registry.clients, "the client")
        for _ in range(20):
            wait_until(lambda: connection.inlet.is_waiting, "it is waited for")
            clock.ahead += 1.0  # it was silent for a while, and others were served
            monkeypatch.setattr(inlet._turns, "running", 0)
            ws.send(TEXT, b"x")
            assert ws.read_text() == "x"
    assert not waited


def test_the_slice_of_a_client_that_was_at_rest_begins_when_it_speaks(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    slices: list[float] = []
    monkeypatch.setattr(Turns, "take", lambda self, who, used: slices.append(used))
    with tcp_pair() as (server, peer), cooperative(server) as sock:
        connection = Connection(Registry().deadlines, Settings(), sock)
        connection.line.start()
        peer.sendall(encode(TEXT, b"first"))
        assert connection.inlet.read()
        while connection.inlet.next() is not None:
            pass
        clock.ahead += 60.0
        peer.sendall(encode(TEXT, b"x") * 8_000)
        wait_until(lambda: sockets.unread(sock) == 56_000, "all has come")
        assert connection.inlet.read_at_rest()

        def work() -> None:
            clock.worked[threading.get_ident()] = 3.0  # before, for somebody else
            while connection.inlet.next() is not None:
                pass

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(PATIENCE)
        assert slices
        assert max(slices) < 1.0


def test_a_handler_that_waits_does_not_keep_those_waiting_who_come_behind_it(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    slices: list[float] = []
    monkeypatch.setattr(Turns, "take", lambda self, who, used: slices.append(used))

    def wait_for_somebody(message: object) -> None:
        clock.ahead += 5.0

    with serve(app_of(lambda ws: wait_for_somebody)) as site, raw(site) as ws:
        ws.socket.sendall(encode(TEXT, b"x") * 3_000)
        wait_until(lambda: slices, "it has used up a slice")
    assert max(slices) < 1.0


@pytest.mark.parametrize("crowded", [True, False])
def test_of_a_crowd_that_floods_nothing_is_worked_off_for_those_who_have_left(
    monkeypatch: pytest.MonkeyPatch, turns: list[float], crowded: bool
) -> None:
    go_on, taken = threading.Event(), []

    def take(message: object) -> None:
        taken.append(message)
        assert go_on.wait(PATIENCE)

    monkeypatch.setattr(Turns, "take", lambda *_: crowded)
    with serve(app_of(lambda ws: take)) as site:
        with raw(site) as ws:
            ws.socket.sendall(encode(TEXT, b"x") * 3_000)
            wait_until(lambda: taken, "it is served")
            (connection,) = site.registry.clients()
        wait_until(lambda: sockets.is_gone(connection.line.sock), "it has left")
        go_on.set()
        site.wait_empty()
    assert len(taken) == (1 if crowded else 3_000)


def test_pings_and_pongs_without_end_are_against_the_rules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inlet, "PERIOD", 1000.0)
    with serve(app_of(echo)) as site, raw(site) as ws:
        ws.socket.sendall(encode(PONG) * inlet.CONTROLS + encode(TEXT, b"x"))
        assert ws.read_text() == "x"
        ws.socket.sendall(encode(PONG))
        assert ws.read_close().close_code == 1008
        site.wait_empty()


def test_who_floods_with_pongs_gains_nothing_by_the_wait_for_its_turn(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Where hundreds do, each waits longer than ``PERIOD``, and their floods were worked off to the
    end: a flooder that has left is not seen to, as long as the kernel keeps what it has said."""

    def wait_for_a_turn(*_: object) -> None:
        clock.ahead += inlet.PERIOD

    monkeypatch.setattr(inlet, "SLICE", -1.0)
    monkeypatch.setattr(inlet, "CONTROLS", 100)
    monkeypatch.setattr(inlet, "READ", 60)
    monkeypatch.setattr(Turns, "take", wait_for_a_turn)
    with serve(app_of(echo)) as site, raw(site) as ws:
        ws.socket.sendall(encode(PONG) * 200)
        assert ws.read_close().close_code == 1008
        site.wait_empty()


def test_a_message_may_have_more_fragments_than_pings_are_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inlet, "CONTROLS", 10)
    with serve(app_of(echo)) as site, raw(site) as ws:
        fragments = encode(CONTINUATION, b"x", first_bits=0) * 5_000
        ws.socket.sendall(encode(TEXT, b"x", first_bits=0) + fragments + encode(CONTINUATION))
        assert ws.read_text() == "x" * 5_001


def test_pings_and_pongs_may_go_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inlet, "CONTROLS", 100)
    monkeypatch.setattr(inlet, "PERIOD", 0.0)
    with serve(app_of(echo)) as site, raw(site) as ws:
        ws.socket.sendall(encode(PONG) * 1_000 + encode(TEXT, b"x"))
        assert ws.read_text() == "x"


def test_a_flood_behind_the_goodbye_gives_turns_and_is_cut(turns: list[float]) -> None:
    with serve(app_of(lambda ws: None)) as site, raw(site) as ws:
        assert ws.read_close().close_code == 1000
        before = len(turns)
        flood(site, ws, encode(PONG) * 1000)
        site.wait_empty()
        assert len(turns) > before


def test_a_flood_behind_the_goodbye_is_not_read_for_long() -> None:
    reads = mock.patch.object(inlet.Inlet, "read", autospec=True, side_effect=inlet.Inlet.read)
    with (
        mock.patch.object(clients, "FAREWELL", 60.0),
        mock.patch.object(farewell, "BEHIND", 3),
        serve(app_of(lambda ws: None)) as site,
        raw(site) as ws,
        reads as read,
    ):
        flood(site, ws, b"x" * 100_000)
        site.wait_empty()
        assert read.call_count <= 3 + 1, "the limit of a message is one read more"


def flood(site: Site, ws: RawWebSocket, block: bytes) -> None:
    """Send without end, until the server has had enough.

    Its kernel may not say so for a minute: it closes with a full window, and nothing unread.
    """
    left = b""

    def is_over() -> bool:
        nonlocal left
        left = left or block
        try:
            left = left[ws.socket.send(left) :]
        except TimeoutError:
            pass
        except ConnectionError:
            return True
        return not len(site.registry)

    ws.socket.settimeout(0.05)
    wait_until(is_over, "the server has had enough")


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
