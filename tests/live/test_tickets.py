"""Tickets on real servers: no log has one, and two workers know of each other's."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.live.browser import Windows
from tests.live.clients import RawClient
from tests.live.harness import flask_run, gunicorn
from tests.live.server import ROOT, Server
from tests.polling import PATIENCE, wait_until

APP = "tests.live.tickets_app:app"


@pytest.fixture(scope="module")
def workers() -> Iterator[Server]:
    with gunicorn(APP, workers=2, extra_args=["--access-logfile", "-"]) as server:
        yield server


def ticket(server: Server, **how: object) -> str:
    query = "&".join(f"{name}={value}" for name, value in how.items())
    return httpx.post(f"{server.url}/ticket/ada?{query}", timeout=PATIENCE).text


def use(server: Server, text: str) -> int:
    """What a stream is answered that comes with a ticket."""
    address = f"{server.url}/streaming/events?channel=user:ada&ticket={text}"
    with RawClient(address) as client:
        if client.status == 200:
            assert client.next_event() is not None
        return client.status


def check_log(server: Server) -> None:
    good, once = ticket(server), ticket(server, once=1)
    assert [use(server, text) for text in (good, once, once, good[:-4])] == [200, 200, 401, 401]
    for path in ("missing", "nowhere"):
        assert httpx.get(f"{server.url}/{path}?ticket={good}", timeout=PATIENCE).status_code == 404
    refused = RawClient(f"{server.url}/streaming/ws?ticket={good}")
    refused.close()
    assert refused.status == 426
    lines = wait_until(
        lambda: (log := server.log_text()).count("ticket=***") >= 7 and log, "a line for each"
    )
    for text in (good, once):
        assert text.rpartition(".")[0] not in str(lines)


def test_gunicorns_access_log_has_no_ticket(workers: Server) -> None:
    check_log(workers)


def test_the_log_of_flask_run_has_no_ticket() -> None:
    with flask_run(APP) as server:
        check_log(server)


def test_each_worker_knows_what_was_used_or_taken_back(workers: Server) -> None:
    for _ in range(6):  # by whichever of them
        once = ticket(workers, once=1)
        assert [use(workers, once) for _ in range(3)] == [200, 401, 401]
    before = ticket(workers)
    assert httpx.post(f"{workers.url}/revoke/ada", timeout=PATIENCE).status_code == 204
    assert [use(workers, before) for _ in range(6)] == [401] * 6
    assert use(workers, ticket(workers)) == 200


WATCHED = """async () => {
  window.asked = 0;
  window.ticket = async () => {
    window.asked += 1;
    return (await fetch("/ticket/ada?once=1", { method: "POST" })).text();
  };
  window.got = [];
  window.EventSource = class extends EventSource {
    constructor(address) {
      super(address);
      this.addEventListener("ticket", () => (window.isRenewed = true));
      this.addEventListener("message", ({ data }) => got.push(data));
    }
  };
}"""


def test_the_pages_way_with_an_event_source_misses_nothing(
    workers: Server, open_windows: Windows
) -> None:
    text = (ROOT / "docs" / "logins.md").read_text("utf-8")
    (shown,) = re.findall(r"^(    let newest = .*?^    }\n)", text, re.MULTILINE | re.DOTALL)
    page = open_windows.open(f"{workers.url}/")
    page.evaluate(WATCHED)
    page.add_script_tag(content=f"{shown}; open();")
    page.wait_for_function("window.isRenewed")
    open_windows.expect("status of 401")  # its address has a ticket that is used up
    for said in ("one", "two"):
        assert httpx.post(f"{workers.url}/news", content=said, timeout=PATIENCE).status_code == 204
        if said == "one":
            assert httpx.post(f"{workers.url}/disconnect/ada", timeout=PATIENCE).status_code == 204
    page.wait_for_function("got.length === 2")
    assert page.evaluate("[...got, asked]") == ["one", "two", 1]
