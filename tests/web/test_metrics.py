"""streaming/web/metrics.py: what Prometheus reads, in one process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from streaming import ConfigurationError, Sock, Streaming
from streaming.errors import LogUnavailable
from streaming.hub.generation import current_run
from streaming.logs import MemoryLog
from streaming.web import metrics
from streaming.web.runs import begin
from tests.live.raw_websocket import TEXT, RawWebSocket
from tests.polling import wait_until
from tests.sites import Site, serve

ROOT = Path(__file__).parents[2]

Samples = dict[tuple[str, ...], float]


@pytest.fixture
def app() -> Flask:
    app = Flask("measured")
    streaming = Streaming(app, authorize=lambda action, channel: True)
    app.add_url_rule("/metrics", "metrics", streaming.metrics)
    Sock(app).route("/echo", endpoint="echo")(lambda ws: ws.send)
    return app


@pytest.fixture
def site(app: Flask) -> Iterator[Site]:
    with serve(app) as site:
        yield site


def read(app: Flask) -> Samples:
    """Samples by name and the labels' values, of this package alone."""
    answer = app.test_client().get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name.startswith("streaming_") and not sample.name.endswith("_created")
    }


def more(app: Flask, before: Samples) -> Samples:
    """What is different now; Prometheus's numbers are the process's, of all tests."""
    now = read(app)
    return {key: value - before.get(key, 0.0) for key, value in now.items()}


def test_connections_and_messages_are_counted(app: Flask, site: Site) -> None:
    before = read(app)
    with (
        site.get("/streaming/events?channel=a&channel=b") as one,
        site.get("/streaming/events?channel=a") as two,
        RawWebSocket(site, "/streaming/ws"),  # type: ignore[arg-type]
    ):
        for client in (one, two):
            assert client.next_event() is not None
        wait_until(lambda: len(site.registry) == 3, "all are here")
        site.state.hub.publish("a", "x")
        site.state.hub.publish("a", "x", key="k")
        site.state.hub.end("b")
        wait_until(lambda: more(app, before)["streaming_sent_messages_total", "sse"] == 5, "all")
        found = more(app, before)
        assert found["streaming_sent_bytes_total", "sse"] == 2 * 2 + len("{}")
        assert found["streaming_log_seconds_count", "append"] == 3
        assert found["streaming_log_seconds_bucket", "10.0", "append"] == 3
        assert found["streaming_log_seconds_sum", "append"] > 0
        assert found["streaming_clients", "sse"] == 2
        assert found["streaming_clients", "websocket"] == 1
        assert found["streaming_opened_total", "sse"] == 2
        assert found["streaming_published_total",] == 3
        assert found["streaming_followed_channels",] == 3  # with that of orders
    site.wait_empty()
    found = more(app, before)
    assert found["streaming_clients", "sse"] == found["streaming_clients", "websocket"] == 0
    ended = {key[1:]: value for key, value in found.items() if key[0] == "streaming_ended_total"}
    assert sum(ended.values()) == 3
    wait_until(lambda: more(app, before)["streaming_followed_channels",] == 1, "that one is left")


def test_what_clients_send_is_counted(app: Flask, site: Site) -> None:
    before = read(app)
    with RawWebSocket(site, "/echo", subprotocol=None) as client:  # type: ignore[arg-type]
        client.send(TEXT, "grüße".encode())
        assert client.read_text() == "grüße"
        app.test_client().post("/streaming/channels/a", json={"data": "12"})
        names = ("sent_messages", "sent_bytes", "received_messages", "received_bytes")

        def counts(found: Samples) -> list[float]:
            return [found[f"streaming_{name}_total", "websocket"] for name in names]

        wait_until(lambda: counts(more(app, before)) == [1, 7, 1, 7], "it is counted")
        found = more(app, before)
        assert found["streaming_received_messages_total", "http"] == 1
        assert found["streaming_received_bytes_total", "http"] == 2


def test_gaps_runs_that_end_and_errors_of_the_log_are_counted(
    app: Flask, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, state = read(app), site.state
    state.hub.publish("a", "x")
    with site.get("/streaming/events?channel=a&last_event_id=00000000-7") as client:
        wait_until(lambda: more(app, before)["streaming_gaps_total",] == 1, "it is told")
        wait_until(lambda: more(app, before)["streaming_sent_messages_total", "sse"] == 1, "x too")
        assert client.next_event() is not None
    with app.app_context():
        begin(["piece"], (), None, "continue")
        begin(lambda: [str(current_run().wait(20.0))], (), None, "continue").stop()

    def ended(state: str) -> float:
        return more(app, before).get(("streaming_runs_ended_total", state), 0)

    wait_until(lambda: (ended("done"), ended("stopped")) == (1, 1), "both have ended")

    def refuse(*_: object, **__: object) -> None:
        raise LogUnavailable("The log is away.")

    monkeypatch.setattr(state.hub.log, "append", refuse)
    with pytest.raises(LogUnavailable):
        state.hub.publish("a", "x")
    assert more(app, before)["streaming_log_errors_total", "append"] == 1


def test_what_a_limit_refuses_is_counted_by_its_setting(app: Flask) -> None:
    app = Flask("full")
    app.config.update(STREAMING_CLIENTS=1, STREAMING_PUBLIC=["a"])
    streaming = Streaming(app)
    app.add_url_rule("/metrics", "metrics", streaming.metrics)
    before = read(app)
    with serve(app) as site, site.get("/streaming/events?channel=a") as client:
        assert client.next_event() is not None
        with site.get("/streaming/events?channel=a") as other:
            other.read_all()
        assert more(app, before)["streaming_refused_total", "clients"] == 1


def test_no_label_is_what_a_client_has_chosen(app: Flask, site: Site) -> None:
    with site.get("/streaming/events?channel=chosen") as client:
        assert client.next_event() is not None
        site.state.hub.publish("chosen", "x", event="chosen")
    assert "chosen" not in app.test_client().get("/metrics").text


class Away(MemoryLog):
    def check(self) -> None:
        raise LogUnavailable("The log is away.")


def test_a_log_that_is_away_is_down(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(app)["streaming_log_up",] == 1
    state = app.extensions["streaming"]
    monkeypatch.setattr(state.health, "_log", Away())
    wait_until(lambda: read(app)["streaming_log_up",] == 0, "it is seen")


def test_two_applications_of_a_process_are_added_up(app: Flask, site: Site) -> None:
    other = Flask("other")
    Streaming(other, authorize=lambda action, channel: True)
    before = read(app)
    with serve(other) as second, second.get("/streaming/events?channel=a") as client:
        assert client.next_event() is not None
        metrics.tell(second.state)
        assert more(app, before)["streaming_clients", "sse"] == 1


def test_without_the_library_it_is_said_what_to_install(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with (
        app.test_request_context(),
        pytest.raises(ConfigurationError, match=r"flask-streaming\[metrics\]"),
    ):
        app.view_functions["metrics"]()


def test_where_the_library_is_missing_a_folder_for_it_makes_no_work(
    app: Flask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(metrics.FOLDER, str(tmp_path))
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    state = app.extensions["streaming"]
    metrics.begin(state)
    metrics.end(state)
    assert len(state.registry.deadlines) == 0


WITH_OTHERS = """
import os, sys
from flask import Flask
from streaming import Streaming
app = Flask("x")
app.add_url_rule("/metrics", "metrics", Streaming(app).metrics)
open(os.path.join(os.environ["PROMETHEUS_MULTIPROC_DIR"], "counter_1.db"), "w").close()
answer = app.test_client().get("/metrics")
assert answer.status_code == 200
assert "streaming_log_up 1.0" in answer.text, answer.text
"""


def test_a_worker_that_has_just_begun_to_count_does_not_hide_what_the_others_have(
    tmp_path: Path,
) -> None:
    env = {**os.environ, metrics.FOLDER: str(tmp_path)}
    subprocess.run([sys.executable, "-c", WITH_OTHERS], cwd=ROOT, env=env, timeout=60, check=True)


FIRST = """
import sys, threading, time
from flask import Flask
from streaming import Streaming
from streaming.web import metrics
app, faults = Flask("x"), []
Streaming(app)
state, gate = app.extensions["streaming"], threading.Barrier(8)
def tell():
    gate.wait()
    try:
        metrics.tell(state)
    except BaseException as error:
        faults.append(error)
import prometheus_client
made = prometheus_client.Counter
def slowly(*args, **options):
    time.sleep(0.01)
    return made(*args, **options)
prometheus_client.Counter = slowly
threads = [threading.Thread(target=tell) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
sys.exit(repr(faults) if faults else 0)
"""


def test_threads_that_tell_first_at_once_make_one_set_of_instruments() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
