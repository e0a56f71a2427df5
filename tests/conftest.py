"""What holds for every test: nothing leaks, nothing is skipped."""

import threading
import time
from collections.abc import Generator, Iterator

import pytest

from streaming.clients import deadlines
from streaming.web.state import states
from tests.polling import PATIENCE

deadlines.LINGER = 0.0  # the thread does not stay in case others come


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one: what is missing here is missing, not optional."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"nothing is skipped here: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def no_thread_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test if a thread that was started during it still runs a while after its end.

    The applications that it has made end as in a process that ends.
    """
    before, made_before = set(threading.enumerate()), set(states)
    yield
    for state in set(states) - made_before:
        state.close()
    deadline = time.monotonic() + PATIENCE
    while left := [thread for thread in threading.enumerate() if thread not in before]:
        if time.monotonic() > deadline:
            pytest.fail(f"threads left behind: {[thread.name for thread in left]}")
        time.sleep(0.01)
