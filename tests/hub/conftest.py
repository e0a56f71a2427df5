"""What several test modules of the hub need."""

from collections.abc import Iterator

import pytest

from tests.hub.engine import hurried


@pytest.fixture(params=[False, True], ids=["", "hurried"])
def hurry(request: pytest.FixtureRequest) -> Iterator[None]:
    """Threads that have their turns as usual, and threads that are interrupted everywhere."""
    with hurried(request.param):
        yield
