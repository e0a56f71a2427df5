"""What works on which server: the tables of its page, each row tried."""

import contextlib
import json
import re
import select
import signal
import socket
from collections.abc import Iterator

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.live.clients import RawClient, post_json
from tests.live.server import ROOT, Server
from tests.live.servers import SERVERS, THREADS
from tests.polling import PATIENCE, wait_until


def table() -> dict[str, dict[str, str]]:
    """The page's rows that are not said to be untried."""
    page = (ROOT / "docs" / "servers.md").read_text("utf-8")
    head, _, *lines = page.partition("\n| server |")[2].partition("\n\n")[0].splitlines()
    columns = [name.strip() for name in head.strip("|").split("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(columns, row[1:], strict=True)) for row in rows if row[1] != "untried"}


TABLE = table()
FORGOTTEN = "a client that left is forgotten"


def test_every_row_of_the_table_that_is_not_untried_is_tried_here() -> None:
    assert list(TABLE) == list(SERVERS)


@pytest.fixture(scope="module", params=list(SERVERS))
def row(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(row: str) -> Iterator[Server]:
    running = SERVERS[row]()
    if TABLE[row][FORGOTTEN] in ("at once", "in 0.25 s"):
        running.env["HEARTBEAT"] = "60"  # it is not a heartbeat that finds out
    with running:
        # a client that leaves, and being stopped, are errors to some of them
        running.expect_trouble = not row.startswith(("gunicorn", "`flask", "gevent's", "waitress"))
        yield running


def listed(server: Server) -> list[str]:
    with RawClient(server.url + "/") as client:
        return list(client.json())


def test_events_come_at_once_written_in_the_way_that_the_table_says(
    server: Server, row: str
) -> None:
    with RawClient(f"{server.url}/streaming/events?channel=a") as client:
        assert client.next_event().event == "ready"  # type: ignore[union-attr]
        for text in ("one", "two"):
            status, answer = post_json(f"{server.url}/streaming/channels/a", {"data": text})
            assert status == 201
            event = client.next_event()
            assert event is not None
            assert (event.data, event.id) == (text, answer["id"])
        kind = "EventStream" if TABLE[row]["direct writes"] == "yes" else "RequestStream"
        assert listed(server) == [kind]


def test_who_has_left_is_forgotten_as_soon_as_the_table_says(server: Server, row: str) -> None:
    left = TABLE[row][FORGOTTEN]
    with RawClient(f"{server.url}/streaming/events?channel=b") as client:
        assert client.next_event()
        before = len(listed(server))
    if left == "never":
        for n in range(20):
            post_json(f"{server.url}/streaming/channels/b", {"data": n})
        assert len(listed(server)) == before
        return
    assert left in ("at once", "in 0.25 s", "at the next message or heartbeat")
    wait_until(lambda: listed(server) == [], "it is forgotten")


def test_json_lines_resume_behind_an_id(server: Server) -> None:
    ids = [
        post_json(f"{server.url}/streaming/channels/c", {"data": str(n)})[1]["id"] for n in range(3)
    ]
    headers = {"Accept": "application/x-ndjson", "Last-Event-ID": ids[0]}
    with RawClient(f"{server.url}/streaming/events?channel=c", headers=headers) as client:
        body = b""
        while body.count(b'"message"') < 2 or not body.endswith(b"\n"):
            piece = client.read()
            assert piece, body
            body += piece
    messages = [json.loads(line) for line in body.splitlines() if b'"message"' in line]
    assert [(each["data"], each["id"]) for each in messages] == [("1", ids[1]), ("2", ids[2])]


def test_pieces_of_an_answer_come_one_by_one(server: Server) -> None:
    with RawClient(server.url + "/count") as client:
        pieces = [client.read()]
        assert pieces == [b"0 "], "the first has come before the others"
        assert post_json(server.url + "/go-on", {})[0] == 200
        pieces.append(client.read_all())
        assert b"".join(pieces) == b"0 1 2 "
        assert client.ending == "whole"


@pytest.mark.parametrize("path", ["/loop", "/function"])
def test_a_websocket_talks_or_is_refused(server: Server, row: str, path: str) -> None:
    works = TABLE[row]["WebSocket"]
    if works == "yes":
        with connect(server.ws_url + path) as ws:
            for message in ("hello", b"bytes", "x" * 100_000):
                if len(message) < 60_000:
                    ws.send(message)
                    assert ws.recv(PATIENCE) == message
        wait_until(lambda: "Connection" not in listed(server), "it is forgotten")
        return
    with pytest.raises(InvalidStatus) as refused, connect(server.ws_url + path):
        pass
    assert refused.value.response.status_code == int(re.findall(r"\d+", works)[0])


def test_a_server_has_as_many_clients_as_the_page_says(server: Server, row: str) -> None:
    if row.startswith("a2wsgi"):
        return  # what is full there stays so: see above
    limited = row.startswith(("gunicorn `-k gthread", "waitress", "uWSGI"))
    with contextlib.ExitStack() as stack:
        opened = {knock(server, stack) for _ in range(THREADS + 5)}
        served = answered(opened, THREADS if limited else THREADS + 5)
        assert len(served) == (THREADS if limited else THREADS + 5)
        if limited:
            served.pop().close()
            waiting = opened - served
            assert len(answered({each for each in waiting if each.fileno() >= 0}, 1)) == 1


def knock(server: Server, stack: contextlib.ExitStack) -> socket.socket:
    """A client that asks for a stream, whether that is answered or not."""
    client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), PATIENCE))
    client.sendall(b"GET /streaming/events?channel=e HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return client


def answered(clients: set[socket.socket], count: int) -> set[socket.socket]:
    """Those of them that have an answer, once so many have one."""
    wait_until(lambda: len(readable(clients)) >= count, f"{count} are served")
    return readable(clients)


def readable(clients: set[socket.socket]) -> set[socket.socket]:
    return set(select.select(list(clients), [], [], 0)[0])


def test_a_server_that_is_stopped_ends_its_streams_as_the_table_says(
    server: Server, row: str
) -> None:
    """The last test of each server: it is gone behind it."""
    how = TABLE[row]["when it stops"]
    with RawClient(f"{server.url}/streaming/events?channel=d") as client:
        assert client.next_event().event == "ready"  # type: ignore[union-attr]
        server.send_signal(server.stop_signal)
        with contextlib.suppress(ConnectionError):
            events = [event.event for event in client.events()]
    if how.startswith("streams end properly"):
        assert events == ["restart"]
        assert client.ending == "whole"
    else:
        assert events == []
    server.wait()
    server.expect_trouble = server.expect_trouble or server.stop_signal != signal.SIGTERM
