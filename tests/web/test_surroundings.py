"""streaming/web/surroundings.py: what the server around us lacks, said once."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from streaming import Sock, Streaming, stream, watch_worker
from streaming.web import said, surroundings, worker
from tests.polling import wait_until
from tests.sites import make_app, serve
from tests.web.test_worker import Worker, watchers

GEVENT = {"wsgi.multithread": True, "wsgi.multiprocess": False, "SERVER_SOFTWARE": "gunicorn/27"}
SYNC = {**GEVENT, "wsgi.multithread": False}
MANY = {**GEVENT, "wsgi.multiprocess": True}
OTHER = {**GEVENT, "SERVER_SOFTWARE": "waitress"}


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(said, "_said", set())
    monkeypatch.setattr(worker, "_watched", {os.getpid(): Worker()})
    caplog.set_level(logging.WARNING)


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_watched", {})


def small_app(**config: object) -> Flask:
    app = make_app(**config)
    streaming = Streaming()
    app.add_url_rule("/answer", "answer", lambda: stream(["x"]))
    app.add_url_rule("/mine", "mine", lambda: streaming.events("a"))
    app.add_url_rule("/tell", "tell", lambda: str(streaming.publish("a", "x").id))
    app.add_url_rule("/page", "page", lambda: "a page")
    return app


def ask(app: Flask, path: str, environ: dict[str, Any], times: int = 1) -> None:
    for _ in range(times):
        if path == "/streaming/channels/a":
            app.test_client().post(path, json={"data": "x"}, environ_overrides=environ)
        else:
            app.test_client().get(path, environ_overrides=environ).close()


STREAMS = ["/streaming/events?channel=a", "/mine", "/answer"]
PUBLISH = ["/tell", "/streaming/channels/a"]


@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_on_a_server_that_does_one_thing_at_a_time_is_said_once(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = small_app()
    ask(app, path, SYNC, times=3)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "one request at a time" in record.getMessage()
    assert "gunicorn -k gevent" in record.getMessage()


@pytest.mark.parametrize("path", STREAMS + PUBLISH)
def test_several_processes_on_a_log_in_memory_are_said_once(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = small_app()
    ask(app, path, MANY, times=3)
    (record,) = caplog.records
    assert "STREAMING_LOG is memory:" in record.getMessage()
    assert "sqlite:///" in record.getMessage()


@pytest.mark.parametrize("path", [*STREAMS, *PUBLISH, "/page"])
def test_where_nothing_is_wrong_nothing_is_said(
    path: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    app = small_app()
    ask(app, path, GEVENT)
    ask(app, path, {})  # a test's client has no server
    shared = small_app(log=f"sqlite:///{tmp_path / 'log.db'}")
    ask(shared, path, MANY)
    assert not caplog.records
    shared.extensions["streaming"].hub.log.close()


@pytest.mark.parametrize("path", [*PUBLISH, "/page"])
def test_publishing_through_a_bridge_to_an_asgi_server_is_fine(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    ask(small_app(), path, {"asgi.scope": {}, "wsgi.multithread": True, "wsgi.multiprocess": True})
    assert not caplog.records


@pytest.mark.parametrize("path", [*PUBLISH, "/page"])
def test_publishing_on_a_server_that_does_one_thing_at_a_time_is_fine(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    ask(small_app(), path, SYNC)
    assert not caplog.records


def test_a_page_of_an_app_with_several_processes_is_fine(caplog: pytest.LogCaptureFixture) -> None:
    ask(small_app(), "/page", MANY)
    assert not caplog.records


def test_a_websocket_of_any_route_is_looked_at_too(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()
    Sock(app).route("/own")(lambda ws: ws.send("hello"))

    def alone(wsgi: Any) -> Any:
        def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            return wsgi(environ | {"wsgi.multithread": False}, start_response)

        return call

    with serve(app, wrap=alone) as site, site.chat("/own") as ws:
        assert ws.recv() == "hello"
    (record,) = caplog.records
    assert "one request at a time" in record.getMessage()


def test_a_setting_that_comes_too_late_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    app = small_app(heartbeat=5)
    app.config["STREAMING_HEARTBEAT"] = 5
    ask(app, "/page", {})
    assert not caplog.records
    late = small_app(heartbeat=5)
    late.config.update(STREAMING_HEARTBEAT=9, STREAMING_LGO="memory:")
    ask(late, "/page", {}, times=3)
    (record,) = caplog.records
    assert "STREAMING_HEARTBEAT, STREAMING_LGO was set behind Streaming(app)" in record.getMessage()


def test_a_server_that_does_not_say_its_name_is_seen_all_the_same(
    unwatched: None, caplog: pytest.LogCaptureFixture
) -> None:
    ask(small_app(), "/mine", {"wsgi.multithread": True, "uwsgi.version": b"2.0"})
    (record,) = caplog.records
    assert "Nobody tells streams" in record.getMessage()


def test_a_server_that_tells_nobody_of_its_end_is_named(
    unwatched: None, caplog: pytest.LogCaptureFixture
) -> None:
    ask(small_app(), "/mine", OTHER, times=2)
    (record,) = caplog.records
    assert "waitress" in record.getMessage()
    assert "drain_worker()" in record.getMessage()


def test_a_server_without_a_name_is_not_called_by_it(
    unwatched: None, caplog: pytest.LogCaptureFixture
) -> None:
    ask(small_app(), "/mine", {**OTHER, "SERVER_SOFTWARE": ""})
    assert "when this server is about to stop" in caplog.text


@pytest.mark.parametrize("path", STREAMS)
def test_a_bridge_to_an_asgi_server_is_said_once_and_nothing_else(
    path: str, unwatched: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The bridges say of themselves that there are several processes, whatever is true."""
    bridge = {"asgi.scope": {}, "wsgi.multithread": True, "wsgi.multiprocess": True}
    ask(small_app(), path, bridge, times=3)
    (record,) = caplog.records
    assert "ASGI" in record.getMessage()
    assert "a client that has left" in record.getMessage()
    assert "gunicorn" in record.getMessage()


def test_the_server_of_development_is_not_scolded(
    unwatched: None, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(make_app()) as site, site.get("/streaming/events?channel=a") as client:
        assert client.next_event().event == "ready"  # type: ignore[union-attr]
    assert not caplog.records


@pytest.fixture
def gunicorns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """The worker that gunicorn has set for SIGTERM."""
    there = Worker()
    monkeypatch.setattr(surroundings, "find_worker", lambda: there)
    monkeypatch.setattr(worker.atexit, "register", lambda *_: None)
    yield there
    there.alive = False
    wait_until(lambda: not watchers(), "the watcher to go")


def test_under_gunicorn_without_a_configuration_the_first_stream_has_the_worker_watched(
    unwatched: None, gunicorns: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    app = small_app()
    for name in ("gunicorn/27", "gunicorn/27", "gevent/26 gunicorn/27"):  # gevent_pywsgi's
        ask(app, "/mine", {**GEVENT, "SERVER_SOFTWARE": name})
    assert len(watchers()) == 1
    gunicorns.alive = False
    wait_until(app.extensions["streaming"].hub.closed.is_set, "the drain")
    assert not caplog.records


def test_a_worker_that_is_watched_already_is_not_watched_twice(
    unwatched: None, gunicorns: Worker
) -> None:
    app = small_app()
    watch_worker(gunicorns)
    ask(app, "/mine", GEVENT)
    assert len(watchers()) == 1


@pytest.mark.parametrize(
    ("environ", "folder", "count"), [(MANY, None, 1), (MANY, "there", 0), (GEVENT, None, 0)]
)
def test_a_scrape_of_one_of_many_workers_is_said_once(
    environ: dict[str, Any],
    folder: str | None,
    count: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(surroundings.FOLDER, raising=False)
    if folder is not None:
        monkeypatch.setenv(surroundings.FOLDER, folder)
    for _ in range(2):
        surroundings.look_at_metrics(environ)
    assert len([text for text in caplog.messages if surroundings.FOLDER in text]) == count
