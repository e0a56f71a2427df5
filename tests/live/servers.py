"""The servers of other people, as their own pages start them, and as ours say where they do."""

import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.live.harness import flask_run, gunicorn
from tests.live.server import ROOT, Server, free_port

APP = "tests.live.servers_app:app"
ASGI = "tests.live.servers_app:asgi"
THREADS = 20
"""Of the servers that need one for each client."""


def program(name: str) -> str:
    """A program of this Python's environment."""
    path = Path(sys.executable).parent / name
    assert path.exists(), f"{name} is not installed: pip install -e '.[test]'"
    return str(path)


def command(name: str, *words: str, stop: int = signal.SIGTERM) -> Server:
    """A server started with these words, in which PORT stands for its port."""
    port = free_port()
    words = tuple(word.replace("PORT", str(port)) for word in words)
    env = {"PYTHONPATH": str(ROOT)}
    return Server(name, words, port=port, env=env, stop_signal=stop)


def without_conf(*words: str) -> Server:
    """gunicorn where no configuration of ours lies."""
    folder = Path(tempfile.mkdtemp(prefix="streaming-no-conf-"))
    conf = folder / "conf.py"
    conf.write_text("control_socket_disable = True\n")
    return gunicorn(
        APP,
        config=conf,
        cwd=folder,
        extra_env={"PYTHONPATH": str(ROOT)},
        extra_args=words,
    )


def of_the_page(import_line: str) -> Server:
    """A program that the page of servers shows, with our application in the place of its own."""
    page = (ROOT / "docs" / "servers.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (block,) = [block for block in blocks if import_line in block]
    assert "from hello import app" in block
    assert "8000" in block
    ours = block.replace("from hello import app", f"from {APP.replace(':', ' import ')}")
    ours = ours.replace("threads=100", f"threads={THREADS}")
    folder = Path(tempfile.mkdtemp(prefix="streaming-page-"))
    port = free_port()
    (folder / "serve.py").write_text(ours.replace("8000", str(port)))
    return Server(
        import_line,
        [sys.executable, str(folder / "serve.py")],
        port=port,
        env={"PYTHONPATH": str(ROOT)},
        at_end=lambda: shutil.rmtree(folder),
    )


SERVERS: dict[str, Callable[[], Server]] = {
    "gunicorn, `StreamingWorker`": lambda: gunicorn(APP),
    "gunicorn `-k gevent`": lambda: without_conf("-k", "gevent"),
    "gunicorn `-k gevent_pywsgi`": lambda: without_conf("-k", "gevent_pywsgi"),
    "gunicorn `-k gthread --threads 100`": lambda: without_conf(
        "-k", "gthread", "--threads", str(THREADS)
    ),
    "`flask run`": lambda: flask_run(APP),
    "gevent's `pywsgi`": lambda: of_the_page("from gevent.pywsgi import"),
    "waitress": lambda: of_the_page("from waitress import"),
    "uWSGI `--threads 100`": lambda: command(
        "uWSGI",
        *(program("uwsgi"), "--http-socket", "127.0.0.1:PORT", "--master", "--die-on-term"),
        *("--threads", str(THREADS), "--need-app", "--module", APP),
    ),
    "a2wsgi under uvicorn": lambda: command(
        "uvicorn",
        *(program("uvicorn"), "--port", "PORT", "--timeout-graceful-shutdown", "1"),
        *("--interface", "asgi3", ASGI),
    ),
    "a2wsgi under hypercorn": lambda: command(
        "hypercorn",
        *(program("hypercorn"), "--bind", "127.0.0.1:PORT", "--graceful-timeout", "1", ASGI),
    ),
}
