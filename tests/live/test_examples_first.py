"""The examples, as their readers start them, in a real browser."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, expect

from tests.live.browser import Windows
from tests.live.harness import flask_run
from tests.live.server import Server


@contextmanager
def windows_of(server: Server, open_windows: Windows, *names: str) -> Iterator[list[Page]]:
    """A window for each, in which somebody of that name has logged in."""
    pages = []
    for name in names:
        page = open_windows.open(server.url + "/")
        page.get_by_label("Who are you?").fill(name)
        page.get_by_role("button").first.click()
        pages.append(page)
    yield pages


@pytest.fixture(scope="module")
def notifications() -> Iterator[Server]:
    with flask_run("examples/notifications/app") as server:
        yield server


def notify(page: Page, to: str, text: str) -> None:
    page.get_by_label("For whom").fill(to)
    page.get_by_label("What").fill(text)
    page.get_by_role("button", name="Send").click()


def test_a_notification_reaches_both_tabs_of_one_user_and_nobody_else(
    notifications: Server, open_windows: Windows
) -> None:
    with windows_of(notifications, open_windows, "Ada", "Eve") as (ada, eve):
        second = ada.context.new_page()
        second.goto(notifications.url)
        notify(eve, "Ada", "<b>tea</b>?")
        for tab in (ada, second):
            expect(tab.locator("#lines")).to_have_text("Eve: <b>tea</b>?")
        notify(ada, "Eve", "yes")
        expect(eve.locator("#lines")).to_have_text("Ada: yes")  # the only one
        ada.reload()
        expect(ada.locator("#lines")).to_have_text("Eve: <b>tea</b>?")
        second.get_by_role("button", name="Log out").click()
        expect(ada.get_by_label("Who are you?")).to_be_visible()  # the other tab is told
        expect(eve.locator("#lines")).to_be_visible()
