"""A WSGI application that says what it was given, and misbehaves on demand (by path)."""

import errno
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], object]]

# made anew by every server, and different objects in different workers
OBJECTS = ("wsgi.input", "wsgi.errors", "wsgi.early_hints")


def app(environ: Environ, start: Start) -> Iterable[bytes]:
    return ANSWERS.get(environ["PATH_INFO"], echo)(environ, start)


def echo(environ: Environ, start: Start) -> Iterable[bytes]:
    """All of ``environ`` and the body, as JSON."""
    said = {
        name: value if isinstance(value, str | bool | int | tuple) else type(value).__name__
        for name, value in environ.items()
        if name not in OBJECTS
    }
    said["body"] = environ["wsgi.input"].read().decode("latin-1")
    text = json.dumps(said, sort_keys=True).encode()
    start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
    return [text]


def unread(environ: Environ, start: Start) -> Iterable[bytes]:
    """The body is not read."""
    start("200 OK", [("Content-Length", "6")])
    return [b"unread"]


def chunks(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    yield from (b"", b"one", b"", b"two")


def nothing(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return []


def status(line: str, *headers: tuple[str, str]) -> Callable[[Environ, Start], Iterable[bytes]]:
    def answer(environ: Environ, start: Start) -> Iterable[bytes]:
        start(line, list(headers))
        return [b"body"]

    return answer


def written(environ: Environ, start: Start) -> Iterable[bytes]:
    """With ``write``, and with pieces besides."""
    write = start("200 OK", [])
    write(b"written ")
    write(b"twice ")
    return [b"and given"]


def replaced(environ: Environ, start: Start) -> Iterable[bytes]:
    """Another answer, while nothing has left."""
    start("200 OK", [("X-First", "1")])
    try:
        raise ValueError("changed my mind")
    except ValueError:
        start("503 Busy", [("Content-Length", "4")], sys.exc_info())
    return [b"busy"]


def too_late(environ: Environ, start: Start) -> Iterator[bytes]:
    """Another answer when the first is under way."""
    start("200 OK", [])
    yield b"first"
    try:
        raise ValueError("too late")
    except ValueError:
        start("503 Busy", [], sys.exc_info())
    yield b"second"


def no_start(environ: Environ, start: Start) -> Iterable[bytes]:
    return []


def twice(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [])
    start("200 OK", [])
    return []


def fails(environ: Environ, start: Start) -> Iterable[bytes]:
    raise ValueError("before the answer")


def breaks(environ: Environ, start: Start) -> Iterator[bytes]:
    start("200 OK", [])
    yield b"piece"
    raise ValueError("in the middle")


def text(environ: Environ, start: Start) -> Iterable[Any]:
    start("200 OK", [])
    return ["no bytes"]


def late_text(environ: Environ, start: Start) -> Iterable[Any]:
    start("200 OK", [])
    return [b"bytes", "no bytes"]


def file(environ: Environ, start: Start) -> Iterable[bytes]:
    content = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the server
    content.write(b"x" * 100_000)
    content.seek(0)
    start("200 OK", [("Content-Length", "100000")])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](content)
    return wrapped


def hints(environ: Environ, start: Start) -> Iterable[bytes]:
    early = environ.get("wsgi.early_hints")
    if early is not None:
        early([("Link", "</style.css>; rel=preload")])
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def slow(environ: Environ, start: Start) -> Iterable[bytes]:
    time.sleep(float(environ["QUERY_STRING"]))
    start("200 OK", [("Content-Length", "4")])
    return [b"slow"]


let_go = threading.Event()


def held(environ: Environ, start: Start) -> Iterable[bytes]:
    """Comes when somebody else has asked for it."""
    assert let_go.wait(60)
    start("200 OK", [("Content-Length", "4")])
    return [b"held"]


def release(environ: Environ, start: Start) -> Iterable[bytes]:
    let_go.set()
    start("204 No Content", [])
    return []


def used_up(environ: Environ, start: Start) -> Iterable[bytes]:
    """As flask-sock ends a WebSocket: the connection has had all it gets."""
    environ["gunicorn.socket"].sendall(b"raw")
    raise StopIteration


def gone(environ: Environ, start: Start) -> Iterable[bytes]:
    raise ConnectionResetError(errno.ECONNRESET, "as if the client had left")


class Swapped:
    """A body in whose middle the client's connection is exchanged for a dead one."""

    def __init__(self, environ: Environ) -> None:
        self._sock = environ["gunicorn.socket"]
        self._errors = environ["wsgi.errors"]

    def __iter__(self) -> Iterator[bytes]:
        yield b"first"
        ours, theirs = socket.socketpair()
        theirs.close()
        self._kept = os.dup(self._sock.fileno())
        os.dup2(ours.fileno(), self._sock.fileno())
        ours.close()
        os.write(self._kept, b"behind its back")

    def close(self) -> None:
        self._errors.write("the body was closed\n")
        with suppress(BlockingIOError):
            os.read(self._kept, 1000)  # or closing would reset the connection
        os.close(self._kept)


def swapped(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [])
    return Swapped(environ)


def errors(environ: Environ, start: Start) -> Iterable[bytes]:
    environ["wsgi.errors"].write("written to wsgi.errors\n")
    start("204 No Content", [])
    return []


def pid(environ: Environ, start: Start) -> Iterable[bytes]:
    number = str(os.getpid()).encode()
    start("200 OK", [("Content-Length", str(len(number)))])
    return [number]


ANSWERS: dict[str, Callable[[Environ, Start], Iterable[bytes]]] = {
    "/unread": unread,
    "/chunks": chunks,
    "/nothing": nothing,
    "/length": status("200 OK", ("Content-Length", "4")),
    "/too-long": status("200 OK", ("Content-Length", "2")),
    "/204": status("204 No Content"),
    "/304": status("304 Not Modified", ("ETag", '"a"')),
    "/404": status("404 Not Found"),
    "/close": status("200 OK", ("Connection", "close"), ("Content-Length", "4")),
    "/cookies": status("200 OK", ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")),
    "/bad-name": status("200 OK", ("Bad Name", "1")),
    "/bad-value": status("200 OK", ("X-A", "1\r\nX-B: 2")),
    "/bad-length": status("200 OK", ("Content-Length", "four")),
    "/upgrade": status("101 Switching", ("Connection", "Upgrade"), ("Upgrade", "websocket")),
    "/written": written,
    "/replaced": replaced,
    "/too-late": too_late,
    "/no-start": no_start,
    "/twice": twice,
    "/whole": status("200 OK", ("Content-Length", "4"), ("X-A", " spaced ")),
    "/too-short": status("200 OK", ("Content-Length", "10")),
    "/fails": fails,
    "/breaks": breaks,
    "/text": text,
    "/late-text": late_text,
    "/file": file,
    "/hints": hints,
    "/slow": slow,
    "/held": held,
    "/release": release,
    "/used-up": used_up,
    "/gone": gone,
    "/swapped": swapped,
    "/errors": errors,
    "/pid": pid,
}
