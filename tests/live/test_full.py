"""A worker with all the clients it takes: an EventSource that asks then comes back by itself."""

from playwright.sync_api import Page

from tests.live.browser import Windows
from tests.live.clients import RawClient
from tests.live.harness import gunicorn
from tests.polling import wait_until

EVENTS = "/streaming/events?channel=news"

LISTEN = """() => {
    window.seen = [];
    const source = new EventSource("/streaming/events?channel=news");
    for (const name of ["restart", "ready", "error"]) {
        source.addEventListener(name, () => window.seen.push(`${name} ${source.readyState}`));
    }
}"""


def wait_seen(page: Page, what: str) -> None:
    """Wait until the page's EventSource has dispatched it, in this ready state."""
    wait_until(lambda: what in page.evaluate("window.seen"), what)


def test_an_event_source_of_a_browser_gets_in_once_there_is_room(open_windows: Windows) -> None:
    lines = {"Accept": "application/x-ndjson"}
    with gunicorn(extra_env={"STREAMING_CLIENTS": "1"}) as server:
        page = open_windows.open(server.url)
        with RawClient(server.url + EVENTS) as first:
            assert first.next_event() is not None
            page.evaluate(LISTEN)
            wait_seen(page, "restart 1")
            with RawClient(server.url + EVENTS, headers=lines) as other:
                assert other.status == 503
        wait_seen(page, "ready 1")
        assert "error 2" not in page.evaluate("window.seen")  # 2 is for good
        page.close()  # or it comes back to a server that has stopped
