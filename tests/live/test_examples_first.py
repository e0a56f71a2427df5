"""The examples, as their readers start them, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.live.browser import Windows
from tests.live.harness import flask_run
from tests.live.server import Server


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with flask_run(request.param) as running:
        yield running


def example(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("server", [name], indirect=True, ids=[""])


def come_in(open_windows: Windows, server: Server, name: str) -> Page:
    """A window of its own, in which somebody has logged in."""
    page = open_windows.open(server.url + "/")
    page.locator("input[name=name]").fill(name)
    page.locator("button").click()
    return page


def notify(page: Page, to: str, text: str) -> None:
    page.get_by_label("For whom").fill(to)
    page.get_by_label("What").fill(text)
    page.get_by_role("button", name="Send").click()


@example("examples/notifications/app")
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
    expect(ada.get_by_label("Who are you?")).to_be_visible()  # in the other tab, too
    expect(eve.locator("#lines")).to_be_visible()


def say(page: Page, text: str) -> None:
    page.get_by_label(":").fill(text)
    page.get_by_role("button", name="Say").click()


@example("examples/chat_room/app")
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
    second.close()
    say(bob, "one tab less")
    expect(ada.locator("#lines li").last).to_have_text("Bob: one tab less")
    expect(ada.locator("#here")).to_have_text("Here: Ada, Bob")
    bob.get_by_role("button", name="Leave").click()
    expect(ada.locator("#here")).to_have_text("Here: Ada")
