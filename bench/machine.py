"""What Linux tells about processes and the machine, out of ``/proc``."""

from __future__ import annotations

import os
import platform
import re
import resource
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """``pid`` and all that descends from it."""
    parents: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            fields = stat(int(entry.name))
            if fields:
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:  # grows while it is walked
        found += parents.get(one, [])
    return found


def stat(pid: int) -> list[str]:
    """The fields of ``/proc/<pid>/stat`` from the state on; none when the process is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def cpu_seconds(pids: list[int]) -> float:
    """User and system time that the processes took so far."""
    return sum(int(f[11]) + int(f[12]) for f in map(stat, pids) if f) / TICKS


def pss_kib(pids: list[int]) -> int:
    """Memory, pages that are shared counted by share."""
    total = 0
    for pid in pids:
        try:
            text = (PROC / str(pid) / "smaps_rollup").read_text()
        except OSError:
            continue
        found = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
        total += int(found[1]) if found else 0
    return total


def raise_file_limit() -> int:
    """Allow this process and its children as many files as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def describe() -> str:
    """CPU model, number of CPUs, system."""
    found = re.search(r"model name\s*: (.+)", (PROC / "cpuinfo").read_text())
    model = found[1] if found else platform.processor() or platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpus = len(os.sched_getaffinity(0))
    return f"{model}, {cpus} CPUs, {memory:.0f} GiB, Linux {platform.release()}"
