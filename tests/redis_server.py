"""Real Redis servers, each a process of its own on a free port of 127.0.0.1."""

import atexit
import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from tests.polling import PATIENCE, wait_until

_prefixes = (f"test{n}:" for n in itertools.count())


@functools.cache
def _held() -> list[socket.socket]:
    """The ports that were given out. A server may listen on them, and to nobody else is one given
    while that server is not there yet, or away: neither a connection that goes out nor a test."""
    held: list[socket.socket] = []
    atexit.register(lambda: [each.close() for each in held])
    return held


def _hold(port: int = 0) -> int:
    """Hold this port, or any, until the process ends.

    Raises:
        OSError, OverflowError: If somebody has it, or there is none.
    """
    probe = socket.socket()
    try:
        probe.bind(("127.0.0.1", port))
    except BaseException:
        probe.close()
        raise
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # behind the look: for the server
    _held().append(probe)
    return int(probe.getsockname()[1])


def free_port(*, cluster: bool = False) -> int:
    """A port nobody has, nor will have; with ``cluster`` also that of its bus, 10,000 above."""
    while True:
        port = _hold()
        with suppress(OSError, OverflowError):
            if cluster:
                _hold(port + 10_000)
            return port


class RedisServer:
    """One server. ``options`` are its configuration: ``save=""``, ``appendonly="yes"`` …"""

    def __init__(self, folder: Path, *words: str, port: int | None = None, **options: str) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.password = options.get("requirepass")
        self._words = words
        self._options = {"save": "", "repl_diskless_sync_delay": "0"} | options
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, *, wait: bool = True) -> "RedisServer":
        command = ["redis-server", *self._words, "--port", str(self.port)]
        command += ["--bind", "127.0.0.1", "--dir", str(self.folder), "--daemonize", "no"]
        if not self._words:
            for name, value in self._options.items():
                command += [f"--{name.replace('_', '-')}", value]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        if wait:
            wait_until(self.answers, f"the server on port {self.port} answers\n{self.log()}")
        return self

    def log(self) -> str:
        return (self.folder / "server.log").read_text("utf-8", "replace")[-4000:]

    def answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"redis-server ended at once:\n{self.log()}"
        try:
            return bool(self.ask("PING"))
        except redis.RedisError:
            return False

    def ask(self, *words: object) -> Any:
        """What the server answers to one command."""
        client = redis.Redis(
            port=self.port, password=self.password, decode_responses=True, socket_timeout=PATIENCE
        )
        with client:
            return client.execute_command(*words)

    def url(self, prefix: str = "", **options: str) -> str:
        """A log URL, with names of its own."""
        user = f":{self.password}@" if self.password else ""
        return f"redis://{user}127.0.0.1:{self.port}/0?prefix={prefix or next(_prefixes)}"

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order. Idempotent."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(PATIENCE)
            self._process = None

    def stall(self) -> None:
        """It stops answering, but its connections stay."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        stat = Path(f"/proc/{self._process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it is stopped")

    def go_on(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


@contextmanager
def redis_server(folder: Path, *words: str, **options: str) -> Iterator[RedisServer]:
    """A server that is started, and stopped at the end."""
    server = RedisServer(folder, *words, **options)
    try:
        yield server.start()
    finally:
        server.stop()


@functools.cache
def shared_server() -> RedisServer:
    """One server for all tests of this process that do not harm it."""
    folder = Path(tempfile.mkdtemp(prefix="redis-of-tests-"))
    server = RedisServer(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.kill)
    return server.start()


class RedisCluster:
    """Three masters that share the hash slots. That one of them is away the others find out after
    15 s, as is usual: not when a machine that is busy stops it for a moment."""

    def __init__(self, folder: Path) -> None:
        self.nodes = [
            RedisServer(
                folder / str(n),
                port=free_port(cluster=True),
                cluster_enabled="yes",
                cluster_require_full_coverage="no",
                appendonly="yes",
                appendfsync="always",
            )
            for n in range(3)
        ]

    def start(self) -> "RedisCluster":
        for node in self.nodes:
            node.start()
        for n, node in enumerate(self.nodes):
            node.ask("CLUSTER", "ADDSLOTSRANGE", SLOTS[n], SLOTS[n + 1] - 1)
            node.ask("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        for node in self.nodes:
            wait_until(lambda node=node: knows_all(node), "the nodes know each other")
        return self

    def url(self, prefix: str = "") -> str:
        nodes = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{nodes}?prefix={prefix or next(_prefixes)}"

    def node_of(self, key: str) -> RedisServer:
        slot = self.nodes[0].ask("CLUSTER", "KEYSLOT", key)
        return next(node for n, node in enumerate(self.nodes) if slot < SLOTS[n + 1])

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()


SLOTS = [0, 5461, 10923, 16384]


def knows_all(node: RedisServer) -> bool:
    info = node.ask("CLUSTER", "INFO")
    return "cluster_state:ok" in info and f"cluster_slots_ok:{SLOTS[-1]}" in info


@functools.cache
def shared_cluster() -> RedisCluster:
    """One cluster for all tests of this process that do not harm it."""
    folder = Path(tempfile.mkdtemp(prefix="redis-of-tests-"))
    cluster = RedisCluster(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(cluster.stop)
    return cluster.start()
