"""Where messages live. One contract, several homes, one test suite for all of them."""

from __future__ import annotations

from ..errors import ConfigurationError
from .contract import Follower as Follower
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

    Raises:
        ConfigurationError: If no log lives at such a URL.
    """
    if url == "memory:":
        return MemoryLog(retention or Retention())
    if url.startswith("sqlite:"):
        return SqliteLog.from_url(url, retention or Retention(), folder)
    known = "'memory:', 'sqlite:///path'"
    raise ConfigurationError(f"STREAMING_LOG is {url!r}; known log URLs: {known}.")
