"""What is looked at in the server's configuration, and on the machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import metadata

from .finding import Check, Finding, Scene

THREADS = 100
"""Threads of a gthread worker from which on it is taken to be meant for streams."""

DRAIN = 3.0
"""Seconds that a worker needs to end its streams."""

SPARE = 64
"""Descriptors that a worker needs beside its clients."""

_NEEDED = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=([0-9.]+)")


def shared_memory(scene: Scene) -> Finding | None:
    """Several workers, each with a log of its own."""
    server, log = scene.server, scene.state.settings.log
    if server is None or server.workers < 2 or log != "memory:" or server.environ:
        return None
    return Finding(
        "workers-memory",
        f"{server.workers} workers, and STREAMING_LOG is memory:.",
        "What one worker publishes, the clients of the others never see.",
        "Set STREAMING_LOG to 'sqlite:///streaming.db' or 'redis://host:6379', or start one "
        "worker.",
        "deployment.md#several-workers-several-machines",
    )


def servers_own(scene: Scene) -> Finding | None:
    """Settings that only gunicorn's processes have."""
    if scene.server is None or not scene.server.environ:
        return None
    names = ", ".join(scene.server.environ)
    return Finding(
        "server-environment",
        f"gunicorn's configuration sets {names} in the environment.",
        "Scripts, jobs and these commands do not have it, and may use another log than the server.",
        "Set it in app.config, or where all processes get their environment.",
        "deployment.md#your-app",
    )


def worker_class(scene: Scene) -> Finding | None:
    """Workers that are none for streams."""
    server = scene.server
    if server is None or server.is_green:
        return None
    if server.family == "gthread" and server.threads >= THREADS:
        return None
    what, why = {
        "sync": ("The worker class is sync.", "One stream holds up everybody else until it ends."),
        "gthread": (
            f"The worker class is gthread, with {server.threads} threads.",
            "Each stream and each WebSocket keeps a thread: with so many of them nobody else is "
            "answered.",
        ),
    }.get(
        server.family,
        (f"The worker class is {server.family}.", "Nobody has tried whether streams work there."),
    )
    return Finding(
        "worker-class",
        what,
        why,
        'worker_class = "streaming.web.server.StreamingWorker" (greenlets), or gthread with '
        f"--threads {THREADS} or more.",
        "deployment.md#your-app",
    )


def patch_order(scene: Scene) -> Finding | None:
    """``preload_app`` before threads are greenlets."""
    server = scene.server
    if server is None or not server.is_green or not server.is_preloaded or server.is_patched:
        return None
    return Finding(
        "patch-order",
        "preload_app imports the app before gevent has replaced threads and locks.",
        "A lock or an Event that the app or a library makes at import stops the worker's whole "
        "loop when one waits for it.",
        "Begin gunicorn's configuration with: from gevent import monkey; monkey.patch_all(). Or "
        "leave preload_app out.",
        "deployment.md#your-app",
    )


def graceful_timeout(scene: Scene) -> Finding | None:
    """Less time than a drain takes."""
    server = scene.server
    if server is None or server.graceful >= DRAIN:
        return None
    return Finding(
        "graceful-timeout",
        f"graceful_timeout is {server.graceful:g} s.",
        "Ending all streams properly takes one to two seconds; then the worker is killed, and they "
        "break off.",
        "graceful_timeout = 10",
        "deployment.md#restarts",
    )


def open_files() -> int | None:
    """How many files and connections a process may have open; None where nobody says so."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def file_limit(scene: Scene) -> Finding | None:
    """Fewer descriptors than clients."""
    wanted = scene.state.settings.clients or 0
    if scene.server is not None:
        wanted = max(wanted, scene.server.connections)
    if scene.files is None or scene.files >= wanted + SPARE:
        return None
    return Finding(
        "file-limit",
        f"A process may open {scene.files} files here (ulimit -n), and a worker takes {wanted} "
        "clients.",
        "Each client is a file. Beyond the limit connections are refused: Too many open files.",
        f"LimitNOFILE={max(65536, 2 * wanted)} in systemd, or a lower STREAMING_CLIENTS. The "
        "server's own limit may be another than that of this terminal.",
        "deployment.md#file-descriptors",
    )


def too_old(
    needed: list[str], version: Callable[[str], str] = metadata.version
) -> Iterator[tuple[str, str, str]]:
    """What is installed in a version below the lowest that is tried: name, version, lowest."""
    for name, lowest in filter(None, (_lowest(line) for line in needed)):
        try:
            there = version(name)
        except metadata.PackageNotFoundError:
            continue  # an extra that nobody needs here
        if _parts(there) < _parts(lowest):
            yield name, there, lowest


def versions(scene: Scene) -> Finding | None:
    """Packages below the lowest version that is tried."""
    try:
        found = list(too_old(metadata.requires("flask-streaming") or []))
    except metadata.PackageNotFoundError:
        return None  # from a checkout, without an installation
    if not found:
        return None
    names = ", ".join(f"{name} {there} (at least {lowest})" for name, there, lowest in found)
    return Finding(
        "versions",
        f"Too old: {names}.",
        "Nobody has tried this package with them.",
        f"pip install --upgrade {' '.join(name for name, _, _ in found)}",
        "quickstart.md#install-it",
    )


def _lowest(line: str) -> tuple[str, str] | None:
    found = _NEEDED.match(line)
    is_ours = "extra ==" not in line or re.search(r"extra == .(redis|openai|fast)\b", line)
    return (found[1], found[2]) if found and is_ours else None


def _parts(version: str) -> tuple[int, ...]:
    numbers = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    parts = [int(part) for part in numbers[0].split(".")] if numbers else []
    return tuple(parts + [0] * (4 - len(parts)))


CHECKS = (
    Check("workers-memory", shared_memory),
    Check("server-environment", servers_own),
    Check("worker-class", worker_class),
    Check("patch-order", patch_order),
    Check("graceful-timeout", graceful_timeout),
    Check("file-limit", file_limit),
    Check("versions", versions),
)
