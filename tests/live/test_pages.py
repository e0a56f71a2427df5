"""Every page in a real browser, in both languages.

The `open_windows` fixture fails a test whose windows report an error: a script that threw, a file
that is missing, something the Content-Security-Policy had to block.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect

from streaming import Streaming, current_run
from tests.live.browser import Windows, bubbles, expect_state, windows, write
from tests.live.clients import RawClient, post_json
from tests.live.harness import file_server, gunicorn
from tests.live.server import Server
from tests.sites import serve

PAGES = ["/", "/sse", "/typewriter", "/chat"]
LANGUAGES = {"en-US": "en", "zh-CN": "zh-CN"}
MARKUP = "<img src=x onerror=alert(1)> <b>bold</b> &amp; <script>alert(2)</script>"


@pytest.fixture(scope="module", autouse=True)
def classic(demo: Server, browser: Browser) -> Iterator[Page]:
    """A window in which the tutorial's ten seconds run while the other tests do theirs."""
    with windows(browser) as opened:
        page = opened.open(demo.url + "/sse")
        page.locator("#tutorial-start").click()
        expect(page.locator("#tutorial-state")).to_have_attribute("data-state", "open")
        yield page


@pytest.mark.parametrize("locale", LANGUAGES)
def test_the_pages_open_in_the_browsers_language(
    demo: Server, open_windows: Windows, locale: str
) -> None:
    page = open_windows.open(locale=locale)
    for path in PAGES:
        page.goto(demo.url + path)
        expect(page.locator("html")).to_have_attribute("lang", LANGUAGES[locale])
        expect(page.locator("h1")).to_be_visible()
        if path in {"/sse", "/chat"}:
            expect_state(page, "open")
        has_chinese = re.search(r"[\u4e00-\u9fff]", page.locator("main").inner_text()) is not None
        assert has_chinese == (locale == "zh-CN"), path
        in_chinese = re.search(r"[\u4e00-\u9fff]", page.title()) is not None
        assert in_chinese == (locale == "zh-CN"), f"the title of {path}"


def test_the_language_can_be_switched_and_stays(demo: Server, open_windows: Windows) -> None:
    page = open_windows.open(demo.url)
    for lang, start in (("zh-CN", "home"), ("en", "chat")):
        page.locator(f"nav a[data-to={start}]").click()
        page.locator("[data-lang-switch]").click()
        for name in ("sse", "typewriter", "chat", "home"):
            expect(page.locator("html")).to_have_attribute("lang", lang)
            page.locator(f"nav a[data-to={name}]").click()
            expect(page.locator(f"body[data-page={name}]")).to_be_visible()


BOTH_BUTTONS = """() => {
  document.getElementById("retry").hidden = false; // measured at once: the page hides it again
  const [state, buttons] = ["#state", ".buttons"].map((name) => document.querySelector(name));
  return [state.getBoundingClientRect().bottom, buttons.getBoundingClientRect().top];
}"""


@pytest.mark.parametrize("locale", LANGUAGES)
def test_the_pages_fit_a_phone(demo: Server, open_windows: Windows, locale: str) -> None:
    page = open_windows.open(locale=locale, width=360, height=640, has_touch=True)
    for path in PAGES:
        page.goto(demo.url + path)
        expect(page.locator("h1")).to_be_visible()
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 360, path
        if path == "/typewriter":  # while the connection is lost, two buttons are there
            below, above = page.evaluate(BOTH_BUTTONS)
            assert below <= above, "the buttons cover what the state is called"


def test_the_pages_have_a_dark_side(demo: Server, open_windows: Windows) -> None:
    page = open_windows.open()
    ink = "getComputedStyle(document.body).color"
    for path in PAGES:
        page.emulate_media(color_scheme="light")
        page.goto(demo.url + path)
        light = page.evaluate(ink)
        page.emulate_media(color_scheme="dark")
        assert page.evaluate(ink) != light, path


@pytest.mark.parametrize("path", PAGES)
def test_a_page_forbids_foreign_and_inline_script(demo: Server, path: str) -> None:
    with RawClient(demo.url + path) as client:
        policy = client.headers["content-security-policy"]
        html = client.read_all().decode()
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|<style", html)


HEAR_VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) =>
  violations.push(`${event.effectiveDirective} ${event.blockedURI}`));
"""


@pytest.mark.parametrize("locale", LANGUAGES)
def test_no_page_violates_its_own_policy_and_a_violation_would_be_heard(
    demo: Server, open_windows: Windows, locale: str
) -> None:
    page = open_windows.open(locale=locale)
    page.add_init_script(HEAR_VIOLATIONS)
    for path in PAGES:
        page.goto(demo.url + path)
        if path in {"/sse", "/chat"}:
            expect_state(page, "open")
        if path == "/typewriter":
            page.locator("textarea").fill(MARKUP)
            page.locator("form button").first.click()
            expect(page.locator("main")).to_contain_text("alert(1)")
        assert page.evaluate("violations") == [], path
    open_windows.expect("Content Security Policy", "TrustedHTML")
    foreign = "() => { new Image().src = 'http://127.0.0.2/x.png'; }"
    page.evaluate(foreign)
    page.wait_for_function("() => violations.length === 1")
    assert page.evaluate("violations") == ["img-src http://127.0.0.2/x.png"]
    markup = "() => { try { document.body.innerHTML = '<b>x</b>'; } catch (e) { return e.name; } }"
    assert page.evaluate(markup) == "TypeError"


def test_the_sse_page_shows_ticks_and_published_news(demo: Server, open_windows: Windows) -> None:
    anna = open_windows.open(demo.url + "/sse")
    ben = open_windows.open(demo.url + "/sse", locale="zh-CN")
    for page in (anna, ben):
        expect_state(page, "open")
        expect(page.locator("#stream li[data-channel=ticker]").first).to_be_visible()
        expect(page.locator("#tick")).to_have_text(re.compile(r"\d+"))
    anna.locator("#news-text").fill(MARKUP)
    anna.locator("#publish button").click()
    for page in (anna, ben):
        news = page.locator("#stream li[data-channel=news] .text")
        expect(news.last).to_have_text(MARKUP)
        assert news.locator("*").count() == 0  # shown as text, not taken as markup


def test_news_that_look_like_ticks_are_shown_as_news(demo: Server, open_windows: Windows) -> None:
    page = open_windows.open(demo.url + "/sse")
    expect(page.locator("#tick")).to_have_text(re.compile(r"\d+"))
    forged = '{"n": 123456, "at": "2020-01-01T00:00:00Z"}'
    for event in ({}, {"event": "news"}, {"event": "message"}):
        body = {"data": forged, **event}
        assert post_json(demo.url + "/streaming/channels/news", body)[0] == 201
    news = page.locator("#stream li[data-channel=news] .text", has_text="123456")
    expect(news).to_have_text([forged] * 3)
    ticks = page.locator("#stream li[data-channel=ticker] .text").all_inner_texts()
    assert ticks
    assert not [text for text in [*ticks, page.locator("#tick").inner_text()] if "123456" in text]


def test_a_paused_sse_page_resumes_without_losing_or_repeating(
    demo: Server, open_windows: Windows
) -> None:
    page = open_windows.open(demo.url + "/sse")
    expect_state(page, "open")
    page.locator("#pause").click()
    expect_state(page, "paused")
    for n in range(3):
        data = {"data": f"while paused {n}"}
        assert post_json(demo.url + "/streaming/channels/news", data)[0] == 201
    page.locator("#pause").click()
    news = page.locator("#stream li[data-channel=news] .text", has_text="while paused")
    expect(news).to_have_text([f"while paused {n}" for n in range(3)])


def test_two_windows_chat(demo: Server, open_windows: Windows) -> None:
    anna = open_windows.open(demo.url + "/chat")
    ben = open_windows.open(demo.url + "/chat", locale="zh-CN")
    for page in (anna, ben):
        expect_state(page, "open")
        expect(page.locator("#messages li[data-kind=notice]").first).to_be_visible()  # welcome
    write(anna, "hello ben")
    expect(bubbles(anna, "own").last).to_have_text("hello ben")
    expect(anna.locator("#messages li[data-kind=own]").last).to_have_attribute(
        "data-delivery", "sent"
    )
    expect(bubbles(ben, "other").last).to_have_text("hello ben")
    write(ben, "你好 👋")
    expect(bubbles(ben, "own").last).to_have_text("你好 👋")
    expect(bubbles(anna, "other").last).to_have_text("你好 👋")
    write(anna, MARKUP)
    for bubble in (bubbles(anna, "own").last, bubbles(ben, "other").last):
        expect(bubble).to_have_text(MARKUP)
        assert bubble.locator("*").count() == 0
    latecomer = open_windows.open(demo.url + "/chat")
    expect(bubbles(latecomer, "other").last).to_have_text(MARKUP)
    assert bubbles(latecomer, "other").all_inner_texts()[-3:] == ["hello ben", "你好 👋", MARKUP]


def test_a_browser_that_forbids_to_keep_anything_has_a_chat_too(
    demo: Server, open_windows: Windows
) -> None:
    page = open_windows.open()
    for store in ("localStorage", "sessionStorage"):
        page.add_init_script(
            f"Object.defineProperty(window, '{store}', {{ get() {{ throw new Error('no'); }} }});"
        )
    page.goto(demo.url + "/chat")
    expect_state(page, "open")
    write(page, "kept nowhere")
    expect(bubbles(page, "own").last).to_have_text("kept nowhere")
    page.reload()
    expect_state(page, "open")
    expect(bubbles(page, "other").last).to_have_text("kept nowhere")


def test_windows_of_the_chat_list_each_other_by_name(demo: Server, open_windows: Windows) -> None:
    anna = open_windows.open(demo.url + "/chat")
    ben = open_windows.open(demo.url + "/chat", locale="zh-CN")
    expect(anna.locator("#here")).to_have_text("2 here")
    expect(ben.locator("#here")).to_have_text("2 人在线")
    expect(anna.locator("#names")).to_have_text(re.compile(r"^You, Guest [0-9a-f]{4}$"))
    write(ben, "who am I?")
    who = anna.locator("#messages li[data-kind=other] .who")
    expect(who.last).to_have_text(re.compile("^Guest "))

    ben.locator("#people summary").click()
    ben.locator("#name").fill(" Ben <b>安</b>\u202e ")  # markup, and what turns text around
    ben.locator("#naming button").click()
    name = "Ben <b>安</b>"
    expect(ben.locator("#members li").first).to_have_text(f"{name}（我）")
    expect(anna.locator("#names")).to_have_text(f"You, {name}")
    expect(who.last).to_have_text(name)  # what was written before, too
    assert anna.locator("#people b").count() == 0

    ben.reload()
    expect(anna.locator("#names")).to_have_text(f"You, {name}")
    expect(ben.locator("#name")).to_have_value(name)
    ben.context.close()
    expect(anna.locator("#here")).to_have_text("1 here")
    expect(anna.locator("#members li")).to_have_text([re.compile("^Guest .*you")])
    expect(who.last).to_have_text(name)


def test_a_chat_page_and_a_tutorial_client_are_in_one_room(
    demo: Server, open_windows: Windows
) -> None:
    page = open_windows.open(demo.url + "/chat")
    expect_state(page, "open")
    page.evaluate(
        """() => new Promise((resolve) => {
            window.heard = [];
            window.plain = new WebSocket(`ws://${location.host}/ws`);
            window.plain.onmessage = (event) => { window.heard.push(event.data); resolve(); };
        })"""
    )
    write(page, "from the page")
    page.wait_for_function("() => window.heard.length === 2")
    page.evaluate("window.plain.send('from the tutorial')")
    expect(bubbles(page, "other").last).to_have_text("from the tutorial")
    page.wait_for_function("() => window.heard.length === 3")
    expect(page.locator("#here")).to_have_text("2 here")
    assert page.evaluate("window.heard") == [
        "Welcome to the WebSocket server!",
        "Other client said: from the page",
        "You said: from the tutorial",
    ]


TUTORIAL_PAGE = """
<!doctype html>
<title>The tutorial's page, on another server than the demo</title>
<link rel="icon" href="data:,">
<ol id="events"></ol>
<ol id="messages"></ol>
<script>
  const show = (list, text) => {
    const row = document.createElement("li");
    row.textContent = text;
    document.getElementById(list).append(row);
  };
  const source = new EventSource("HTTP/events");
  source.onmessage = (event) => show("events", JSON.parse(event.data).message);
  const socket = new WebSocket("WS/ws");
  socket.onmessage = (event) => show("messages", event.data);
  socket.onopen = () => socket.send("hello");
</script>
"""


def test_a_tutorial_page_from_a_listed_origin_works(open_windows: Windows, tmp_path: Path) -> None:
    with (
        file_server(tmp_path) as elsewhere,
        gunicorn(extra_env={"STREAMING_ORIGINS": json.dumps([elsewhere.url])}) as server,
    ):
        html = TUTORIAL_PAGE.replace("HTTP", server.url).replace("WS", server.ws_url)
        (tmp_path / "index.html").write_text(html)
        page = open_windows.open(elsewhere.url)
        expect(page.locator("#events li").first).to_have_text("Hello World")
        expect(page.locator("#messages li")).to_have_text(
            ["Welcome to the WebSocket server!", "You said: hello"]
        )
        page.goto("about:blank")


ASKING_PAGE = """<!doctype html><meta charset="utf-8"><title>x</title>
<link rel="icon" href="data:,"><p id="said"></p><p id="end"></p>
<script type="module">
import { AnswerStream } from "HTTP/streaming/static/index.js";
const show = (id, text) => { document.getElementById(id).textContent = text; };
const answer = AnswerStream.start("HTTP/ask", { body: "question" });
for await (const { kind, data } of answer) {
  if (kind === "text") {
    show("said", answer.location?.pathname.split("/").at(-2) ?? "nowhere");
    await answer.stop();
  }
  if (kind === "end") show("end", data.state);
}
</script>"""


def test_a_page_of_another_origin_asks_and_stops_its_answer(
    open_windows: Windows, tmp_path: Path
) -> None:
    with file_server(tmp_path) as elsewhere:
        asker = Flask("asker")
        asker.config["STREAMING_ORIGINS"] = [elsewhere.url]
        streaming = Streaming(asker, authorize=lambda action, channel: True)
        asker.after_request(streaming.allow_origin)

        def endless() -> Iterator[str]:
            yield "word "
            while not current_run().wait(60):
                pass

        asker.add_url_rule(
            "/ask", methods=["POST"], view_func=lambda: streaming.run(endless).response()
        )
        with serve(asker) as site:
            (tmp_path / "index.html").write_text(ASKING_PAGE.replace("HTTP", site.url))
            page = open_windows.open(elsewhere.url)
            expect(page.locator("#said")).to_have_text("runs")
            expect(page.locator("#end")).to_have_text("stopped")
            page.goto("about:blank")


def test_the_tutorials_stream_ends_for_good_in_the_browsers_own_eventsource(classic: Page) -> None:
    closed = classic.locator("#tutorial-state[data-state=closed]")
    expect(closed).to_be_visible()
    greetings = classic.locator("#tutorial li:not([data-channel]) .text")
    expect(greetings).to_have_text(["Hello World"] * 5)
