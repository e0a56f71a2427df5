"""Clients that read slowly get everything, whole and in order; those that never read stall none."""

import contextlib
import time
from collections.abc import Iterator

import pytest

from tests.live.clients import RawClient
from tests.live.harness import gunicorn
from tests.live.raw_websocket import TEXT, RawWebSocket
from tests.live.server import Server

MIB = 1024 * 1024
FRAMES = 3000
FRAME_SIZE = 8192
SMALL_BUFFER = 16 * 1024  # of the kernel, for the client: the server feels soon that nobody reads


@pytest.fixture(scope="module")
def roomy() -> Iterator[Server]:
    """The demo with room for big messages and for as many as these tests leave unread."""
    settings = {
        "STREAMING_MESSAGE_SIZE": str(32 * MIB),
        "STREAMING_FRAME_SIZE": str(32 * MIB),
        "STREAMING_RETENTION_MESSAGES": str(3 * FRAMES),
        "STREAMING_RETENTION_SIZE": str(128 * MIB),
    }
    with gunicorn(extra_env=settings) as server:
        yield server


def frame_text(n: int) -> str:
    """8 KiB that say where they stand: a torn or spliced frame cannot pass for a whole one."""
    return f"{n:08d}".ljust(FRAME_SIZE - 8, "x") + f"{n:08d}"


def subscribe(connection: RawWebSocket, channel: str = "chat") -> None:
    assert connection.read_json()["type"] == "welcome"
    connection.send_json(type="subscribe", channel=channel)
    assert connection.read_json()["type"] == "ready"


def publish_all(server: Server) -> list[str]:
    """Publish all frames over one connection that does not listen itself; return their ids."""
    ids = []
    with RawWebSocket(server) as publisher:
        assert publisher.read_json()["type"] == "welcome"
        for batch in range(0, FRAMES, 50):
            for n in range(batch, batch + 50):
                publisher.send_json(type="publish", channel="chat", data=frame_text(n), ref=str(n))
            for n in range(batch, batch + 50):
                ack = publisher.read_json()
                assert (ack["type"], ack["ref"]) == ("ack", str(n))
                ids.append(ack["id"])
    return ids


def test_twenty_megabytes_reach_a_client_that_reads_slowly(roomy: Server) -> None:
    text = "".join(f"{n:07d} " for n in range(20 * MIB // 8))
    with (
        RawWebSocket(roomy, "/ws", subprotocol=None) as sender,
        RawWebSocket(roomy, "/ws", subprotocol=None, receive_buffer=SMALL_BUFFER) as slow,
    ):
        assert slow.read_text() == sender.read_text() == "Welcome to the WebSocket server!"
        sender.send(TEXT, text.encode())
        time.sleep(1.0)  # the client is busy with something else
        assert slow.read_text(pause=0.0005) == "Other client said: " + text
        sender.send(TEXT, b"and on")  # nothing was spliced into the stream behind it
        assert slow.read_text() == "Other client said: and on"
        assert sender.read_text() == "You said: " + text
        assert sender.read_text() == "You said: and on"


def test_thousands_of_frames_reach_a_client_that_pauses(roomy: Server) -> None:
    with RawWebSocket(roomy, receive_buffer=SMALL_BUFFER) as slow:
        subscribe(slow)
        ids = publish_all(roomy)
        time.sleep(2.0)  # the pause
        for n, id in enumerate(ids):
            message = slow.read_json()
            assert (message["type"], message["id"]) == ("message", id), n
            assert message["data"] == frame_text(n)


def test_thousands_of_events_reach_a_client_that_pauses(roomy: Server) -> None:
    url = roomy.url + "/streaming/events?channel=chat"
    with RawClient(url, receive_buffer=SMALL_BUFFER) as slow:
        ready = slow.next_event()
        assert ready is not None
        assert ready.event == "ready"
        ids = publish_all(roomy)
        time.sleep(2.0)  # the pause
        for n, id in enumerate(ids):
            event = slow.next_event()
            assert event is not None
            assert (event.event, event.id, event.data) == ("message", id, frame_text(n))


def test_clients_that_never_read_stall_nobody(roomy: Server) -> None:
    url = roomy.url + "/streaming/events?channel=chat"
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stalled = RawWebSocket(roomy, receive_buffer=SMALL_BUFFER)
            subscribe(stack.enter_context(stalled))
            stack.enter_context(RawClient(url, receive_buffer=SMALL_BUFFER))
            stack.enter_context(
                RawWebSocket(roomy, "/ws", subprotocol=None, receive_buffer=SMALL_BUFFER)
            )
        socket = stack.enter_context(RawWebSocket(roomy))
        subscribe(socket)
        stream = stack.enter_context(RawClient(url))
        ready = stream.next_event()
        assert ready is not None
        begun = time.monotonic()
        ids = publish_all(roomy)
        assert [socket.read_json()["id"] for _ in ids] == ids
        received = [stream.next_event() for _ in ids]
        assert [event.id for event in received if event is not None] == ids
        assert time.monotonic() - begun < 90  # a deadline: stalled, it would be minutes or never
        with RawClient(roomy.url + "/") as page:
            assert page.status == 200
