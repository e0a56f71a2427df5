"""Everything that one process serves, about to end."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..logs import MemoryLog
from . import metrics, state

_log = logging.getLogger(__name__)


def close_all() -> None:
    """Drain every application of this process, which is about to stop."""
    _for_each(lambda each: each.close(), "drained")


def interrupt_runs() -> None:
    """End the runs that this process still makes: it is about to end itself."""
    _for_each(lambda each: each.runs.making.interrupt(), "told to end its runs")


def is_making() -> bool:
    """Whether a run is made by this process."""
    return any(each.runs.making.made for each in state.states)


def close_logs() -> None:
    """Let go of the logs of this process, which is about to end: nothing can be published then."""
    _for_each(metrics.end, "counted a last time")
    _for_each(lambda each: each.hub.log.close(), "parted from its log")


def is_any_in_memory() -> bool:
    """Whether an application of this process has its log in the process's own memory."""
    return any(isinstance(each.hub.log, MemoryLog) for each in state.states)


def is_drained() -> bool:
    """Whether no client is connected any more to the applications of this process, and all members
    it had in rooms have left."""
    return all(each.registry.is_empty and each.presence.is_idle for each in state.states)


def _for_each(end: Callable[[state.State], None], done: str) -> None:
    """Do this to each application; one that fails costs the others nothing."""
    for each in state.states:
        try:
            end(each)
        except Exception:
            _log.exception("An application could not be %s", done)
