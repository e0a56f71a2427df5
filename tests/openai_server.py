"""A real server that speaks OpenAI's chat completions, told by a test what to say."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.polling import PATIENCE


def chunk(finish: str | None = None, usage: Any = None, **delta: Any) -> dict[str, Any]:
    """A piece of a stream as servers send it."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


@dataclass
class ModelServer:
    """What it was asked, and what it answers next."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    says: list[Any] = field(default_factory=list)
    """Chunks, and events that are waited for."""
    ends: bool = True
    """Whether the stream ends as it should; else the connection breaks off behind what was said."""
    left: threading.Event = field(default_factory=threading.Event)
    """Set once a client has gone away while more was to be said."""

    def say(self, *pieces: str, finish: str | None = "stop") -> None:
        """Answer with these texts from now on."""
        self.says = [chunk(content=piece) for piece in pieces]
        if finish is not None:
            self.says.append(chunk(finish=finish))


@contextmanager
def model_server() -> Iterator[ModelServer]:
    """A server on a free port; ends with the block."""
    told = ModelServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.keys.append(self.headers["Authorization"])
            told.asked.append({"path": self.path, **json.loads(body)})
            self.close_connection = True
            if told.status != 200:
                self._refuse()
            else:
                self._stream()

        def _refuse(self) -> None:
            text = json.dumps({"error": {"message": "secret words", "type": "x"}}).encode()
            self.send_response(told.status)
            for name, value in {**told.headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(text)

        def _stream(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in told.says:
                if isinstance(piece, threading.Event):
                    self._wait(piece)
                else:
                    self._write(f"data: {json.dumps(piece)}\n\n")
            if told.ends:
                self._write("data: [DONE]\n\n")
                self.wfile.write(b"0\r\n\r\n")

        def _wait(self, event: threading.Event) -> None:
            self.connection.settimeout(0.01)
            while not event.is_set():
                try:
                    if self.connection.recv(1) == b"":
                        told.left.set()
                        return
                except TimeoutError:
                    continue
                except OSError:
                    told.left.set()
                    return

        def _write(self, text: str) -> None:
            data = text.encode()
            try:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            except OSError:
                told.left.set()

        log_message: Callable[..., None] = lambda *_: None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)
