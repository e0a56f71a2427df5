"""Metrics of two workers: whichever is asked tells of both, also of one that is gone."""

import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.live.clients import RawClient, post_json
from tests.live.harness import gunicorn
from tests.live.raw_websocket import RawWebSocket
from tests.live.server import Server, wait_until

APP = "tests.live.measured_app:app"
EVENTS = "/streaming/events?channel=a"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "metrics"
    folder.mkdir()
    env = {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
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


def test_a_scrape_of_either_worker_says_what_both_have_done(server: Server) -> None:
    def says(**wanted: float) -> None:
        names = {f"streaming_{name}": value for name, value in wanted.items()}

        def is_said() -> bool:
            found = [read(server) for _ in range(4)]  # of whichever worker comes
            return all(one[name] == value for one in found for name, value in names.items())

        wait_until(is_said, f"it says {names}", timeout=40)

    with ExitStack() as stack:
        streams = [stack.enter_context(RawClient(server.url + EVENTS)) for _ in range(12)]
        for stream in streams:
            assert stream.next_event() is not None
        for _ in range(6):
            stack.enter_context(RawWebSocket(server, "/echo", subprotocol=None))
        for n in range(5):
            assert post_json(f"{server.url}/streaming/channels/a", {"data": f"{n}"})[0] == 201
        says(clients=18, opened_total=18, ended_total=0, published_total=5, log_up=1)
        for stream in streams[:4]:
            stream.close()
        says(clients=14, opened_total=18, ended_total=4)
    says(clients=0, opened_total=18, ended_total=18)


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
