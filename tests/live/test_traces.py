"""A trace over two workers: from a request of somebody else to the delivery to a client."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.live.clients import RawClient
from tests.live.harness import gunicorn
from tests.polling import wait_until

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {
    "Content-Type": "application/json",
    "traceparent": f"00-{CALLER}-00f067aa0ba902b7-01",
}


def read(folder: Path, name: str) -> list[tuple[str, Any]]:
    """Worker and span, of all of this name that have ended."""
    texts = [(file.name, file.read_text("utf-8")) for file in folder.iterdir()]
    whole = [(pid, line) for pid, text in texts for line in text.split("\n")[:-1]]
    spans = [(pid, json.loads(line)) for pid, line in whole]
    return [(pid, span) for pid, span in spans if span["name"] == name]


def test_a_delivery_in_another_worker_is_linked_to_the_publish(tmp_path: Path) -> None:
    def of(name: str) -> list[tuple[str, Any]]:
        return read(tmp_path, name)

    env = {"SPANS": str(tmp_path)}
    with gunicorn("tests.live.traced_app:app", workers=2, extra_env=env) as server:
        with ExitStack() as stack:
            streams: list[RawClient] = []

            def are_at_both() -> bool:
                url = f"{server.url}/streaming/events?channel=a"
                streams.append(stack.enter_context(RawClient(url)))
                assert streams[-1].next_event() is not None
                count = len(streams)
                wait_until(lambda: len(of("GET /streaming/events")) == count, "it is recorded")
                return len({pid for pid, _ in of("GET /streaming/events")}) == 2

            wait_until(lambda: len(list(tmp_path.iterdir())) == 2, "both workers have begun")
            wait_until(are_at_both, "streams at both workers")
            url = f"{server.url}/streaming/channels/a"
            with RawClient(url, method="POST", headers=HEADERS, body=b'{"data": "x"}') as client:
                assert client.status == 201
            for stream in streams:
                event = stream.next_event()
                assert event is not None
                assert event.data == "x"
            wait_until(lambda: len(of("deliver")) == 2, "both workers have delivered")
            assert of("connection") == []
        wait_until(lambda: len(of("connection")) == len(streams), "all connections are over")
        ((publisher, publish),) = of("publish")
        deliveries = dict(of("deliver"))
    assert len(deliveries) == 2
    assert publisher in deliveries
    assert publish["context"]["trace_id"] == f"0x{CALLER}"
    for span in deliveries.values():
        (link,) = span["links"]
        assert link["context"]["span_id"] == publish["context"]["span_id"] == span["parent_id"]
        assert link["context"]["trace_id"] == span["context"]["trace_id"] == f"0x{CALLER}"
        assert span["attributes"]["messaging.destination.name"] == "a"
    # who has just come may lag for a moment
    told = [span["attributes"] for span in deliveries.values()]
    assert sum(each["streaming.live"] + each["streaming.lagging"] for each in told) == len(streams)
