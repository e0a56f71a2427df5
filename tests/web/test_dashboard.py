"""deploy/: each metric and label that the dashboard and the alerts ask for is in a scrape."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from streaming import Streaming
from streaming.web.runs import begin
from tests.polling import wait_until
from tests.sites import serve

DEPLOY = Path(__file__).parents[2] / "deploy"

SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds to what it reads."""

SELECTOR = re.compile(r"(streaming_\w+)(?:\{([^}]*)\})?")
BY = re.compile(r"by \(([^)]*)\)")


def dashboard() -> list[dict[str, Any]]:
    board = json.loads((DEPLOY / "grafana.json").read_text("utf-8"))
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    for panel in dashboard():
        for target in panel["targets"]:
            yield target["expr"]
    yield from re.findall(r"expr: (.*)", (DEPLOY / "alerts.yaml").read_text("utf-8"))


def faults(expression: str, known: dict[str, set[str]]) -> list[str]:
    """Names in a PromQL expression that no scrape has."""
    wrong, labels, asked = [], set(SCRAPED), set()
    for name, selector in SELECTOR.findall(expression):
        if name not in known:
            wrong.append(name)
        labels |= known.get(name, set())
        asked |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
    for names in BY.findall(expression):
        asked |= set(names.replace(" ", "").split(","))
    return [*wrong, *sorted(asked - labels)]


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """What a scrape has after a little of everything: each name with its labels."""
    app = Flask("scraped")
    app.config["STREAMING_CLIENTS"] = 1
    streaming = Streaming(app, authorize=lambda action, channel: True)
    app.add_url_rule("/metrics", "metrics", streaming.metrics)
    asking = app.test_client()

    def scrape() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for family in text_string_to_metric_families(asking.get("/metrics").text):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
        return found

    with serve(app) as site:
        with site.get("/streaming/events?channel=a") as client:
            assert client.next_event() is not None
            assert "streaming_clients" in scrape()
            site.get("/streaming/events?channel=a").close()  # one too many
            asking.post("/streaming/channels/a", json={"data": "x"})
            with app.app_context():
                begin(["piece"], (), None, "continue")
        site.wait_empty()
        wait_until(lambda: "streaming_runs_ended_total" in scrape(), "the run has ended")
        wait_until(lambda: "streaming_refused_total" in scrape(), "one was refused")
        return scrape()


def test_each_name_that_is_asked_for_is_in_a_scrape(known: dict[str, set[str]]) -> None:
    asked = list(expressions())
    assert len(asked) > 20
    assert {one: faults(one, known) for one in asked if faults(one, known)} == {}


def test_each_metric_of_a_scrape_is_on_the_dashboard(known: dict[str, set[str]]) -> None:
    text = " ".join(expressions())
    ends = ("_created", "_sum", "_count")
    ours = {name for name in known if name.startswith("streaming_") and not name.endswith(ends)}
    assert sorted(name for name in ours if not re.search(rf"{name}\b", text)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "sum(streaming_opened)",
        "sum by (channel) (streaming_clients)",
        'streaming_clients{who="me"}',
        "rate(streaming_delivery_seconds[5m])",
    ],
)
def test_a_name_that_is_in_no_scrape_is_found(wrong: str, known: dict[str, set[str]]) -> None:
    assert len(faults(wrong, known)) == 1


def test_panels_lie_beside_each_other_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard():
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        assert panel["description"], panel["title"]
        taken |= cells
