"""What Prometheus is told, from plain counts that cost next to nothing until somebody looks.

``prometheus_client`` (the extra ``metrics``) writes the format, and adds several workers up where
``PROMETHEUS_MULTIPROC_DIR`` names a folder: each of them puts there what it counts, every two
seconds. Names follow https://prometheus.io/docs/practices/naming/. No label has what a client or an
application may choose: no channel, no user, no address.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from flask import Response

from ..errors import ConfigurationError, LogUnavailable
from ..own import Own
from .state import State

FOLDER = "PROMETHEUS_MULTIPROC_DIR"

PERIOD = 2.0
"""Seconds between two times at which a worker puts into the folder what it counts."""

Labels = tuple[str, ...]


class _Instruments(NamedTuple):
    """Prometheus's own, one set for a process, whatever the number of its applications."""

    counters: Mapping[str, Any]
    gauges: Mapping[str, Any]


def _instruments() -> _Instruments:
    with _one_makes_them():
        return _make_instruments()


_one_makes_them = Own(lambda: threading.Lock())


@cache
def _make_instruments() -> _Instruments:
    from prometheus_client import Counter, Gauge

    def gauge(name: str, what: str, *labels: str) -> Gauge:
        return Gauge(name, what, labels, multiprocess_mode="livesum")

    return _Instruments(
        {
            "opened": Counter("streaming_opened", "Connections that began.", ["transport"]),
            "ended": Counter("streaming_ended", "Those that ended.", ["transport", "reason"]),
            "refused": Counter("streaming_refused", "What a limit has refused.", ["setting"]),
            "published": Counter("streaming_published", "Messages published here."),
        },
        {
            "clients": gauge("streaming_clients", "Who is connected.", "transport"),
            "channels": gauge("streaming_followed_channels", "Channels that somebody follows."),
            "runs": gauge("streaming_runs", "Runs that are made here, or wait for their turn."),
            "log": Gauge(
                "streaming_log_up",
                "Whether the log could be written to.",
                multiprocess_mode="livemin",
            ),
        },
    )


class _Told:
    """What of an application's counts Prometheus knows already."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, Labels], int] = {}
        self._levels: dict[tuple[str, Labels], int] = {}

    def tell(self, state: State) -> None:
        """Tell Prometheus what has changed."""
        known = _instruments()
        with self._lock:
            for key, count in _counts(state):
                name, labels = key
                more = count - self._counts.get(key, 0)
                self._counts[key] = count
                _child(known.counters[name], labels).inc(more)
            levels = dict.fromkeys(self._levels, 0) | dict(_levels(state))
            for key, level in levels.items():
                name, labels = key
                _child(known.gauges[name], labels).inc(level - self._levels.get(key, 0))
            self._levels = levels


def _child(instrument: Any, labels: Labels) -> Any:
    return instrument.labels(*labels) if labels else instrument


def _counts(state: State) -> Iterable[tuple[tuple[str, Labels], int]]:
    opened, ended = state.registry.counts()
    yield from ((("opened", (transport,)), count) for transport, count in opened.items())
    yield from ((("ended", labels), count) for labels, count in ended.items())
    for setting, count in state.registry.refusals.read().items():
        yield ("refused", (setting,)), count
    yield ("published", ()), state.hub.published


def _levels(state: State) -> Iterable[tuple[tuple[str, Labels], int]]:
    for transport, count in state.registry.transports().items():
        yield ("clients", (transport,)), count
    yield ("channels", ()), state.hub.followed
    yield ("runs", ()), len(state.runs.making.made)


_told: WeakKeyDictionary[State, Own[_Told]] = WeakKeyDictionary()


def tell(state: State) -> None:
    """Tell Prometheus what has happened since the last time. From any thread."""
    _told.setdefault(state, Own(_Told))().tell(state)


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
        is_over = state.hub.closed.is_set() and not state.registry
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
    _instruments().gauges["log"].set(is_up)
    registry = REGISTRY
    if FOLDER in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(
        generate_latest(registry),
        content_type=CONTENT_TYPE_LATEST,
        headers={"Cache-Control": "no-store"},
    )
