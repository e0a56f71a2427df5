"""Tests that run in a process of their own in which gevent has patched the standard library.

One test with ``in_greenlets``; or a whole file with ``run_file``, where functions that begin with
``green_`` are tests, too: of what there is under greenlets only.
"""

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent

PATIENCE = 300.0

CHILD = """
from gevent import monkey
monkey.patch_all()
import importlib, json, os, sys, traceback
module, name, arguments = sys.argv[1:]
try:
    getattr(importlib.import_module(module), name)(**json.loads(arguments))
except BaseException:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)  # without waiting for the test's greenlets
print("passed")
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
        code, said = _run(CHILD, test.__module__, test.__name__, json.dumps(arguments))
        assert code == 0, said
        assert said == "passed\n", said  # a greenlet that dies is only heard on stderr

    return outside


def _run(code: str, *arguments: str) -> tuple[int, str]:
    """The return code of a process of its own, and what it said; how it died, if it said nothing.

    A signal's number is negative. Where the interpreter itself crashed, Python says where.
    """
    command = [sys.executable, "-X", "faulthandler", "-c", code, *arguments]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    said = child.stdout + child.stderr
    return child.returncode, said or f"it died without a word: {child.returncode}"
