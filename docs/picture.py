"""Record the demo's pages during a deploy and write docs/picture.svg: `python docs/picture.py`.

gunicorn serves the demo, Chromium shows its pages, and what they say is noted with its time. Amid
it all workers are replaced (HUP), while a program beside them goes on publishing. Texts and times
of the picture are those of the pages; the ticker's rows are left out.
"""

import json
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from draw_picture import Act, Word, draw, panel, said_once
from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from streaming import Publisher  # noqa: E402
from tests.live.browser import launch  # noqa: E402
from tests.live.server import Server, free_port  # noqa: E402

STEPS = 12
EVERY = 0.8  # seconds from step to step
LAST = 11.0  # seconds

PANELS = {
    "sse": ("Server-Sent Events", "#stream li:not([data-channel=ticker])", ".tag", ".text"),
    "typewriter": ("fetch: an answer", "#turns li", None, ".asked, .said"),
    "chat": ("WebSocket: a chat", "#messages li", ".who", ".bubble"),
}
"""By page: what it shows, its rows, and in each row who says something and what."""

NOTE = """
  ([rows, who, text]) => {
    const read = (row) => {
      const said = [...row.querySelectorAll(text)].map((part) => part.innerText.trim());
      const whose = who ? (row.querySelector(who)?.innerText ?? "") : "";
      return [whose, said.join("\\n\\n") || row.innerText.trim()];
    };
    const look = () => {
      const state = document.getElementById("state");
      const found = [...document.querySelectorAll(rows)].map(read);
      const { innerText, dataset } = state;
      const now = JSON.stringify({ rows: found, state: innerText, phase: dataset.state });
      if (now !== noted.at(-1)?.[1]) noted.push([Date.now(), now]);
    };
    const noted = (window.noted = []);
    const all = { subtree: true, childList: true, characterData: true, attributes: true };
    new MutationObserver(look).observe(document.querySelector("main"), all);
    look();
  }
"""
"""In a page: note its rows and its state whenever they change."""


def served(folder: Path) -> Server:
    for name in ("app.py", "gunicorn.conf.py", "demo", "templates", "static", "streaming"):
        (folder / name).symlink_to(ROOT / name)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "app:app"]
    env = {"PORT": str(port), "PYTHONPATH": str(folder), "WEB_CONCURRENCY": "2"}
    return Server("gunicorn app:app", command, port=port, cwd=folder, env=env)


class Program(threading.Thread):
    """Publishes what a deploy does, from outside the web processes."""

    def __init__(self, log: Path, start: float) -> None:
        super().__init__()
        self.published: list[Word] = []
        self._log, self._start = log, start

    def run(self) -> None:
        with Publisher(f"sqlite:///{self._log}") as publisher:
            for step in range(1, STEPS + 1):
                time.sleep(max(0.0, self._start + step * EVERY - time.time()))
                text = f"step {step} of {STEPS}"
                publisher.publish("news", text)
                self.published.append((time.time() - self._start, text))


def record() -> Act:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        with served(folder) as server, launch(playwright) as browser:
            pages = []
            for path in ("sse", "typewriter", "chat", "chat"):
                context = browser.new_context(locale="en-US")
                pages.append(context.new_page())
                pages[-1].goto(f"{server.url}/{path}")
            return play(server, folder / "instance/streaming.db", pages)


def play(server: Server, log: Path, pages: list[Page]) -> Act:
    sse, answer, ada, bo = pages
    for page, name in ((ada, "Ada"), (bo, "Bo")):
        page.locator("#people summary").click()
        page.fill("#name", name)
        page.click("#naming button")
    expect(ada.locator("#names")).to_contain_text("Bo")
    expect(sse.locator("#stream li").first).to_be_visible()
    watched = dict(zip(PANELS, (sse, answer, ada), strict=True))
    for name, page in watched.items():
        page.evaluate(NOTE, list(PANELS[name][1:]))
    start = time.time()
    program = Program(log, start)
    program.start()
    at(start + 0.5)
    answer.locator("[data-question]").first.click()
    at(start + 1.0)
    say(ada, "Deploying now.")
    at(start + 2.0)
    say(bo, "At noon?")
    at(start + 3.5)
    server.send_signal(signal.SIGHUP)
    told = time.time() - start
    for page in watched.values():
        expect(page.locator("#state")).to_have_attribute("data-state", "waiting")
    say(bo, "Did we lose anything?")
    for page in (ada, bo):
        expect(page.locator("#state")).to_have_attribute("data-state", "open")
    expect(ada.locator("#messages")).to_contain_text("Did we lose")
    at(time.time() + 1)
    say(ada, "Not one message.")
    expect(answer.locator("#state")).to_have_attribute("data-state", "done")
    program.join()
    at(start + LAST)
    shown = [
        panel(PANELS[name][0], f"/{name}", noted(page, start)) for name, page in watched.items()
    ]
    return Act(shown, program.published, told, time.time() - start)


def noted(page: Page, start: float) -> list[tuple[float, dict[str, Any]]]:
    found = page.evaluate("window.noted")
    return [(max(0.0, at / 1000 - start), json.loads(now)) for at, now in found]


def at(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))


def say(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.press("#text", "Enter")


def main() -> None:
    act = record()
    steps = [text for _, text in act.published]
    assert said_once(act.panels[0], steps), "the page has each step once and in order"
    (ROOT / "docs/picture.svg").write_text(draw(act), encoding="utf-8")


if __name__ == "__main__":
    main()
