"""gunicorn, and an application whose work is done by threads of the operating system."""

from collections import defaultdict
from pathlib import Path

import pytest

from tests.live.clients import RawClient
from tests.live.raw_websocket import RawWebSocket
from tests.live.test_preload import HOMES, get, serving
from tests.live.test_presence import listed
from tests.polling import PATIENCE, wait_until

COUNT = 25


@pytest.mark.parametrize("conf", ["our conf", "no conf"])
@pytest.mark.parametrize("home", HOMES)
def test_threads_of_a_pool_publish_and_join_and_nothing_hangs(
    home: str, conf: str, tmp_path: Path
) -> None:
    names = [f"{kind}{n}" for n in range(4) for kind in ("spawn", "apply")]
    with (
        serving("tests.live.pool_app:app", home, conf, tmp_path) as server,
        RawClient(f"{server.url}/streaming/events?channel=news") as client,
    ):
        for name in names:
            get(server, f"/{name[:-1]}/news/{name}/{COUNT}")
        assert client.next_event().event == "ready"
        seen: dict[str, list[str]] = defaultdict(list)
        for _ in range(COUNT * len(names)):
            name, _, n = client.next_event().data.partition(":")
            seen[name].append(n)
        assert seen == {name: [str(n) for n in range(COUNT)] for name in names}
        wait_until(lambda: listed(server, "hall") == [], "all have left")
        server.terminate(timeout=PATIENCE)
        assert [event.event for event in client.events()] == ["restart"]


@pytest.mark.parametrize("conf", ["our conf", "no conf"])
def test_threads_of_a_pool_talk_over_websockets(conf: str, tmp_path: Path) -> None:
    with serving("tests.live.pool_app:app", "memory", conf, tmp_path) as server:
        for path in ("rest", "loop"):
            with RawWebSocket(server, f"/{path}", subprotocol=None) as one:
                for n in range(50):
                    one.send(1, str(n).encode())
                    assert one.read_text() == f"{path} {n}"
                one.send(1, b"bye")
                assert path == "rest" or one.read_close().payload[2:] == b"bye"
