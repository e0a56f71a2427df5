"""gunicorn's configuration as gunicorn reads it; in a process of its own, for it is a program.

This file as a program, with the path of a configuration, says it as JSON. It imports nothing of the
package, so that nothing is there that would not be there in gunicorn's main process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

LIMIT = 30.0
"""Seconds that a configuration may take."""


@dataclass(frozen=True, slots=True)
class Server:
    """The part of a configuration that is looked at."""

    family: str
    """The worker class, or that of gunicorn's own which it is made from."""
    workers: int = 1
    threads: int = 1
    connections: int = 1000
    is_preloaded: bool = False
    is_patched: bool = False
    """Whether threads are greenlets before the application is imported by ``preload_app``."""
    graceful: float = 30.0
    environ: tuple[str, ...] = ()
    """``STREAMING_`` variables that it sets."""

    @property
    def is_green(self) -> bool:
        """Whether its clients are greenlets."""
        return self.family == "ggevent"


def read_config(path: str) -> Server:
    """The configuration in a file, under what ``GUNICORN_CMD_ARGS`` says.

    Raises:
        ValueError: If it cannot be read, with the reason.
    """
    command = [sys.executable, "-P", __file__, path]
    folders = os.pathsep.join([os.getcwd(), *filter(None, sys.path)])
    try:
        ran = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": folders},
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        said = json.loads(ran.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"it takes longer than {LIMIT:g} s") from error
    except (OSError, ValueError, IndexError) as error:
        lines = ran.stderr.strip().splitlines() or ["it says nothing"]
        raise ValueError(lines[-1]) from error
    return Server(**{**said, "environ": tuple(said["environ"])})


def _read() -> Server:
    from gunicorn.app.base import Application  # only here: it is not the command's

    class Reader(Application):  # type: ignore[misc]  # gunicorn has no types
        def init(self, *_: Any) -> None:
            """Nothing but what the file and the environment say."""

        def load(self) -> None:
            """No application."""

    before = dict(os.environ)
    cfg = Reader().cfg
    monkey = sys.modules.get("gevent.monkey")
    is_patched = bool(monkey and monkey.is_module_patched("threading"))
    changed = {key for key, value in os.environ.items() if before.get(key) != value}
    return Server(
        family=_family(cfg),
        workers=cfg.workers,
        threads=cfg.threads,
        connections=cfg.worker_connections,
        is_preloaded=cfg.preload_app,
        is_patched=is_patched,
        graceful=cfg.graceful_timeout,
        environ=tuple(sorted(key for key in changed if key.startswith("STREAMING_"))),
    )


def _family(cfg: Any) -> str:
    try:
        modules = [kind.__module__ for kind in cfg.worker_class.__mro__]
    except Exception:  # what it needs is not installed
        return str(cfg.worker_class_str)
    known = [name for name in modules if name.startswith("gunicorn.workers.")]
    return str(known[0]).rpartition(".")[2] if known else str(modules[0])


if __name__ == "__main__":
    sys.argv[1:1] = ["--config"]
    print(json.dumps(asdict(_read())))
