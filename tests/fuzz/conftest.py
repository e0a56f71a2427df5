"""How much is tried: a little and always the same in `make test`, much and new in `make soak`."""

import os
import re
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

CI, SOAK = 50, 15_000
"""Inputs that each property is tried with at most; a small space has fewer."""

INPUTS = "inputs tried"
_COUNTED = re.compile(r"(\d+) passing")

# No time is asserted, and what is looked for is rare: an input that takes long is no fault.
_PATIENT = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)
settings.register_profile("ci", _PATIENT, max_examples=CI, derandomize=True)
settings.register_profile("soak", _PATIENT, max_examples=SOAK, derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("FUZZ", "ci"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note how many inputs a property was tried with."""
    report = yield
    if report.when == "teardown":
        tried = _COUNTED.findall(getattr(item, "hypothesis_statistics", ""))
        report.user_properties.append((INPUTS, sum(map(int, tried))))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many inputs were tried, in this run or by its workers."""
    noted = [
        pair for report in terminalreporter.stats.get("", []) for pair in report.user_properties
    ]
    tried = sum(int(number) for name, number in noted if name == INPUTS)
    terminalreporter.write_line(f"{tried} inputs tried")
