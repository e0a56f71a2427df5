"""Every home a log can have, and how a test opens an empty log there."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

from streaming.logs import Log, MemoryLog

Open = Callable[..., Log]
"""Opens an empty log; called several times, several that do not see each other."""


@contextmanager
def memory(folder: Path) -> Iterator[Open]:
    with ExitStack() as opened:
        yield lambda retention: opened.enter_context(closing(MemoryLog(retention)))


HOMES: dict[str, Callable[[Path], AbstractContextManager[Open]]] = {"memory": memory}

OpenAgain = Callable[..., Log]
"""``open(retention, lease=…)``: each time another log object on the same, at first empty store."""

SHARED: dict[str, Callable[[Path], AbstractContextManager[OpenAgain]]] = {}
"""Homes that several processes share. One object stands for one process."""
