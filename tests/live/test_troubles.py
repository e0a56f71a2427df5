"""What the page on troubles says of browsers and servers."""

import pytest
from playwright.sync_api import expect

from tests.live.browser import Windows
from tests.live.clients import RawClient
from tests.live.harness import gunicorn
from tests.live.server import Server
from tests.live.servers import without_conf

OPEN_SIX = """
async () => {
  const sources = [];
  for (let n = 0; n < 6; n++) {
    const source = new EventSource("/streaming/events?channel=a");
    await new Promise((resolve) => (source.onopen = resolve));
    sources.push(source);
  }
  let state = "waits";
  const asked = fetch("/streaming/readyz").then(() => (state = "answered"));
  await new Promise((resolve) => setTimeout(resolve, 500));
  const before = state;
  sources[0].close();
  await asked;
  sources.forEach((source) => source.close());
  return [before, state];
}
"""


def test_a_page_under_talismans_policy_streams_from_a_file_and_not_inline(
    open_windows: Windows,
) -> None:
    with gunicorn("tests.live.secured_app:app") as server:
        open_windows.expect("inline script")
        page = open_windows.open(server.url)
        expect(page.locator("#events")).to_have_text("hello")
        expect(page.locator("#socket")).to_have_text("welcome")
        expect(page.locator("#inline")).to_be_empty()
        page.close()


def test_the_seventh_connection_of_a_browser_waits_for_one_of_six(
    demo: Server, open_windows: Windows
) -> None:
    page = open_windows.open(demo.url)
    assert page.evaluate(OPEN_SIX) == ["waits", "answered"]


def test_a_stream_on_a_sync_worker_keeps_everybody_else_waiting() -> None:
    with without_conf("--worker-class", "sync") as server:
        with RawClient(f"{server.url}/streaming/events?channel=a") as stream:
            assert stream.next_event()
            with pytest.raises(TimeoutError):
                RawClient(server.url + "/", timeout=1)
        assert "one request at a time" in server.log_text()
