"""A client that talks where it has nothing to say is cut, on every way to a client; live servers
are in ``tests/live/test_talkers.py``."""

import threading
from collections.abc import Iterator

import pytest
from flask import request

from streaming import NDJSON, SSE, stream
from streaming.web.responses import choose_format, event_stream
from streaming.web.state import current_state
from tests.greenlets import is_green, run_file
from tests.live.clients import RawClient
from tests.live.talk import talk
from tests.polling import PATIENCE
from tests.sites import WAYS, Way, make_app, serve

every_way = pytest.mark.parametrize("way", WAYS, ids=str)

STREAMS = {
    "one channel": "/streaming/events?channel=a",
    "two channels": "/streaming/events?channel=a&channel=b",
    "32 channels": "/streaming/events?channel=a" + "".join(f"&channel=c{n}" for n in range(31)),
    "an answer": "/answer",
}


@every_way
@pytest.mark.parametrize("path", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("accept", [SSE.mimetype, NDJSON.mimetype, "text/plain"])
def test_a_client_that_talks_on_a_stream_is_cut_and_no_other(
    way: Way, path: str, accept: str
) -> None:
    app, more = make_app(way=way, heartbeat=None), threading.Event()

    def pieces() -> Iterator[str]:
        yield "piece"
        more.wait(PATIENCE)
        yield "more"

    app.get("/answer")(lambda: stream(pieces(), form=choose_format(request, text=True)))
    headers = {"Accept": accept}
    with (
        serve(app, way=way) as site,
        site.get(path, headers=headers) as quiet,
        site.get(path, headers=headers) as talker,
    ):
        quiet.socket.sendall(b"x" * 1000)  # a little is passed over
        talk(talker)
        site.wait_reason("talks where it has nothing to say")
        assert len(site.registry) == 1
        more.set()
        site.state.hub.publish("a", "more")
        read_until_has(quiet, b"more")


def read_until_has(client: RawClient, part: bytes) -> None:
    body = b""
    while part not in body:
        piece = client.read()
        assert piece, f"the stream ended behind {body!r}"
        body += piece


@every_way
def test_what_is_left_of_a_body_is_no_talk(way: Way) -> None:
    app, size = make_app(way=way, heartbeat=None), 60_000
    app.post("/body")(lambda: event_stream(request, current_state(), ["a"]))
    headers = {"Content-Length": str(size)}
    with (
        serve(app, way=way) as site,
        site.get("/body", method="POST", headers=headers) as client,
    ):
        client.socket.sendall(b"x" * size)
        site.state.hub.publish("a", "still there")
        read_until_has(client, b"still there")
        talk(client)
        site.wait_reason("talks where it has nothing to say")


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
