"""Metrics of two workers: whichever is asked tells of both, also of one that is gone."""

import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streaming.hub.hub import Hub
from streaming.logs import open_log
from streaming.web.cli.bench.load import Load, Work
from tests.live.clients import RawClient, post_json
from tests.live.harness import gunicorn
from tests.live.raw_websocket import TEXT, RawWebSocket
from tests.live.server import Server
from tests.polling import wait_until

APP = "tests.live.measured_app:app"
EVENTS = "/streaming/events?channel=a"


@pytest.fixture
def log(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/log.db"


@pytest.fixture
def server(tmp_path: Path, log: str) -> Iterator[Server]:
    folder = tmp_path / "metrics"
    folder.mkdir()
    env = {"PROMETHEUS_MULTIPROC_DIR": str(folder), "STREAMING_LOG": log}
    with gunicorn(APP, workers=2, extra_env=env, expect_trouble=True) as running:
        yield running


def read(server: Server) -> dict[str, float]:
    """By name, all labels together."""
    found: dict[str, float] = defaultdict(float)
    with RawClient(server.url + "/metrics") as client:
        text = client.read_all().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] += sample.value
    return found


def says(server: Server, **wanted: float) -> None:
    """Wait until whichever worker is asked says so."""
    names = {f"streaming_{name}": value for name, value in wanted.items()}

    def is_said() -> bool:
        found = [read(server) for _ in range(4)]
        return all(one[name] == value for one in found for name, value in names.items())

    wait_until(is_said, f"it says {names}, not {read(server)}", timeout=40)


def test_a_scrape_of_two_workers_under_load_agrees_with_who_makes_it(
    server: Server, log: str
) -> None:
    names = [f"load:{number}" for number in range(10)]
    work = Work(f"{server.url}/streaming/events", names, 2, 60, 50.0, 2.0, 0.0)
    hub = Hub(open_log(log))
    load = Load(work, hub)
    load.run(lambda passed: None)
    hub.log.close()
    made = load.score.counts
    assert (made["lost"], made["doubled"], made["gaps"], made["broken"]) == (0, 0, 0, 0)
    says(
        server,
        opened_total=60,
        ended_total=60,
        sent_messages_total=made["delivered"],
        gaps_total=0,
        lagging_clients=0,
        log_errors_total=0,
        published_total=0,
    )
    assert 0 < read(server)["streaming_delivery_seconds_count"] <= made["delivered"]


def test_a_scrape_of_either_worker_says_what_both_have_done(server: Server) -> None:
    with ExitStack() as stack:
        streams = [stack.enter_context(RawClient(server.url + EVENTS)) for _ in range(12)]
        for stream in streams:
            assert stream.next_event() is not None
        for _ in range(6):
            socket = stack.enter_context(RawWebSocket(server, "/echo", subprotocol=None))
            socket.send(TEXT, b"echoed")
            assert socket.read_text() == "echoed"
        for n in range(5):
            assert post_json(f"{server.url}/streaming/channels/a", {"data": f"{n}"})[0] == 201
        says(server, clients=18, opened_total=18, ended_total=0, published_total=5, log_up=1)
        says(server, sent_messages_total=12 * 5 + 6, sent_bytes_total=12 * 5 + 6 * 6)
        says(server, received_messages_total=6 + 5, received_bytes_total=6 * 6 + 5)
        for stream in streams[:4]:
            stream.close()
        says(server, clients=14, opened_total=18, ended_total=4)
    says(server, clients=0, opened_total=18, ended_total=18, sent_messages_total=66)


def test_a_worker_that_is_killed_leaves_its_counts_and_takes_its_clients_along(
    server: Server,
) -> None:
    with ExitStack() as stack:
        for _ in range(12):
            stream = stack.enter_context(RawClient(server.url + EVENTS))
            assert stream.next_event() is not None
        wait_until(lambda: read(server)["streaming_clients"] == 12, "all are counted", timeout=40)
        old = server.worker_pids()
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not set(old) & set(server.worker_pids()), "others are there")
        wait_until(lambda: read(server)["streaming_clients"] == 0, "nobody is left", timeout=40)
        assert read(server)["streaming_opened_total"] == 12
