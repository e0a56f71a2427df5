"""A process that publishes into its own memory, serves nobody and ends: a word at its end."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from dataclasses import dataclass, field

_log = logging.getLogger(__name__)

_told: set[int] = set()  # processes
_forks = 0  # of this process: its children have what it had until then (gunicorn's preload_app)


@dataclass(eq=False, slots=True)
class Unheard:
    """What one application has published in this process while nobody could hear it."""

    count: int = 0
    is_heard: bool = False
    """Whether anybody has followed a channel here, or any request was served."""
    _forks: int = field(default_factory=lambda: _forks)
    _pid: int = field(default_factory=os.getpid)

    def note(self, *, is_heard: bool) -> None:
        """One more message. The first that nobody heard has it said at the end of the process."""
        if self._pid != os.getpid() or self._forks != _forks:  # a fork's count is its own
            self._pid, self._forks, self.count = os.getpid(), _forks, 0
        if is_heard:
            self.is_heard = True
            return
        if self.count == 0:
            self._register()
        self.count += 1

    def _register(self) -> None:
        atexit.register(self.tell)
        for name in ("multiprocessing.util", "billiard.util"):  # their children, Celery's too, end
            util = sys.modules.get(name)  # without the interpreter's own exit
            if util is not None:
                util.Finalize(None, self.tell, exitpriority=0)

    def tell(self) -> None:
        """Say it, unless somebody has heard; once in a process, for all its applications."""
        if self.is_heard or self._pid != os.getpid() or self._pid in _told:
            return
        if self._forks != _forks:
            return
        _told.add(self._pid)
        _log.warning(
            "This process published into STREAMING_LOG=memory: (messages: %d) and nobody followed "
            "them: what is there ends with it, and other processes do not see it. Name the log of "
            "the server that has the clients, 'sqlite:////full/path/streaming.db' or "
            "'redis://host:6379'.",
            self.count,
        )


def _note_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_parent=_note_fork)
