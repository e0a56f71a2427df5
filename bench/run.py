"""Measure this server and the installed peers at the same work: ``make bench``.

The generator has one CPU, the server another; a server is started afresh for every scenario, and
all servers take turns within each repetition. Figures are medians over the repetitions.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import chinese, machine, plan, report, servers
from .work import Work

PAGE = servers.ROOT / "docs" / "benchmarks.md"
LIMIT = 180  # seconds for one run of the generator


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--repeat", type=int, help="repetitions (3; with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="smaller and shorter; writes no page")
    parser.add_argument(
        "--only",
        default="",
        help="kinds and scenarios: sse, ws, large, small, one, own, both, echo, stalled, homes; "
        "ws-small",
    )
    parser.add_argument(
        "--peers", help="naive,nchan,websockets,node or none; all that are installed"
    )
    parser.add_argument("--output", type=Path, help=f"the page to write ({PAGE.name}; quick: none)")
    given = parser.parse_args()
    given.repeat = given.repeat or (1 if given.quick else 3)
    given.only = set(filter(None, given.only.split(",")))
    if given.output is None and not given.quick and not given.only and given.peers is None:
        given.output = PAGE
    return given


def taking_part(names: str | None) -> list[servers.Server]:
    """This project first.

    Raises:
        SystemExit: A name is of nobody who is installed.
    """
    installed = {server.name: server for server in servers.peers()}
    wanted = [*installed] if names is None else [n for n in names.split(",") if n != "none"]
    missing = [name for name in wanted if name not in installed]
    if missing:
        raise SystemExit(f"not installed: {', '.join(missing)}; there is: {', '.join(installed)}")
    return [servers.PROJECT, *(installed[name] for name in wanted)]


def measure(server: servers.Server, kind: str, scenario: plan.Scenario, cpus: list[int]) -> Any:
    """One run of the generator; what it printed, with ``error`` when it did not come to the end."""
    chat = kind == "ws" and not server.posts_to_ws
    path = scenario.path or ("/events" if kind == "sse" else "/ws")
    try:
        with servers.running(server, kind, cpus[0]) as (pid, port):
            work = Work(
                port=port,
                pid=pid,
                cpu=cpus[1],
                kind=kind,
                path=path,
                publish=None if chat else "/publish",
                conns=scenario.conns,
                stalled=scenario.stalled,
                settle=scenario.settle,
                phases=list(scenario.phases),
            )
            command = [sys.executable, "-m", "bench.load", json.dumps(asdict(work))]
            done = subprocess.run(
                command, cwd=servers.ROOT, stdout=subprocess.PIPE, text=True, timeout=LIMIT
            )
        return json.loads(done.stdout)
    except (RuntimeError, subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        return {"phases": {}, "error": f"{type(error).__name__}: {error}"}


def main() -> int:
    given = arguments()
    machine.raise_file_limit()
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise SystemExit("two CPUs are needed: one for the server, one for the generator")
    taken, homes = taking_part(given.peers), servers.homes()
    # by kind and server: for every repetition the results by scenario
    results: report.All = {
        (kind, server.name): [{} for _ in range(given.repeat)]
        for kind in plan.TITLES
        for server in (*taken, *homes)
    }
    work = [
        (repetition, kind, scenario, server)
        for repetition in range(given.repeat)
        for kind in plan.TITLES
        for scenario in plan.scenarios(quick=given.quick)
        for server in (*taken, *homes)
        if plan.chosen(scenario, kind, given.only) and plan.applies(scenario, server, kind)
    ]
    if not work:
        raise SystemExit("nothing to do: see --help for what --only knows")
    load = os.getloadavg()[0]
    failures = []
    for number, (repetition, kind, scenario, server) in enumerate(work, 1):
        what = f"{plan.TITLES[kind]} {scenario.name}, {server.title}"
        print(f"[{number}/{len(work)}] {what}: ", end="", file=sys.stderr, flush=True)
        found = measure(server, kind, scenario, cpus)
        results[kind, server.name][repetition][scenario.name] = found
        print(report.brief(found), file=sys.stderr, flush=True)
        if "error" in found:
            failures.append(f"{what}, run {repetition + 1}: {found['error']}")
    text = report.document(
        results,
        taken,
        homes,
        failures,
        quick=given.quick,
        facts={
            "machine": machine.describe(),
            "load": f"{load:.1f}",
            "command": " ".join(["python -m bench.run", *sys.argv[1:]]),
            "repeat": str(given.repeat),
            "versions": ", ".join(f"{name} {v}" for name, v in servers.versions().items()),
        },
    )
    print(text)
    if given.output:
        given.output.write_text(report.page(given.output, text), "utf-8")
        print(f"written: {given.output}", file=sys.stderr)
        twin = given.output.with_suffix(".zh-CN.md")
        if twin.exists():
            twin.write_text(report.page(twin, chinese.text(text)), "utf-8")
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
