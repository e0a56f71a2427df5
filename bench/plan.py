"""What is measured: scenarios that the generator runs, and the rows of the table made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .servers import Server
from .work import Phase

Results = dict[str, Any]  # by scenario: what the generator printed
TITLES = {"sse": "SSE", "ws": "WebSocket"}
HOMES = "homes"
"""The scenario of this project's homes of the log, beside each other."""


@dataclass(frozen=True)
class Scenario:
    """One run of the generator against a server that was started for it."""

    name: str
    conns: int
    phases: tuple[Phase, ...]
    kinds: tuple[str, ...] = ("sse", "ws")
    path: str | None = None
    stalled: int = 0
    settle: float = 1.0
    is_ours: bool = False
    """Whether only this project is measured: no peer has such a thing."""


def scenarios(*, quick: bool) -> list[Scenario]:
    """Everything; ``quick`` is a fifth of the subscribers and less time, to try things out."""
    t, small, large = (0.4, 200, 1000) if quick else (1.0, 1000, 5000)
    middle = large * 3 // 5
    warm = Phase("warm-up", "closed", 0.5 * t)
    fill = Phase("fill", "closed", 0.5 * t, inflight=64)
    tiny = Phase("get", "closed", 4 * t, probe_interval=0.01)
    calm = Phase("stalled", "open", 8 * t, rate=50, size=16384)
    echo = (Phase("warm-up", "echo", 0.5 * t), Phase("echo", "echo", 2 * t))
    idle = Phase("idle", "idle", 16 * t)  # longer than a heartbeat
    own = "/events?channel=own-{n}"
    profile = (warm, Phase("fanout", "closed", 3 * t), idle)
    usual = (
        warm,
        Phase("fanout", "closed", 3 * t),
        fill,
        Phase("burst", "closed", 3 * t, inflight=64),
        Phase("latency", "open", 5 * t, rate=20),
    )
    return [
        Scenario("large", large, (warm, Phase("fanout", "closed", 3 * t), tiny), settle=2 * t),
        Scenario("small", small, usual),
        Scenario("one", middle, profile, ("sse",), settle=2 * t, is_ours=True),
        Scenario("own", middle, (idle,), ("sse",), own, settle=2 * t, is_ours=True),
        Scenario("both", middle, profile, ("sse",), own + "&channel=bench", 0, 2 * t, True),
        Scenario("echo-1", 1, echo, ("ws",), "/echo", settle=0.2),
        Scenario("echo-100", 100, echo, ("ws",), "/echo", settle=0.2),
        Scenario("stalled-0", 200, (warm, calm)),
        Scenario("stalled-5", 200, (warm, replace(calm, may_lose=True)), stalled=5),
        Scenario(HOMES, small, usual),
    ]


def applies(scenario: Scenario, server: Server, kind: str) -> bool:
    if bool(server.log) != (scenario.name == HOMES):
        return False
    if scenario.is_ours and server.name != "project":
        return False
    has_path = server.echoes or not scenario.path
    return kind in scenario.kinds and kind in server.programs and has_path


def chosen(scenario: Scenario, kind: str, only: set[str]) -> bool:
    """``only`` holds kinds, scenarios (``stalled`` for both) or ``kind-scenario``."""
    names = {scenario.name, scenario.name.split("-")[0]}
    return not only or bool(only & (names | {kind} | {f"{kind}-{name}" for name in names}))


@dataclass(frozen=True)
class Row:
    """``less`` is better, or more is; ``phase`` names whose busy share of the generator counts."""

    title: str
    unit: str
    less: bool
    value: Callable[[Results], float | None]
    scenario: str
    phase: str


def phase(scenario: str, name: str) -> Callable[[Results], Results]:
    def find(results: Results) -> Results:
        one = results[scenario]
        found: Results = one["connect"] if name == "connect" else one["phases"][name]
        return found

    return find


def cpu(found: Results) -> float:
    """Microseconds of the server for one delivery."""
    return float(found["cpu_s"] / found["delivered"] * 1e6)


def per_second(found: Results) -> float:
    return float(found["delivered"] / found["seconds"])


def home_rows(*, quick: bool) -> list[Row]:
    """What is compared between the homes of the log."""
    (conns,) = (s.conns for s in scenarios(quick=quick) if s.name == HOMES)

    rows = []
    for name, title in (("fanout", "one message in flight"), ("burst", "64 in flight")):
        where = f"{conns:,} subscribers, {title}"
        find = phase(HOMES, name)
        for what, unit, less, get in (
            ("deliveries", "/s", False, per_second),
            ("server CPU per delivery", "µs", True, cpu),
        ):
            value = known(lambda r, find=find, get=get: get(find(r)))  # type: ignore[misc]
            rows.append(Row(f"{where}: {what}", unit, less, value, HOMES, name))
    find = phase(HOMES, "latency")
    for share in ("p50", "p99"):
        value = known(lambda r, find=find, share=share: find(r)["ms"][share])  # type: ignore[misc]
        title = f"latency {share}, {conns:,} subscribers, 20 messages/s"
        rows.append(Row(title, "ms", True, value, HOMES, "latency"))
    return rows


def rows(kind: str, *, quick: bool) -> list[Row]:
    by_name = {scenario.name: scenario.conns for scenario in scenarios(quick=quick)}
    small, large = f"{by_name['small']:,}", f"{by_name['large']:,}"
    made: list[Row] = []

    def row(
        title: str, unit: str, less: bool, where: tuple[str, str], get: Callable[[Results], float]
    ) -> None:
        find = phase(*where)
        made.append(Row(title, unit, less, known(lambda results: get(find(results))), *where))

    one = "one message in flight"
    row(
        f"server CPU per delivery, {small} subscribers, {one}", "µs", True, ("small", "fanout"), cpu
    )
    row(
        f"server CPU per delivery, {large} subscribers, {one}", "µs", True, ("large", "fanout"), cpu
    )
    burst = f"burst, 64 in flight, {small} subscribers"
    row(f"{burst}: deliveries", "/s", False, ("small", "burst"), per_second)
    row(f"{burst}: server CPU per delivery", "µs", True, ("small", "burst"), cpu)
    for share in ("p50", "p99"):
        title = f"latency {share}, {small} subscribers, 20 messages/s"
        row(title, "ms", True, ("small", "latency"), lambda r, s=share: r["ms"][s])  # type: ignore[misc]
    title = f"GET of a tiny route, p99, while {large} subscribers are served"
    row(title, "ms", True, ("large", "get"), lambda r: r["probe_ms"]["p99"])
    title = f"server memory per idle connection, {large} open"
    row(title, "KiB", True, ("large", "connect"), lambda r: r["kib"])
    row(f"new connections, {large}", "/s", False, ("large", "connect"), lambda r: r["per_s"])
    if kind == "sse":
        made.extend(profile_rows(by_name["one"]))
    if kind == "ws":
        row("round trips, 1 connection", "/s", False, ("echo-1", "echo"), per_second)
        row("round trips, 100 connections", "/s", False, ("echo-100", "echo"), per_second)
    stalls, calm = "5 of 200 never read", "all of 200 read"

    def delivered(readers: int) -> Callable[[Results], float]:
        return lambda found: found["delivered"] / (found["messages"] * readers) * 100

    row(f"{stalls}: delivered to the others", "%", False, ("stalled-5", "stalled"), delivered(195))
    for title, name in ((stalls, "stalled-5"), (calm, "stalled-0")):
        row(f"{title}: latency p99", "ms", True, (name, "stalled"), lambda r: r["ms"]["p99"])
        row(f"{title}: memory grown", "MiB", True, (name, "stalled"), lambda r: r["grown_mib"])

    def slower(results: Results) -> float | None:
        p99 = [phase(name, "stalled")(results)["ms"]["p99"] for name in ("stalled-5", "stalled-0")]
        return float(p99[0] / p99[1])

    title = f"{stalls}: latency p99, against the run where all read"
    made.append(Row(title, "times", True, known(slower), "stalled-5", "stalled"))
    return made


def profile_rows(conns: int) -> list[Row]:
    """How applications look: a channel for each client, and a shared one beside it."""
    names = {"one": "one channel for all", "own": "a channel for each", "both": "own and shared"}
    made = []
    for name, title in names.items():
        where = f"{conns:,} subscribers, {title}"
        kib, idle = phase(name, "connect"), phase(name, "idle")
        value = known(lambda r, kib=kib: kib(r)["kib"])  # type: ignore[misc]
        made.append(Row(f"{where}: memory per connection", "KiB", True, value, name, "connect"))
        value = known(lambda r, idle=idle: idle(r)["cpu_s"] / idle(r)["seconds"] * 100)  # type: ignore[misc]
        made.append(Row(f"{where}: CPU while nothing happens", "%", True, value, name, "idle"))
    one, both = phase("one", "fanout"), phase("both", "fanout")
    for name, find in (("one", one), ("both", both)):
        title = f"{conns:,} subscribers, {names[name]}: server CPU per delivery"
        value = known(lambda r, find=find: cpu(find(r)))  # type: ignore[misc]
        made.append(Row(title, "µs", True, value, name, "fanout"))
    value = known(lambda r: cpu(both(r)) / cpu(one(r)))
    title = "server CPU per delivery, own and shared against one channel"
    made.append(Row(title, "times", True, value, "both", "fanout"))
    return made


def known(get: Callable[[Results], float | None]) -> Callable[[Results], float | None]:
    """``get``, or None: not run, failed before, nothing delivered."""

    def value(results: Results) -> float | None:
        try:
            return get(results)
        except (KeyError, ZeroDivisionError):
            return None

    return value
