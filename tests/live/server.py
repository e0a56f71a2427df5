"""A server process for the live tests: started, watched, stopped by its process id.

Every server writes to a log file of its own. A failing test shows it; a test that passes fails
after all if the log holds a traceback, unless the test said that it expects trouble.
"""

import contextlib
import fcntl
import http.client
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.polling import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
TROUBLE = (
    "Traceback (most recent call last)",
    "WORKER TIMEOUT",
    "[CRITICAL]",
    "[emerg]",
    "[alert]",
)

# the servers of the running test, for its failure report and for the proof that none is left
started: list["Server"] = []


# a byte for each port: locked by the process of tests that has it, for as long as it lives
_ports = os.open(f"{tempfile.gettempdir()}/streaming-ports-{os.getuid()}", os.O_RDWR | os.O_CREAT)
_taken: set[int] = set()


def free_port(*, beside: int = 0) -> int:
    """A port nobody listens on, outside the range from which the system gives ports itself, and
    ``beside`` more behind it. No other tests, of this process or of another, are given the same:
    between this and the server's own start there is time for that."""
    for port in random.sample(range(20000, 30000 - beside), 1000):
        if all(_take(each) for each in range(port, port + beside + 1)):
            return port
    raise AssertionError("found no free port")


def _take(port: int) -> bool:
    if port in _taken:
        return False
    with socket.socket() as probe, contextlib.suppress(OSError):
        fcntl.lockf(_ports, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        _taken.add(port)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


def tool(name: str) -> str:
    """The path of a program the live tests need; a missing one is a failure, not a skipped test."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert path, f"{name} is not installed; `make test` says how to get it"
    return path


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would configure a server behind the test's back."""
    quiet = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("STREAMING_", "FLASK_", "GUNICORN_"))
        and name not in {"PORT", "WEB_CONCURRENCY"}
    }
    return {**quiet, "PYTHONUNBUFFERED": "1", **(extra or {})}


def children(pid: int) -> list[int]:
    """The process ids of a process's children, oldest first."""
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def has_handlers(pid: int) -> bool:
    """Whether a worker of gunicorn would hear a signal, or is gone. One that was just forked has
    its parent's handlers (for HUP too), which put signals into a list that nobody reads."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii")
    except OSError:
        return True
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1) and not caught >> (signal.SIGHUP - 1) & 1


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and only waits for its parent does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class Server:
    """One server process (with its workers), from start to stop. ``restart`` keeps port and log."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        port: int,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        stop_signal: int = signal.SIGTERM,
        ready_path: str = "/",
        tls: ssl.SSLContext | None = None,
        workers: int = 0,
        at_end: Callable[[], None] = lambda: None,
        expect_trouble: bool = False,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.port = port
        self.cwd = cwd
        self.env = environment(env)
        self.stop_signal = stop_signal
        self.ready_path = ready_path
        self.tls = tls
        self.workers = workers
        self.expect_trouble = expect_trouble
        self._at_end = at_end
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        self._final_log: str | None = None
        self._checked = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def log_text(self) -> str:
        """What the server has written so far, over all its starts."""
        if self._final_log is not None:
            return self._final_log
        # not read(): the server's own output goes to this file's position
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def worker_pids(self) -> list[int]:
        """The process ids of the workers alive now, oldest first."""
        return children(self.pid)

    def start(self) -> None:
        """Start the server and return once it answers a request."""
        assert not self.is_running(), f"{self.name} is running already"
        self._process = subprocess.Popen(
            self.command,
            cwd=self.cwd,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a process group of its own: kill() takes the workers too
        )
        wait_until(self._answers, f"{self.name} answering on {self.url}", timeout=PATIENCE)

    def _answers(self) -> bool:
        assert self.is_running(), f"{self.name} ended while starting:\n{self.log_text()[-4000:]}"
        connection = (
            http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=self.tls)
            if self.tls
            else http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        )
        try:
            connection.request("GET", self.ready_path)
            connection.getresponse()
        except (OSError, http.client.HTTPException):
            return False
        else:
            return True
        finally:
            connection.close()

    def send_signal(self, number: int) -> None:
        """Send a signal to the server's main process, once its workers can hear of it."""
        assert self.is_running(), f"{self.name} is not running"
        if self.name.startswith("gunicorn"):
            wait_until(self._can_hear, "all workers are up")
        os.kill(self.pid, number)

    def _can_hear(self) -> bool:
        """Whether all workers are there, or the server has ended: the first of them may have served
        before the last was forked."""
        pids = self.worker_pids()
        is_whole = len(pids) >= self.workers or not self.is_running()
        return is_whole and all(map(has_handlers, pids))

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for the end of the main process and of its workers; return its exit code."""
        assert self._process is not None, f"{self.name} was never started"
        workers = self.worker_pids()
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {timeout:g} s") from None
        wait_until(lambda: not any(map(is_alive, workers)), f"the end of {self.name}'s workers")
        return code

    def terminate(self, timeout: float = PATIENCE) -> float:
        """Ask the server to stop, wait until it has, and return the seconds that took."""
        begun = time.monotonic()
        self.send_signal(self.stop_signal)
        self.wait(timeout)
        return time.monotonic() - begun

    def kill(self) -> None:
        """End the server and its workers at once, as a crash would."""
        workers = self.worker_pids()
        self._kill_group()
        self.wait()
        wait_until(lambda: not any(map(is_alive, workers)), f"the end of {self.name}'s workers")

    def restart(self) -> None:
        """Stop the server if it runs and start it again on the same port."""
        if self.is_running():
            self.terminate()
        self.start()

    def check_log(self) -> None:
        """Fail if the log tells of trouble, since the last check, that the test did not expect."""
        text = self.log_text()
        found = [sign for sign in TROUBLE if sign in text[self._checked :]]
        self._checked = len(text)
        assert self.expect_trouble or not found, f"{self.name}: {found} in its log"

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def __enter__(self) -> "Server":
        started.append(self)
        try:
            self.start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self.is_running():
                self.terminate()
        except AssertionError:
            if kind is None:  # otherwise the test has failed already, and that is the news
                raise
        finally:
            self._close()
        if kind is None:
            self.check_log()

    def _close(self) -> None:
        self._kill_group()
        if self._process is not None:
            self._process.wait()
        self._final_log = self.log_text()
        self._log.close()
        self._at_end()
