"""The typewriter page in a real browser: a conversation that nothing interrupts for good."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from demo import answer_book
from tests.live.browser import SERVER_DOWN, Windows, expect_state
from tests.live.harness import gunicorn
from tests.live.server import Server
from tests.openai_server import ModelServer, chunk, model_server
from tests.polling import wait_until
from tests.redis_server import redis_server

SSE = "What is SSE?"
FLASK = "How do I use this package in my Flask app?"
WRITTEN = 60_000  # milliseconds in which an answer must have been written
NOTICED = 45_000  # in which a dead worker must have been noticed

OFFLINE = r"net::ERR_INTERNET_DISCONNECTED"


APP = "tests.live.held_app:app"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While it is there, answers wait in the middle."""
    return tmp_path_factory.mktemp("held") / "here"


@pytest.fixture
def held(file: Path) -> Iterator[Path]:
    """It is there, until the test takes it away: what is to be done in mid answer, is."""
    file.touch()
    yield file
    file.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def demo(file: Path) -> Iterator[Server]:
    """The demo under gunicorn."""
    with gunicorn(APP, extra_env={"HELD": str(file)}) as running:
        yield running


@pytest.fixture(scope="module", params=["SQLite", "Redis"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, file: Path
) -> Iterator[Server]:
    """The demo with two workers, on each home that they can share."""
    env = {"HELD": str(file)}
    with ExitStack() as stack:
        if request.param == "Redis":
            redis = stack.enter_context(redis_server(tmp_path_factory.mktemp("redis")))
            env["STREAMING_LOG"] = redis.url("p:")
        yield stack.enter_context(gunicorn(APP, workers=2, extra_env=env, expect_trouble=True))


def ask(page: Page, question: str) -> Locator:
    """Ask, and return the turn once something of its answer is there."""
    turn = send(page, question)
    expect(turn.locator(".asked")).to_have_text(question)
    expect(said(turn)).not_to_be_empty()
    return turn


def send(page: Page, question: str) -> Locator:
    expect(page.locator("#send")).to_be_enabled()  # the page is ready
    turn = turns(page).nth(turns(page).count())
    page.locator("#text").fill(question)
    page.locator("#text").press("Enter")
    return turn


def turns(page: Page) -> Locator:
    return page.locator("#turns > li")


def said(turn: Locator) -> Locator:
    return turn.locator(".said")


def letters(text: str) -> str:
    """A text without its marks and its white space."""
    return re.sub(r"```\w*|[`*\s]", "", text)


def expect_whole(turn: Locator, question: str, language: str = "en") -> None:
    """Wait for the end of the answer; all of it must be there, once."""
    expect(turn).to_have_attribute("data-state", "done", timeout=WRITTEN)
    without_bars = """node => {
        const copy = node.cloneNode(true);
        for (const bar of copy.querySelectorAll(".bar")) bar.remove();
        return copy.textContent;
    }"""
    answer = answer_book.find_answer(question, language)
    assert letters(said(turn).evaluate(without_bars)) == letters(answer)


def test_an_answer_is_written_and_then_whole(
    demo: Server, open_windows: Windows, held: Path
) -> None:
    page = open_windows.open(demo.url + "/typewriter")
    expect(page.locator("#empty")).to_be_visible()
    turn = ask(page, SSE)
    expect_state(page, "writing")
    expect(turn).to_have_attribute("aria-busy", "true")
    first = said(turn).inner_text()
    held.unlink()
    expect_state(page, "done", timeout=WRITTEN)
    expect_whole(turn, SSE)
    assert len(said(turn).inner_text()) > len(first)  # it had not come in one piece
    expect(turn).to_have_attribute("aria-busy", "false")
    expect(page.locator("#note")).to_have_text(
        re.compile(r"first piece after \d+ ms · \d\d+ pieces")
    )
    expect(page.locator("#empty")).to_be_hidden()
    expect(page.locator("#announce")).not_to_be_empty()


def test_code_is_shown_as_code_and_can_be_copied(demo: Server, open_windows: Windows) -> None:
    page = open_windows.open(demo.url + "/typewriter")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=demo.url)
    turn = ask(page, FLASK)
    expect(turn).to_have_attribute("data-state", "done", timeout=WRITTEN)
    code = re.findall(r"```python\n(.*?)```", answer_book.find_answer(FLASK), re.DOTALL)
    snippet = turn.locator(".snippet")
    expect(snippet).to_have_count(1)
    expect(snippet.locator(".bar span")).to_have_text("python")
    assert snippet.locator("code").text_content() == code[0]
    expect(turn.locator(".blocks strong")).to_have_text("news")
    snippet.get_by_role("button", name="Copy").click()
    expect(snippet.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == code[0]
    turn.locator(".tools").get_by_role("button", name="Copy").click()
    wait_until(
        lambda: page.evaluate("navigator.clipboard.readText()") == answer_book.find_answer(FLASK),
        "the answer in the clipboard",
    )
    assert snippet.inner_text().count("```") == 0


def test_a_reload_in_mid_answer_loses_nothing(
    demo: Server, open_windows: Windows, held: Path
) -> None:
    page = open_windows.open(demo.url + "/typewriter")
    ask(page, SSE)
    for _ in range(3):
        page.reload()
        expect(said(turns(page).last)).not_to_be_empty()
    held.unlink()
    expect(turns(page)).to_have_count(1)
    expect_whole(turns(page).last, SSE)
    page.reload()
    expect(turns(page)).to_have_count(1)
    expect_whole(turns(page).last, SSE)


def test_a_tab_that_was_closed_in_mid_answer_finds_it_whole(
    demo: Server, open_windows: Windows, held: Path
) -> None:
    page = open_windows.open(demo.url + "/typewriter")
    ask(page, SSE)
    context = page.context
    page.close()
    held.unlink()
    again = context.new_page()
    again.goto(demo.url + "/typewriter")
    expect_whole(turns(again).last, SSE)


def test_a_second_tab_reads_along_and_stops_it_for_both(
    pair: Server, open_windows: Windows, held: Path
) -> None:
    one = open_windows.open(pair.url + "/typewriter")
    two = one.context.new_page()
    two.goto(pair.url + "/typewriter")
    expect(two.locator("#empty")).to_be_visible()
    turn = ask(one, SSE)
    other = turns(two).last
    expect(said(other)).not_to_be_empty()
    expect(other.locator(".asked")).to_have_text(SSE)
    two.locator("#stop").click()
    for page in (one, two):
        expect_state(page, "stopped")
    expect(turn.locator(".outcome")).to_have_text("You stopped it here.")
    text = said(turn).inner_text()
    assert 0 < len(text) < len(answer_book.find_answer(SSE))
    held.unlink()
    one.wait_for_timeout(500)  # time in which nothing may happen
    assert said(turn).inner_text() == text


def test_stop_by_escape_and_ask_something_else(
    demo: Server, open_windows: Windows, held: Path
) -> None:
    page = open_windows.open(demo.url + "/typewriter")
    page.locator("[data-question]").first.click()
    expect_state(page, "writing")
    page.keyboard.press("Escape")
    expect_state(page, "stopped")
    expect(page.locator("#stop")).to_be_disabled()
    second = ask(page, FLASK)
    third = ask(page, SSE)  # the one before is stopped first
    expect(second).to_have_attribute("data-state", "stopped")
    held.unlink()
    expect_whole(third, SSE)


def test_regenerate_edit_and_begin_anew(demo: Server, open_windows: Windows, held: Path) -> None:
    held.unlink()
    page = open_windows.open(demo.url + "/typewriter")
    ask(page, SSE)
    expect_whole(turns(page).nth(0), SSE)
    ask(page, "What is NDJSON?")
    expect_whole(turns(page).nth(1), "What is NDJSON?")
    first, second = turns(page).nth(0), turns(page).nth(1)
    held.touch()
    first.get_by_role("button", name="Regenerate").click()
    expect(first).to_have_attribute("data-state", "writing")
    held.unlink()
    expect_whole(first, SSE)
    expect_whole(second, "What is NDJSON?")

    edit = first.get_by_role("button", name="Edit")
    edit.click()
    field = first.locator("textarea")
    expect(field).to_be_focused()
    expect(first.locator(".editor .hint")).to_be_visible()  # the second one would go
    field.press("Escape")
    expect(edit).to_be_focused()
    expect(first.locator(".asked")).to_have_text(SSE)

    edit.click()
    field.fill("What is a gap?")
    field.press("Enter")
    expect(turns(page)).to_have_count(1)
    expect(first.locator(".asked")).to_have_text("What is a gap?")
    expect_whole(first, "What is a gap?")

    page.locator("#clear").click()
    expect(turns(page)).to_have_count(0)
    expect(page.locator("#empty")).to_be_visible()
    page.reload()
    expect(page.locator("#empty")).to_be_visible()


def test_a_lost_network_is_told_and_the_answer_goes_on_with_it(
    demo: Server, open_windows: Windows, held: Path
) -> None:
    open_windows.expect(OFFLINE, r"net::ERR_NETWORK_CHANGED")
    page = open_windows.open(demo.url + "/typewriter")
    turn = ask(page, FLASK)
    page.context.set_offline(True)
    cut_connections(demo)
    expect_state(page, "waiting")
    held.unlink()
    page.context.set_offline(False)
    expect_whole(turn, FLASK)


def cut_connections(server: Server) -> None:
    """End the streams that the browser already has: being offline stops new ones only."""
    server.send_signal(signal.SIGHUP)


def test_a_deploy_in_mid_answer_loses_nothing(
    pair: Server, open_windows: Windows, held: Path
) -> None:
    open_windows.expect(SERVER_DOWN)
    page = open_windows.open(pair.url + "/typewriter")
    turn = ask(page, SSE)
    old = pair.worker_pids()
    pair.send_signal(signal.SIGHUP)
    held.unlink()
    wait_until(lambda: not set(old) & set(pair.worker_pids()), "new workers")
    expect_whole(turn, SSE)


def test_an_answer_whose_worker_was_killed_is_interrupted_and_can_be_asked_again(
    pair: Server, open_windows: Windows, held: Path
) -> None:
    open_windows.expect(SERVER_DOWN)
    page = open_windows.open(pair.url + "/typewriter")
    turn = ask(page, SSE)
    for pid in pair.worker_pids():
        os.kill(pid, signal.SIGKILL)
    expect(turn).to_have_attribute("data-state", "interrupted", timeout=NOTICED)
    expect_state(page, "interrupted")
    expect(turn.locator(".outcome")).to_contain_text("Ask again?")
    assert said(turn).inner_text()  # what there was of it stays
    held.unlink()
    turn.get_by_role("button", name="Ask again").click()
    expect_whole(turn, SSE)


@pytest.mark.parametrize(("locale", "question"), [("en-US", FLASK), ("zh-CN", "Flask")])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_narrowest_phone(
    demo: Server, open_windows: Windows, locale: str, question: str, scheme: str
) -> None:
    page = open_windows.open(
        demo.url + "/typewriter",
        locale=locale,
        width=320,
        height=568,
        has_touch=True,
        color_scheme=scheme,
    )
    expect_to_fit(page, 320)
    ask(page, question)
    expect_to_fit(page, 320)
    expect_whole(turns(page).last, question, locale[:2])
    turns(page).last.locator(".tools button").last.click()  # the editor
    expect(page.locator(".editor")).to_be_visible()
    expect_to_fit(page, 320)


def expect_to_fit(page: Page, width: int) -> None:
    """Nothing scrolls sideways: not the page, not the conversation in it."""
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    scroller = page.locator(".window .scroll")
    assert scroller.evaluate("node => node.scrollWidth <= node.clientWidth")


def test_it_speaks_chinese(demo: Server, open_windows: Windows, held: Path) -> None:
    page = open_windows.open(demo.url + "/typewriter", locale="zh-CN")
    page.locator("[data-question]").first.click()
    turn = turns(page).last
    expect(page.locator("#state")).to_have_text("正在书写…")
    held.unlink()
    page.reload()
    expect_whole(turn, "什么是 SSE？", "zh")
    expect(page.locator("#state")).to_have_text("已完成")
    expect(turn.get_by_role("button", name="重新生成")).to_be_visible()


@pytest.mark.usefixtures("held")
def test_keyboard_alone_is_enough(demo: Server, open_windows: Windows) -> None:
    page = open_windows.open(demo.url + "/typewriter")
    expect(page.locator("#send")).to_be_enabled()
    page.locator("#text").focus()
    page.keyboard.type(SSE)
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("please")
    page.keyboard.press("Enter")
    expect(turns(page).last.locator(".asked")).to_have_text(f"{SSE}\nplease")
    expect(page.locator("#text")).to_be_focused()
    expect_state(page, "writing")
    page.locator("#stop").focus()
    page.keyboard.press("Enter")
    expect_state(page, "stopped")
    expect(page.locator(".window .scroll")).to_be_focused()  # the button is of no use now
    again = turns(page).last.get_by_role("button", name="Regenerate")
    again.focus()
    page.keyboard.press("Enter")
    expect(turns(page).last).to_be_focused()
    expect_state(page, "writing")


def test_where_nothing_can_be_kept_it_says_so(demo: Server, open_windows: Windows) -> None:
    page = open_windows.open()
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } });"
    )
    page.goto(demo.url + "/typewriter")
    expect(page.locator("#unkept")).to_be_hidden()
    ask(page, SSE)
    expect(page.locator("#unkept")).to_be_visible()
    expect_whole(turns(page).last, SSE)


def test_a_draft_survives_a_reload(demo: Server, open_windows: Windows) -> None:
    page = open_windows.open(demo.url + "/typewriter")
    expect(page.locator("#send")).to_be_enabled()
    page.locator("#text").fill("half a ques")
    page.reload()
    expect(page.locator("#text")).to_have_value("half a ques")


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with model_server() as running:
        yield running


@pytest.fixture
def clever(model: ModelServer) -> Iterator[Server]:
    """The demo with a model."""
    env = {"STREAMING_OPENAI_BASE_URL": model.url, "STREAMING_OPENAI_MODEL": "small"}
    with gunicorn(extra_env=env, expect_trouble=True) as server:
        yield server


TABLE = {"table", "tbody", "td", "th", "thead", "tr"}

HOSTILE = """\
<img src=x onerror=alert(1)> [a](javascript:alert(1)) [b](https://example.org/)

<script>alert(2)</script>

| wide | table |
|---|---|
| <b>x</b> | `y` |

1. code

   ```
   const far = "to the right", further = "than any phone", on = "and on";
   ```
"""


def test_whatever_a_model_says_is_text_or_known_elements(
    clever: Server, model: ModelServer, open_windows: Windows
) -> None:
    model.says = [chunk(reasoning_content="I think."), chunk(content=HOSTILE), chunk(finish="stop")]
    page = open_windows.open(clever.url + "/typewriter", width=320)
    expect(page.locator("#note")).to_have_text("written by small")
    turn = ask(page, "?")
    expect(turn).to_have_attribute("data-state", "done")
    tags = said(turn).evaluate(
        "node => [...new Set([...node.querySelectorAll('.blocks *')].map((e) => e.localName))]"
    )
    ours = {"button", "div", "figure", "span"}
    assert {*tags} - ours == {"a", "code", "li", "ol", "p", "pre", *TABLE}
    expect(said(turn)).to_contain_text("<img src=x onerror=alert(1)>")
    links = said(turn).locator("a")
    expect(links).to_have_count(1)
    expect(links).to_have_attribute("href", "https://example.org/")
    expect(links).to_have_attribute("rel", re.compile("noopener"))
    turn.locator(".thoughts summary").click()
    expect(turn.locator(".reasoning")).to_have_text("I think.")
    expect_to_fit(page, 320)


def test_a_model_that_refuses_or_breaks_off_is_told_in_the_readers_words(
    clever: Server, model: ModelServer, open_windows: Windows
) -> None:
    open_windows.expect(r"status of (502|429)")
    page = open_windows.open(clever.url + "/typewriter", locale="zh-CN")
    model.status = 401
    turn = send(page, "?")
    expect(turn).to_have_attribute("data-state", "failed")
    expect(turn.locator(".outcome")).to_have_text(re.compile("拒绝了请求"))
    model.status = 429
    turn.get_by_role("button", name="再问一次").click()
    expect(turn.locator(".outcome")).to_have_text(re.compile("正忙"))
    model.status = 200
    model.say("half", finish=None)
    turn.get_by_role("button", name="再问一次").click()
    expect(said(turn)).to_have_text("half")
    expect(turn).to_have_attribute("data-state", "failed")
    model.say("all of it")
    turn.get_by_role("button", name="再问一次").click()
    expect(said(turn)).to_have_text("all of it")
    expect(turn).to_have_attribute("data-state", "done")
