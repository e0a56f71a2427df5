"""Every home a log can have, and how a test opens an empty log there."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

from streaming.logs import Log, MemoryLog, Retention, SqliteLog

Open = Callable[..., Log]
"""Opens an empty log; called several times, several that do not see each other."""


@contextmanager
def memory(folder: Path) -> Iterator[Open]:
    with ExitStack() as opened:
        yield lambda retention: opened.enter_context(closing(MemoryLog(retention)))


@contextmanager
def sqlite(folder: Path) -> Iterator[Open]:
    with ExitStack() as opened:

        def open_empty(retention: Retention) -> Log:
            path = folder / f"{len(list(folder.iterdir()))}.db"
            return opened.enter_context(closing(SqliteLog(path, retention)))

        yield open_empty


HOMES: dict[str, Callable[[Path], AbstractContextManager[Open]]] = {
    "memory": memory,
    "sqlite": sqlite,
}

OpenAgain = Callable[..., Log]
"""``open(retention, lease=…)``: each time another log object on the same, at first empty store."""


@contextmanager
def sqlite_file(folder: Path) -> Iterator[OpenAgain]:
    with ExitStack() as opened:
        yield lambda retention, **options: opened.enter_context(
            closing(SqliteLog(folder / "log.db", retention, **options))
        )


SHARED: dict[str, Callable[[Path], AbstractContextManager[OpenAgain]]] = {"sqlite": sqlite_file}
"""Homes that several processes share. One object stands for one process."""


@contextmanager
def sqlite_url(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder / 'log.db'}"


SHARED_URLS: dict[str, Callable[[Path], AbstractContextManager[str]]] = {"sqlite": sqlite_url}
"""Homes that several processes share: an empty one, as ``STREAMING_LOG``."""
