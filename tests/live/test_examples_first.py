"""The examples, as their readers start them, in a real browser; and as strangers meet them."""

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.live.browser import Windows
from tests.live.harness import flask_run
from tests.live.server import ROOT, Server, environment
from tests.polling import PATIENCE, wait_until

PASSWORD = "open sesame"


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[str], Server]]:
    """Starts an example, once for this file."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def start(name: str) -> Server:
            app = f"examples/{name}/app"
            return stack.enter_context(flask_run(app, extra_env={"LOG_PASSWORD": PASSWORD}))

        yield start


@pytest.fixture
def server(request: pytest.FixtureRequest, serve: Callable[[str], Server]) -> Server:
    return serve(request.param)


def example(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("server", names, indirect=True)


def come_in(open_windows: Windows, server: Server, name: str) -> Page:
    """A window of its own, in which somebody has logged in."""
    page = open_windows.open(server.url + "/")
    page.locator("input[name=name]").fill(name)
    page.locator("button").click()
    expect(page.locator("#lines")).to_be_visible()
    return page


def notify(page: Page, to: str, text: str) -> None:
    page.get_by_label("For whom").fill(to)
    page.get_by_label("What").fill(text)
    page.get_by_role("button", name="Send").click()


@example("notifications")
def test_a_notification_reaches_both_tabs_of_one_user_and_nobody_else(
    server: Server, open_windows: Windows
) -> None:
    ada, eve = (come_in(open_windows, server, name) for name in ("Ada", "Eve"))
    second = ada.context.new_page()
    second.goto(server.url)
    notify(eve, "Ada", "<b>tea</b>?")
    for tab in (ada, second):
        expect(tab.locator("#lines li")).to_have_text(["Eve: <b>tea</b>?"])
    notify(ada, "Eve", "yes")
    expect(eve.locator("#lines li")).to_have_text(["Ada: yes"])  # hers, and no other
    ada.reload()
    expect(ada.locator("#lines li")).to_have_text(["Eve: <b>tea</b>?"])
    second.get_by_role("button", name="Log out").click()
    expect(second.get_by_label("Who are you?")).to_be_visible()
    expect(ada.get_by_text("You have logged out.")).to_be_visible()  # the other tab is told
    expect(eve.locator("#lines")).to_be_visible()


def say(page: Page, text: str) -> None:
    page.get_by_label(":").fill(text)
    page.get_by_role("button", name="Say").click()


@example("chat_room")
def test_a_room_says_who_speaks_and_who_is_here(server: Server, open_windows: Windows) -> None:
    ada = come_in(open_windows, server, "Ada")
    say(ada, "<i>hello</i>")
    bob = come_in(open_windows, server, "Bob")
    for page in (ada, bob):
        expect(page.locator("#here")).to_have_text("Here: Ada, Bob")
    expect(bob.locator("#lines li")).to_have_text(["Ada: <i>hello</i>"])  # said before he came
    say(bob, "hi")
    expect(ada.locator("#lines li")).to_have_text(["Ada: <i>hello</i>", "Bob: hi"])
    second = bob.context.new_page()
    second.goto(server.url)
    expect(second.locator("#here")).to_have_text("Here: Ada, Bob")
    second.close()  # one tab less, and still here
    say(bob, "one tab less")
    expect(ada.locator("#lines li").last).to_have_text("Bob: one tab less")
    expect(ada.locator("#here")).to_have_text("Here: Ada, Bob")
    bob.get_by_role("button", name="Leave").click()
    expect(bob.get_by_label("Your name")).to_be_visible()
    expect(ada.locator("#here")).to_have_text("Here: Ada")


def number(page: Page, what: str) -> int:
    return int(page.locator(f"#ACME .{what}").inner_text())


@example("ticker")
def test_after_a_stall_the_ticker_shows_the_newest_price_and_not_all_between(
    server: Server, open_windows: Windows
) -> None:
    page, other = (open_windows.open(server.url + "/") for _ in range(2))
    wait_until(lambda: number(page, "received"), "prices come")
    page.get_by_role("button", name="Pause").click()
    had, known = number(page, "received"), number(page, "skipped")
    # what the other one has not read yet may be from before: so it begins anew, behind the pause
    other.reload()
    wait_until(lambda: number(other, "received") > 20, "prices go on for others")
    assert number(page, "received") == had
    page.get_by_role("button", name="Go on").click()
    wait_until(lambda: number(page, "received") > had, "prices come again")
    assert number(page, "skipped") > known + 15
    wait_until(lambda: number(page, "received") > had + 3, "and go on")


@example("live_log")
def test_a_line_with_a_script_in_it_is_shown_as_text(server: Server, open_windows: Windows) -> None:
    page = open_windows.open(
        server.url + "/", http_credentials={"username": "anybody", "password": PASSWORD}
    )
    expect(page.locator("#state")).to_have_attribute("data-state", "open")
    page.get_by_label("Write a line").fill("<script>document.title = 'owned'</script>")
    page.get_by_role("button", name="Write").click()
    expect(page.locator("#log")).to_contain_text("says \"<script>document.title = 'owned'</script>")
    assert page.locator("#log *").count() == 0, "no element"
    assert page.title() == "Live log"
    page.reload()
    expect(page.locator("#log")).to_contain_text("owned")  # what was there before


@contextlib.contextmanager
def command(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A program of an example, beside its server."""
    env = environment({"PYTHONPATH": str(ROOT)})
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own, for the workers that it has
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def paused(process: subprocess.Popen[str]) -> Iterator[None]:
    """A program and its workers stand still inside."""
    os.killpg(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGCONT)


def watch_to_the_end(page: Page, job: subprocess.Popen[str]) -> None:
    """From somewhere in the middle, over a reload, to 100."""
    done = page.locator("#bar")

    def value() -> int:
        return int(done.evaluate("bar => bar.value"))

    before = wait_until(value, "it has begun")
    with paused(job):
        page.reload()
        assert before < 100
        assert before <= wait_until(value, "it is known behind the reload") < 100
    expect(page.locator("#state")).to_have_text("100 / 100")
    expect(page.locator("#state")).to_have_attribute("data-state", "done")
    page.reload()
    expect(page.locator("#state")).to_have_text("100 / 100")


@example("progress")
def test_the_progress_of_a_celery_job_survives_a_reload(
    server: Server, open_windows: Windows
) -> None:
    worker = "celery --workdir examples/progress --app app:celery worker"
    with command("-m", *worker.split()) as jobs:
        page = open_windows.open(server.url + "/")
        page.get_by_role("button", name="Begin a new job").click()
        watch_to_the_end(page, jobs)


@example("progress")
def test_the_progress_of_a_script_survives_a_reload(server: Server, open_windows: Windows) -> None:
    page = open_windows.open()
    with command("examples/progress/job.py") as script:
        assert script.stdout is not None
        said = re.search(r"http://\S+:5000(/jobs/\S+)", script.stdout.readline())
        assert said
        page.goto(server.url + said[1])
        watch_to_the_end(page, script)


POSTS = {
    "notifications": ["login", "logout", "notify"],
    "chat_room": ["enter", "go"],
    "progress": ["jobs"],
    "ticker": [],
    "live_log": ["write"],
}


@pytest.mark.parametrize(("server", "posts"), POSTS.items(), indirect=["server"], ids=POSTS)
def test_strangers_publish_nothing_and_read_what_is_public_only(
    server: Server, posts: list[str]
) -> None:
    evil = "https://evil.example"
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as stranger:
        for channel in ("lobby", "log", "price:ACME", "job:1", "user:Ada", "private:1"):
            sent = stranger.post(f"/streaming/channels/{channel}", json={"data": "x"})
            assert sent.status_code in (401, 403), channel
        for channel in ("lobby", "lobby:presence", "log", "user:Ada", "news"):
            read = stranger.get("/streaming/events", params={"channel": channel})
            assert read.status_code in (401, 403), channel
        assert stranger.get("/streaming/presence/lobby").status_code in (401, 403)
        for path in ("mine", "shared/%2e%2e/ticker/app.py", "shared/..%2fticker/app.py"):
            assert stranger.get(f"/{path}").status_code in (401, 404), path
        for path in posts:  # from a page of others, with what a browser remembers
            known = httpx.BasicAuth("anybody", PASSWORD)
            posted = stranger.post(f"/{path}", headers={"Origin": evil}, auth=known)
            assert posted.status_code == 403, path
    with pytest.raises(InvalidStatus), connect(f"{server.ws_url}/streaming/ws", origin=evil):
        pass
