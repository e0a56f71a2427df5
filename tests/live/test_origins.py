"""Pages of other origins in a real browser: those that are listed are served, others are not."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.live.browser import Windows
from tests.live.clients import RawClient
from tests.live.harness import flask_run, gunicorn
from tests.live.server import Server

APP = "tests.live.tickets_app:app"


@pytest.fixture(scope="module")
def pages() -> Iterator[Server]:
    """Where the pages are."""
    with gunicorn(APP) as server:
        yield server


@pytest.fixture(scope="module")
def server(pages: Server) -> Iterator[Server]:
    """Whom they ask."""
    with gunicorn(APP, extra_env={"ORIGINS": f"http://127.0.0.1:{pages.port}"}) as server:
        yield server


def statuses(server: Server, host: str) -> list[int]:
    """What a page of ``host`` is answered, which it has made to mean the server's address."""
    page = {"Host": host, "Origin": f"http://{host}"}
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": "streaming.v1.json",
    }
    asked = (("/streaming/readyz", page), ("/streaming/ws", {**page, **upgrade}), ("/", page))
    found = []
    for path, headers in asked:
        with RawClient(server.url + path, headers=headers) as client:
            found.append(client.status)
    return found


@pytest.mark.parametrize("start", [gunicorn, flask_run])
def test_a_name_that_others_have_made_to_mean_our_address_is_refused(
    start: Callable[..., Server],
) -> None:
    with start(APP, extra_env={"HOSTS": "127.0.0.1 .example.org"}) as server:
        assert statuses(server, "evil.example:8000") == [400, 400, 400]
        assert statuses(server, "127.0.0.1.evil.example") == [400, 400, 400]
        assert statuses(server, "app.example.org") == [200, 101, 200]


LISTEN = """
  const first = (source, name) => new Promise((resolve, reject) => {
    source.addEventListener(name, (event) => resolve(event.data));
    source.addEventListener("error", () => reject(new Error(`refused: ${source.readyState}`)));
  });
"""


def run(page: Page, server: Server, body: str) -> Any:
    """What an async function with this body returns, or what it throws, as a text."""
    return page.evaluate(
        f"""async (api) => {{
          {LISTEN}
          try {{ {body} }} catch (error) {{ return String(error); }}
        }}""",
        server.url,
    )


EVENTS = """
  await fetch(`${api}/login/ada`, { method: "POST", credentials: "include" });
  const address = `${api}/streaming/events?channel=user:ada`;
  const source = new EventSource(address, { withCredentials: true });
  const data = await first(source, "ready");
  source.close();
  return data;
"""

BEARER = """
  const headers = { Authorization: "Bearer eve", "X-Team": "7", "Last-Event-ID": "start" };
  const address = `${api}/streaming/events?channel=user:eve`;
  const answer = await fetch(address, { headers, credentials: "omit" });
  await answer.body.cancel();
  return answer.status;
"""

OTHER_HEADER = """
  await fetch(`${api}/streaming/readyz`, { headers: { "X-Other": "7" } });
  return "let through";
"""

SOCKET = """
  const socket = new WebSocket(`${api.replace("http", "ws")}/streaming/ws`, "streaming.v1.json");
  const data = await first(socket, "message");
  socket.close();
  return JSON.parse(data).type;
"""

REFUSED = [
    r"has been blocked by CORS policy",
    r"net::ERR_FAILED",
    r"WebSocket connection to .* failed",
]


def test_a_listed_page_is_served_with_its_cookies_and_headers(
    pages: Server, server: Server, open_windows: Windows
) -> None:
    page = open_windows.open(f"http://127.0.0.1:{pages.port}/")
    assert run(page, server, EVENTS) == '{"channels":["user:ada"]}'
    assert run(page, server, BEARER) == 200
    assert run(page, server, SOCKET) == "welcome"
    open_windows.expect(*REFUSED)
    assert "Failed to fetch" in run(page, server, OTHER_HEADER)


def test_a_page_of_another_host_is_refused(
    pages: Server, server: Server, open_windows: Windows
) -> None:
    open_windows.expect(*REFUSED)
    page = open_windows.open(f"http://localhost:{pages.port}/")
    assert "Failed to fetch" in run(page, server, BEARER)
    assert "Failed to fetch" in run(page, server, EVENTS)
    assert "refused: 2" in run(page, server, EVENTS.partition('credentials: "include" });')[2])
    assert "refused" in run(page, server, SOCKET)


COME_BACK = """
  const { EventStream, ReconnectingSocket } = await import(`${api}/streaming/static/index.js`);
  const post = async (path) => (await fetch(`${api}${path}`, { method: "POST" })).text();
  const used = [await post("/ticket/tim?once=1"), await post("/ticket/tim?once=1")];
  const address = `${api}/streaming/events?channel=user:tim`;
  const protocols = "streaming.v1.json";
  const stream = new EventStream(address, { ticket: used[0] });
  const socket = new ReconnectingSocket(`${api}/streaming/ws`, { protocols, ticket: used[1] });
  const heard = (source, name, match) => new Promise((resolve) => {
    source.addEventListener(name, (event) => match.test(event.data ?? "") && resolve());
  });
  await Promise.all([heard(stream, "ticket", /./), heard(socket, "message", /"ticket"/)]);
  const back = [heard(stream, "ready", /./), heard(socket, "message", /"welcome"/)];
  await post("/disconnect/tim");
  await Promise.all(back);
  stream.close();
  socket.close();
  return (await fetch(`${address}&ticket=${used[0]}`)).status;
"""


def test_a_stream_comes_back_with_the_ticket_that_it_was_sent(
    pages: Server, server: Server, open_windows: Windows
) -> None:
    page = open_windows.open(f"http://127.0.0.1:{pages.port}/")
    open_windows.expect("status of 401")
    assert run(page, server, COME_BACK) == 401
