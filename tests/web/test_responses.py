"""streaming/web/responses.py: iterables and subscriptions in, streams out, over a real server."""

import gc
import json
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import httpx
import pytest
from flask import Flask, Response, abort, request, session
from httpx_sse import connect_sse

from streaming import NDJSON, SSE, Forbidden, StreamingError, stream
from streaming.clients import client as clients
from streaming.clients.formats import EventFormat
from streaming.errors import ClientGone, TooManyRuns
from streaming.message import Position
from streaming.web import responses
from streaming.web.origin import allow_origin
from streaming.web.piece_body import Begun, Followed
from streaming.web.responses import choose_format, stream_response
from streaming.web.state import current_state
from tests.greenlets import is_green, run_file
from tests.hub.streams import reader
from tests.live.clients import Event, RawClient
from tests.polling import PATIENCE, wait_until
from tests.sites import Site, make_app, serve


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(make_app()) as site:
        yield site


def next_event(client: RawClient) -> Event:
    event = client.next_event()
    assert event is not None, "the stream ended"
    return event


def follow(site: Site, query: str = "channel=a", **how: Any) -> RawClient:
    return site.get(f"/streaming/events?{query}", **how)


# Accept


@pytest.mark.parametrize(
    ("accept", "among_text", "otherwise"),
    [
        (None, None, SSE),
        ("*/*", None, SSE),
        ("text/event-stream", SSE, SSE),
        ("application/x-ndjson", NDJSON, NDJSON),
        ("text/plain", None, SSE),
        ("text/html", None, SSE),
        ("application/x-ndjson;q=0.5, text/event-stream", SSE, SSE),
        ("text/event-stream;q=0.1, application/x-ndjson", NDJSON, NDJSON),
        (";;;=,\x00", None, SSE),
    ],
)
def test_the_client_chooses_the_format_with_accept(
    accept: str | None, among_text: EventFormat | None, otherwise: EventFormat
) -> None:
    headers = {} if accept is None else {"Accept": accept}
    with Flask("x").test_request_context("/", headers=headers):
        assert choose_format(request, text=True) is among_text
        assert choose_format(request) is otherwise


# streams of channels


def test_the_headers_and_the_priming_event_leave_before_any_message(site: Site) -> None:
    with follow(site) as client:
        assert client.status == 200
        assert client.headers["content-type"].split(";")[0] == "text/event-stream"
        assert client.headers["cache-control"] == "no-cache, no-transform"
        assert client.headers["x-accel-buffering"] == "no"
        assert client.headers["transfer-encoding"] == "chunked"
        ready = next_event(client)
        assert (ready.event, ready.json()) == ("ready", {"channels": ["a"]})
        assert ready.id


def test_a_message_follows_with_its_id_as_the_last_line(site: Site) -> None:
    with follow(site) as client:
        client.read()
        posted = site.state.hub.publish("a", "one\ntwo", event="tick")
        block = b""
        while not block.endswith(b"\n\n"):
            block += client.read()
        assert block == f"event: tick\ndata: one\ndata: two\nid: {posted.id}\n\n".encode()


def test_a_client_resumes_behind_what_it_saw_last_in_either_format_and_way(site: Site) -> None:
    hub = site.state.hub
    ids = [str(hub.publish("a", str(n)).id) for n in range(5)]
    with follow(site, headers={"Last-Event-ID": ids[1]}) as client:
        assert next_event(client).event == "ready"
        assert [next_event(client).data for _ in range(3)] == ["2", "3", "4"]
    ndjson = {"Accept": "application/x-ndjson"}
    with follow(site, f"channel=a&last_event_id={ids[2]}", headers=ndjson) as client:
        assert client.headers["content-type"] == "application/x-ndjson"
        lines = b""
        while lines.count(b"\n") < 3:
            lines += client.read()
        ready, *messages = [json.loads(line) for line in lines.splitlines()]
        assert ready == {"event": "ready", "data": '{"channels":["a"]}', "id": ids[2]}
        assert messages == [
            {"event": "message", "channel": "a", "data": str(n), "id": ids[n]} for n in (3, 4)
        ]


def test_the_priming_cursor_alone_is_enough_to_lose_nothing(site: Site) -> None:
    with follow(site) as client:
        cursor = next_event(client).id
    site.wait_empty()
    site.state.hub.publish("a", "while nobody was there")
    assert cursor
    with follow(site, headers={"Last-Event-ID": cursor}) as client:
        assert next_event(client).event == "ready"
        assert next_event(client).data == "while nobody was there"


def test_history_gives_the_last_messages_to_a_client_without_a_cursor(site: Site) -> None:
    for n in range(5):
        site.state.hub.publish("a", str(n))
    with follow(site, "channel=a&history=2") as client:
        assert next_event(client).event == "ready"
        assert [next_event(client).data for _ in range(2)] == ["3", "4"]


def test_several_channels_resume_exactly_from_any_one_id(site: Site) -> None:
    hub = site.state.hub
    with follow(site, "channel=a&channel=b") as client:
        ready = next_event(client)
        assert ready.json() == {"channels": ["a", "b"]}
        for n in range(20):
            hub.publish("ab"[n % 2], f"{'ab'[n % 2]}{n}")
        seen = [next_event(client) for _ in range(20)]
    sent = {"a": [f"a{n}" for n in range(0, 20, 2)], "b": [f"b{n}" for n in range(1, 20, 2)]}
    for cut, last in enumerate([ready, *seen]):
        assert last.id
        with follow(site, "channel=a&channel=b", headers={"Last-Event-ID": last.id}) as client:
            assert next_event(client).event == "ready"
            rest = [next_event(client).data for _ in range(20 - cut)]
        told = [event.data for event in seen[:cut]] + rest
        for name, texts in sent.items():
            assert [t for t in told if t and t[0] == name] == texts


def test_httpx_sse_reads_the_stream_and_resumes_by_its_last_event_id(site: Site) -> None:
    url, hub = f"{site.url}/streaming/events", site.state.hub
    with httpx.Client(timeout=PATIENCE) as http:
        with connect_sse(http, "GET", url, params={"channel": "a"}) as source:
            events = source.iter_sse()
            assert next(events).event == "ready"
            hub.publish("a", "你好\n\n世界 ")
            event = next(events)
            assert (event.event, event.data) == ("message", "你好\n\n世界 ")
        hub.publish("a", "later")
        headers = {"Last-Event-ID": event.id}
        with connect_sse(http, "GET", url, params={"channel": "a"}, headers=headers) as source:
            events = source.iter_sse()
            assert next(events).event == "ready"
            assert next(events).data == "later"


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
def test_a_gap_is_told_in_band_and_the_stream_goes_on_from_the_oldest_held(accept: str) -> None:
    with serve(make_app(retention_messages=3)) as site:
        ids = [str(site.state.hub.publish("a", str(n)).id) for n in range(10)]
        headers = {"Last-Event-ID": ids[1], "Accept": accept}
        with follow(site, headers=headers) as client:
            told: list[dict[str, Any]] = []
            if accept == "text/event-stream":
                events = [next_event(client) for _ in range(5)]
                told = [{"event": e.event, "data": e.data, "id": e.id} for e in events]
            else:
                lines = b""
                while lines.count(b"\n") < 5:
                    lines += client.read()
                told = [json.loads(line) for line in lines.splitlines()]
        assert [line["event"] for line in told] == ["ready", "gap", *["message"] * 3]
        assert json.loads(told[1]["data"]) == {
            "channel": "a",
            "requested": ids[1],
            "oldest": ids[7],
            "newest": ids[9],
        }
        assert told[1]["id"] == ids[6]
        assert [line["data"] for line in told[2:]] == ["7", "8", "9"]


def test_a_cursor_of_another_epoch_is_a_gap_even_before_an_empty_log(site: Site) -> None:
    with follow(site, headers={"Last-Event-ID": "gone-7"}) as client:
        assert next_event(client).event == "ready"
        gap = next_event(client)
        assert gap.json() == {
            "channel": "a",
            "requested": "gone-7",
            "oldest": None,
            "newest": None,
        }
        posted = site.state.hub.publish("a", "on we go")
        assert next_event(client) == Event("message", "on we go", str(posted.id))
    assert gap.id
    with follow(site, headers={"Last-Event-ID": gap.id}) as client:
        assert next_event(client).event == "ready"
        assert next_event(client).data == "on we go"


@pytest.mark.parametrize(
    ("accept", "heartbeat"),
    [("text/event-stream", b":\n"), ("application/x-ndjson", b"\n")],
)
def test_an_idle_stream_sends_its_heartbeat(accept: str, heartbeat: bytes) -> None:
    with (
        serve(make_app(heartbeat=0.05)) as site,
        follow(site, headers={"Accept": accept}) as client,
    ):
        assert client.read().endswith(b"\n")
        beats = b""
        while len(beats) < 2 * len(heartbeat):  # several may come with one read
            beats += client.read()
    assert beats == heartbeat * (len(beats) // len(heartbeat))


@pytest.mark.parametrize(
    ("accept", "parse"),
    [
        ("text/event-stream", None),
        ("application/x-ndjson", json.loads),
    ],
)
def test_a_drain_ends_the_stream_with_a_restart_and_a_last_chunk(
    site: Site, accept: str, parse: Any
) -> None:
    with follow(site, headers={"Accept": accept}) as client:
        client.read()
        site.state.close()
        body = client.read_all()
        assert client.ending == "whole"
    if parse is None:
        (event,) = client.reader.feed(body)
        told = {"event": event.event, "data": event.data, "retry": event.retry}
        assert event.id is None
    else:
        told = parse(body)
    assert 1000 <= told.pop("retry") <= 3000
    assert told == {"event": "restart", "data": "{}"}
    site.wait_reason("restarting")


def test_a_client_that_comes_during_the_drain_is_told_to_come_again_in_band(site: Site) -> None:
    site.state.close()
    with follow(site, headers={"Last-Event-ID": "e-1"}) as client:
        assert client.status == 200
        (event,) = client.events()
        assert (event.event, event.data) == ("restart", "{}")
        assert event.retry
        assert client.ending == "whole"


def test_what_was_published_before_the_drain_is_behind_the_last_id_or_was_told(site: Site) -> None:
    log = site.state.hub.log
    with follow(site) as client:
        told = [next_event(client)]
        site.state.hub.publish("a", "last words")
        site.state.close()
        told += client.events()
    assert told[-1].event == "restart"
    cursor = [event.id for event in told if event.id][-1]
    seen = [event.data for event in told if event.event == "message"]
    missed = log.read("a", Position.parse(cursor), limit=9, size=999).messages
    assert seen + [message.data for message in missed] == ["last words"]


@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset])
def test_a_client_that_leaves_frees_the_registry_and_its_pump(site: Site, leave: Any) -> None:
    client = follow(site)
    assert next_event(client).event == "ready"
    assert len(site.registry) == 1
    assert site.state.hub.subscribers("a") == 1
    leave(client)
    site.wait_empty()
    wait_until(lambda: site.state.hub.subscribers("a") == 0, "no subscriber")
    (row,) = site.registry.snapshot()["ended"]
    assert row["transport"] == "sse"


def test_the_registry_says_where_a_client_stands(site: Site) -> None:
    with follow(site) as client:
        assert next_event(client).event == "ready"
        posted = site.state.hub.publish("a", "x")
        assert next_event(client).data == "x"
        (row,) = site.registry.snapshot()["clients"]
        assert row["channels"] == ("a",)
        assert row["position"] == str(posted.id)
        assert row["peer"] == "127.0.0.1"


def test_a_client_too_slow_for_its_channels_policy_is_told_so() -> None:
    app = make_app(retention_messages=2, policies={"a": "disconnect"})
    with serve(app) as site, follow(site, receive_buffer=4096) as client:
        assert next_event(client).event == "ready"
        for _ in range(40):
            site.state.hub.publish("a", "x" * 500_000)
        *_, last = client.events()
        assert client.ending == "whole"
        assert last.json()["title"] == "Too slow"
        site.wait_reason("Too slow")


@pytest.mark.parametrize("query", ["channel=a", "channel=a&channel=b"])
@pytest.mark.parametrize("form", [SSE, NDJSON], ids=["sse", "ndjson"])
def test_a_server_is_given_a_large_message_in_bounded_pieces(form: EventFormat, query: str) -> None:
    app, text = make_app(), "one line\n" * 100_000
    hub = app.extensions["streaming"].hub
    hub.publish("a", text, event="tick")
    hub.publish("a", "the end")
    headers = {"Accept": form.mimetype}
    with app.test_client().get(
        f"/streaming/events?{query}&history=2", headers=headers, buffered=False
    ) as answer:
        pieces: list[bytes] = []
        for piece in answer.response:
            pieces.append(piece)
            if b"the end" in piece:
                break
    assert max(map(len, pieces)) < 100_000
    read = reader(form).feed(b"".join(pieces))
    assert [(event.event, event.data) for event in read[1:]] == [
        ("tick", text),
        ("message", "the end"),
    ]


def test_a_drain_in_the_midst_of_an_event_says_nothing_inside_of_it() -> None:
    """The client gets the end of the event and the farewell, or is too slow for that and is cut.
    Where nothing of the event had left yet, it gets the farewell alone, and resumes."""
    app, text = make_app(), "one line\n" * 100_000
    with (
        mock.patch.object(clients, "FAREWELL", 0.5),
        serve(app) as site,
        follow(site, receive_buffer=64 * 1024) as client,
    ):
        assert next_event(client).event == "ready"
        site.state.hub.publish("a", text)
        (one,) = site.registry.clients()
        wait_until(lambda: one._stuck_since(), "it is in the midst of it")
        site.state.close()
        told = [(event.event, event.data) for event in client.events()]
        message, farewell = ("message", text), ("restart", "{}")
        assert told in ([], [message], [message, farewell], [farewell])
        assert client.ending == ("whole" if farewell in told else "cut")


@pytest.mark.parametrize(
    ("query", "headers", "title"),
    [
        ("channel=a+b", {}, "Invalid message"),
        ("channel=", {}, "Invalid message"),
        ("channel=%00", {}, "Invalid message"),
        ("channel=%ff", {}, "Invalid message"),
        ("channel=a%0d%0aX-Evil:1", {}, "Invalid message"),
        ("channel=" + "a" * 129, {}, "Invalid message"),
        ("channel=%E4%BD%A0", {}, "Invalid message"),
        ("", {}, "Invalid request"),
        ("&".join(f"channel=c{n}" for n in range(33)), {}, "Invalid request"),
        ("channel=a", {"Last-Event-ID": "nonsense"}, "Unreadable cursor"),
        ("channel=a", {"Last-Event-ID": "e-01"}, "Unreadable cursor"),
        ("channel=a", {"Last-Event-ID": "e-" + "9" * 40}, "Unreadable cursor"),
        ("channel=a", {"Last-Event-ID": "\xff\xfe"}, "Unreadable cursor"),
        ("channel=a", {"Last-Event-ID": "a_b.c_d"}, "Unreadable cursor"),
        ("channel=a&last_event_id=%00", {}, "Unreadable cursor"),
        ("channel=a&last_event_id=" + "x" * 8193, {}, "Unreadable cursor"),
        ("channel=a&history=-1", {}, "Invalid request"),
        ("channel=a&history=many", {}, "Invalid request"),
        ("channel=a&history=%C2%B2", {}, "Invalid request"),
        ("channel=a&history=9999999", {}, "Invalid request"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_before_the_first_byte(
    query: str, headers: dict[str, str], title: str
) -> None:
    client = make_app().test_client()
    answer = client.get(f"/streaming/events?{query}", headers=headers)
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    problem = answer.get_json(force=True)
    assert (problem["status"], problem["title"]) == (400, title)
    assert problem["detail"]


def test_a_refused_request_subscribes_nobody() -> None:
    app = make_app()
    app.test_client().get("/streaming/events?channel=a&channel=a+b")
    state = app.extensions["streaming"]
    assert len(state.registry) == 0
    assert state.hub.subscribers("a") == 0


# stream()


class Pieces:
    """An iterable that says whether it was closed."""

    def __init__(self, *pieces: object, endless: bool = False) -> None:
        self.pieces = iter(pieces)
        self.endless = endless
        self.given = 0
        self.closed = threading.Event()

    def __iter__(self) -> "Pieces":
        return self

    def __next__(self) -> Any:
        self.given += 1
        piece = next(self.pieces, "more" if self.endless else None)
        if piece is None:
            raise StopIteration
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        self.closed.set()


def app_of(pieces: Any, **how: Any) -> Flask:
    app = make_app(heartbeat=how.pop("heartbeat", 15.0))

    @app.get("/answer")
    def answer() -> Response:
        return stream(pieces, **how)

    return app


def body_of(pieces: Any, accept: str = "text/plain", **how: Any) -> bytes:
    return app_of(pieces, **how).test_client().get("/answer", headers={"Accept": accept}).data


def test_the_pieces_of_any_iterable_are_sent_as_they_are() -> None:
    assert body_of(["a ", "好", "", "b\n"]) == "a 好b\n".encode()
    assert body_of(iter(())) == b""
    assert body_of(word for word in ("x", "y")) == b"xy"
    assert body_of("text") == b"text"


def test_each_piece_is_an_event_and_the_end_is_deliberate() -> None:
    assert body_of(["a ", "", "b\nc"], "text/event-stream") == (
        b"data: a \n\ndata: b\ndata: c\n\nevent: close\ndata: {}\n\n"
    )
    assert body_of(["a", "好"], "application/x-ndjson") == (
        '{"event":"message","data":"a"}\n{"event":"message","data":"好"}\n'
        '{"event":"close","data":"{}"}\n'.encode()
    )


def test_a_given_format_goes_over_accept() -> None:
    assert body_of(["a"], "text/plain", form=NDJSON).startswith(b'{"event":"message"')


def test_a_character_split_over_pieces_arrives_whole() -> None:
    text = "好😀é"
    pieces = [bytes([byte]) for byte in text.encode()]
    assert body_of(pieces) == text.encode()
    lines = body_of(pieces, "application/x-ndjson").splitlines()
    data = [json.loads(line)["data"] for line in lines[:-1]]
    assert data == list(text)


def test_bytes_that_are_no_utf_8_become_replacement_characters() -> None:
    assert body_of([b"a\xff", b"\xe5\xa5"]).decode() == "a\ufffd\ufffd"


def test_a_text_piece_after_half_a_character_does_not_lose_it() -> None:
    assert "好" in body_of(["好".encode()[:2], "好".encode()[2:], "x"]).decode()


def test_a_text_stream_has_the_headers_of_a_stream() -> None:
    answer = app_of(["x"]).test_client().get("/answer")
    assert answer.content_type == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache, no-transform"
    assert answer.headers["X-Accel-Buffering"] == "no"


def test_the_first_piece_leaves_while_the_next_one_is_still_to_come() -> None:
    go_on = threading.Event()

    def pieces() -> Iterator[str]:
        yield "first"
        go_on.wait(PATIENCE)
        yield "second"

    with serve(app_of(pieces())) as site, site.get("/answer") as client:
        assert client.read() == b"first"
        go_on.set()
        assert client.read_all() == b"second"
        assert client.ending == "whole"
    assert site.registry.snapshot()["ended"][0]["reason"] == "The end."


@pytest.mark.parametrize("accept", ["text/plain", "text/event-stream", "application/x-ndjson"])
def test_a_client_that_leaves_during_a_pause_closes_the_iterable_at_once(accept: str) -> None:
    pieces = Pieces(endless=True)
    with serve(app_of(pieces, every=600)) as site:
        with site.get("/answer", headers={"Accept": accept}) as client:
            assert client.read()
            assert not pieces.closed.is_set()
        assert pieces.closed.wait(PATIENCE)
        site.wait_empty()
    assert pieces.given == 1


def test_what_is_followed_for_a_client_that_has_left_is_let_go_of_without_the_collector() -> None:
    app, is_let_go = make_app(), threading.Event()

    @app.get("/followed")
    def followed() -> Response:
        state = current_state()

        def pieces(begun: Begun) -> Iterator[str]:
            try:
                yield "one"
                for client in state.registry.clients():
                    client.end(ClientGone("The client left."))
                yield "two"
                yield "three"
            finally:
                is_let_go.set()

        return stream_response(request, state, Followed(pieces))

    gc.disable()
    try:
        with serve(app) as site, site.get("/followed") as client:
            client.read_all()
            assert is_let_go.wait(PATIENCE)
    finally:
        gc.enable()


def test_a_client_that_leaves_while_the_producer_works_closes_it_at_its_next_piece() -> None:
    pieces = Pieces(endless=True)
    with serve(app_of(pieces)) as site:
        with site.get("/answer") as client:
            assert client.read().startswith(b"more")
        assert pieces.closed.wait(PATIENCE)
        site.wait_empty()


def test_a_client_that_asks_for_the_head_only_starts_no_producer() -> None:
    pieces = Pieces(endless=True)
    app = app_of(pieces)
    assert app.test_client().head("/answer").data == b""
    assert pieces.given == 0
    assert len(app.extensions["streaming"].registry) == 0


@pytest.mark.parametrize(
    "fault", [ValueError("secret"), StreamingError("secret"), OSError("secret"), KeyError("secret")]
)
@pytest.mark.parametrize("form", [SSE, NDJSON])
def test_a_failing_producer_is_logged_and_told_as_a_deliberate_end(
    fault: Exception, form: EventFormat
) -> None:
    pieces = Pieces("one", fault)
    with (
        serve(app_of(pieces, form=form), expect_errors=True) as site,
        site.get("/answer") as client,
    ):
        body = client.read_all()
        assert client.ending == "whole"
    assert pieces.closed.is_set()
    assert b"one" in body
    assert b"secret" not in body
    if form is SSE:
        close = client.reader.feed(body)[-1]
        name, data = close.event, close.json()
    else:
        line = json.loads(body.splitlines()[-1])
        name, data = line["event"], json.loads(line["data"])
    assert name == "close"
    assert data["status"] == 500
    assert "secret" in "\n".join(site.errors)


@pytest.mark.parametrize("fault", [ValueError("boom"), OSError("boom")])
def test_a_failing_producer_of_plain_text_cuts_the_connection(fault: Exception) -> None:
    pieces = Pieces("one", fault)
    with serve(app_of(pieces), expect_errors=True) as site, site.get("/answer") as client:
        assert client.read_all() == b"one"
        assert client.ending == "cut"
        assert pieces.closed.wait(PATIENCE)
    assert "boom" in "\n".join(site.errors)


@pytest.mark.parametrize("nonsense", [7, object(), ["list"], None])
def test_a_piece_that_is_no_text_is_the_producers_failure(nonsense: object) -> None:
    app = app_of(iter(["one", nonsense]), form=SSE)
    with serve(app, expect_errors=True) as site, site.get("/answer") as client:
        one, close = client.events()
        assert (one.data, close.event, close.json()["status"]) == ("one", "close", 500)


def test_half_a_surrogate_pair_cannot_break_a_text_stream() -> None:
    assert body_of(["a", "\ud800", "b"]) == b"a?b"


def test_plain_text_is_cut_at_the_drain_since_it_has_no_other_way_to_say_so() -> None:
    pieces = Pieces(endless=True)
    with serve(app_of(pieces, every=600)) as site, site.get("/answer") as client:
        assert client.read() == b"more"
        site.state.close()
        assert client.read_all() == b""
        assert client.ending == "cut"
        assert pieces.closed.wait(PATIENCE)


@pytest.mark.parametrize("form", [SSE, NDJSON])
def test_an_answer_in_events_ends_with_a_restart_at_the_drain(form: EventFormat) -> None:
    pieces = Pieces(endless=True)
    with serve(app_of(pieces, every=600, form=form)) as site, site.get("/answer") as client:
        client.read()
        site.state.close()
        body = client.read_all()
        assert client.ending == "whole"
        assert b"restart" in body
        assert b"close" not in body
        assert pieces.closed.wait(PATIENCE)


def test_the_heartbeat_bridges_a_long_pause_of_events_and_not_of_text() -> None:
    events = app_of(Pieces(endless=True), every=600, form=SSE, heartbeat=0.05)
    with serve(events) as site, site.get("/answer") as client:
        body = b""
        while not body.endswith(b"\n:\n"):
            body += client.read()
    assert body.rstrip(b":\n") == b"data: more"
    text = app_of(Pieces("a", "b"), every=0.2, heartbeat=0.05)
    with serve(text) as site, site.get("/answer") as client:
        assert client.read_all() == b"ab"


def test_a_client_that_takes_nothing_is_cut_and_its_producer_closed() -> None:
    pieces = Pieces(*["x" * 1_000_000] * 100)
    app = make_app(send_timeout=0.1)

    @app.get("/answer")
    def answer() -> Response:
        return stream(pieces)

    with serve(app) as site:
        with site.get("/answer", receive_buffer=4096):
            assert pieces.closed.wait(PATIENCE)
            site.wait_empty()
            site.wait_reason("took nothing")
        assert pieces.given < 100


# an answer that fails before it begins


class SourceError(OSError):
    """What requests raises: its response says what went wrong."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"{status} from upstream, secret")
        self.response = SimpleNamespace(status_code=status, headers=headers)


class ApiError(Exception):
    """What the clients of model servers raise: the status is the error's own."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__("secret")
        self.status_code = status
        self.response = SimpleNamespace(headers=headers)


class Own(StreamingError):
    status = 409
    title = "Somebody else asks"


def fail_with(error: BaseException) -> Iterator[str]:
    raise error
    yield "never"


def abort_with(status: int) -> Iterator[str]:
    abort(status)
    yield "never"


REFUSALS: list[tuple[Callable[[], Iterator[str]], int, str | None, bool]] = [
    (lambda: fail_with(SourceError(401)), 502, None, True),
    (lambda: fail_with(SourceError(404)), 502, None, True),
    (lambda: fail_with(SourceError(500)), 502, None, True),
    (lambda: fail_with(SourceError(429, **{"Retry-After": "17"})), 429, "17", True),
    (lambda: fail_with(SourceError(503)), 503, None, True),
    (lambda: fail_with(ApiError(400)), 502, None, True),
    (lambda: fail_with(ApiError(429, **{"Retry-After": "3"})), 429, "3", True),
    (lambda: fail_with(ApiError(503, **{"Retry-After": "4"})), 503, "4", True),
    (lambda: fail_with(ValueError("secret")), 500, None, True),
    (lambda: fail_with(KeyError("secret")), 500, None, True),
    (lambda: fail_with(ConnectionRefusedError(111, "secret")), 500, None, True),
    (lambda: abort_with(404), 404, None, False),
    (lambda: abort_with(403), 403, None, False),
    (lambda: fail_with(Own("Wait for it.")), 409, None, False),
    (lambda: fail_with(Forbidden("Not you.")), 403, None, False),
    (lambda: fail_with(TooManyRuns("Later.")), 503, "5", False),
]


@pytest.mark.parametrize("number", range(len(REFUSALS)))
@pytest.mark.parametrize("form", [None, SSE], ids=["text", "SSE"])
def test_an_answer_that_fails_at_once_is_an_error_of_http(
    number: int, form: EventFormat | None
) -> None:
    fail, status, retry_after, is_logged = REFUSALS[number]
    app = app_of_each(lambda: stream(fail(), form=form))
    with serve(app, expect_errors=is_logged) as site, site.get("/answer") as client:
        assert client.status == status
        assert client.headers.get("retry-after") == retry_after
        body = client.read_all()
        assert b"secret" not in body
        if client.headers["content-type"] == "application/problem+json":
            assert json.loads(body)["status"] == status
        else:
            assert status in (403, 404), "abort() answers as the application says"
        site.wait_empty()


def app_of_each(view: Callable[[], Response]) -> Flask:
    app = make_app()
    app.get("/answer", endpoint="answer")(view)
    return app


def test_an_upstream_whose_answer_has_no_headers_is_no_trouble() -> None:
    error = SourceError(429)
    error.response = SimpleNamespace(status_code=429, headers=None)
    app = app_of_each(lambda: stream(fail_with(error)))
    with serve(app, expect_errors=True) as site, site.get("/answer") as client:
        assert client.status == 429


def test_the_applications_own_error_handler_is_asked() -> None:
    app = app_of_each(lambda: stream(fail_with(Forbidden("Not you."))))
    app.errorhandler(Forbidden)(lambda error: ("our own page", 418))
    with serve(app) as site, site.get("/answer") as client:
        assert (client.status, client.read_all()) == (418, b"our own page")


def test_what_extensions_add_to_a_response_is_on_its_refusal_too() -> None:
    """A page of another origin may not even read the status without it."""
    origins = ["https://listed.example"]
    app = make_app()
    app.secret_key = "x"
    app.after_request(lambda response: allow_origin(request, response, origins))

    @app.get("/answer")
    def answer() -> Response:
        session["seen"] = 1
        return stream(fail_with(Forbidden("Not you.")), form=SSE)

    with serve(app) as site, site.get("/answer", headers={"Origin": origins[0]}) as client:
        assert client.status == 403
        assert client.headers["access-control-allow-origin"] == "https://listed.example"
        assert client.headers["set-cookie"].startswith("session=")
        assert client.headers["content-type"] == "application/problem+json"
        assert "x-accel-buffering" not in client.headers
        assert json.loads(client.read_all())["status"] == 403


def test_an_answer_that_fails_while_its_head_has_left_says_so_in_band() -> None:
    go_on = threading.Event()

    def pieces() -> Iterator[str]:
        go_on.wait(PATIENCE)
        raise SourceError(401)
        yield "never"

    app = app_of_each(lambda: stream(pieces(), form=SSE))
    with (
        mock.patch.object(responses, "FIRST", 0.02),
        serve(app, expect_errors=True) as site,
        site.get("/answer") as client,
    ):
        assert client.status == 200
        go_on.set()
        (close,) = client.events()
        assert (close.event, close.json()["status"]) == ("close", 500)
        assert client.ending == "whole"


def test_an_answer_that_is_asked_for_at_a_drain_is_refused_with_503() -> None:
    with serve(app_of_each(lambda: stream(iter(["x"])))) as site:
        site.state.close()
        with site.get("/answer") as client:
            assert client.status == 503
            assert client.headers["retry-after"]


def test_a_time_limit_of_somebody_elses_leaves_nobody_behind() -> None:
    class Timeout(BaseException):
        """As gevent has them."""

    closed: list[int] = []

    class Source:
        def __iter__(self) -> Iterator[str]:
            raise Timeout

        def close(self) -> None:
            closed.append(1)

    def catching(wsgi: Any) -> Any:
        def wrapped(environ: Any, start_response: Any) -> Any:
            try:
                return wsgi(environ, start_response)
            except Timeout:
                start_response("504 Gateway Timeout", [("Content-Length", "0")])
                return []

        return wrapped

    app = app_of_each(lambda: stream(Source()))  # type: ignore[arg-type]
    with serve(app, wrap=catching) as site, site.get("/answer") as client:
        assert client.status == 504
        assert len(site.registry) == 0
    assert closed == [1]


# what is closed


def test_an_upstream_that_was_opened_for_a_head_is_closed() -> None:
    pieces = Pieces("x")
    app = app_of(pieces, form=SSE)
    with serve(app) as site, site.get("/answer", method="HEAD") as client:
        assert client.status == 200
        assert pieces.closed.wait(PATIENCE)
        assert pieces.given == 0
        assert len(site.registry) == 0


@pytest.mark.parametrize("status", [204, 304])
def test_an_upstream_whose_answer_has_no_body_is_closed(status: int) -> None:
    pieces = Pieces("x")
    app = app_of(pieces)

    @app.after_request
    def change(response: Response) -> Response:
        response.status_code = status
        return response

    with serve(app) as site, site.get("/answer") as client:
        assert client.status == status
        assert pieces.closed.wait(PATIENCE)
        site.wait_empty()


def test_an_upstream_whose_response_is_replaced_is_closed() -> None:
    pieces = Pieces("x", endless=True)
    app = app_of(pieces, form=SSE)
    app.after_request(lambda response: app.response_class("another", 201))
    with serve(app) as site, site.get("/answer") as client:
        assert (client.status, client.read_all()) == (201, b"another")
        assert pieces.closed.wait(PATIENCE)
        assert pieces.given == 0
        assert len(site.registry) == 0


def test_an_upstream_whose_request_fails_behind_it_is_closed() -> None:
    pieces = Pieces("x", endless=True)
    app = app_of(pieces, form=SSE)
    app.logger.disabled = True  # or a record of it would refer to the exception's frames

    @app.after_request
    def fail(response: Response) -> Response:
        raise ZeroDivisionError("in an extension")

    with serve(app) as site, site.get("/answer") as client:
        assert client.status == 500

        def is_closed() -> bool:
            gc.collect()  # the exception knows the frame that knows the response
            return pieces.closed.is_set()

        wait_until(is_closed, "nobody refers to it any more")
        assert len(site.registry) == 0
    app.logger.disabled = False


def test_an_answer_that_is_read_as_a_whole_is_one_and_its_upstream_is_closed() -> None:
    pieces = Pieces("one", "two")
    app = app_of(pieces, form=SSE)

    @app.after_request
    def sign(response: Response) -> Response:
        response.headers["X-Length"] = str(len(response.get_data()))
        return response

    with serve(app) as site, site.get("/answer") as client:
        body = client.read_all()
        assert [event.data for event in client.reader.feed(body)] == ["one", "two", "{}"]
        assert client.headers["x-length"] == str(len(body))
        assert pieces.closed.wait(PATIENCE)
        site.wait_empty()


def test_a_stream_of_events_cannot_be_read_as_a_whole_and_says_so_at_once() -> None:
    app = make_app()

    @app.after_request
    def sign(response: Response) -> Response:
        if response.mimetype == "text/event-stream":
            response.headers["X-Length"] = str(len(response.get_data()))
        return response

    with serve(app, expect_errors=True) as site:
        with site.get("/streaming/events?channel=a") as client:
            assert client.status == 500
        assert "required the iterable to be a sequence" in "\n".join(site.errors)
        assert len(site.registry) == 0
        assert site.state.hub.subscribers("a") == 0


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
