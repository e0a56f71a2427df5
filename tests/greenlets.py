"""Tests that run in a process of their own in which gevent has patched the standard library.

One test with ``in_greenlets``, in a child of a process that has imported its module; or a whole
file with ``run_file``, where functions that begin with ``green_`` are tests, too: of what there is
under greenlets only.
"""

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent

PATIENCE = 300.0

# It forks past gevent and before it has a hub: each child makes its own, as a new process does.
NURSERY = """
from gevent import monkey
monkey.patch_all()
import importlib, json, os, sys, traceback
fork, wait = monkey.get_original("os", ["fork", "waitpid"])
module = importlib.import_module(sys.argv[1])
for line in open(0, "rb", buffering=0, closefd=False):
    name, arguments, output = json.loads(line)
    if child := fork():
        code = os.waitstatus_to_exitcode(wait(child, 0)[1])
        os.write(1, f"{code}\\n".encode())
        continue
    said = os.open(output, os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for there, place in ((nothing, 0), (said, 1), (said, 2)): os.dup2(there, place)
    os.close(said), os.close(nothing)
    try:
        getattr(module, name)(**arguments)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # without waiting for the test's greenlets
    print("passed")
    break  # and end as an interpreter does
"""

FILE = """
from gevent import monkey
monkey.patch_all()
import sys, pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def is_green() -> bool:
    """Whether threads are greenlets here."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("threading")


def run_file(path: str, *options: str) -> None:
    """Run the tests of one file where threads are greenlets; fail if one of them does."""
    how = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "python_functions=test green"]
    code, said = _run(FILE, *how, path, *options)
    assert code == 0, said


def in_greenlets(test: Callable[..., None]) -> Callable[..., None]:
    """Run ``test`` where threads are greenlets; its arguments have to be JSON values."""
    if is_green():
        return test  # this is the process, or ``run_file`` runs the whole file in one

    @functools.wraps(test)
    def outside(**arguments: object) -> None:
        code, said = _nursery(test.__module__).run(test.__name__, arguments)
        assert code == 0, said
        assert said == "passed\n", said  # a greenlet that dies is only heard on stderr

    return outside


class Nursery:
    """A process in which a module of tests has been imported among greenlets. Its children run one
    test each: to begin and to import is most of what a process costs."""

    def __init__(self, module: str) -> None:
        self.module = module
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", NURSERY, module],
            cwd=ROOT,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            start_new_session=True,  # a process group of its own: a child that hangs ends with it
        )

    def run(self, name: str, arguments: dict[str, object]) -> tuple[int, str]:
        """The return code of a child that runs this test, and what it said; as ``_run``."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with tempfile.NamedTemporaryFile() as output:
            with contextlib.suppress(BrokenPipeError):  # it could not import; it says why
                process.stdin.write(json.dumps([name, arguments, output.name]).encode() + b"\n")
            is_over = select.select([process.stdout], [], [], PATIENCE)[0]
            line = process.stdout.readline() if is_over else b""
            said = output.read().decode(errors="replace")
        if not line:
            told = os.pread(self._said.fileno(), 1 << 20, 0).decode(errors="replace")
            self.close()
            raise AssertionError(f"{name} ended its parent or took {PATIENCE} s: {said}{told}")
        return int(line), said or f"it died without a word: {int(line)}"

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        if self.is_alive():
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for each in (self._process.stdin, self._process.stdout, self._said):
            assert each is not None
            each.close()


_nurseries: list[Nursery] = []


def _nursery(module: str) -> Nursery:
    """That of the module whose tests run now; there is one at a time."""
    if not any(each.module == module and each.is_alive() for each in _nurseries):
        close_nursery()
        _nurseries.append(Nursery(module))
    return _nurseries[0]


@atexit.register
def close_nursery() -> None:
    while _nurseries:
        _nurseries.pop().close()


def _run(code: str, *arguments: str) -> tuple[int, str]:
    """The return code of a process of its own, and what it said; how it died, if it said nothing.

    A signal's number is negative. Where the interpreter itself crashed, Python says where.
    """
    command = [sys.executable, "-X", "faulthandler", "-c", code, *arguments]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    said = child.stdout + child.stderr
    return child.returncode, said or f"it died without a word: {child.returncode}"
