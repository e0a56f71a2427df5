"""Fixtures of the live tests; a failing one shows what its servers wrote."""

from collections.abc import Generator, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.live import server as servers
from tests.live.browser import Windows, launch, windows
from tests.live.harness import flask_run, gunicorn
from tests.live.server import Server

LOG_SHOWN = 12_000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for each in servers.started:
            title = f"log of {each.name} on port {each.port}"
            report.sections.append((title, each.log_text()[-LOG_SHOWN:]))
    return report


@pytest.fixture(autouse=True)
def no_trouble_in_server_logs() -> Iterator[None]:
    """Servers shared by several tests: the test that brought the trouble is the one that fails."""
    servers.started[:] = [each for each in servers.started if each.is_running()]
    yield
    for each in servers.started:
        each.check_log()


@pytest.fixture(autouse=True)
def no_thread_left() -> None:
    """Replaces the unit tests' check: the browser lives, with its threads, for the session."""


@pytest.fixture(scope="module", params=["gunicorn", "flask run"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The demo, once as in production and once as in development."""
    with gunicorn() if request.param == "gunicorn" else flask_run() as running:
        yield running


@pytest.fixture(scope="module")
def demo() -> Iterator[Server]:
    """The demo under gunicorn."""
    with gunicorn() as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        try:
            yield chromium
        finally:
            chromium.close()


@pytest.fixture
def open_windows(browser: Browser) -> Iterator[Windows]:
    """Opens browser windows; the test fails if one of them reports an error nobody expected."""
    with windows(browser) as opened:
        yield opened
