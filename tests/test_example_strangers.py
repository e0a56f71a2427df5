"""The examples' own views, and what strangers post to them. Without a server or a browser."""

import importlib.util
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import Client

EXAMPLES = Path(__file__).parents[1] / "examples"
POSTING = [
    path.parent for path in sorted(EXAMPLES.glob("*/app.py")) if ".post(" in path.read_text()
]

FLOOD, LIMIT = 1 << 20, 1 << 15
PASSWORD = "open sesame"
KNOWN = ("anybody", PASSWORD)

BODIES = [
    *("", "{", "{}", "[]", "[[]]", "5", "null", "[" * 10_000),
    *('{"text": {}, "question": 5}', '{"question": "\\ud800"}'),
]


@pytest.fixture(params=POSTING, ids=lambda folder: folder.name)
def app(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Flask]:
    folder: Path = request.param
    is_elsewhere = folder.name == "sync_app"
    monkeypatch.setenv(
        "STREAMING_LOG", f"sqlite:///{tmp_path}/log.db" if is_elsewhere else "memory:"
    )
    for name, value in {"SECRET_KEY": "s", "STREAMS": "/", "LOG_PASSWORD": PASSWORD}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(folder)
    spec = importlib.util.spec_from_file_location(f"example_{folder.name}", folder / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    if hasattr(module, "begun"):
        module.begun.acquire()  # no thread of its own
    if hasattr(module, "task"):
        monkeypatch.setattr(module.task, "delay", lambda id: None)  # the queue is a real one
    yield module.app
    sys.modules.pop("job", None)
    for left in ("publisher", "file"):
        if hasattr(module, left):
            getattr(module, left).close()


def posts(app: Flask) -> list[str]:
    """Where the example takes what is posted."""
    rules = [rule for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())]
    return [rule.rule for rule in rules if not rule.endpoint.startswith("streaming.")]


def test_nothing_that_strangers_post_makes_it_fail(app: Flask) -> None:
    assert posts(app)
    for path in posts(app):
        for body in BODIES:
            how = {"data": body, "content_type": "application/json", "auth": KNOWN}
            assert Client(app).post(path, **how).status_code < 500, (path, body)


def test_of_a_body_without_end_next_to_nothing_is_read(app: Flask) -> None:
    for path in posts(app):
        for kind in (
            "application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
        ):
            flood = io.BytesIO(b"x" * FLOOD)
            Client(app).post(path, input_stream=flood, content_type=kind, auth=KNOWN)
            assert flood.tell() < LIMIT, (path, kind)


def test_no_page_of_others_posts_for_somebody(app: Flask) -> None:
    form = dict.fromkeys(("name", "text", "to", "what", "question"), "x")
    for path in posts(app):
        headers = {"Origin": "https://evil.example"}
        answer = Client(app).post(path, data=form, headers=headers, auth=KNOWN)
        assert answer.status_code in (403, 415), path  # 415: JSON is sent by no form
        assert "Set-Cookie" not in answer.headers
