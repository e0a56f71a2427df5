"""In a real browser ``EventStream`` does what the browser's own ``EventSource`` does."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.live.browser import Windows
from tests.live.server import ROOT

CLIENT = ROOT / "streaming" / "static"

EVENTS = {"Content-Type": "text/event-stream"}
NOTHING_MORE: tuple[int, dict[str, str], bytes] = (204, {}, b"")
RESET = None

STORIES: dict[str, list[tuple[int, dict[str, str], bytes] | None]] = {
    "messages, names and ids": [
        (200, EVENTS, b"retry: 1\n\ndata: a\nid: 1\n\nevent: named\ndata: b\n\ndata: c\nid: 2\n\n"),
        (200, EVENTS, b"data: d\n\n"),
        NOTHING_MORE,
    ],
    "what no parser may take for an event": [
        (
            200,
            EVENTS,
            b"\xef\xbb\xbfretry: 10\r\r:data: x\n\nid: 7\n\ndata\ndata:  two\r\n\r\ndata: cut off",
        ),
        NOTHING_MORE,
    ],
    "a server that hangs up without an answer": [
        (200, EVENTS, b"retry: 10\ndata: a\nid: 1\n\n"),
        RESET,
        (200, EVENTS, b"data: b\n\n"),
        NOTHING_MORE,
    ],
    "a path that is not there": [(404, {}, b"")],
    "a page": [(200, {"Content-Type": "text/html"}, b"<p>data: a\n\n")],
    "an answer without a type": [(200, {}, b"data: a\n\n")],
    "a parameter behind the type": [
        (200, {"Content-Type": "text/event-stream;charset=UTF-8"}, b"retry: 10\ndata: a\n\n"),
        NOTHING_MORE,
    ],
}

WATCH = """
async ([kind, path, closeAt]) => {
  const { EventStream } = await import("/static/index.js");
  const Kind = { EventSource, EventStream }[kind];
  const source = new Kind(`${path}&who=${kind}`);
  const log = [];
  const shown = source.url.replace(kind, "");
  log.push([shown, source.withCredentials, source.readyState, source.onmessage, source.CLOSED]);
  return new Promise((resolve) => {
    function note(event) {
      const { type, data = null, lastEventId = null, origin = null } = event;
      log.push([type, source.readyState, data, lastEventId, origin, this === source]);
      if (type === closeAt) {
        source.close();
        log.push([source.readyState]);
        setTimeout(() => resolve(log), 200);
      } else if (source.readyState === Kind.CLOSED) resolve(log);
    }
    source.onopen = source.onmessage = source.onerror = note;
    source.addEventListener("named", note);
  });
}
"""


@dataclass
class Teller:
    """Answers the n-th request of a client with the n-th answer of its story."""

    url: str
    asked: dict[str, list[str | None]] = field(default_factory=lambda: defaultdict(list))


@contextmanager
def teller(story: list[tuple[int, dict[str, str], bytes] | None]) -> Iterator[Teller]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """No line for each request."""

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path != "/events":
                script = CLIENT / path.removeprefix("/static/")
                found = script.read_bytes() if script.suffix == ".js" else b"<!doctype html>"
                kind = "text/javascript" if script.suffix == ".js" else "text/html"
                self.answer(200, {"Content-Type": kind}, found)
                return
            seen = told.asked[query.partition("who=")[2]]
            seen.append(self.headers["Last-Event-ID"])
            this = story[min(len(seen), len(story)) - 1]
            self.close_connection = True
            if this is not None:
                self.answer(*this)

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Connection": "close"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told = Teller(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def compare(windows: Windows, story: Any, close_at: str | None = None) -> list[Any]:
    """What both saw and sent, which is the same."""
    windows.expect(r"404 \(Not Found\)", "MIME type", r"net::ERR_EMPTY_RESPONSE")
    windows.expect("EventSource's response has", "Aborting the connection")
    with teller(story) as told:
        page = windows.open(told.url + "/page")
        native, ours = (
            page.evaluate(WATCH, [kind, "/events?channel=a", close_at])
            for kind in ("EventSource", "EventStream")
        )
        assert ours == native
        assert told.asked["EventStream"] == told.asked["EventSource"]
        page.close()
    return list(native)


@pytest.mark.parametrize("name", STORIES)
def test_both_tell_the_same_story(open_windows: Windows, name: str) -> None:
    (_, *events) = compare(open_windows, STORIES[name])
    assert events[-1][:2] == ["error", 2]


@pytest.mark.parametrize("event", ["open", "message", "named", "error"])
def test_both_are_silent_once_they_are_closed(open_windows: Windows, event: str) -> None:
    *_, last = compare(open_windows, STORIES["messages, names and ids"], event)
    assert last == [2]
