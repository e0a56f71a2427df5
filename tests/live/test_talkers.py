"""Clients that talk where they have nothing to say are cut, on every stream of every server, and
those beside them notice nothing."""

import contextlib
import json
import threading
from typing import Any

import pytest

from tests.live.clients import RawClient
from tests.live.harness import flask_run, gunicorn
from tests.live.server import Server
from tests.live.talk import talk
from tests.polling import wait_until

APP = "tests.live.attacked_app"
GTHREAD = ["-k", "gthread", "--threads", "64"]

SERVERS = {
    "gunicorn": lambda: gunicorn(f"{APP}:app"),
    "gevent": lambda: gunicorn(f"{APP}:app", extra_args=["-k", "gevent"]),
    "gthread": lambda: gunicorn(f"{APP}:app", extra_args=GTHREAD),
    "flask run": lambda: flask_run(APP),
    "TLS": lambda: gunicorn(f"{APP}:app", tls=True),
    "gthread TLS": lambda: gunicorn(f"{APP}:app", extra_args=GTHREAD, tls=True),
}

EVENTS = "/streaming/events?channel=a"
NDJSON = {"Accept": "application/x-ndjson"}
STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "one channel": (EVENTS, {}),
    "two channels": (f"{EVENTS}&channel=b", {}),
    "32 channels": (EVENTS + "".join(f"&channel=c{n}" for n in range(31)), {}),
    "NDJSON": (EVENTS, {"headers": NDJSON}),
    "NDJSON of two": (f"{EVENTS}&channel=b", {"headers": NDJSON}),
    "HTTP/1.0": (EVENTS, {"version": "1.0"}),
    "HTTP/1.0 of two": (f"{EVENTS}&channel=b", {"version": "1.0"}),
    "an answer": ("/ticking", {}),
    "an answer over HTTP/1.0": ("/ticking", {"version": "1.0"}),
}
TALKERS = 2


@pytest.mark.parametrize("name", SERVERS)
def test_talkers_are_cut_and_those_beside_them_are_served(name: str) -> None:
    with SERVERS[name]() as server, contextlib.ExitStack() as stack:
        get(server, EVENTS, {}).close()  # what the first stream opens for all
        before = condition(server)
        quiet = [stack.enter_context(get(server, *how)) for how in STREAMS.values()]
        talkers = [stack.enter_context(get(server, *how)) for how in [*STREAMS.values()] * TALKERS]
        threads = [threading.Thread(target=talk, args=(client,)) for client in talkers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: condition(server)["clients"] == len(quiet), "only the quiet are left")
        publish(server, "tick ")
        for client in quiet:
            read_until(client, b"tick ")
            client.close()
        for client in talkers:
            client.close()
        wait_until(
            lambda: condition(server)["descriptors"] <= before["descriptors"] + SLACK,
            "the descriptors are back",
        )
        ended = condition(server)["ended"]
        talked = [reason for reason in ended if "talks where it has nothing to say" in reason]
        assert len(talked) == len(talkers), ended


SLACK = 4
"""Descriptors that come and go: of the question itself, of a second connection to the log."""


def get(server: Server, path: str, how: dict[str, Any]) -> RawClient:
    return RawClient(server.url + path, tls=server.tls, **how)


def publish(server: Server, text: str) -> None:
    body = json.dumps({"data": text}).encode()
    how = {"method": "POST", "headers": {"Content-Type": "application/json"}, "body": body}
    with get(server, "/streaming/channels/a", how) as client:
        assert client.status == 201


def condition(server: Server) -> Any:
    with get(server, "/", {}) as client:
        return client.json()


def read_until(client: RawClient, part: bytes) -> None:
    body = b""
    while part not in body:
        piece = client.read()
        assert piece, f"the stream ended behind {body!r}"
        body += piece
