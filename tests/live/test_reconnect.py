"""What open pages do when the server dies or is restarted: they come back by themselves."""

import json
import re
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

from tests.live.browser import SERVER_DOWN, SOON, Windows, bubbles, expect_state, write
from tests.live.clients import post_json
from tests.live.harness import gunicorn, nginx
from tests.live.server import Server
from tests.polling import PATIENCE, wait_until

RECONNECTED = 60_000  # the longest pause between two attempts is 30 s


@pytest.mark.parametrize("ending", ["kill", "terminate"])
def test_open_pages_survive_a_restart_of_the_server(open_windows: Windows, ending: str) -> None:
    with gunicorn() as server:
        anna = open_windows.open(server.url + "/chat")
        ben = open_windows.open(server.url + "/chat")
        ticks = open_windows.open(server.url + "/sse")
        for page in (anna, ben, ticks):
            expect_state(page, "open")
        for page in (anna, ben):
            expect(page.locator("#here")).to_have_text("2 here")
        write(anna, "before")
        expect(bubbles(ben, "other").last).to_have_text("before")

        before = ids(server)
        assert len(before) == 2
        open_windows.expect(SERVER_DOWN)
        server.kill() if ending == "kill" else server.terminate()
        for page in (anna, ben, ticks):
            expect(page.locator("#attempt")).to_have_text(re.compile(r"\d+/10"))
        for text in ("unsent 1", "unsent 2"):
            write(anna, text)
        unsent = anna.locator("#messages li[data-delivery=waiting] .bubble")
        expect(unsent).to_have_text(["unsent 1", "unsent 2"])

        server.start()
        for page in (anna, ben, ticks):
            expect_state(page, "open", timeout=RECONNECTED)
        # under their new ids; those of a killed process are gone when its lease is over
        wait_until(
            lambda: len(here := ids(server)) == 2 and not here & before, "only they are here"
        )
        for page in (anna, ben):
            expect(page.locator("#here")).to_have_text("2 here")
            expect(page.locator("#members li")).to_have_count(2)
        expect(unsent).to_have_count(0)
        for page in (anna, ben):  # the log outlived the server
            expect(page.locator("#messages li[data-notice=gap]")).to_have_count(0)
        write(ben, "after")
        expect(bubbles(anna, "other").last).to_have_text("after")
        # "after" has come: whatever was sent twice would be here by now; ben may read more slowly
        expect(bubbles(ben, "other")).to_have_text(["before", "unsent 1", "unsent 2"])
        assert bubbles(anna, "own").all_inner_texts() == ["before", "unsent 1", "unsent 2"]
        received = int(ticks.locator("#received").inner_text())
        ticks.wait_for_function(
            "before => Number(document.querySelector('#received').textContent) > before",
            arg=received,
            timeout=SOON,
        )


def ids(server: Server) -> set[str]:
    """Of those who are in the demo's room."""
    with urlopen(f"{server.url}/streaming/presence/chat", timeout=PATIENCE) as answer:
        return {member["id"] for member in json.load(answer)["members"]}


PROXY = """
    server {
        listen LISTEN;
        location / {
            proxy_pass UPSTREAM;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }
    }
"""


def test_a_page_that_was_cut_off_reads_on_where_it_stopped(open_windows: Windows) -> None:
    with gunicorn() as server, nginx(PROXY.replace("UPSTREAM", server.url)) as proxy:
        for n in range(60):
            data = {"data": f"before {n}"}
            assert post_json(server.url + "/streaming/channels/chat", data)[0] == 201
        anna = open_windows.open(proxy.url + "/chat")
        ben = open_windows.open(server.url + "/chat")
        history = [f"before {n}" for n in range(10, 60)]
        for page in (anna, ben):
            expect(bubbles(page, "other")).to_have_text(history)
            expect(page.locator("#here")).to_have_text("2 here")
        write(anna, "online")
        expect(bubbles(ben, "other").last).to_have_text("online")

        open_windows.expect(SERVER_DOWN)
        proxy.kill()
        expect_state(anna, "waiting")
        expect(ben.locator("#here")).to_have_text("1 here")
        expect(anna.locator("#here")).to_have_text("Who is here?")
        for n in range(3):
            write(ben, f"missed {n}")
            write(anna, f"unsent {n}")
        expect(bubbles(ben, "own")).to_have_count(3)

        proxy.start()
        expect_state(anna, "open", timeout=RECONNECTED)
        expect(bubbles(ben, "other").last).to_have_text("unsent 2")
        expect(bubbles(anna, "other").last).to_have_text("missed 2")
        write(ben, "after")
        expect(bubbles(anna, "other").last).to_have_text("after")
        missed, unsent = ([f"{kind} {n}" for n in range(3)] for kind in ("missed", "unsent"))
        assert bubbles(anna, "other").all_inner_texts() == [*history, *missed, "after"]
        assert bubbles(anna, "own").all_inner_texts() == ["online", *unsent]
        assert bubbles(ben, "other").all_inner_texts() == [*history, "online", *unsent]
        assert anna.locator("#messages li[data-notice=gap]").count() == 0
        for page in (anna, ben):
            expect(page.locator("#here")).to_have_text("2 here")
            expect(page.locator("#members li")).to_have_count(2)


def test_retry_now_does_not_wait_for_the_countdown(open_windows: Windows) -> None:
    with gunicorn() as server:
        page = open_windows.open()
        page.add_init_script("Math.random = () => 0.9;")  # pauses of 0.9 s, 1.8 s, 3.6 s …
        page.goto(server.url + "/chat")
        expect_state(page, "open")
        open_windows.expect(SERVER_DOWN)
        page.clock.install()
        page.clock.pause_at(page.evaluate("Date.now()") / 1000 + PATIENCE)  # it counts no further
        server.kill()

        def has_long_pause() -> bool:
            """Whether it is one long enough to be cut short; a second less of the one before."""
            if page.locator("#state").get_attribute("data-state") != "waiting":
                return False
            if re.search(r"[3-9]", page.locator("#countdown").inner_text()):
                return True
            page.clock.run_for(1000)
            return False

        wait_until(has_long_pause, "a long pause", RECONNECTED / 1000)
        server.start()
        page.locator("#retry").click()
        expect_state(page, "open", timeout=RECONNECTED)
