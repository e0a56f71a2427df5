"""Many clients that follow one channel and come back whenever they are cut off.

    python -m tests.live.crowd URL CHANNEL SSE WEBSOCKETS

says ``ready`` when all are connected, and ends with a line of JSON once each has seen the text
``end``, or after ``LIMIT`` seconds: what every client received, counted. Messages are texts that
count 1, 2, 3 …. Greenlets and bare sockets: a thousand clients in one process, and no code of ours.
"""

# ruff: noqa: E402 - the patch comes first
from gevent import monkey

monkey.patch_all()

import base64
import json
import os
import random
import re
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from urllib.parse import urlsplit

LIMIT = 60.0
PAUSE = 0.5  # seconds, at most, before a client comes back
SSE_EVENT = re.compile(
    rb"(?:event: (\w+)\n)?(?:retry: \d+\n)?data: ([^\n]*)\n(?:id: ([^\n]+)\n)?\n"
)


class Ended(Exception):
    """The server or the network ended the connection."""


class Client:
    """One client: what it received, and where it goes on."""

    def __init__(self, url: str, channel: str) -> None:
        parts = urlsplit(url)
        self.address = (parts.hostname or "", parts.port or 0)
        self.channel = channel
        self.cursor = ""
        self.received: list[int] = []
        self.gaps = 0
        self.connects = 0
        self.is_ready = threading.Event()
        self.is_done = False

    def run(self) -> None:
        while not self.is_done:
            with suppress(OSError, Ended), socket.create_connection(self.address, 5) as sock:
                self.connects += 1
                sock.settimeout(LIMIT)
                self.follow(sock)
            if not self.is_done:
                time.sleep(random.uniform(0, PAUSE))

    def follow(self, sock: socket.socket) -> None:
        raise NotImplementedError

    def take(self, kind: str, text: str, cursor: str | None) -> None:
        self.cursor = cursor or self.cursor
        if kind == "gap":
            self.gaps += 1
        elif kind == "error":  # what was asked for was refused for a moment: come back
            raise Ended
        elif kind == "ready":
            self.is_ready.set()
        elif kind == "message" and text == "end":
            self.is_done = True
        elif kind == "message":
            self.received.append(int(text))


class SseClient(Client):
    def follow(self, sock: socket.socket) -> None:
        resume = f"Last-Event-ID: {self.cursor}\r\n" if self.cursor else ""
        path = f"/streaming/events?channel={self.channel}"
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{resume}\r\n".encode())
        rest = b""
        while not self.is_done:
            data = sock.recv(65536)
            if not data:
                raise Ended
            rest += data
            end = 0
            for found in SSE_EVENT.finditer(rest):
                event, text, cursor = found.groups()
                end = found.end()
                name = event.decode() if event else "message"
                self.take(name, text.decode(), cursor.decode() if cursor else None)
            rest = rest[end:]


class WebSocketClient(Client):
    def follow(self, sock: socket.socket) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(
            f"GET /streaming/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: streaming.v1.json\r\n\r\n".encode()
        )
        rest = b""
        while b"\r\n\r\n" not in rest:
            rest += self.read(sock)
        head, _, rest = rest.partition(b"\r\n\r\n")
        if b" 101 " not in head:
            raise Ended
        ask = {"type": "subscribe", "channel": self.channel, "after": self.cursor or None}
        sock.sendall(frame(0x81, json.dumps(ask).encode()))
        while not self.is_done:
            rest = self.parse(sock, rest)
            rest += self.read(sock) if not self.is_done else b""

    def read(self, sock: socket.socket) -> bytes:
        data = sock.recv(65536)
        if not data:
            raise Ended
        return data

    def parse(self, sock: socket.socket, rest: bytes) -> bytes:
        """Take all whole frames (RFC 6455 section 5.2); what is left."""
        while len(rest) >= 2:
            size, start = rest[1], 2
            if size == 126:
                size, start = int.from_bytes(rest[2:4], "big"), 4
            if len(rest) < start + size:
                break
            opcode, payload, rest = rest[0] & 15, rest[start : start + size], rest[start + size :]
            if opcode == 8:
                sock.sendall(frame(0x88, payload))
                raise Ended
            if opcode == 9:
                sock.sendall(frame(0x8A, payload))
            elif opcode == 1:
                said = json.loads(payload)
                self.take(said["type"], said.get("data", ""), said.get("id"))
        return rest


def frame(first: int, payload: bytes) -> bytes:
    """A client's frame, masked with zeros."""
    return (
        bytes([first, 0x80 | len(payload)]) + bytes(4) + payload
        if len(payload) < 126
        else (bytes([first, 0x80 | 126]) + len(payload).to_bytes(2, "big") + bytes(4) + payload)
    )


def count(clients: list[Client]) -> dict[str, int]:
    """What all of them received; to be compared with what was published."""
    counts: Counter[str] = Counter(clients=len(clients))
    for client in clients:
        different = set(client.received)
        counts["once"] += len(different)
        counts["doubled"] += len(client.received) - len(different)
        counts["disordered"] += sum(
            later < earlier
            for earlier, later in zip(client.received, client.received[1:], strict=False)
        )
        counts["gaps"] += client.gaps
        counts["connects"] += client.connects
        counts["unfinished"] += not client.is_done
    return dict(counts)


def main(url: str, channel: str, streams: str, sockets: str) -> None:
    by_kind: dict[str, list[Client]] = {
        "sse": [SseClient(url, channel) for _ in range(int(streams))],
        "websocket": [WebSocketClient(url, channel) for _ in range(int(sockets))],
    }
    everybody = [client for clients in by_kind.values() for client in clients]
    threads = [threading.Thread(target=client.run, daemon=True) for client in everybody]
    until = time.monotonic() + LIMIT
    for number, thread in enumerate(threads):
        thread.start()
        everybody[max(0, number - 50)].is_ready.wait(until - time.monotonic())  # so many at a time
    for client in everybody:
        client.is_ready.wait(max(0.0, until - time.monotonic()))
    print("ready", flush=True)
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    print(json.dumps({kind: count(clients) for kind, clients in by_kind.items()}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
