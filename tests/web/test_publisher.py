"""streaming/web/publisher.py: to publish without an application."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from streaming import ConfigurationError, InvalidMessage, Message, Publisher, Streaming, TooLarge
from tests.redis_server import shared_server
from tests.sites import make_app, serve

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
from streaming import Publisher
with Publisher({config!r}) as publisher:
    print(publisher.publish("news", {{"n": 1}}, event="price", key="k").id)
    print(publisher.publish("news", "again", key="k").id)
"""


def test_a_script_without_an_application_reaches_the_clients_of_a_server(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    with serve(make_app(log=url)) as site, site.get("/streaming/events?channel=news") as client:
        assert client.next_event()
        ran = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(config=url)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.stderr == ""
        event = client.next_event()
        assert event is not None
        assert (event.event, event.data) == ("price", '{"n": 1}')
        assert ran.stdout.split() == [event.id, event.id]
        site.state.close()
    site.state.hub.log.close()


def test_it_reaches_clients_over_redis_too() -> None:
    url = shared_server().url()
    with serve(make_app(log=url)) as site, site.get("/streaming/events?channel=news") as client:
        assert client.next_event()
        with Publisher(url) as publisher:
            sent = publisher.publish("news", [1])
        event = client.next_event()
        assert event is not None
        assert (event.data, event.id) == ("[1]", str(sent.id))
        site.state.close()
    site.state.hub.log.close()


def test_it_forgets_as_the_servers_settings_say(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "STREAMING_LOG": f"sqlite:///{tmp_path / 'log.db'}",
        "STREAMING_RETENTION_MESSAGES": 2,
        "STREAMING_MESSAGE_SIZE": 10,
        "SECRET_KEY": "the rest of app.config is nobody's business here",
    }
    app = make_app(log=config["STREAMING_LOG"])
    hub = app.extensions["streaming"].hub
    with Publisher(config) as publisher:
        for n in range(4):
            publisher.publish("a", n)
        with pytest.raises(TooLarge):
            publisher.publish("a", "x" * 11)
    with hub.subscribe("a", history=10) as items:
        assert [item.data for item in items.take(0) if isinstance(item, Message)] == ["2", "3"]
    hub.log.close()


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ("memory:", "ends with this process"),
        ({}, "ends with this process"),
        ("sqlite:///streaming.db", "from the root"),
        ("sqlite:////tmp/x.db?x=1", "no option x"),
        ("http://host", "a log URL"),
        ({"STREAMING_LOGG": "redis://host"}, "Did you mean STREAMING_LOG"),
    ],
)
def test_a_log_that_nobody_else_can_see_is_refused(config: Any, part: str) -> None:
    with pytest.raises(ConfigurationError, match=part):
        Publisher(config)


def test_what_has_to_go_before_its_time_goes_from_a_script_as_from_the_app(tmp_path: Path) -> None:
    app = make_app(log=f"sqlite:///{tmp_path / 'log.db'}")
    state = app.extensions["streaming"]
    hub = state.hub
    with Publisher(app.config["STREAMING_LOG"]) as publisher:
        for prune in (publisher.prune, Streaming().prune):
            hub.publish("a", "text")
            with app.app_context():
                assert prune("a") == 1
                assert prune("a") == 0
                with pytest.raises(InvalidMessage):
                    prune("no channel")
    state.close()
    hub.log.close()


def test_what_cannot_be_published_is_refused_as_ever(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with Publisher(f"sqlite:///{tmp_path / 'log.db'}") as publisher:
        with pytest.raises(InvalidMessage):
            publisher.publish("a b", "x")
        with pytest.raises(TypeError, match="bytes"):
            publisher.publish("a", b"x")
    publisher.close()
    assert set(threading.enumerate()) <= before
    assert list(tmp_path.iterdir()) == []  # nothing was opened for nothing
