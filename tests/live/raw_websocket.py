"""A WebSocket client on a bare socket (RFC 6455): it may stall, break the rules, or say anything.

Written from the RFC and sharing no code with the package, so that both cannot be wrong together.
"""

import base64
import json
import os
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from typing import Any

from tests.live.clients import read_head
from tests.live.server import Server
from tests.polling import PATIENCE

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

OWN, PROTOCOL = "/streaming/ws", "streaming.v1.json"
"""The package's own route, and what it speaks."""


@dataclass(frozen=True)
class Frame:
    """One frame as it stood on the wire."""

    opcode: int
    payload: bytes
    fin: bool = True

    @property
    def close_code(self) -> int:
        assert self.opcode == CLOSE, f"not a close frame: {self}"
        return int(struct.unpack("!H", self.payload[:2])[0])


def encode(
    opcode: int, payload: bytes = b"", *, first_bits: int = 0x80, mask: bool = True
) -> bytes:
    """A client's frame. ``first_bits`` are FIN and the reserved bits; clients must mask."""
    size = len(payload)
    bit = 0x80 if mask else 0
    if size < 126:
        head = struct.pack("!BB", first_bits | opcode, bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", first_bits | opcode, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first_bits | opcode, bit | 127, size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    repeated = (key * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return head + key + masked.to_bytes(size, "big")


def handshake(server: Server, path: str, **changes: str | None) -> bytes:
    """An opening handshake; ``changes`` replace fields (``_`` is ``-``) or, None, drop them."""
    fields: dict[str, str | None] = {
        "Host": f"127.0.0.1:{server.port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": PROTOCOL if path.partition("?")[0].endswith(OWN) else None,
    }
    fields |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()


class RawWebSocket:
    """One connection. Reads only when told to; answers no ping unless ``pong`` is called."""

    def __init__(
        self,
        server: Server,
        path: str = OWN,
        *,
        subprotocol: str | None = PROTOCOL,
        receive_buffer: int | None = None,
        timeout: float = PATIENCE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(("127.0.0.1", server.port))
            if tls is not None:
                self.socket = tls.wrap_socket(self.socket)
            self.socket.sendall(handshake(server, path, Sec_WebSocket_Protocol=subprotocol))
            self._begin()
        except BaseException:
            self.socket.close()
            raise

    @classmethod
    def on(cls, connection: socket.socket) -> "RawWebSocket":
        """One whose handshake was sent already."""
        self = cls.__new__(cls)
        self.socket = connection
        try:
            self._begin()
        except BaseException:
            self.socket.close()
            raise
        return self

    def _begin(self) -> None:
        self.status, self.headers, rest = read_head(self.socket)
        assert self.status == 101, f"no WebSocket: {self.status} {rest!r}"
        self._buffer = bytearray(rest)

    def send(self, opcode: int, payload: bytes = b"", **how: Any) -> None:
        self.socket.sendall(encode(opcode, payload, **how))

    def send_json(self, **frame: Any) -> None:
        self.send(TEXT, json.dumps(frame, ensure_ascii=False).encode())

    def _take(self, count: int, pause: float) -> bytes:
        while len(self._buffer) < count:
            piece = self.socket.recv(65536)
            if not piece:
                raise ConnectionError(f"the connection ended inside a frame: {self._buffer[:80]!r}")
            self._buffer += piece
            if pause:
                time.sleep(pause)
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def read(self, *, pause: float = 0.0) -> Frame:
        """The next frame; with ``pause``, that many seconds are slept after each piece received."""
        first, second = self._take(2, pause)
        assert not second & 0x80, "a server must not mask"
        assert not first & 0x70, "no extension was agreed on"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._take(2, pause))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._take(8, pause))
        return Frame(first & 0x0F, self._take(size, pause), fin=bool(first & 0x80))

    def read_text(self, *, pause: float = 0.0) -> str:
        """The next message, which must be text; pings are answered on the way."""
        payload = b""
        frame = self.read(pause=pause)
        while frame.opcode == PING:
            self.send(PONG, frame.payload)
            frame = self.read(pause=pause)
        assert frame.opcode == TEXT, f"not text: {frame.opcode:#x} {frame.payload[:200]!r}"
        payload = frame.payload
        while not frame.fin:
            frame = self.read(pause=pause)
            assert frame.opcode == CONTINUATION
            payload += frame.payload
        return payload.decode()

    def read_json(self, *, pause: float = 0.0) -> Any:
        return json.loads(self.read_text(pause=pause))

    def read_close(self) -> Frame:
        """The close frame, whatever comes before it."""
        while True:
            frame = self.read()
            if frame.opcode == CLOSE:
                return frame

    def is_ended(self) -> bool:
        """Wait for the next bytes; whether there are none, because the server has hung up."""
        try:
            return not self.socket.recv(65536)
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "RawWebSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
