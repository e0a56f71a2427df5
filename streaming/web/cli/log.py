"""The application's log, as a process that serves nobody has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from flask import current_app

from ...errors import ConfigurationError
from ...hub.hub import Hub
from ...logs import open_log
from ..state import current_state


def shared_hub() -> AbstractContextManager[Hub]:
    """``own_hub``, where other processes have this log.

    Raises:
        ConfigurationError: If none has.
    """
    if current_state().settings.log == "memory:":
        raise ConfigurationError(
            "STREAMING_LOG is memory:, a log that each process of the server has for itself: this "
            "command is another process, and would see an empty one. Set STREAMING_LOG to "
            "'sqlite:///streaming.db' or 'redis://host:6379'."
        )
    return own_hub()


@contextmanager
def own_hub() -> Iterator[Hub]:
    """A hub of the command's own on the application's log, let go of at its end.

    It has no policies: a command sees all there is. And whoever reads a run through it does not
    count as its reader: looking at an answer keeps none going.
    """
    settings = current_state().settings
    log = open_log(settings.log, settings.retention, current_app.instance_path)
    hub = Hub(log, message_size=settings.message_size)
    try:
        yield hub
    finally:
        hub.close()
        log.close()
