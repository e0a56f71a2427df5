"""Chromium for the live tests: windows that hold the test to what their consoles say."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import (
    Browser,
    BrowserContext,
    Locator,
    Page,
    Playwright,
    ViewportSize,
    expect,
)

from tests.live.server import tool
from tests.polling import PATIENCE

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# what a browser says of a server that is down; expected while a test has stopped it
SERVER_DOWN = (
    r"net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE)"
    r"|WebSocket connection to .* failed"
)


SOON = 1000 * PATIENCE  # milliseconds: a deadline, not an expectation
expect.set_options(timeout=SOON)


def launch(playwright: Playwright) -> Browser:
    """Debian's Chromium, headless, with a fresh profile."""
    return playwright.chromium.launch(
        executable_path=tool("chromium"), headless=True, args=FLAGS, timeout=3 * SOON
    )


class Windows:
    """Opens windows, each with a profile of its own, and collects what went wrong in them.

    Console errors (a violated Content-Security-Policy is one), uncaught exceptions and unhandled
    rejections count as wrong, unless they match a pattern given to ``expect``.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._errors: list[str] = []
        self._expected: list[str] = []

    def open(
        self,
        url: str | None = None,
        *,
        locale: str = "en-US",
        width: int = 1280,
        height: int = 800,
        **context_options: Any,
    ) -> Page:
        """A new window, at ``url`` if given, loaded."""
        viewport = ViewportSize(width=width, height=height)
        context = self._browser.new_context(locale=locale, viewport=viewport, **context_options)
        self._contexts.append(context)
        context.set_default_timeout(SOON)
        page = context.new_page()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._errors.append(f"uncaught: {error}"))
        if url is not None:
            page.goto(url)
        return page

    def _console(self, message: Any) -> None:
        if message.type == "error":
            where = message.location.get("url", "")
            self._errors.append(f"console: {message.text} ({where})")

    def expect(self, *patterns: str) -> None:
        """From now on, errors that match one of these patterns are expected."""
        self._expected += patterns

    @property
    def errors(self) -> list[str]:
        """The errors so far that nobody expected."""
        return [
            error
            for error in self._errors
            if not any(re.search(pattern, error) for pattern in self._expected)
        ]

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@contextmanager
def windows(browser: Browser) -> Iterator[Windows]:
    """Windows that are closed at the end; fails then if one of them reported an error."""
    opened = Windows(browser)
    try:
        yield opened
    finally:
        opened.close()
    assert not opened.errors, f"errors in the browser: {opened.errors}"


def expect_state(page: Page, name: str, *, timeout: float = SOON) -> None:
    """Wait until the status bar of a page says so."""
    expect(page.locator("#state")).to_have_attribute("data-state", name, timeout=timeout)


def write(page: Page, text: str) -> None:
    """Send a message on a chat page."""
    page.locator("#text").fill(text)
    page.locator("#text").press("Enter")


def bubbles(page: Page, kind: str) -> Locator:
    """The texts on a chat page of kind ``own`` or ``other``."""
    return page.locator(f"#messages li[data-kind={kind}] .bubble")
