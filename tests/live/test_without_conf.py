"""gunicorn and `flask run` as people start them who have no gunicorn.conf.py of ours."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.clients import RawClient
from tests.live.harness import flask_run, gunicorn
from tests.live.raw_websocket import RawWebSocket
from tests.live.server import Server
from tests.live.test_shutdown import DEADLINE, EVENTS, check_restart


@contextlib.contextmanager
def bare(folder: Path, *arguments: str, **how: object) -> Iterator[Server]:
    conf = folder / "empty.py"
    conf.write_text("control_socket_disable = True\n")
    with gunicorn(config=conf, extra_args=arguments, **how) as server:  # type: ignore[arg-type]
        yield server


@pytest.mark.parametrize("kind", [["-k", "gevent"], ["--threads", "8"]])
def test_streams_end_properly_at_term_without_our_configuration(
    kind: list[str], tmp_path: Path
) -> None:
    with bare(tmp_path, *kind, workers=2) as server:
        with RawClient(server.url + EVENTS) as client, RawWebSocket(server) as socket:
            assert client.next_event() is not None
            assert socket.read_json()["type"] == "welcome"
            server.terminate(timeout=DEADLINE)
            check_restart(list(client.events()))
            assert client.ending == "whole"
            assert socket.read_close().close_code == 1012
        assert "streaming" not in server.log_text()


def test_a_websocket_alone_is_ended_properly_too(tmp_path: Path) -> None:
    with bare(tmp_path, "-k", "gevent") as server, RawWebSocket(server) as socket:
        assert socket.read_json()["type"] == "welcome"
        server.terminate(timeout=DEADLINE)
        assert socket.read_close().close_code == 1012


def test_several_workers_on_memory_say_what_to_change(tmp_path: Path) -> None:
    memory = {"STREAMING_LOG": "memory:"}
    with bare(tmp_path, "-k", "gevent", workers=3, extra_env=memory) as server:
        with RawClient(server.url + EVENTS) as client:
            assert client.next_event() is not None
        said = server.log_text()
    assert said.count("STREAMING_LOG is memory:") == 1


def test_a_sync_worker_says_what_to_change(tmp_path: Path) -> None:
    with bare(tmp_path) as server, RawClient(server.url + EVENTS) as client:
        assert client.next_event() is not None
        assert server.log_text().count("one request at a time") == 1


def test_flask_run_without_threads_says_what_to_change() -> None:
    server = flask_run()
    server.command.append("--without-threads")
    with server, RawClient(server.url + EVENTS) as client:
        assert client.next_event() is not None
        assert server.log_text().count("one request at a time") == 1
