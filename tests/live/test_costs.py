"""What strangers can make a worker hold and do: memory, descriptors, and everybody else's time.

Bounds are far from what is measured (``docs/benchmarks.md`` is for figures), and far below what
each attack cost before it was mended.
"""

import contextlib
import json
import selectors
import socket
import time
import zlib
from collections.abc import Callable, Iterator

import pytest

from tests.live.bystander import Bystander, descriptors_of, memory_of
from tests.live.clients import RawClient, post_json
from tests.live.harness import gunicorn
from tests.live.raw_websocket import PONG, TEXT, RawWebSocket, encode, handshake
from tests.live.server import Server
from tests.polling import wait_until

MIB = 1024 * 1024
SMALL = 4096  # of the kernel, for a client: the server feels at once that nobody reads
ROOM = 64 * MIB
"""What hundreds of clients may make a worker grow by: 16 MiB at hand, and their own objects."""

PROTOCOL = "streaming.v1.json"

UNREAD = {"STREAMING_PONG_TIMEOUT": "600", "STREAMING_SEND_TIMEOUT": "600"}
"""Who reads nothing is not cut while a slow machine still lets in the others."""

HOMES = ["sqlite", "memory"]


@pytest.fixture(params=HOMES)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The demo in one worker, on a home that needs no server of its own; on both where a test does
    not say which."""
    home = {"STREAMING_LOG": "memory:"} if request.param == "memory" else {}
    with gunicorn(extra_env={**home, **UNREAD}) as running:
        yield running


def connect(server: Server, request: bytes) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    sock.settimeout(60)
    sock.connect(("127.0.0.1", server.port))
    sock.sendall(request)
    return sock


def stream(server: Server, query: str) -> socket.socket:
    """An event stream that is asked for and not read."""
    head = f"GET /streaming/events?{query} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n"
    return connect(server, head.encode())


def talk(server: Server, *frames: dict[str, object]) -> socket.socket:
    """A WebSocket that says something and reads nothing."""
    opening = handshake(server, "/streaming/ws", Sec_WebSocket_Protocol=PROTOCOL)
    said = [encode(TEXT, json.dumps(frame).encode()) for frame in frames]
    return connect(server, opening + b"".join(said))


def clients(server: Server) -> int:
    with RawClient(f"{server.url}/streaming/readyz") as answer:
        return int(answer.json()["clients"])


@contextlib.contextmanager
def attacked(
    server: Server, attack: Callable[[], list[socket.socket]], *, is_over: bool = False
) -> Iterator[None]:
    """A worker under attack, with a bystander beside it, that lets go of everything afterwards.

    ``is_over``: the attack is, once it was made; otherwise it goes on for as long as its clients.
    """
    (worker,) = server.worker_pids()
    with RawClient(f"{server.url}/streaming/events?channel=warm") as one:
        assert one.next_event() is not None
    bystander = Bystander(server)
    with bystander.served():
        pass
    before, open_before = memory_of(worker), descriptors_of(worker)
    bystander = Bystander(server)
    with bystander.served():
        sockets = attack()
        if not is_over:
            wait_until(lambda: clients(server) > len(sockets), "all are in", timeout=60)
        bystander.wait_served()
        yield
        assert memory_of(worker) - before < ROOM
        for sock in sockets:
            sock.close()
        try:
            wait_until(lambda: bystander.faults or clients(server) == 1, "all left", timeout=180)
        except AssertionError:
            print("clients at the end:", clients(server))
            raise
    wait_until(lambda: descriptors_of(worker) <= open_before + 2, "descriptors are back")
    assert server.worker_pids() == [worker]


# What they cost is in the encoding, and the same on both homes: each of them has one.
@pytest.mark.parametrize(
    ("server", "letter"),
    [("sqlite", "x"), ("memory", "\n")],
    indirect=["server"],
    ids=["letters", "line feeds"],
)
@pytest.mark.parametrize("transport", ["sse", "websocket"])
def test_a_history_of_large_messages_that_nobody_reads_costs_next_to_nothing(
    server: Server, transport: str, letter: str
) -> None:
    text = letter * (MIB - 10)
    for _ in range(8):
        assert post_json(f"{server.url}/streaming/channels/news", {"data": text})[0] == 201

    def attack() -> list[socket.socket]:
        if transport == "sse":
            return [stream(server, "channel=news&history=8") for _ in range(200)]
        ask = {"type": "subscribe", "channel": "news", "history": 8}
        return [talk(server, ask) for _ in range(200)]

    url = f"{server.url}/streaming/events?channel=news&history=8"
    with attacked(server, attack), RawClient(url) as reader:
        end, left = b"", 1 + 8 * (1 + text.count("\n"))  # who reads gets every line of it
        while left > 0:
            piece = end + reader.read(60)
            left -= piece.count(b"\ndata:")
            end = piece[-5:]


def test_a_history_of_many_small_messages_that_nobody_reads_costs_next_to_nothing(
    server: Server,
) -> None:
    with RawWebSocket(server) as publisher:
        for n in range(900):
            publisher.send_json(type="publish", channel="news", data=f"{n} " * 100)
        acks = 0
        while acks < 900:
            acks += publisher.read_json()["type"] == "ack"

    def attack() -> list[socket.socket]:
        return [stream(server, "channel=news&history=1000") for _ in range(300)]

    with attacked(server, attack):
        pass


@pytest.mark.parametrize(
    ("server", "transport"), [("sqlite", "sse"), ("memory", "websocket")], indirect=["server"]
)
def test_thousands_of_made_up_channel_names_cost_a_few_kilobytes_each(
    server: Server, transport: str
) -> None:
    def attack() -> list[socket.socket]:
        sockets = []
        for n in range(300):
            names = [f"made-up-{n}-{m}".ljust(100, "x") for m in range(32)]
            if transport == "sse":
                sockets.append(stream(server, "&".join(f"channel={name}" for name in names)))
            else:
                asked = [{"type": "subscribe", "channel": name} for name in names]
                sockets.append(talk(server, *asked))
        return sockets

    with attacked(server, attack):
        pass


def test_a_crowd_that_joins_a_room_is_sent_a_page_each(server: Server) -> None:
    """All of it would be a square: 400 members with 1 KB each, 80 MB for 400 KB."""
    joining = {"type": "join", "channel": "crowd", "info": "x" * 1024}
    received = 0

    def attack() -> list[socket.socket]:
        nonlocal received
        crowd = [RawWebSocket(server, timeout=60) for _ in range(400)]
        for one in crowd:
            one.send_json(**joining)
        for one in crowd:
            assert one.read_json()["type"] == "welcome"
            answer = one.read_text()
            assert json.loads(answer)["type"] == "joined"
            received += len(answer)
        return [one.socket for one in crowd]

    with attacked(server, attack):
        assert received < 400 * 20_000


BOMBS = {
    "lists": '{"type":[' + "[]," * 20_000 + "[]]}",
    "a name twice, at the end": "{" + ",".join(f'"{n}":0' for n in range(6_000)) + ',"5999":1}',
    "depth": '{"type":' + "[" * 60_000,
}

FLOODS = {
    "pongs": encode(PONG, b"x") * 5_000,
    "frames": encode(TEXT, b'{"type":"nothing"}') * 1_000,
    **{name: encode(TEXT, bomb.encode()) for name, bomb in BOMBS.items()},
}


def flood(sockets: list[socket.socket], data: bytes, seconds: float) -> None:
    """Send as much as is taken, and throw away what is answered."""
    until = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            sock.setblocking(False)
            both = selectors.EVENT_READ | selectors.EVENT_WRITE
            selector.register(sock, both, [memoryview(data)])
        while time.monotonic() < until and selector.get_map():
            for key, event in selector.select(0.1):
                with contextlib.suppress(BlockingIOError):
                    try:
                        if event & selectors.EVENT_READ:
                            assert key.fileobj.recv(MIB), "it was cut"  # type: ignore[union-attr]
                        if event & selectors.EVENT_WRITE:
                            sent = key.fileobj.send(key.data[0])  # type: ignore[union-attr]
                            key.data[0] = key.data[0][sent:] or memoryview(data)
                    except (OSError, AssertionError) as error:
                        if isinstance(error, BlockingIOError):
                            raise
                        selector.unregister(key.fileobj)
            time.sleep(0.005)  # the bystander is in this process


@pytest.mark.parametrize("data", FLOODS.values(), ids=FLOODS)
def test_many_that_never_stop_talking_keep_nobody_out(data: bytes) -> None:
    with gunicorn() as server:

        def attack() -> list[socket.socket]:
            sockets = [talk(server) for _ in range(100)]
            wait_until(lambda: clients(server) >= 100, "all are in", timeout=60)
            flood(sockets, data, 2.0)
            return sockets

        with attacked(server, attack, is_over=True):
            pass


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_compressed_bombs_keep_nobody_out(bomb: str) -> None:
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(bomb.encode()) + packer.flush(zlib.Z_SYNC_FLUSH)
    data = encode(TEXT, packed.removesuffix(b"\0\0\xff\xff"), first_bits=0xC0)
    opening = {"Sec_WebSocket_Protocol": PROTOCOL, "Sec_WebSocket_Extensions": "permessage-deflate"}
    with gunicorn(extra_env={"STREAMING_COMPRESSION": "true"}) as server:

        def attack() -> list[socket.socket]:
            path = "/streaming/ws"
            sockets = [connect(server, handshake(server, path, **opening)) for _ in range(50)]
            wait_until(lambda: clients(server) >= 50, "all are in", timeout=60)
            flood(sockets, data, 2.0)
            return sockets

        with attacked(server, attack, is_over=True):
            pass
