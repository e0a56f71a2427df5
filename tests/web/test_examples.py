"""The pages' examples as a stranger meets them; that they run is tested in other places."""

import re
import runpy
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient

from streaming import testing
from tests.polling import PATIENCE
from tests.sites import serve

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "README.zh-CN.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
PAGES = sorted(
    page for page in PAGES if not page.startswith("docs/testing.")
)  # it is a test itself
OTHERS = ("from flask_sse ", "from flask_socketio ", "from sse_starlette ")
"""Whose users come to us: what they had before."""


def examples(page: str) -> list[str]:
    """The Python blocks of a page that make an application."""
    text = (ROOT / page).read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return [b for b in blocks if "Flask(" in b and not any(other in b for other in OTHERS)]


def run(source: str, page: str) -> FlaskClient:
    shown: dict[str, Any] = {"__name__": "example"}
    exec(compile(source, page, "exec"), shown)
    app: Flask = shown["app"] if "app" in shown else shown["create_app"]()
    return app.test_client()


@pytest.mark.parametrize(
    ("page", "number"), [(page, n) for page in PAGES for n in range(len(examples(page)))]
)
def test_a_stranger_publishes_over_the_network_in_no_example_that_does_not_say_so(
    page: str, number: int
) -> None:
    source = examples(page)[number]
    client = run(source, page)
    for channel in ("news", "private-1", "user:ada"):
        status = client.post(f"/streaming/channels/{channel}", json={"data": "x"}).status_code
        assert status in (403, 404), "no blueprint, or not allowed"


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_first_example_reaches_who_listens_as_an_event_source_does(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    listen, say = (part.split() for part in re.findall(r"^    curl (.*)$", text, re.MULTILINE)[:2])
    (source,) = re.findall(r'new EventSource\("(.*?)"\)', text)
    assert listen[-1].strip('"').endswith(source)
    method, address = say[-2:]
    with (
        serve(run(examples(page)[0], page).application) as site,
        site.get(source, headers={"Accept": "text/event-stream"}) as client,
    ):
        ready = client.next_event()
        said = httpx.request(
            method, site.url + address.removeprefix("http://127.0.0.1:5000"), timeout=PATIENCE
        )
        event = client.next_event()
    assert said.status_code == 204
    assert ready is not None
    assert event is not None
    assert event.event == "message", "onmessage sees it"
    assert "Ada" in str(event.data)


def test_a_stranger_gets_nothing_out_of_the_example_with_sessions() -> None:
    page = "docs/logins.md"
    (source,) = [block for block in examples(page) if "def authorize" in block]
    stranger, bob = run(source, page), run(source, page)
    with bob.session_transaction() as session:
        session["user"] = "bob"
    for client in (stranger, bob):
        for url in ("/streaming/events?channel=user:ada", "/streaming/presence/user:ada"):
            assert client.get(url).status_code == 403
        for channel in ("user:ada", "news"):
            body = {"data": "x"}
            assert client.post(f"/streaming/channels/{channel}", json=body).status_code == 403
    assert stranger.get("/my-events").status_code == 401
    assert stranger.get("/streaming/presence/news").status_code == 200, "it may follow news"


def test_a_stranger_calls_no_bot_into_a_room() -> None:
    page = "docs/quickstart.md"
    (source,) = [block for block in examples(page) if "def call_bot" in block]
    client = run(source, page)
    assert client.post("/rooms/lobby/bot").status_code == 403
    assert client.get("/rooms/lobby/members").json == []


def test_in_the_example_what_is_for_one_reaches_nobody_else() -> None:
    app: Flask = runpy.run_path(str(ROOT / "examples/notifications/app.py"))["app"]
    ada, eve = app.test_client(), app.test_client()
    ada.post("/login", data={"name": "Ada"})
    eve.post("/login", data={"name": "Eve"})
    with testing.serve(app) as site, site.events("/mine", login=ada) as first:
        with site.events("/mine", login=ada) as second, site.events("/mine", login=eve) as other:
            assert eve.post("/notify", data={"to": "Ada", "text": "tea?"}).status_code == 204
            assert ada.post("/notify", data={"to": "Eve", "text": "yes"}).status_code == 204
            for reader in (first, second):
                assert reader.next().json() == {"from": "Eve", "text": "tea?"}
            assert other.next().json() == {"from": "Ada", "text": "yes"}
        first.close()  # the network is gone
        eve.post("/notify", data={"to": "Ada", "text": "now?"})
        assert first.reconnect().next().json() == {"from": "Eve", "text": "now?"}
        ada.post("/logout")
        assert first.next().event == "close"
        assert ada.get("/mine").status_code == 401
        assert eve.post("/notify", data={"to": "", "text": "x"}).status_code == 400
