"""From results to text: the table with ratios, and a reading that follows from the numbers."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Sequence
from pathlib import Path

from . import plan
from .plan import Results, Row
from .servers import PROJECT, Server

All = dict[tuple[str, str], list[Results]]  # by kind and server: one Results per repetition
BEGIN, END = "<!-- measured: written by make bench -->", "<!-- end of measured -->"
BUSY = 0.9  # from here on a row says more about the generator than about the server
EVEN = 0.05  # closer than that is no difference
HOMES = """\
The three logs beside each other: here the server is not bound to one CPU, because two workers
are to use two, and the generator has to share them. In brackets: the figure divided by that of one
worker with its log in memory. What Redis itself uses is not in the CPU of the server."""
FRAME = f"""# Benchmarks

`make bench` measures this server and the peers that are installed at the same work and writes this
page: everything between the two marks is replaced, all else is kept.

{BEGIN}
{END}

## How it is measured

- The server (all its processes) has one CPU and the generator another, on one machine, over
  127.0.0.1. A server is started afresh for every scenario, and the servers take turns. No network,
  no TLS and no proxy are in it.
- Every server has the same endpoints: `GET /events`, `POST /publish`, the chat `/ws` and `/echo`.
  The chat is published to by its first client; Nchan has no chat, there it is a POST.
- A message has 128 bytes (16 KiB in the stalled case) and carries a number and a time. Every
  delivery is counted for every connection, and one that is lost or doubled fails the run; in the
  stalled case it counts as not delivered, and is not in the latency of those that were.
- CPU is user and system time of the server's processes, the request that publishes included: over
  SSE that is one POST per message. It is the steadiest figure, but not immune: what else runs on
  the machine takes caches and turns, and was seen to double it. Run it on an idle machine.
- "One message in flight" sends the next when all have the last. Latency is taken at every
  delivery, from the moment the message was due, so that a late sender does not hide anything.
- The tiny route is a path that no server has, over a new connection, 100 times a second; the
  fan-out runs as fast as it can meanwhile.
- Memory is PSS. A subscriber that never reads has a receive buffer of 4 KiB.
"""


def median(runs: Sequence[Results], row: Row) -> float | None:
    values = [value for run in runs if (value := row.value(run)) is not None]
    return statistics.median(values) if values else None


def busy(runs: Sequence[Results], row: Row) -> float | None:
    find = plan.phase(row.scenario, row.phase)
    shares = []
    for run in runs:
        try:
            shares.append(find(run)["busy"])
        except KeyError:
            continue
    return statistics.median(shares) if shares else None


def number(value: float) -> str:
    """Three digits that mean something."""
    if abs(value) >= 1000:
        return f"{round(value, 2 - len(str(int(abs(value)))) + 1):,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def cell(value: float | None, ours: float | None, is_ours: bool) -> str:
    """The value, and how many times ours it is."""
    if value is None:
        return "–"
    ratio = f" ({value / ours:.2f})" if not is_ours and ours and ours > 0 and value >= 0 else ""
    return number(value) + ratio


def is_ahead(row: Row, value: float | None, ours: float | None) -> bool:
    if value is None or ours is None:
        return False
    better, worse = (value, ours) if row.less else (ours, value)
    return better < worse - EVEN * abs(ours)


def table(kind: str, results: All, servers: list[Server], rows: list[Row]) -> list[str]:
    """Lines of Markdown; in brackets, a figure divided by that of the first server."""
    there = [server for server in servers if any(results[kind, server.name])]
    titles = [server.title for server in there]
    lines = [
        f"| {plan.TITLES[kind]} | unit | {' | '.join(titles)} | generator busy, % |",
        f"|---|---|{'---:|' * len(titles)}---|",
    ]
    for row in rows:
        values = [median(results[kind, server.name], row) for server in there]
        if any(value is not None for value in values):
            ours = median(results[kind, servers[0].name], row)
            cells = [
                cell(value, ours, server is servers[0])
                for value, server in zip(values, there, strict=True)
            ]
            shares = [busy(results[kind, server.name], row) for server in there]
            loads = " · ".join("–" if s is None else f"{s:.0%}"[:-1] for s in shares)
            better = "less" if row.less else "more"
            lines.append(
                f"| {row.title} ({better} is better) | {row.unit} | {' | '.join(cells)} | {loads} |"
            )
    return lines


def reading(results: All, servers: list[Server], *, quick: bool) -> list[str]:
    """Sentences that follow from the numbers: who is ahead where, and what limits a row."""
    lines = []
    for server in servers:
        if server is PROJECT:
            continue
        ahead, behind, even = [], 0, 0
        for kind in server.programs:
            for row in plan.rows(kind, quick=quick):
                ours = median(results[kind, PROJECT.name], row)
                theirs = median(results[kind, server.name], row)
                if ours is None or theirs is None:
                    continue
                if is_ahead(row, theirs, ours):
                    figures = f"{number(theirs)} against {number(ours)} {row.unit}"
                    ahead.append(f"{plan.TITLES[kind]}, {row.title}: {figures}")
                elif is_ahead(row, ours, theirs):
                    behind += 1
                else:
                    even += 1
        if ahead or behind or even:
            count = f"behind in {behind} rows, within {EVEN:.0%} in {even}, ahead in {len(ahead)}"
            lines.append(f"- **{server.title}** is {count}{':' if ahead else '.'}")
            lines += [f"  - {text}" for text in ahead]
    limited = []
    for kind in plan.TITLES:
        for row in plan.rows(kind, quick=quick):
            who = [s.title for s in servers if (busy(results[kind, s.name], row) or 0) >= BUSY]
            if who and row.unit not in ("µs", "KiB", "MiB"):
                limited.append(f"  - {plan.TITLES[kind]}, {row.title}: {', '.join(who)}")
    if limited:
        lines.append(
            f"- The generator is Python as well. Where it is busy for {BUSY:.0%} of the time or "
            "more, a rate is at most a lower bound of what the server can do, and a latency "
            "includes its own waiting:"
        )
        lines += limited
    return lines


def document(
    results: All,
    servers: list[Server],
    homes: list[Server],
    failures: list[str],
    *,
    quick: bool,
    facts: dict[str, str],
) -> str:
    """The measured part of the page."""
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [
        f"Measured {day} with `{facts['command']}`, {facts['repeat']} repetition(s), medians.",
        "",
        f"- Machine: {facts['machine']}; load average at the start {facts['load']}",
        f"- Versions: {facts['versions']}",
        "",
        f"In brackets: the figure divided by that of {PROJECT.title}. Last column: the CPU share "
        "of the generator, server by server.",
    ]
    for kind in plan.TITLES:
        found = table(kind, results, servers, plan.rows(kind, quick=quick))
        lines += ["", *found] if len(found) > 2 else []
    read = reading(results, servers, quick=quick)
    lines += ["", "What the numbers say:", "", *read] if read else []
    shared = [table(kind, results, homes, plan.home_rows(quick=quick)) for kind in plan.TITLES]
    if any(len(found) > 2 for found in shared):
        lines += ["", HOMES]
    for found in shared:
        lines += ["", *found] if len(found) > 2 else []
    if failures:
        lines += ["", "Runs that failed; their rows are of the runs that are left:", ""]
        lines += [f"- {failure}" for failure in failures]
    return "\n".join(lines)


def page(path: Path, text: str) -> str:
    """The page with ``text`` as its measured part, and what people wrote around it as it is.

    Raises:
        ValueError: The file has lost its marks.
    """
    old = path.read_text("utf-8") if path.exists() else FRAME
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} must hold {BEGIN!r} and, after it, {END!r}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def brief(found: Results) -> str:
    """One line about one run."""
    parts = []
    if "connect" in found:
        one = found["connect"]
        parts.append(f"{one['per_s']:.0f} connections/s of {one['cpu_us']:.0f} µs")
    for name, one in found["phases"].items():
        if name in ("warm-up", "fill") or not one["delivered"]:
            continue
        cpu = one["cpu_s"] / one["delivered"] * 1e6
        part = f"{name} {cpu:.2f} µs"
        if "ms" in one:
            part += f" p99 {one['ms']['p99']:.1f} ms"
        parts.append(f"{part} (busy {one['busy']:.0%})")
    if "error" in found:
        parts.append("FAILED " + found["error"])
    return "; ".join(parts)
