"""Every home a log can have, and how a test opens an empty log there."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

from streaming.logs import Log, MemoryLog, Retention, SqliteLog
from tests.redis_server import shared_cluster, shared_server

Open = Callable[..., Log]
"""Opens an empty log; called several times, several that do not see each other."""

OpenAgain = Callable[..., Log]
"""``open(retention, lease=…)``: each time another log object on the same, at first empty store."""


def redis_log(url: str, retention: Retention, **options: float) -> Log:
    from streaming.logs.redis import RedisLog  # an extra: the other homes are tested without it

    return RedisLog(url, retention, **options)


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


@contextmanager
def redis(folder: Path) -> Iterator[Open]:
    with ExitStack() as opened:
        url = shared_server().url
        yield lambda retention: opened.enter_context(closing(redis_log(url(), retention)))


@contextmanager
def redis_cluster(folder: Path) -> Iterator[Open]:
    with ExitStack() as opened:
        url = shared_cluster().url
        yield lambda retention: opened.enter_context(closing(redis_log(url(), retention)))


@contextmanager
def shared_redis(folder: Path) -> Iterator[OpenAgain]:
    with ExitStack() as opened:
        url = shared_server().url()
        yield lambda retention, **options: opened.enter_context(
            closing(redis_log(url, retention, **options))
        )


@contextmanager
def shared_redis_cluster(folder: Path) -> Iterator[OpenAgain]:
    with ExitStack() as opened:
        url = shared_cluster().url()
        yield lambda retention, **options: opened.enter_context(
            closing(redis_log(url, retention, **options))
        )


HOMES: dict[str, Callable[[Path], AbstractContextManager[Open]]] = {
    "memory": memory,
    "sqlite": sqlite,
    "redis": redis,
    "redis cluster": redis_cluster,
}

COUNTING = ("memory", "sqlite")
"""Homes that count their channels, and forget the longest unused beyond ``Retention.channels``."""


@contextmanager
def sqlite_file(folder: Path) -> Iterator[OpenAgain]:
    with ExitStack() as opened:
        yield lambda retention, **options: opened.enter_context(
            closing(SqliteLog(folder / "log.db", retention, **options))
        )


SHARED: dict[str, Callable[[Path], AbstractContextManager[OpenAgain]]] = {
    "sqlite": sqlite_file,
    "redis": shared_redis,
    "redis cluster": shared_redis_cluster,
}
"""Homes that several processes share. One object stands for one process."""


@contextmanager
def sqlite_url(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder / 'log.db'}"


@contextmanager
def redis_url(folder: Path) -> Iterator[str]:
    yield shared_server().url()


SHARED_URLS: dict[str, Callable[[Path], AbstractContextManager[str]]] = {
    "sqlite": sqlite_url,
    "redis": redis_url,
}
"""Homes that several processes share: an empty one, as ``STREAMING_LOG``."""
