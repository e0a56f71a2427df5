"""Sentry around streams: in a process of its own, since it stays there once it is started."""

from collections.abc import Iterator
from typing import Any

import sentry_sdk
from sentry_sdk.integrations.flask import FlaskIntegration
from sentry_sdk.transport import Transport

from streaming import Sock, stream
from tests.greenlets import in_greenlets
from tests.sites import make_app, serve


@in_greenlets
def test_sentry_hears_of_a_producer_that_fails_once_and_of_nothing_else() -> None:
    heard: list[Any] = []

    class Wire(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            heard.extend(item.payload.json for item in envelope.items)

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:1/1",
        transport=Wire,
        traces_sample_rate=1.0,
        integrations=[FlaskIntegration()],
        auto_enabling_integrations=False,
    )

    def failing() -> Iterator[str]:
        yield "one"
        raise LookupError("no more")

    app = make_app()
    Sock(app).route("/echo")(lambda ws: [ws.send(message) for message in ws] and None)
    app.add_url_rule("/failing", "failing", lambda: stream(failing()))
    with serve(app, expect_errors=True) as site:
        with site.get("/streaming/events?channel=a") as client:
            assert client.next_event()
            site.state.hub.publish("a", "x")
            assert client.next_event()
        with site.chat("/echo") as ws:
            ws.send("x")
            assert ws.recv() == "x"
        site.wait_empty()
        with site.get("/streaming/events?channel=a") as client:
            assert client.next_event()
            with site.get("/failing") as broken:
                broken.read_all()
            site.state.close()
            client.read_all()
    errors = [each for each in heard if each.get("type") != "transaction"]
    assert [each["exception"]["values"][-1]["type"] for each in errors] == ["LookupError"]
    traces = [each["transaction"] for each in heard if each.get("type") == "transaction"]
    assert traces.count("streaming.events") == 2
