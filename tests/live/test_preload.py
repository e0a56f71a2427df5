"""gunicorn with ``preload_app``: the application is there before the workers, and before gevent."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.live.clients import RawClient
from tests.live.harness import gunicorn
from tests.live.raw_websocket import RawWebSocket
from tests.live.server import ROOT, Server
from tests.live.test_presence import listed
from tests.live.test_shutdown import check_restart
from tests.polling import PATIENCE, wait_until
from tests.redis_server import shared_server

HOMES = ["memory", "sqlite", "redis"]
CONFS = ["our conf", "no conf", "conf that patches"]

STUCK = ["--graceful-timeout", "240"]
"""What does not end by itself is not ended before the test is out of patience."""


@contextlib.contextmanager
def serving(app: str, home: str, conf: str, folder: Path, *arguments: str) -> Iterator[Server]:
    """``app`` in two workers, one if the home is memory."""
    file = folder / "conf.py"
    file.write_text("control_socket_disable = True\n")
    if conf == "conf that patches":
        file.write_text("from gevent import monkey\nmonkey.patch_all()\n" + file.read_text())
    url = {"memory": "memory:", "sqlite": f"sqlite:///{folder / 'log.db'}"}.get(home)
    with gunicorn(
        app,
        workers=1 if home == "memory" else 2,
        config=ROOT / "gunicorn.conf.py" if conf == "our conf" else file,
        extra_args=[*arguments, *STUCK, *([] if conf == "our conf" else ["-k", "gevent"])],
        extra_env={"STREAMING_LOG": url or shared_server().url()},
    ) as server:
        yield server


def get(server: Server, path: str) -> str:
    with urlopen(server.url + path, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def many(server: Server, path: str, count: int = 30) -> None:
    """So many requests, one behind the other; one that is held up takes seconds."""
    done: list[str] = []
    wait_until(
        lambda: done.append(get(server, path)) or len(done) >= count,  # type: ignore[func-returns-value]
        f"{count} answers",
    )


def leaves(server: Server, member: str) -> bool:
    """Ask one of the workers to take a member out; whether it is gone: if it was that worker's."""
    get(server, f"/leave/{member}")
    return member not in listed(server, "hall")


@pytest.mark.parametrize("conf", CONFS)
@pytest.mark.parametrize("home", HOMES)
def test_what_a_preloaded_app_made_at_import_holds_up_nobody_in_its_workers(
    home: str, conf: str, tmp_path: Path
) -> None:
    with (
        serving("tests.live.preload_app:app", home, conf, tmp_path, "--preload") as server,
        RawClient(f"{server.url}/streaming/events?channel=news&history=1") as client,
        RawWebSocket(server) as socket,
    ):
        assert client.next_event().event == "ready"
        assert client.next_event().data == "imported"
        ours = socket.read_json()["client"]
        socket.send_json(type="join", channel="hall")
        assert [m["id"] for m in socket.read_json()["members"]] == ["house", ours]
        many(server, "/")
        get(server, "/join/visitor")
        many(server, "/")
        assert listed(server, "hall") == ["house", ours, "visitor"]
        for n in range(10):
            get(server, f"/publish/news/{n}")
        assert [client.next_event().data for _ in range(10)] == [str(n) for n in range(10)]
        wait_until(lambda: leaves(server, "visitor"), "the worker that let the visitor in is met")
        with RawWebSocket(server, "/chat", subprotocol=None) as one:
            one.read_text()
            with RawWebSocket(server, "/chat", subprotocol=None) as other:
                other.read_text()
                one.send(1, b"hello")
                assert one.read_text() == "You said: hello"
                assert other.read_text() == "Other client said: hello"
        wait_until(lambda: listed(server, "hall") == ["house", ours], "only those who stayed")
        server.terminate(timeout=PATIENCE)
        check_restart(list(client.events()))
        assert client.ending == "whole"
        assert socket.read_close().close_code == 1012
