"""docs/tutorial.md in a browser: its page reconnects, and what it says of browsers is so."""

import re
from pathlib import Path

from flask import Flask, Response
from playwright.sync_api import Locator, Page, expect

from tests.guides import run_shown, serving, shown
from tests.live.browser import SERVER_DOWN, Windows
from tests.live.harness import flask_run
from tests.live.server import ROOT

PAGE = "tutorial.md"
SOON = "Math.random = () => 0.2;"  # pauses of 200 ms, 400 ms …; ten of them are 36 s


def test_the_page_chats_and_comes_back(open_windows: Windows, tmp_path: Path) -> None:
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "chat.html").write_text(shown(PAGE, "static/chat.html"), "utf-8")
    (tmp_path / "chat.py").write_text(shown(PAGE, "chat.py"), "utf-8")
    open_windows.expect(SERVER_DOWN, "favicon.ico")
    with flask_run("chat", cwd=tmp_path, extra_env={"PYTHONPATH": str(ROOT)}) as server:
        ada, bob = open_windows.open(), open_windows.open()
        for page in (ada, bob):
            page.add_init_script(SOON)
            page.goto(server.url)
            expect(said(page)).to_have_text(["Welcome to the WebSocket server!"])
        ada.locator("input").fill("<b>hello</b>")
        ada.locator("button").click()
        expect(said(ada).last).to_have_text("You said: <b>hello</b>")
        expect(said(bob).last).to_have_text("Other client said: <b>hello</b>")
        server.kill()
        expect(ada.locator("#state")).to_have_text(re.compile(r"attempt \d of 10"))
        server.start()
        expect(ada.locator("#state")).to_have_text("connected")
        expect(said(ada).last).to_have_text("Welcome to the WebSocket server!")


FAILING = """
Math.random = () => 1;
window.pauses = [];
window.setTimeout = (go, pause) => { window.pauses.push(pause); queueMicrotask(go); };
window.WebSocket = class { constructor() { queueMicrotask(() => this.onclose()); } };
"""  # Chromium itself delays sockets that keep failing, by seconds


def test_the_page_waits_twice_as_long_each_time_and_gives_up_after_ten(
    open_windows: Windows,
) -> None:
    open_windows.expect("favicon.ico")
    page = open_windows.open()
    page.add_init_script(FAILING)
    app = Flask("page")
    app.add_url_rule("/", view_func=lambda: shown(PAGE, "static/chat.html"))
    with serving(app) as port:
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.locator("#state")).to_have_text("gave up")
    seconds = [pause / 1000 for pause in page.evaluate("pauses")]
    assert seconds == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30]


def said(page: Page) -> Locator:
    return page.locator("#said li")


def greeter() -> Flask:
    """The page's greetings, quick, with an empty page to listen on."""
    source = shown(PAGE, "greet.py").replace("time.sleep(2)", "time.sleep(0.01)")
    head = 'yield "retry: 20\\n\\n"\n    for _ in range(5):'  # or the browser waits for 3 s
    defined: dict[str, object] = {"__name__": "greet"}
    exec(compile(source.replace("for _ in range(5):", head), "greet.py", "exec"), defined)
    app = defined["app"]
    assert isinstance(app, Flask)
    app.add_url_rule("/", view_func=lambda: Response("<!doctype html>", mimetype="text/html"))
    return app


LISTEN = """async (closes) => {
    const source = new EventSource("/events");
    const told = [];
    source.onmessage = () => told.push("message");
    source.addEventListener("close", () => { told.push("close"); if (closes) source.close(); });
    const over = () => closes ? source.readyState === 2 : told.length >= 12;
    while (!over()) await new Promise((go) => setTimeout(go, 10));
    const state = source.readyState;
    source.close();
    return [told.slice(0, 12), state];
}"""


def test_an_event_source_comes_back_after_a_normal_end_unless_it_was_told(
    open_windows: Windows,
) -> None:
    open_windows.expect("favicon.ico")
    once = [*["message"] * 5, "close"]
    with serving(greeter()) as port:
        page = open_windows.open(f"http://127.0.0.1:{port}/")
        assert page.evaluate(LISTEN, True) == [once, 2]
        told, state = page.evaluate(LISTEN, False)
        assert told == once * 2, "it has come back, and all begins anew"
        assert state != 2


SEVEN = """async () => {
    const open = (n) => new EventSource(`/streaming/events?channel=news&history=${n}`);
    const sources = Array.from({ length: 7 }, (_, n) => open(n));
    const until = async (is) => { while (!is()) await new Promise((go) => setTimeout(go, 10)); };
    const count = () => sources.filter((source) => source.readyState === 1).length;
    await until(() => count() === 6);
    const waiting = sources.find((source) => source.readyState === 0);
    sources.find((source) => source.readyState === 1).close();
    await until(() => waiting.readyState === 1);
    return count();
}"""


def test_the_seventh_stream_of_a_browser_waits_for_one_of_six(open_windows: Windows) -> None:
    open_windows.expect("favicon.ico")
    app = run_shown(PAGE, "news.py")["app"]
    app.add_url_rule("/", view_func=lambda: Response("<!doctype html>", mimetype="text/html"))
    with serving(app) as port:
        page = open_windows.open(f"http://127.0.0.1:{port}/")
        assert page.evaluate(SEVEN) == 6
