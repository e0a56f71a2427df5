"""A WebSocket in ``streaming/clients``: a correct connection, seen by clients and bare bytes."""

import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import groupby
from typing import Any, ClassVar
from unittest import mock

import pytest
from flask import Flask
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.sync.client import connect

from streaming import (
    ClientGone,
    Connection,
    ConnectionClosed,
    Forbidden,
    HubClosed,
    InvalidMessage,
    Lagged,
    LogUnavailable,
    Registry,
    Settings,
    Sock,
    StreamingError,
    TooLarge,
    UnsupportedMediaType,
)
from streaming.clients import client as clients
from streaming.clients import inlet, life, line, outlet, sockets, websocket, websocket_client
from streaming.clients.farewell import Farewell
from streaming.wire.closing import Ending, Move, Verdict
from tests.breaches import BREACHES
from tests.live.raw_websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawWebSocket,
    encode,
    handshake,
)
from tests.polling import PATIENCE
from tests.sites import Site, make_app, serve, wait_until
from tests.sockets import cooperative, read_exactly, tcp_pair

Handler = Callable[[Connection], object]


def app_of(handler: Handler, **config: object) -> Flask:
    app = make_app(**config)
    Sock(app).route("/socket")(handler)
    return app


def echo(ws: Connection) -> None:
    for data in ws:
        ws.send(data)


def raw(site: Site, **how: Any) -> RawWebSocket:
    return RawWebSocket(site, "/socket", subprotocol=None, **how)  # type: ignore[arg-type]


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(app_of(echo, frame_size=1_000_000)) as site:
        yield site


@pytest.mark.parametrize(
    "data", ["", "x", "你好😀", "x" * 1_000_000, b"", b"\xff\x00", b"y" * 70_000]
)
def test_a_message_comes_back_as_it_was_text_as_text_and_bytes_as_bytes(
    site: Site, data: str | bytes
) -> None:
    with connect(f"{site.ws_url}/socket", max_size=None) as ws:
        ws.send(data)
        assert ws.recv(10) == data


def test_a_message_in_fragments_with_a_ping_between_them_is_one_message(site: Site) -> None:
    with raw(site) as ws:
        ws.send(TEXT, "好".encode()[:1], first_bits=0)
        ws.send(PING, b"now")
        ws.send(CONTINUATION, "好".encode()[1:2], first_bits=0)
        ws.send(CONTINUATION, "好".encode()[2:])
        pong = ws.read()
        assert (pong.opcode, pong.payload) == (PONG, b"now")
        assert ws.read_text() == "好"


def test_any_chunking_of_the_bytes_gives_the_same_messages(site: Site) -> None:
    texts = [f"{n}" * n for n in range(1, 60)]
    data = b"".join(encode(TEXT, text.encode()) for text in texts)
    with raw(site) as ws:
        ws.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        cuts = random.Random(1)
        while data:
            size = cuts.randrange(1, 40)
            ws.socket.sendall(data[:size])
            data = data[size:]
        assert [ws.read_text() for _ in texts] == texts


def test_a_slow_reader_gets_everything_whole_and_in_order() -> None:
    def speak(ws: Connection) -> None:
        for n in range(300):
            ws.send(f"{n}:" + "x" * 8_192 * (n % 7))
        ws.send(b"y" * 5_000_000)

    with serve(app_of(speak)) as site, raw(site, receive_buffer=4096) as ws:
        wait_until(lambda: site.registry.clients()[0].line.progress, "the line to be full")
        for n in range(300):
            assert ws.read_text() == f"{n}:" + "x" * 8_192 * (n % 7)
        assert ws.read().payload == b"y" * 5_000_000
        assert ws.read_close().close_code == 1000


def test_many_threads_may_send_at_once() -> None:
    def speak(ws: Connection) -> None:
        threads = [
            threading.Thread(target=lambda: [ws.send("x" * 50_000) for _ in range(20)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with serve(app_of(speak)) as site, connect(f"{site.ws_url}/socket") as ws:
        assert [message for message in ws if message != "x" * 50_000] == []


def test_receive_gives_none_after_its_timeout_and_the_message_when_it_is_there() -> None:
    def ask(ws: Connection) -> None:
        assert ws.receive(timeout=0.01) is None
        ws.send("go on")
        while (answer := ws.receive(timeout=0.01)) is None:
            pass
        ws.send(f"got {answer!r}")

    with serve(app_of(ask)) as site, connect(f"{site.ws_url}/socket") as ws:
        assert ws.recv(10) == "go on"
        ws.send("now")
        assert ws.recv(10) == "got 'now'"


# how it ends


def test_the_connection_ends_with_1000_when_the_handler_returns() -> None:
    with serve(app_of(lambda ws: ws.send("bye"))) as site, connect(f"{site.ws_url}/socket") as ws:
        assert list(ws) == ["bye"]
        assert ws.close_code == 1000


def test_a_handler_may_choose_the_close_code_and_reason() -> None:
    with serve(app_of(lambda ws: ws.close(4321, "再见"))) as site, raw(site) as ws:
        frame = ws.read_close()
        assert (frame.close_code, frame.payload[2:].decode()) == (4321, "再见")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Forbidden("no"), 1008),
        (InvalidMessage("no"), 1008),
        (TooLarge("no"), 1009),
        (UnsupportedMediaType("no"), 1003),
        (HubClosed("no"), 1012),
        (Lagged("no"), 1013),
        (LogUnavailable("no"), 1013),
        (StreamingError("no"), 1011),
        (Forbidden("long " + "好" * 100), 1008),
    ],
)
def test_an_error_of_ours_in_the_handler_closes_with_its_code_and_reason(
    error: StreamingError, code: int
) -> None:
    def fail(ws: Connection) -> None:
        raise error

    with serve(app_of(fail)) as site, raw(site) as ws:
        frame = ws.read_close()
        assert frame.close_code == code
        assert error.told.startswith(frame.payload[2:].decode())
        ws.send(CLOSE, frame.payload[:2])
        assert ws.is_ended()


def test_any_other_error_in_the_handler_is_logged_and_closes_with_1011() -> None:
    def fail(ws: Connection) -> None:
        raise ZeroDivisionError("secret")

    with serve(app_of(fail), expect_errors=True) as site, raw(site) as ws:
        frame = ws.read_close()
        assert frame.close_code == 1011
        assert b"secret" not in frame.payload
    assert "ZeroDivisionError: secret" in "\n".join(site.errors)


def test_the_peers_close_is_answered_with_its_code_and_the_handler_is_told() -> None:
    told: list[ConnectionClosed] = []

    def listen(ws: Connection) -> None:
        try:
            ws.receive()
        except ConnectionClosed as closed:
            told.append(closed)
            raise

    with serve(app_of(listen)) as site:
        with raw(site) as ws:
            ws.send(CLOSE, struct.pack("!H", 4001) + b"enough")
            frame = ws.read_close()
            assert frame.close_code == 4001
            assert ws.is_ended()
        site.wait_reason("4001 enough")
    assert [(closed.code, closed.message) for closed in told] == [(4001, "enough")]


def test_a_close_without_a_code_is_answered_without_one(site: Site) -> None:
    with raw(site) as ws:
        ws.send(CLOSE)
        assert ws.read_close().payload == b""
        assert ws.is_ended()


def test_a_message_followed_at_once_by_a_close_gets_its_answer(site: Site) -> None:
    with raw(site) as ws:
        ws.socket.sendall(encode(TEXT, b"last words") + encode(CLOSE, struct.pack("!H", 1000)))
        assert ws.read_text() == "last words"
        assert ws.read_close().close_code == 1000
        assert ws.is_ended()


def test_nothing_after_the_peers_close_is_listened_to(site: Site) -> None:
    with raw(site) as ws:
        ws.socket.sendall(encode(CLOSE, struct.pack("!H", 1000)) + encode(TEXT, b"one more thing"))
        assert ws.read().opcode == CLOSE
        assert ws.is_ended()


def test_sending_after_the_end_raises_what_ended_it() -> None:
    raised: list[ConnectionClosed] = []

    def speak(ws: Connection) -> None:
        ws.close(4000)
        for act in (lambda: ws.send("x"), ws.receive):
            try:
                act()
            except ConnectionClosed as closed:
                raised.append(closed)
        assert list(ws) == []

    with serve(app_of(speak)) as site, connect(f"{site.ws_url}/socket") as ws:
        assert list(_until_closed(ws)) == []
        assert ws.close_code == 4000
    assert [closed.code for closed in raised] == [4000, 4000]


def _until_closed(ws: Any) -> Iterator[object]:
    while True:
        try:
            yield ws.recv(10)
        except (ConnectionClosedOK, ConnectionClosedError):
            return


@pytest.mark.parametrize("leave", [RawWebSocket.close, "reset"])
def test_a_client_that_leaves_without_a_word_frees_the_registry(site: Site, leave: Any) -> None:
    ws = raw(site)
    wait_until(lambda: len(site.registry) == 1, "the client")
    if leave == "reset":
        ws.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ws.close()
    site.wait_empty()
    site.wait_reason("left")


def test_a_client_that_leaves_while_the_handler_only_sends_is_noticed() -> None:
    def speak(ws: Connection) -> None:
        for _ in iter(int, 1):
            ws.send("x" * 1000)

    with serve(app_of(speak)) as site:
        with raw(site) as ws:
            assert ws.read_text()
        site.wait_empty()


def test_a_client_that_never_answers_our_close_is_cut() -> None:
    app = app_of(lambda ws: None)
    with mock.patch.object(clients, "FAREWELL", 0.05), serve(app) as site, raw(site) as ws:
        assert ws.read_close().close_code == 1000
        assert ws.is_ended()  # though we said nothing
        site.wait_empty()


def test_a_drain_closes_with_1012_even_a_connection_that_is_silent(site: Site) -> None:
    with connect(f"{site.ws_url}/socket") as ws:
        ws.send("x")
        assert ws.recv(10) == "x"
        site.state.close()
        with pytest.raises(ConnectionClosedError):
            ws.recv(10)
        assert ws.close_code == 1012
        assert ws.close_reason
    site.wait_empty()


def test_a_connection_asked_for_during_the_drain_is_refused_with_503(site: Site) -> None:
    site.state.close()
    status, headers, _ = site.raw(handshake(site, "/socket"))  # type: ignore[arg-type]
    assert status == 503
    assert headers["retry-after"]
    assert headers["content-type"] == "application/problem+json"


# faults of the peer


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_is_answered_with_its_close_code_and_nobody_else_notices(
    site: Site, name: str
) -> None:
    sent, code = BREACHES[name]
    with connect(f"{site.ws_url}/socket") as bystander, raw(site) as ws:
        with mock.patch.object(clients, "FAREWELL", 0.05):
            ws.socket.sendall(sent)
            assert ws.read_close().close_code == code
            assert ws.is_ended()
        bystander.send("still there")
        assert bystander.recv(10) == "still there"


def test_what_came_before_a_fault_is_still_answered(site: Site) -> None:
    with raw(site) as ws:
        ws.socket.sendall(encode(TEXT, b"good") + encode(TEXT, b"\xff"))
        assert ws.read_text() == "good"
        assert ws.read_close().close_code == 1007


def test_no_bytes_of_any_peer_are_an_unhandled_exception(site: Site) -> None:
    seed = 20_240_229
    chance = random.Random(seed)
    opcodes = [TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG, 0x3, 0xB]
    for _ in range(150):
        data = b""
        for _ in range(chance.randrange(1, 6)):
            payload = chance.randbytes(chance.choice([0, 1, 2, 5, 125, 126, 300, 70_000]))
            frame = bytearray(
                encode(
                    chance.choice(opcodes),
                    payload,
                    first_bits=chance.choice([0x80, 0x80, 0x80, 0x00, 0x40, 0xC0, 0xF0]),
                    mask=chance.random() < 0.9,
                )
            )
            if chance.random() < 0.3:
                frame[chance.randrange(len(frame))] = chance.randrange(256)
            data += bytes(frame)
        if chance.random() < 0.2:
            data = chance.randbytes(len(data))
        with raw(site) as ws:
            ws.socket.sendall(data[: chance.randrange(len(data) + 1)])
            if chance.random() < 0.7:
                ws.socket.shutdown(socket.SHUT_WR)
                while not ws.is_ended():
                    pass
    with connect(f"{site.ws_url}/socket") as ws:
        ws.send("the server goes on")
        assert ws.recv(10) == "the server goes on"
    site.wait_empty()
    assert site.errors == []


# heartbeats and deadlines


def test_an_idle_client_is_pinged_and_stays_if_it_answers() -> None:
    with serve(app_of(echo, heartbeat=0.03, pong_timeout=5)) as site, raw(site) as ws:
        for _ in range(3):
            ping = ws.read()
            assert ping.opcode == PING
            ws.send(PONG, ping.payload)
        ws.send(TEXT, b"x")
        assert ws.read_text() == "x"


def test_a_client_that_answers_no_ping_is_cut_after_its_deadline() -> None:
    with serve(app_of(echo, heartbeat=0.03, pong_timeout=0.1)) as site, raw(site) as ws:
        assert ws.read().opcode == PING
        while not ws.is_ended():
            pass
        site.wait_empty()
        site.wait_reason("No pong within 0.1 s.")


def test_anything_the_client_says_counts_as_a_sign_of_life() -> None:
    with serve(app_of(echo, heartbeat=0.03, pong_timeout=5)) as site, raw(site) as ws:
        assert ws.read().opcode == PING
        ws.send(TEXT, b"x")
        frames = [ws.read()]
        while frames[-1].opcode != TEXT:
            frames.append(ws.read())
        while ws.read().opcode != PING:  # it was heard: it is asked again
            pass


def test_a_client_is_not_pinged_where_the_heartbeat_is_off() -> None:
    with serve(app_of(echo, heartbeat=None)) as site, raw(site) as ws:
        (connection,) = wait_until(site.registry.clients, "the client")
        wait_until(lambda: not connection.line.progress, "the handshake's answer is out")
        connection.due(1e12)
        ws.send(TEXT, b"x")
        assert ws.read().opcode == TEXT


def test_a_client_that_takes_nothing_is_cut() -> None:
    def speak(ws: Connection) -> None:
        while True:
            ws.send(b"x" * 1_000_000)

    with serve(app_of(speak, send_timeout=0.1)) as site, raw(site, receive_buffer=4096):
        wait_until(lambda: len(site.registry), "the client")
        site.wait_empty()
        site.wait_reason("took nothing")


# permessage-deflate


def test_compression_is_off_unless_it_is_switched_on(site: Site) -> None:
    with connect(f"{site.ws_url}/socket", compression="deflate") as ws:
        assert "Sec-WebSocket-Extensions" not in ws.response.headers
        ws.send("x")
        assert ws.recv(10) == "x"


@pytest.mark.parametrize("text", ["", "x", "好" * 100_000, "ab" * 300_000])
def test_compressed_messages_come_back_whole(text: str) -> None:
    with (
        serve(app_of(echo, compression=True, frame_size=1_000_000)) as site,
        connect(f"{site.ws_url}/socket", compression="deflate", max_size=None) as ws,
    ):
        assert "permessage-deflate" in ws.response.headers["Sec-WebSocket-Extensions"]
        for _ in range(3):
            ws.send(text)
            assert ws.recv(10) == text


def test_a_client_that_offers_no_compression_gets_none() -> None:
    with serve(app_of(echo, compression=True)) as site, raw(site) as ws:
        assert "sec-websocket-extensions" not in ws.headers
        ws.send(TEXT, b"x" * 1000)
        assert ws.read().payload == b"x" * 1000


def test_the_size_limit_holds_for_what_is_decompressed() -> None:
    with (
        serve(app_of(echo, compression=True, frame_size=10_000)) as site,
        connect(f"{site.ws_url}/socket", compression="deflate") as ws,
    ):
        ws.send("x" * 10_001)
        with pytest.raises(ConnectionClosedError):
            ws.recv(10)
        assert ws.close_code == 1009


def test_broken_compressed_data_closes_with_1007() -> None:
    with serve(app_of(echo, compression=True)) as site, ExitStack() as stack:
        ws = stack.enter_context(
            site.chat("/socket", header=["Sec-WebSocket-Extensions: permessage-deflate"])
        )
        ws.sock.sendall(encode(TEXT, b"\xff\xff\xff", first_bits=0xC0))
        opcode, frame = ws.recv_data_frame(control_frame=True)[0:2]
        assert opcode == CLOSE
        assert struct.unpack("!H", frame.data[:2])[0] == 1007


# for people to read


def test_the_registry_tells_who_is_connected_and_why_the_last_one_left(site: Site) -> None:
    with connect(f"{site.ws_url}/socket"):
        (row,) = wait_until(lambda: site.registry.snapshot()["clients"], "the client")
        assert (row["transport"], row["peer"], row["channels"]) == ("websocket", "127.0.0.1", [])
    site.wait_empty()
    (row,) = site.registry.snapshot()["ended"]
    assert "1000" in str(row["reason"])


def test_a_connection_that_is_over_keeps_its_first_reason() -> None:
    reasons: list[object] = []

    def end(ws: Connection) -> None:
        ws.end(Lagged("first"))
        ws.end(ClientGone("second"))
        reasons.append(ws.reason)

    with serve(app_of(end)) as site, raw(site) as ws:
        assert ws.read_close().close_code == 1013
    assert [str(reason) for reason in reasons] == ["first"]


def test_what_is_to_be_done_at_the_end_is_done_once_and_one_failure_stops_nothing() -> None:
    done: list[str] = []

    def greet(ws: Connection) -> Callable[[str | bytes], None]:
        def fail() -> None:
            raise ZeroDivisionError("at the end")

        ws.on_end(fail)
        ws.on_end(lambda: done.append(f"{ws.id} {type(ws.reason).__name__}"))
        ws.send(ws.id)
        return lambda message: None

    with serve(app_of(greet), expect_errors=True) as site:
        with connect(f"{site.ws_url}/socket") as ws:
            client = ws.recv(10)
            assert done == []
        site.wait_empty()  # it is in the registry until all is done
        assert done == [f"{client} ConnectionClosed"]
    assert done == [f"{client} ConnectionClosed"]
    assert "ZeroDivisionError: at the end" in "\n".join(site.errors)


# what has arrived does not wait


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
            ws.socket.sendall(frame[:-6])
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


# signs of life


def test_a_client_that_answers_no_ping_is_asked_only_so_often() -> None:
    """The patience counts from the first ping that was not answered, not from the last."""
    with serve(app_of(echo, heartbeat=0.03, pong_timeout=0.3)) as site, raw(site) as ws:
        pings = 0
        with suppress(ConnectionError):
            while ws.read().opcode == PING:
                pings += 1
        assert 1 <= pings <= 12
        site.wait_reason("No pong within 0.3 s.")


@pytest.mark.parametrize("where", ["the handler", "the function it returns"])
def test_a_handler_that_does_not_read_keeps_a_client_whose_pong_lies_unread(where: str) -> None:
    go_on = threading.Event()

    def busy(message: object) -> None:
        go_on.wait(PATIENCE)

    def greet(ws: Connection) -> object:
        ws.send("busy now")
        if where == "the handler":
            busy(ws.receive())
            for message in ws:
                ws.send(f"took {message!r}")
            return None
        return lambda message: busy(message) if message == "busy" else ws.send(f"took {message!r}")

    with serve(app_of(greet, heartbeat=0.02, pong_timeout=0.1)) as site, raw(site) as ws:
        while ws.read().opcode != TEXT:
            pass
        (connection,) = site.registry.clients()
        since = connection.inlet.heard
        ws.send(TEXT, b"busy")
        wait_until(lambda: connection.inlet.heard > since, "somebody is busy with it")
        until = time.monotonic() + 3 * 0.1
        while time.monotonic() < until:
            assert ws.read().opcode == PING
            ws.send(PONG)
        assert connection.reason is None
        go_on.set()
        ws.send(TEXT, b"still here")
        assert ws.read_text() == "took 'still here'"


class Bare:
    """A connection on a socket of a greenlet server; time passes for it when the test says so."""

    def __init__(self, stack: ExitStack, server: socket.socket, **settings: Any) -> None:
        for module in (inlet, line, outlet, websocket, websocket_client):
            stack.enter_context(mock.patch.object(module, "time", self))
        self.now = time.monotonic()
        settings = {"heartbeat": 10.0, "pong_timeout": 15.0, "send_timeout": 100.0, **settings}
        self.connection = Connection(Registry().deadlines, Settings(**settings), server)
        self.connection.line.start()
        self.connection.inlet.heard = self.connection.spoke = self.now

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> StreamingError | None:
        """Why it is over after so many seconds, in which it is looked at when it asks for it."""
        until = self.now + seconds
        while (again := self.connection.due(self.now)) is not None and again <= until:
            self.now = max(again, self.now + 0.25)
        self.now = until
        return self.connection.reason


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_client_that_vanishes_is_gone_in_time_although_pings_go_on(stack: ExitStack) -> None:
    """Its kernel is away, too, and acknowledges nothing."""
    with tcp_pair() as (server, _), cooperative(server) as sock:
        bare = Bare(stack, sock)
        stack.enter_context(mock.patch.object(sockets, "pending", return_value=6))
        stack.enter_context(mock.patch.object(sockets, "taken", return_value=1000))
        assert bare.wait(24.9) is None
        assert "No pong" in str(bare.wait(0.6))


def test_a_client_that_has_taken_everything_has_to_answer(stack: ExitStack) -> None:
    with tcp_pair() as (server, peer), cooperative(server) as sock:
        bare = Bare(stack, sock)
        bare.wait(10.1)
        assert peer.recv(100) == encode(PING, mask=False)
        wait_until(lambda: not sockets.pending(sock), "the ping is acknowledged")
        assert bare.wait(14.8) is None
        assert "No pong" in str(bare.wait(0.6))


def test_a_client_that_takes_its_time_for_what_lies_before_the_ping_is_only_slow(
    stack: ExitStack,
) -> None:
    with tcp_pair() as (server, peer), cooperative(server) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        bare = Bare(stack, sock)
        bare.connection.line.put(b"x" * 900_000)
        assert bare.connection.line.progress == 0.0, "the kernel has it all"
        for _ in range(8):  # nearly two minutes
            read_exactly(peer, 100_000)
            assert bare.wait(14.0) is None
        wait_until(lambda: bare.wait(15.5), "it takes no more")
        assert "No pong" in str(bare.connection.reason)


def test_a_big_message_to_a_slow_reader_is_not_stuck_and_to_one_that_takes_nothing_is(
    stack: ExitStack,
) -> None:
    with tcp_pair() as (server, peer), cooperative(server) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        bare = Bare(stack, sock, send_timeout=5.0, heartbeat=None)
        putting = threading.Thread(target=_put, args=(bare.connection, "x" * 5_000_000))
        putting.start()
        wait_until(lambda: bare.connection.line.progress, "the line is full")
        for _ in range(10):
            read_exactly(peer, 200_000)
            assert bare.wait(4.9) is None

        wait_until(lambda: bare.wait(5.1), "it takes no more")
        assert "took nothing" in str(bare.connection.reason)
        putting.join(PATIENCE)


def _put(connection: Connection, text: str) -> None:
    with suppress(ConnectionClosed):
        connection.send(text)


# how it uses the closing handshake


class Story(Farewell):
    """A closing handshake that notes what happened, and what was refused."""

    told: ClassVar[list[tuple[Move, Ending]]]
    refused: ClassVar[list[RuntimeError]]

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
    Story.told, Story.refused = [], []
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
    with (
        mock.patch.object(clients, "FAREWELL", 0.05),
        serve(app_of(lambda ws: None)) as site,
        raw(site) as ws,
    ):
        ws.read_close()
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


def test_a_clients_message_has_a_limit_of_its_own_below_the_applications() -> None:
    settings = Settings()
    assert settings.frame_size < settings.message_size
    with serve(app_of(echo)) as site:
        with connect(f"{site.ws_url}/socket") as ws:
            ws.send(b"x" * settings.frame_size)
            assert ws.recv(10) == b"x" * settings.frame_size
        with raw(site) as ws:  # the header says enough
            ws.socket.sendall(struct.pack("!BBQ", 0x82, 0xFF, settings.frame_size + 1))
            assert ws.read_close().close_code == 1009


# turns for others


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When turns were given, where every piece of work is long enough for one."""
    given: list[float] = []
    monkeypatch.setattr(inlet, "SLICE", -1.0)
    monkeypatch.setattr(inlet, "give_turn", lambda: given.append(time.monotonic()))
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


def test_a_flood_behind_the_goodbye_gives_turns_and_is_cut(turns: list[float]) -> None:
    with serve(app_of(lambda ws: None)) as site, raw(site) as ws:
        assert ws.read_close().close_code == 1000
        before = len(turns)
        until = time.monotonic() + PATIENCE
        with suppress(ConnectionError, TimeoutError):
            while time.monotonic() < until:
                ws.socket.sendall(encode(PONG) * 1000)
        assert time.monotonic() < until
        site.wait_empty()
        assert len(turns) > before
