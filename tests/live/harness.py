"""The servers the live tests run against: the project's own, as people start it, and nginx."""

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.live.server import ROOT, Server, free_port, tool
from tests.sites import certificate, trusting


def gunicorn(
    app: str = "app:app",
    *,
    workers: int = 1,
    port: int | None = None,
    extra_env: Mapping[str, str] | None = None,
    extra_args: Sequence[str] = (),
    config: Path = ROOT / "gunicorn.conf.py",
    cwd: Path = ROOT,
    python: str = sys.executable,
    tls: bool = False,
    expect_trouble: bool = False,
) -> Server:
    """The app under gunicorn with the project's configuration, as in production.

    Its log is a file, as there, but one of its own, as new as the server.
    """
    port = port or free_port()
    folder = tempfile.TemporaryDirectory(prefix="streaming-log-")
    url = f"sqlite:///{folder.name}/log.db"
    command = [python, "-m", "gunicorn", "--config", str(config), "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", str(workers), *extra_args]
    if tls:
        certificate_file, key_file = certificate()
        command += ["--certfile", certificate_file, "--keyfile", key_file]
    return Server(
        f"gunicorn {app}",
        [*command, app],
        port=port,
        cwd=cwd,
        env={"STREAMING_LOG": url, **(extra_env or {})},
        workers=workers,
        at_end=folder.cleanup,
        tls=trusting() if tls else None,
        expect_trouble=expect_trouble,
    )


def flask_run(
    app: str = "app",
    *,
    port: int | None = None,
    extra_env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    python: str = sys.executable,
    expect_trouble: bool = False,
) -> Server:
    """The app under `flask run`: Werkzeug's server with a thread per request, as in development."""
    port = port or free_port()
    command = [python, "-m", "flask", "--app", app, "run", "--port", str(port)]
    return Server(
        f"flask run {app}",
        [*command, "--no-reload", "--no-debugger"],
        port=port,
        cwd=cwd,
        env=extra_env,
        stop_signal=signal.SIGINT,
        expect_trouble=expect_trouble,
    )


def file_server(folder: Path, *, port: int | None = None) -> Server:
    """The files in ``folder``, from an origin of their own."""
    port = port or free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    return Server("http.server", command, port=port, cwd=folder, stop_signal=signal.SIGINT)


NGINX = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{http}
}}
"""


@contextlib.contextmanager
def nginx(conf_text: str, *, port: int | None = None) -> Iterator[Server]:
    """nginx with the given inside of its `http` block, in which LISTEN stands for its address."""
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="streaming-nginx-") as folder:
        text = NGINX.format(
            user="user root;" if os.geteuid() == 0 else "",
            folder=folder,
            http=conf_text.replace("LISTEN", f"127.0.0.1:{port}"),
        )
        conf = Path(folder) / "nginx.conf"
        conf.write_text(text)
        command = [tool("nginx"), "-p", folder, "-c", str(conf)]
        with Server("nginx", command, port=port, cwd=Path(folder)) as server:
            yield server
