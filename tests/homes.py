"""Every home a log can have, and how a test opens an empty log there."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

from streaming.logs import Log, MemoryLog
from streaming.logs.redis import RedisLog
from tests.redis_server import shared_cluster, shared_server

Open = Callable[..., Log]
"""Opens an empty log; called several times, several that do not see each other."""

OpenAgain = Callable[..., Log]
"""``open(retention, lease=…)``: each time another log object on the same, at first empty store."""


@contextmanager
def memory(folder: Path) -> Iterator[Open]:
    with ExitStack() as opened:
        yield lambda retention: opened.enter_context(closing(MemoryLog(retention)))


@contextmanager
def redis(folder: Path) -> Iterator[Open]:
    with ExitStack() as opened:
        url = shared_server().url
        yield lambda retention: opened.enter_context(closing(RedisLog(url(), retention)))


@contextmanager
def redis_cluster(folder: Path) -> Iterator[Open]:
    with ExitStack() as opened:
        url = shared_cluster().url
        yield lambda retention: opened.enter_context(closing(RedisLog(url(), retention)))


@contextmanager
def shared_redis(folder: Path) -> Iterator[OpenAgain]:
    with ExitStack() as opened:
        url = shared_server().url()
        yield lambda retention, lease: opened.enter_context(
            closing(RedisLog(url, retention, lease=lease))
        )


@contextmanager
def shared_redis_cluster(folder: Path) -> Iterator[OpenAgain]:
    with ExitStack() as opened:
        url = shared_cluster().url()
        yield lambda retention, lease: opened.enter_context(
            closing(RedisLog(url, retention, lease=lease))
        )


HOMES: dict[str, Callable[[Path], AbstractContextManager[Open]]] = {
    "memory": memory,
    "redis": redis,
    "redis cluster": redis_cluster,
}

SHARED: dict[str, Callable[[Path], AbstractContextManager[OpenAgain]]] = {
    "redis": shared_redis,
    "redis cluster": shared_redis_cluster,
}
"""Homes that several processes share. One object stands for one process."""
