"""``flask streaming doctor --url``: what is wrong with a proxy, tried one by one with nginx."""

import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from streaming.web.cli.doctor.proxy import NAMES
from tests.live.harness import gunicorn, nginx
from tests.live.server import Server, free_port
from tests.sites import make_app, trusting
from tests.web.cli.terminal import Terminal, terminal

UPGRADE = """
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
"""
HOST = "proxy_set_header Host $http_host;"
GOOD = f"proxy_http_version 1.1; {UPGRADE} {HOST}"
GZIP = "gzip on; gzip_types text/event-stream; gzip_min_length 0;"
DEAF = "proxy_ignore_headers X-Accel-Buffering;"

HEARTBEAT = 6.0
LONG, SHORT = ("--wait", "30"), ("--wait", "8")  # for what comes, and for what does not
AT_ONCE = ("--idle", "0")

PROXIES: dict[str, tuple[str, list[str], tuple[str, ...]]] = {
    "good": (GOOD, [], (*LONG, "--idle", "7.5")),
    "gzip": (GOOD + GZIP, ["compression"], LONG + AT_ONCE),
    "gzip that holds back": (GOOD + GZIP + DEAF, ["compression"], SHORT + AT_ONCE),
    # in chunks (HTTP/1.1) nginx passes each piece on, though it is told to collect them
    "HTTP/1.0 that holds back": (
        f"proxy_http_version 1.0; {UPGRADE} {HOST} {DEAF}",
        ["buffering", "upgrade"],
        SHORT + AT_ONCE,
    ),
    "HTTP/1.0": (f"proxy_http_version 1.0; {UPGRADE} {HOST}", ["upgrade"], LONG + AT_ONCE),
    "no upgrade": (f"proxy_http_version 1.1; {HOST}", ["upgrade"], LONG + AT_ONCE),
    "own host": (f"proxy_http_version 1.1; {UPGRADE}", ["own-origin"], LONG + AT_ONCE),
    "no origin": (f'{GOOD} proxy_set_header Origin "";', ["foreign-origin"], LONG + AT_ONCE),
    "no id": (f'{GOOD} proxy_set_header Last-Event-ID "";', ["resume"], SHORT + AT_ONCE),
    # more than a busy machine stops the server for, and less than a heartbeat
    "impatient": (f"{GOOD} proxy_read_timeout 4s;", ["idle"], (*LONG, "--idle", "10")),
}
"""By name: what nginx is told, what the doctor finds, and how long it waits."""

SERVER = """
    server {
        listen HOST:PORT;
        location / { proxy_pass UPSTREAM; OWN }
    }
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('log')}/log.db"


@pytest.fixture(scope="module")
def upstream(log: str) -> Iterator[Server]:
    env = {"STREAMING_LOG": log, "STREAMING_HEARTBEAT": str(HEARTBEAT)}
    with gunicorn(extra_env=env) as server:
        yield server


@pytest.fixture(scope="module")
def proxies(upstream: Server) -> Iterator[Callable[[str], str]]:
    """The address of each of ``PROXIES``: all are one nginx."""
    port = free_port()
    places = {name: f"127.0.0.{n}" for n, name in enumerate(PROXIES, start=1)}
    servers = [
        SERVER.replace("HOST", places[name], 1)
        .replace("PORT", str(port))
        .replace("UPSTREAM", upstream.url)
        .replace("OWN", told)
        for name, (told, _, _) in PROXIES.items()
    ]
    upgrade = 'map $http_upgrade $connection_upgrade { default upgrade; "" ""; }'
    with nginx(upgrade + "".join(servers), port=port):
        yield lambda name: f"http://{places[name]}:{port}"


@pytest.fixture
def doctor(
    log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[int, dict[str, str]]]]:
    """Calls the doctor of an application that is well; its status, and what it found by name."""
    monkeypatch.chdir(tmp_path)
    app = well(log)

    with terminal(app) as own:

        def ask(*args: str, shell: Terminal = own) -> tuple[int, dict[str, str]]:
            result = shell.call("doctor", "--json", *args)
            rows = [json.loads(line) for line in result.stdout.splitlines()]
            return result.exit_code, {row["check"]: row["what"] for row in rows}

        yield ask


def well(log: str) -> Flask:
    app = make_app(log=log, heartbeat=HEARTBEAT, clients=100)
    app.config.update(SECRET_KEY="s" * 32, TRUSTED_HOSTS=["127.0.0.1"])
    return app


@pytest.mark.parametrize("name", PROXIES)
def test_what_is_wrong_with_a_proxy_is_found_and_nothing_else(
    proxies: Callable[[str], str],
    doctor: Callable[..., tuple[int, dict[str, str]]],
    name: str,
) -> None:
    _, wrong, how = PROXIES[name]
    status, found = doctor("--url", proxies(name), *how)
    assert list(found) == wrong, found
    assert status == (1 if wrong else 0)


def test_everything_that_is_looked_at_is_tried() -> None:
    assert {name for _, wrong, _ in PROXIES.values() for name in wrong} | {"url"} == set(NAMES)


def test_what_cannot_be_looked_at_is_said_with_why(
    upstream: Server, doctor: Callable[..., tuple[int, dict[str, str]]], tmp_path: Path
) -> None:
    status, found = doctor("--url", "http://127.0.0.1:1", *LONG, *AT_ONCE)  # nobody is there
    assert status == 2
    assert "Connection refused" in found["url"]
    status, found = doctor("--url", f"{upstream.url}/nowhere", *LONG, *AT_ONCE)
    assert status == 1  # there are no WebSockets there either
    assert "is answered with 404" in found["url"]
    for other in (f"sqlite:///{tmp_path}/other.db", "memory:"):
        with terminal(well(other)) as shell:
            status, found = doctor("--url", upstream.url, *LONG, *AT_ONCE, shell=shell)
        assert status == 2
        assert "log is another" in found["url"]


def test_it_looks_over_tls_and_under_a_path(
    log: str,
    doctor: Callable[..., tuple[int, dict[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = {"STREAMING_LOG": log, "SCRIPT_NAME": "/app"}
    with gunicorn(extra_env=env, tls=True) as server:
        url = f"https://127.0.0.1:{server.port}/app"
        status, found = doctor("--url", url, *LONG, *AT_ONCE)
        assert status == 2
        assert "certificate verify failed" in found["url"]
        monkeypatch.setattr(ssl, "create_default_context", trusting)
        assert doctor("--url", url, *LONG, *AT_ONCE) == (0, {})
