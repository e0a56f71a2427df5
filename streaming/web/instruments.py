"""Prometheus's instruments, and what of our plain counts they have been told.

Names follow https://prometheus.io/docs/practices/naming/. No label has what a client or an
application may choose: no channel, no user, no address.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from ..clients.registry import HTTP, Connected
from ..hub.tallies import BOUNDS, Spread
from ..own import Own
from .state import State

Labels = tuple[str, ...]


class Instruments(NamedTuple):
    """Prometheus's own, one set for a process, whatever the number of its applications."""

    counters: Mapping[str, Any]
    gauges: Mapping[str, Any]
    spreads: Mapping[str, Any]


def instruments() -> Instruments:
    """Those of this process, made by the first who asks."""
    with _one_makes_them():
        return _make_instruments()


_one_makes_them = Own(lambda: threading.Lock())


@cache
def _make_instruments() -> Instruments:
    from prometheus_client import Counter, Gauge, Histogram

    def counter(name: str, what: str, *labels: str) -> Counter:
        return Counter(name, what, labels)

    def gauge(name: str, what: str, *labels: str) -> Gauge:
        return Gauge(name, what, labels, multiprocess_mode="livesum")

    return Instruments(
        {
            "opened": counter("streaming_opened", "Connections that began.", "transport"),
            "ended": counter("streaming_ended", "Those that ended.", "transport", "reason"),
            "refused": counter("streaming_refused", "What a limit has refused.", "setting"),
            "published": counter("streaming_published", "Messages published here."),
            "sent": counter("streaming_sent_messages", "Messages sent.", "transport"),
            "sent_bytes": counter("streaming_sent_bytes", "Bytes of their text.", "transport"),
            "received": counter("streaming_received_messages", "Messages that came.", "transport"),
            "received_bytes": counter(
                "streaming_received_bytes", "Bytes of their text.", "transport"
            ),
            "gaps": counter("streaming_gaps", "Gaps that subscribers were told of."),
            "runs_ended": counter("streaming_runs_ended", "Runs that ended.", "state"),
            "log_errors": counter(
                "streaming_log_errors", "What the log could not do.", "operation"
            ),
        },
        {
            "clients": gauge("streaming_clients", "Who is connected.", "transport"),
            "lagging": gauge(
                "streaming_lagging_clients", "Who has not taken all that there is for it."
            ),
            "channels": gauge("streaming_followed_channels", "Channels that somebody follows."),
            "runs": gauge("streaming_runs", "Runs that are made here, or wait for their turn."),
            "log": Gauge(
                "streaming_log_up",
                "Whether the log could be written to.",
                multiprocess_mode="livemin",
            ),
        },
        {
            "delivery": Histogram(
                "streaming_delivery_seconds",
                "From when this process heard of a message to its bytes in a socket.",
                buckets=BOUNDS,
            ),
            "log": Histogram(
                "streaming_log_seconds",
                "How long the log took for a message, or to read.",
                ["operation"],
                buckets=BOUNDS,
            ),
        },
    )


class Told:
    """What of an application's counts Prometheus knows already."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, Labels], int] = {}
        self._levels: dict[tuple[str, Labels], int] = {}
        self._spreads: dict[tuple[str, Labels], tuple[tuple[int, ...], float]] = {}

    def tell(self, state: State) -> None:
        """Tell Prometheus what has changed."""
        known = instruments()
        with self._lock:
            connected = state.registry.look()
            for key, count in (*_counts(state), *_traffic(connected)):
                name, labels = key
                more = max(0, count - self._counts.get(key, 0))
                self._counts[key] = self._counts.get(key, 0) + more
                _child(known.counters[name], labels).inc(more)
            for key, spread in _spreads(state):
                name, labels = key
                counts, seconds = spread.read()
                before = self._spreads.get(key, ((0,) * len(counts), 0.0))
                self._spreads[key] = counts, seconds
                _add(_child(known.spreads[name], labels), counts, seconds, *before)
            levels = dict.fromkeys(self._levels, 0) | dict(_levels(state, connected))
            for key, level in levels.items():
                name, labels = key
                _child(known.gauges[name], labels).inc(level - self._levels.get(key, 0))
            self._levels = levels


def _child(instrument: Any, labels: Labels) -> Any:
    return instrument.labels(*labels) if labels else instrument


def _add(
    histogram: Any,
    counts: Sequence[int],
    seconds: float,
    counts_before: Sequence[int],
    seconds_before: float,
) -> None:
    """Let ``histogram`` have what has come since. It has no verb for more than one at a time, and
    ``observe`` for each message that was delivered is what the plain counts are there to save."""
    for bucket, count, before in zip(histogram._buckets, counts, counts_before, strict=True):
        if count != before:
            bucket.inc(count - before)
    histogram._sum.inc(seconds - seconds_before)


def _counts(state: State) -> Iterable[tuple[tuple[str, Labels], int]]:
    tallies = state.hub.tallies
    opened, ended = state.registry.counts()
    yield from ((("opened", (transport,)), count) for transport, count in opened.items())
    yield from ((("ended", labels), count) for labels, count in ended.items())
    for setting, count in state.registry.refusals.read().items():
        yield ("refused", (setting,)), count
    yield ("published", ()), state.hub.published
    yield ("gaps", ()), tallies.gaps.count
    yield ("log_errors", ("append",)), tallies.append_failed.count
    yield ("log_errors", ("read",)), tallies.read_failed.count
    for ending, count in state.runs.making.ended().items():
        yield ("runs_ended", (ending,)), count


def _traffic(connected: Connected) -> Iterable[tuple[tuple[str, Labels], int]]:
    for transport, traffic in connected.traffic.items():
        if transport != HTTP:
            yield ("sent", (transport,)), traffic.sent
            yield ("sent_bytes", (transport,)), traffic.sent_bytes
        if transport in (HTTP, "websocket"):  # nothing comes over the others
            yield ("received", (transport,)), traffic.received
            yield ("received_bytes", (transport,)), traffic.received_bytes


def _spreads(state: State) -> Iterable[tuple[tuple[str, Labels], Spread]]:
    tallies = state.hub.tallies
    yield ("delivery", ()), tallies.delivery
    yield ("log", ("append",)), tallies.append
    yield ("log", ("read",)), tallies.read


def _levels(state: State, connected: Connected) -> Iterable[tuple[tuple[str, Labels], int]]:
    for transport, count in connected.clients.items():
        yield ("clients", (transport,)), count
    yield ("lagging", ()), connected.lagging
    yield ("channels", ()), state.hub.followed
    yield ("runs", ()), len(state.runs.making.made)
