"""What several test modules of the hub need."""

import importlib.util
from collections.abc import Iterator

import pytest

from tests.hub.engine import hurried
from tests.polling import PATIENCE


@pytest.fixture(autouse=True)
def patient_with_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that the machine has forgotten for a moment is not away."""
    if importlib.util.find_spec("redis") is not None:  # an extra
        monkeypatch.setattr("streaming.logs.redis.commands.TIMEOUT", PATIENCE)


@pytest.fixture(params=[False, True], ids=["", "hurried"])
def hurry(request: pytest.FixtureRequest) -> Iterator[None]:
    """Threads that have their turns as usual, and threads that are interrupted everywhere."""
    with hurried(request.param):
        yield
