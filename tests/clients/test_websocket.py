"""streaming/clients/websocket.py: a correct connection, seen by clients and bare bytes."""

import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from streaming import (
    Connection,
    ConnectionClosed,
    Forbidden,
    HubClosed,
    InvalidMessage,
    Lagged,
    LogUnavailable,
    StreamingError,
    TooLarge,
)
from streaming.errors import ClientGone, UnsupportedMediaType
from streaming.settings import Settings
from tests.breaches import BREACHES
from tests.clients.routes import app_of, connect, echo, raw, time_is_up
from tests.greenlets import is_green, run_file
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
from tests.polling import PATIENCE, wait_until
from tests.sites import Site, serve


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
    with connect(site, max_size=None) as ws:
        ws.send(data)
        assert ws.recv(PATIENCE) == data


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

    with serve(app_of(speak)) as site, connect(site) as ws:
        assert [message for message in ws if message != "x" * 50_000] == []


def test_receive_gives_none_after_its_timeout_and_the_message_when_it_is_there() -> None:
    def ask(ws: Connection) -> None:
        assert ws.receive(timeout=0.01) is None
        ws.send("go on")
        while (answer := ws.receive(timeout=0.01)) is None:
            pass
        ws.send(f"got {answer!r}")

    with serve(app_of(ask)) as site, connect(site) as ws:
        assert ws.recv(PATIENCE) == "go on"
        ws.send("now")
        assert ws.recv(PATIENCE) == "got 'now'"


# how it ends


def test_the_connection_ends_with_1000_when_the_handler_returns() -> None:
    with serve(app_of(lambda ws: ws.send("bye"))) as site, connect(site) as ws:
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
        ws.open()
        raise error

    with serve(app_of(fail)) as site, raw(site) as ws:
        frame = ws.read_close()
        assert frame.close_code == code
        assert error.told.startswith(frame.payload[2:].decode())
        ws.send(CLOSE, frame.payload[:2])
        assert ws.is_ended()


def test_any_other_error_in_the_handler_is_logged_and_closes_with_1011() -> None:
    def fail(ws: Connection) -> None:
        ws.open()
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

    with serve(app_of(speak)) as site, connect(site) as ws:
        assert list(_until_closed(ws)) == []
        assert ws.close_code == 4000
    assert [closed.code for closed in raised] == [4000, 4000]


def _until_closed(ws: Any) -> Iterator[object]:
    while True:
        try:
            yield ws.recv(PATIENCE)
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
    with serve(app_of(lambda ws: None)) as site, raw(site) as ws:
        assert ws.read_close().close_code == 1000
        time_is_up(site.registry)
        assert ws.is_ended()  # though we said nothing
        site.wait_empty()


def test_a_drain_closes_with_1012_even_a_connection_that_is_silent(site: Site) -> None:
    with connect(site) as ws:
        ws.send("x")
        assert ws.recv(PATIENCE) == "x"
        site.state.close()
        with pytest.raises(ConnectionClosedError):
            ws.recv(PATIENCE)
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
    with connect(site) as bystander, raw(site) as ws:
        ws.socket.sendall(sent)
        assert ws.read_close().close_code == code
        time_is_up(site.registry)
        assert ws.is_ended()
        bystander.send("still there")
        assert bystander.recv(PATIENCE) == "still there"


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
            cut, is_waiting = chance.randrange(len(data) + 1), chance.random() < 0.7
            with suppress(OSError):  # the server may have had enough already
                ws.socket.sendall(data[:cut])
                if is_waiting:
                    ws.socket.shutdown(socket.SHUT_WR)
            while is_waiting and not ws.is_ended():
                pass
    with connect(site) as ws:
        ws.send("the server goes on")
        assert ws.recv(PATIENCE) == "the server goes on"
    site.wait_empty()
    assert site.errors == []


def test_a_clients_message_has_a_limit_of_its_own_below_the_applications() -> None:
    settings = Settings()
    assert settings.frame_size < settings.message_size
    with serve(app_of(echo)) as site:
        with connect(site) as ws:
            ws.send(b"x" * settings.frame_size)
            assert ws.recv(PATIENCE) == b"x" * settings.frame_size
        with raw(site) as ws:  # the header says enough
            ws.socket.sendall(struct.pack("!BBQ", 0x82, 0xFF, settings.frame_size + 1))
            assert ws.read_close().close_code == 1009


# permessage-deflate


def test_compression_is_off_unless_it_is_switched_on(site: Site) -> None:
    with connect(site, compression="deflate") as ws:
        assert "Sec-WebSocket-Extensions" not in ws.response.headers
        ws.send("x")
        assert ws.recv(PATIENCE) == "x"


@pytest.mark.parametrize("text", ["", "x", "好" * 100_000, "ab" * 300_000])
def test_compressed_messages_come_back_whole(text: str) -> None:
    with (
        serve(app_of(echo, compression=True, frame_size=1_000_000)) as site,
        connect(site, compression="deflate", max_size=None) as ws,
    ):
        assert "permessage-deflate" in ws.response.headers["Sec-WebSocket-Extensions"]
        for _ in range(3):
            ws.send(text)
            assert ws.recv(PATIENCE) == text


def test_a_client_that_offers_no_compression_gets_none() -> None:
    with serve(app_of(echo, compression=True)) as site, raw(site) as ws:
        assert "sec-websocket-extensions" not in ws.headers
        ws.send(TEXT, b"x" * 1000)
        assert ws.read().payload == b"x" * 1000


def test_the_size_limit_holds_for_what_is_decompressed() -> None:
    with (
        serve(app_of(echo, compression=True, frame_size=10_000)) as site,
        connect(site, compression="deflate") as ws,
    ):
        ws.send("x" * 10_001)
        wait_until(lambda: ws.protocol.close_rcvd, "it is told")
        time_is_up(site.registry)  # what follows a fault has no meaning, not even an answer
        with pytest.raises(ConnectionClosedError):
            ws.recv(PATIENCE)
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
    with connect(site):
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
        with connect(site) as ws:
            client = ws.recv(PATIENCE)
            assert done == []
        site.wait_empty()  # it is in the registry until all is done
        assert done == [f"{client} ConnectionClosed"]
    assert done == [f"{client} ConnectionClosed"]
    assert "ZeroDivisionError: at the end" in "\n".join(site.errors)


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
