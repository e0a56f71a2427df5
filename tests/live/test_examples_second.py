"""Examples as their readers start them, in a real browser: the second half."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.live.browser import SERVER_DOWN, Windows
from tests.live.harness import flask_run
from tests.live.server import ROOT, Server, children, free_port, is_alive
from tests.openai_server import ModelServer, chunk, model_server
from tests.polling import PATIENCE, wait_until

EXAMPLES = ROOT / "examples"


def fill(page: Page, label: str, text: str) -> None:
    page.get_by_label(label).fill(text)
    page.get_by_label(label).press("Enter")


# ---- an assistant


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with model_server() as model:
        yield model


@pytest.fixture(scope="module")
def assistant(model: ModelServer) -> Iterator[Server]:
    env = {"OPENAI_BASE_URL": model.url, "OPENAI_MODEL": "house"}
    with flask_run("examples/assistant/app", extra_env=env) as server:
        yield server


def conversation(page: Page) -> Locator:
    """Questions, answers, and how those have ended that did not say all."""
    return page.locator("#answers > :not(form)")


def test_an_answer_survives_a_reload_and_the_next_one_knows_it(
    assistant: Server, model: ModelServer, open_windows: Windows
) -> None:
    rest = threading.Event()
    model.says = [chunk(content="<b>One</b> "), rest, chunk(content="two."), chunk(finish="stop")]
    page = open_windows.open(assistant.url)
    fill(page, "Question", "Count & stop")
    expect(conversation(page)).to_have_text(["Count & stop", "<b>One</b>"])
    page.reload()
    expect(conversation(page)).to_have_text(["Count & stop", "<b>One</b>"])
    rest.set()
    expect(conversation(page)).to_have_text(["Count & stop", "<b>One</b> two."])
    expect(page.locator("#stop")).to_be_hidden()
    model.say("Three.")
    fill(page, "Question", "And then?")
    expect(conversation(page).last).to_have_text("Three.")
    said = [each["content"] for each in model.asked[-1]["messages"]]
    assert said == ["Count & stop", "<b>One</b> two.", "And then?"]
    assert len(model.asked) == 2, "a reload asks no model"


def test_an_answer_is_stopped_and_belongs_to_who_has_asked(
    assistant: Server, model: ModelServer, open_windows: Windows
) -> None:
    model.says = [chunk(content="It begins"), threading.Event()]
    page = open_windows.open(assistant.url)
    with page.expect_response("**/ask") as asked:
        fill(page, "Question", "Go on for ever")
    expect(conversation(page)).to_have_text(["Go on for ever", "It begins"])
    address = assistant.url + asked.value.headers["location"]
    assert (
        httpx.get(address, timeout=PATIENCE).status_code
        == httpx.delete(address, timeout=PATIENCE).status_code
        == 403
    )
    page.get_by_role("button", name="Stop").click()
    expect(conversation(page)).to_have_text(["Go on for ever", "It begins", "Stopped."])
    assert model.left.wait(PATIENCE), "the model is told, too"
    page.reload()
    expect(conversation(page)).to_have_text(["Go on for ever", "It begins", "Stopped."])


def test_without_a_model_something_answers_at_once(open_windows: Windows) -> None:
    with flask_run("examples/assistant/app") as server:
        page = open_windows.open(server.url + "/?lang=zh")
        fill(page, "问题", "你好")
        expect(conversation(page).last).to_contain_text("我只是在打字")
        page.get_by_role("button", name="停止").click()
        expect(conversation(page).last).to_have_text("已停止。")


# ---- htmx, which npm installs


def test_an_htmx_list_grows_in_order_and_outlives_a_restart(
    tmp_path: Path, open_windows: Windows
) -> None:
    assert (EXAMPLES / "htmx/node_modules").exists(), "`make test` installs htmx"
    env = {"STREAMING_LOG": f"sqlite:///{tmp_path}/log.db"}
    with flask_run("examples/htmx/app", extra_env=env) as server:
        one, two = open_windows.open(server.url), open_windows.open(server.url)
        evil = "<script>document.title = 'owned'</script><img src=x onerror=alert(1)>"
        texts = ["first", evil, "a & b"]
        for text in texts:
            fill(one, "Note", text)
            expect(one.get_by_label("Note")).to_have_value("")
        for page in (one, two):
            expect(page.locator(".lines li")).to_contain_text(texts)
            assert page.title() == "Notes with htmx"
            assert page.locator(".lines :not(li, time)").count() == 0
        open_windows.expect(SERVER_DOWN, r"\[object Event\].*/htmx.js")
        server.restart()
        posted = httpx.post(server.url + "/notes", data={"text": "in between"}, timeout=PATIENCE)
        assert posted.status_code == 200
        for page in (one, two):
            expect(page.locator(".lines li")).to_contain_text([*texts, "in between"])
        fill(two, "Note", "last")
        expect(one.locator(".lines li")).to_contain_text([*texts, "in between", "last"])
        expect(two.locator(".lines li")).to_have_count(5)
        foreign = httpx.post(
            server.url + "/notes",
            data={"text": "x"},
            headers={"Origin": "https://evil.example"},
            timeout=PATIENCE,
        )
        assert foreign.status_code == 403


# ---- React, which npm installs and builds


def test_a_react_list_shows_each_message_once_under_strict_mode(
    tmp_path: Path, open_windows: Windows
) -> None:
    script = EXAMPLES / "react/build/feed.js"
    assert script.exists(), "`make test` installs React and builds the page"
    assert "react-dom-client.development.js" in script.read_text("utf-8"), "which mounts twice"
    env = {"STREAMING_LOG": f"sqlite:///{tmp_path}/log.db"}
    with flask_run("examples/react/app", extra_env=env) as server:
        page = open_windows.open()
        for text in ("before <b>", "the page"):
            assert (
                httpx.post(server.url + "/say", json={"text": text}, timeout=PATIENCE).status_code
                == 204
            )
        page.goto(server.url)
        expect(page.locator(".lines li")).to_contain_text(["the page", "before <b>"])
        fill(page, "Message", "mine")
        expect(page.locator(".lines li")).to_contain_text(["mine", "the page", "before <b>"])
        open_windows.expect(SERVER_DOWN)
        server.restart()
        expect(page.locator(".state")).to_have_attribute("data-state", "open")
        assert (
            httpx.post(server.url + "/say", json={"text": "after"}, timeout=PATIENCE).status_code
            == 204
        )
        expect(page.locator(".lines li")).to_contain_text(
            ["after", "mine", "the page", "before <b>"]
        )
        plain = httpx.post(server.url + "/say", content='{"text": "x"}', timeout=PATIENCE)
        assert plain.status_code == 415, "what a form of others can send"


# ---- two servers, and nginx before them


@contextmanager
def script(path: str, folder: Path, port: int, *paths: str) -> Iterator[Server]:
    """What a script has started; proves that its end leaves nothing behind."""
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
        "PYTHONPATH": str(ROOT),
        "PORT": str(port),
        "STREAMING_LOG": f"sqlite:///{folder}/log.db",
    }
    with Server(path, ["sh", path], port=port, env=env) as server:
        for each in paths:
            wait_until(lambda each=each: answers(server.url + each), f"{each} is served")
        started = wait_until(
            lambda: len(here := below(server.pid)) >= 5 and here, "two servers with their workers"
        )
        yield server
        server.send_signal(signal.SIGTERM)
        server.wait()
        assert not any(map(is_alive, started)), server.log_text()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=PATIENCE).status_code == 200
    except httpx.HTTPError:
        return False


def below(pid: int) -> list[int]:
    """The process ids of all descendants."""
    return [each for child in children(pid) for each in (child, *below(child))]


NATIVE = """() => {
    window.opened = 0;
    window.source = new EventSource("streaming/events?channel=orders");
    source.onopen = () => opened++;
}"""


def order(page: Page, other: Page) -> None:
    """Two people see what one of them orders, and each other."""
    for each, name in ((page, "Ada"), (other, "Eve")):
        fill(each, "Who are you?", name)
        expect(each.locator("#here")).to_contain_text(" here")
    for each in (page, other):
        expect(each.locator("#here")).to_have_text("2 here")
    fill(page, "Order", "tea & <i>milk</i>")
    for each in (page, other):
        expect(each.locator("#orders li")).to_have_text(["Adatea & <i>milk</i>"])
    fill(page, "Order", "cake")  # the page is another one each time: a plain form
    for each in (page, other):
        expect(each.locator("#orders li")).to_have_text(["Adacake", "Adatea & <i>milk</i>"])


def test_what_a_sync_app_publishes_reaches_browsers_at_another_server(
    tmp_path: Path, open_windows: Windows
) -> None:
    port = free_port(beside=1)
    streams = f"http://127.0.0.1:{port + 1}/streaming"
    with script("examples/sync_app/serve.sh", tmp_path, port, "/") as server:
        wait_until(lambda: answers(f"{streams}/readyz"), "the streams are served")
        order(open_windows.open(server.url), open_windows.open(server.url))
        assert httpx.get(f"{streams}/events?channel=orders", timeout=PATIENCE).status_code == 403, (
            "a stranger"
        )
        assert (
            httpx.post(server.url + "/orders", data={"what": "x"}, timeout=PATIENCE).status_code
            == 401
        )
        open_windows.expect(SERVER_DOWN)


def test_all_of_it_works_under_a_path_behind_nginx(tmp_path: Path, open_windows: Windows) -> None:
    with script(
        "examples/nginx/serve.sh", tmp_path, free_port(beside=2), "/app/", "/app/streaming/readyz"
    ) as server:
        site = server.url + "/app/"
        page, other = open_windows.open(site), open_windows.open(site)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url))
        order(page, other)
        assert all(url.partition(f":{server.port}")[2].startswith("/app/") for url in asked)
        assert any(url.startswith("ws:") for url in asked)
        ask = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        for origin, status in ((server.url, 101), ("https://evil.example", 403)):
            key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Origin": origin}
            protocol = {"Sec-WebSocket-Protocol": "streaming.v1.json"}
            with httpx.stream(
                "GET", site + "streaming/ws", headers={**ask, **key, **protocol}, timeout=PATIENCE
            ) as answer:
                assert answer.status_code == status
        open_windows.expect(SERVER_DOWN)
        other.evaluate(NATIVE)
        other.wait_for_function("source.readyState === EventSource.OPEN")
        for pid in below(server.pid):
            with suppress(FileNotFoundError, ProcessLookupError):  # a worker whose parent is dead
                if b"streams:app" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
        other.wait_for_function("opened > 1")  # it comes back, as often as it takes
