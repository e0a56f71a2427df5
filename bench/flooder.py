"""Many WebSockets that send without end, as fast as they are read, and then are gone.

    python -m bench.flooder PORT PATH CONNECTIONS SECONDS FRAME

``FRAME`` is one frame in hexadecimal digits. Says ``ready`` when all are connected, and at the end
how many bytes were taken, and how many connections the server has ended. A process of its own, so
that it dies as a process does.
"""

import base64
import os
import selectors
import socket
import sys
import time


def connect(port: int, path: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: streaming.v1.json\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101 "), answer
    connection.setblocking(False)
    return connection


def main(port: str, path: str, many: str, seconds: str, frame: str) -> None:
    piece = bytes.fromhex(frame)
    block = piece * max(1, 65536 // len(piece))
    waiting = selectors.DefaultSelector()
    rest = {}
    for _ in range(int(many)):
        connection = connect(int(port), path)
        waiting.register(connection, selectors.EVENT_WRITE)
        rest[connection] = block
    print("ready", flush=True)
    until, taken, ended = time.monotonic() + float(seconds), 0, 0
    while time.monotonic() < until and waiting.get_map():
        for key, _ in waiting.select(0.1):
            connection = key.fileobj  # type: ignore[assignment]
            try:
                sent = connection.send(rest[connection])
            except BlockingIOError:
                continue
            except OSError:
                waiting.unregister(connection)
                ended += 1
                continue
            taken += sent
            rest[connection] = rest[connection][sent:] or block
    print(taken, ended, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
