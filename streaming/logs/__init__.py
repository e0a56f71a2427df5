"""Where messages live. One contract, several homes, one test suite for all of them."""

from __future__ import annotations

from ..errors import ConfigurationError
from .contract import Heard as Heard
from .contract import Log as Log
from .contract import Member as Member
from .contract import Page as Page
from .contract import Retention as Retention
from .memory import MemoryLog as MemoryLog
from .sqlite import SqliteLog as SqliteLog


def open_log(url: str, retention: Retention | None = None, folder: str | None = None) -> Log:
    """The log that lives at ``url``.

    - ``memory:`` keeps it in this process: the choice for one process and for tests.
    - ``sqlite:///path`` keeps it in a file, for all processes of this machine and all their
      restarts. A relative path is relative to ``folder``.
    - ``redis:…`` (``redis/url.py``) keeps it in Redis, for processes on any number of machines.

    Raises:
        ConfigurationError: If no log lives at such a URL.
    """
    if url == "memory:":
        return MemoryLog(retention or Retention())
    if url.startswith("sqlite:"):
        return SqliteLog.from_url(url, retention or Retention(), folder)
    if url.startswith("redis"):
        return _open_redis(url, retention)
    known = "'memory:', 'sqlite:///path', 'redis://host/0'"
    raise ConfigurationError(f"STREAMING_LOG is {url!r}; known log URLs: {known}.")


def _open_redis(url: str, retention: Retention | None) -> Log:
    try:
        from .redis import RedisLog  # redis-py is an extra
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise ConfigurationError(
            "STREAMING_LOG names a Redis server: pip install 'flask-streaming[redis]'."
        ) from error
    return RedisLog(url, retention)
