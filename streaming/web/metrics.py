"""What Prometheus is told, from plain counts that cost next to nothing until somebody looks.

``prometheus_client`` (the extra ``metrics``) writes the format, and adds several workers up where
``PROMETHEUS_MULTIPROC_DIR`` names a folder: each of them puts there what it counts, every two
seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, ref

from flask import Response

from ..errors import ConfigurationError, LogUnavailable
from ..own import Own
from .instruments import Told, instruments
from .state import State

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which ``prometheus_client`` adds up what several processes count."""

PERIOD = 2.0
"""Seconds between two times at which a worker puts into the folder what it counts."""

_told: WeakKeyDictionary[State, Own[Told]] = WeakKeyDictionary()


def tell(state: State) -> None:
    """Tell Prometheus what has happened since the last time. From any thread."""
    _told.setdefault(state, Own(Told))().tell(state)


class _Pulse:
    """Tells it again and again, for those who ask another worker. A ``Timed`` of the deadlines."""

    def __init__(self, state: State) -> None:
        self.tick = 0
        self._state = ref(state)

    def due(self, now: float) -> float | None:
        state = self._state()
        if state is None:
            return None
        tell(state)
        is_over = state.hub.closed.is_set() and state.registry.is_empty
        return None if is_over else now + PERIOD


def begin(state: State) -> None:
    """Tell again and again from now on, where several workers are added up."""
    if _are_added_up():
        with suppress(RuntimeError):  # no thread is to be had: whoever asks this worker is told
            state.registry.deadlines.set(_Pulse(state), time.monotonic())


def end(state: State) -> None:
    """Tell it a last time, before the process ends."""
    if _are_added_up():
        tell(state)


def _are_added_up() -> bool:
    """Whether several workers put what they count into a folder, and can."""
    return FOLDER in os.environ and find_spec("prometheus_client") is not None


class _Collector:
    """What all workers have put into the folder.

    A worker that has just begun, or was killed then, has a file there with nothing in it; the
    library's own collector fails at it.
    """

    def __init__(self, merge: Callable[[list[str]], Iterable[Any]]) -> None:
        self._merge = merge

    def collect(self) -> Iterable[Any]:
        written = []
        for file in Path(os.environ[FOLDER]).glob("*.db"):
            with suppress(FileNotFoundError):  # that of a worker that is no more
                if file.stat().st_size:
                    written.append(str(file))
        return self._merge(written)


def exposition(state: State) -> Response:
    """All that Prometheus was told in this process, or by all workers, in its text format.

    Raises:
        ConfigurationError: If ``prometheus_client`` is not installed.
    """
    try:
        from prometheus_client import (
            CONTENT_TYPE_LATEST,
            REGISTRY,
            CollectorRegistry,
            generate_latest,
            multiprocess,
        )
    except ImportError as error:
        raise ConfigurationError(
            "Metrics need prometheus_client: pip install 'flask-streaming[metrics]'."
        ) from error
    tell(state)
    try:
        state.health.check()
    except LogUnavailable:
        is_up = 0
    else:
        is_up = 1
    instruments().gauges["log"].set(is_up)
    registry = REGISTRY
    if FOLDER in os.environ:
        registry = CollectorRegistry()
        registry.register(_Collector(multiprocess.MultiProcessCollector.merge))
    return Response(
        generate_latest(registry),
        content_type=CONTENT_TYPE_LATEST,
        headers={"Cache-Control": "no-store"},
    )
