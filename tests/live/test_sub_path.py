"""The demo under /app behind nginx: by what the proxy says, and by what the server was told."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.live.browser import Windows, expect_state, write
from tests.live.harness import gunicorn, nginx
from tests.live.server import Server, free_port

PROXY = """
    map $http_upgrade $connection_upgrade { default upgrade; "" ""; }
    server {
        listen LISTEN;
        location /app/ {
            proxy_pass UPSTREAM;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Prefix PREFIX;
        }
        location / { return 404; }
    }
"""


@pytest.fixture(params=["X-Forwarded-Prefix", "SCRIPT_NAME"])
def proxy(request: pytest.FixtureRequest) -> Iterator[Server]:
    port = free_port()
    if request.param == "SCRIPT_NAME":
        env, upstream, prefix = {"SCRIPT_NAME": "/app"}, f"http://127.0.0.1:{port}", '""'
    else:
        env, upstream, prefix = {"TRUSTED_PROXIES": "1"}, f"http://127.0.0.1:{port}/", "/app"
    text = PROXY.replace("UPSTREAM", upstream).replace("PREFIX", prefix)
    server = gunicorn(port=port, extra_env=env)
    server.ready_path = "/app/"  # SCRIPT_NAME refuses others; the prefix answers 404
    with server, nginx(text) as front:
        yield front


def test_every_page_works_under_a_sub_path(proxy: Server, open_windows: Windows) -> None:
    page = open_windows.open(proxy.url + "/app/?lang=en")
    for name in ("sse", "typewriter", "chat"):
        page.locator(f"nav a[data-to={name}]").click()
        expect(page.locator(f"body[data-page={name}]")).to_be_visible()
        assert "/app/" in page.url
        if name != "typewriter":
            expect_state(page, "open")
    write(page, "from below")
    expect(page.locator("#messages")).to_contain_text("from below")
    page.goto(proxy.url + "/app/typewriter")
    page.locator("[data-question]").first.click()
    expect(page.locator("#turns .said").first).not_to_be_empty()
    page.goto(proxy.url + "/app/sse")
    page.locator("#tutorial-start").click()
    expect(page.locator("#tutorial-state")).to_have_attribute("data-state", "open")
