"""The servers that are measured: how each is started, pinned and ended, and who is installed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import machine

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "bench" / "peers"
NCHAN_PLACES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/nginx/modules")
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


@dataclass(frozen=True)
class Server:
    """``programs`` by kind; ``{python}``, ``{port}``, ``{nginx}``, ``{folder}`` are filled in."""

    name: str
    title: str
    programs: dict[str, list[str]]
    posts_to_ws: bool = False  # otherwise the first client of the chat publishes
    echoes: bool = True
    log: str = ""  # a home of the log, on all CPUs; {folder} and {redis}, a port, are filled in


GUNICORN = ["{python}", "-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--log-level", "error"]
OURS = [*GUNICORN, "--config", "gunicorn.conf.py", "--workers", "1", "bench.app:app"]
TWO = [*GUNICORN, "--config", "gunicorn.conf.py", "--workers", "2", "bench.app:app"]
NAIVE = [*GUNICORN, "--config", "python:bench.peers.naive_conf", "bench.peers.naive_app:app"]
NGINX = ["{nginx}", "-c", "{folder}/nchan.conf", "-e", "{folder}/error.log"]
PROJECT = Server("project", "flask-streaming", {"sse": OURS, "ws": OURS})
MEMORY = Server("memory", "memory, 1 worker", {"sse": OURS, "ws": OURS}, log="memory:")
SQLITE = Server(
    "sqlite", "SQLite, 2 workers", {"sse": TWO, "ws": TWO}, log="sqlite:///{folder}/log.db"
)
REDIS = Server(
    "redis", "Redis, 2 workers", {"sse": TWO, "ws": TWO}, log="redis://127.0.0.1:{redis}/0"
)


def executable(name: str) -> str | None:
    return shutil.which(name, path=SEARCH)


def nchan_module() -> Path | None:
    found = [Path(place, "ngx_nchan_module.so") for place in NCHAN_PLACES]
    return next((path for path in found if path.exists()), None)


def output(*command: str) -> str:
    """What a command says; nothing when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=PEERS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip() if done.returncode == 0 else ""


def node_version(module: str) -> str:
    """The version of an npm module as the peers would find it; nothing when there is none."""
    path = output("node", "-e", f"console.log(require.resolve('{module}'))")
    folder = next((p for p in Path(path).parents if p.name == module), None) if path else None
    return (
        output("node", "-p", f"require({str(folder / 'package.json')!r}).version") if folder else ""
    )


def peers() -> list[Server]:
    """Those that are installed here."""
    found = [Server("naive", "plain Flask", {"sse": NAIVE, "ws": NAIVE})]
    if executable("nginx") and nchan_module():
        programs = {"sse": NGINX, "ws": NGINX}
        found.append(Server("nchan", "nginx + Nchan", programs, posts_to_ws=True, echoes=False))
    if importlib.util.find_spec("websockets"):
        program = ["{python}", "-m", "bench.peers.websockets_server"]
        found.append(Server("websockets", "websockets", {"ws": program}))
    node = {"sse": ("express", "node_express.js"), "ws": ("ws", "node_ws.js")}
    programs = {
        kind: ["node", str(PEERS / file)] for kind, (m, file) in node.items() if node_version(m)
    }
    if programs:
        title = "Node " + " / ".join(node[kind][0] for kind in programs)
        found.append(Server("node", title, programs))
    return found


def homes() -> list[Server]:
    """This project on every home of the log that is installed here, memory first."""
    return [MEMORY, SQLITE, *([REDIS] if executable("redis-server") else [])]


def versions() -> dict[str, str]:
    """Of whatever takes part, and is there."""
    found = {"Python": platform.python_version()}
    packages = ("flask", "flask-sock", "gunicorn", "gunicorn_h1c", "gevent", "redis", "websockets")
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    nginx = executable("nginx")
    if nginx and nchan_module():
        found["nginx"] = re.sub(r".*nginx/(\S+).*", r"\1", output(nginx, "-v"), flags=re.DOTALL)
        package = output("dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan")
        found["Nchan"] = package or "of unknown version"
    found["Node.js"] = output("node", "--version").removeprefix("v")
    found |= {f"npm {module}": node_version(module) for module in ("ws", "express")}
    return {name: version for name, version in found.items() if version}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def prepare(folder: Path, port: int) -> None:
    """Fill in the files that a peer reads."""
    folder.chmod(0o755)  # nginx's worker is somebody else
    text = (PEERS / "nchan.conf.in").read_text("utf-8")
    values = {"PORT": port, "FOLDER": folder, "FILES": machine.raise_file_limit()}
    for name, value in {**values, "MODULE": nchan_module()}.items():
        text = text.replace(f"@{name}@", str(value))
    (folder / "nchan.conf").write_text(text, "utf-8")


@contextlib.contextmanager
def redis_server(folder: str) -> Iterator[int]:
    """A Redis server that keeps nothing on disk; its port, while it runs."""
    port = free_port()
    command = [executable("redis-server") or "", "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--save", "", "--dir", folder]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            if not listens(process, port):
                raise RuntimeError("redis-server does not start")
            yield port
        finally:
            process.terminate()


@contextlib.contextmanager
def running(server: Server, kind: str, cpu: int, *, log: str = "") -> Iterator[tuple[int, int]]:
    """Start ``server`` on ``cpu``, or on all where it has a log of its own; its process id and
    port, while it runs. ``log``: a home of the log all the same, on the one CPU.

    Raises:
        RuntimeError: It does not start.
    """
    port = free_port()
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        prepare(Path(name), port)
        redis = stack.enter_context(redis_server(name)) if "{redis}" in server.log + log else 0
        filled = {"python": sys.executable, "port": port, "folder": name}
        filled["nginx"] = executable("nginx") or ""
        command = [part.format(**filled) for part in server.programs[kind]]
        env = {**os.environ, "PORT": str(port), "NODE_ENV": "production"}
        home = (server.log or log).format(folder=name, redis=redis)
        env["BENCH_LOG"] = home or "memory:"
        with open(Path(name, "output.log"), "w+b") as said:
            before = os.sched_getaffinity(0)
            if not server.log:  # inherited: there is no moment on another CPU
                os.sched_setaffinity(0, {cpu})
            try:
                process = subprocess.Popen(
                    command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said
                )
            finally:
                os.sched_setaffinity(0, before)
            try:
                if not listens(process, port):
                    said.seek(0)
                    raise RuntimeError(f"{server.name} does not start: {said.read()[-800:]!r}")
                time.sleep(0.7)
                yield process.pid, port
            finally:
                end(process)


def listens(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.05)
    return False


def end(process: subprocess.Popen[bytes]) -> None:
    """TERM, and what is left of the family after five seconds KILL, each by its id."""
    family = machine.family(process.pid)
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        for pid in reversed(family):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(5)
