"""Tests that run in a process of their own in which gevent has patched the standard library."""

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent

PATIENCE = 150.0

CHILD = """
from gevent import monkey
monkey.patch_all()
import importlib, json, os, sys, traceback
module, name, arguments = sys.argv[1:]
try:
    getattr(importlib.import_module(module), name).__wrapped__(**json.loads(arguments))
except BaseException:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)  # without waiting for the test's greenlets
print("passed")
"""


def in_greenlets(test: Callable[..., None]) -> Callable[..., None]:
    """Run ``test`` where threads are greenlets; its arguments have to be JSON values."""

    @functools.wraps(test)
    def outside(**arguments: object) -> None:
        command = [sys.executable, "-c", CHILD, test.__module__, test.__name__]
        child = subprocess.run(
            [*command, json.dumps(arguments)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        said = child.stdout + child.stderr
        assert child.returncode == 0, said
        assert said == "passed\n", said  # a greenlet that dies is only heard on stderr

    return outside
