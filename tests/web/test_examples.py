"""The pages' examples as a stranger meets them; that they run is tested in other places."""

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "README.zh-CN.md", "docs/quickstart.md", "docs/deployment.md"]


def examples(page: str) -> list[str]:
    """The Python blocks of a page that make an application."""
    text = (ROOT / page).read_text("utf-8")
    return [
        block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Flask(" in block
    ]


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


def test_a_stranger_gets_nothing_out_of_the_example_with_sessions() -> None:
    page = "docs/quickstart.md"
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
