"""What is said once in each process, however often it is found out."""

from __future__ import annotations

import logging
import os

_log = logging.getLogger(__name__)

_said: set[tuple[int, str]] = set()  # by process: a fork says it too


def say_once(text: str) -> None:
    """Log ``text`` as a warning, unless this process has done so."""
    if (os.getpid(), text) not in _said:
        _said.add((os.getpid(), text))
        _log.warning("%s", text)
