"""A follower that is a bell: what wakes it differs from log to log, how it waits does not."""

from __future__ import annotations

from collections.abc import Callable

from ..bell import Bell


class BellFollower:
    """See ``contract.Follower``. ``leave`` is called when it is closed, maybe several times."""

    __slots__ = ("_bell", "_leave")

    def __init__(self, bell: Bell, leave: Callable[[], None]) -> None:
        self._bell = bell
        self._leave = leave

    def wait(self, timeout: float | None = None) -> bool:
        return self._bell.wait(timeout)

    def wake(self) -> None:
        self._bell.ring()

    def close(self) -> None:
        self._leave()
