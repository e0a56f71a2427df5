"""``flask streaming doctor``: each thing that it claims to find, tried one by one."""

import functools
import json
import re
import resource
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request
from flask_compress import Compress
from werkzeug.middleware.profiler import ProfilerMiddleware

from streaming import Streaming
from streaming.web.cli.doctor import command, proxy
from streaming.web.cli.doctor.command import NAMES
from streaming.web.cli.doctor.machine import too_old
from streaming.web.cli.doctor.server import Server, read_config
from streaming.web.cli.doctor.visit import readable
from tests.middleware import collecting, compressing
from tests.sites import make_app, serve
from tests.test_pages import DOCS, anchors
from tests.web.cli.terminal import Terminal, terminal

WELL = {"SECRET_KEY": "s" * 32, "TRUSTED_HOSTS": ["example.org"], "STREAMING_CLIENTS": 100}
SERVER = 'worker_class = "gevent"\nworkers = 2\nworker_connections = 100\ngraceful_timeout = 10\n'

Set = Callable[[Flask], object]


def nothing(app: Flask) -> None:
    """An application that is all right."""


def config(**changed: object) -> Set:
    """Other settings, before they are read."""
    return lambda app: app.config.update(changed)


def late(app: Flask) -> None:
    """A setting that comes too late; called once more behind ``Streaming(app)``."""
    if "streaming" in app.extensions:
        app.config["STREAMING_HEARTBEAT"] = 5.0


def wrapped(middleware: Callable[..., Any], **how: Any) -> Set:
    """Middleware around it."""

    def put(app: Flask) -> None:
        if "streaming" not in app.extensions:
            app.wsgi_app = middleware(app.wsgi_app, **how)  # type: ignore[method-assign]

    return put


def reading_hook(app: Flask) -> None:
    """A hook that reads every body."""
    if "streaming" not in app.extensions:
        app.after_request(lambda response: Response(response.get_data()))


def compressed(app: Flask) -> None:
    """Flask-Compress for everything, which is undone for streams."""
    if "streaming" not in app.extensions:
        app.config["COMPRESS_MIMETYPES"] = ["text/event-stream", "text/plain"]
        Compress(app)


@functools.cache
def read_text(text: str) -> Server:
    """The configuration, read once for all tests: that takes a process."""
    with tempfile.NamedTemporaryFile("w", suffix=".py", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        return read_config(file.name)


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """``doctor(set_up, server)``: exit status, and what was found by name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "read_config", lambda path: read_text(Path(path).read_text()))
    opened: list[Any] = []

    def examine(
        set_up: Set = nothing, server: str = SERVER, *args: str, **streaming: Any
    ) -> tuple[int, dict[str, Any]]:
        app = Flask("well")
        app.config.update(WELL, STREAMING_LOG=f"sqlite:///{tmp_path}/log.db")
        set_up(app)
        Streaming(app, **{"authorize": lambda action, channel: True, **streaming})
        set_up(app)
        if server:
            (tmp_path / "gunicorn.conf.py").write_text(textwrap.dedent(server), "utf-8")
        shell: Terminal = opened_terminal(app)
        result = shell.call("doctor", "--json", *args)
        found = [json.loads(line) for line in result.stdout.splitlines() if line[:1] == "{"]
        return result.exit_code, {row["check"]: row for row in found}

    def opened_terminal(app: Flask) -> Terminal:
        opened.append(terminal(app))
        found: Terminal = opened[-1].__enter__()
        return found

    yield examine
    for each in opened:
        each.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("set_up", "server"),
    [
        (nothing, SERVER),
        (nothing, ""),
        (compressed, ""),
        (nothing, SERVER.replace('"gevent"', '"streaming.web.server.StreamingWorker"')),
        (nothing, SERVER.replace('"gevent"', '"gthread"\nthreads = 200')),
        (config(STREAMING_LOG="memory:"), SERVER.replace("workers = 2", "workers = 1")),
        (nothing, f"from gevent import monkey\nmonkey.patch_all()\npreload_app = True\n{SERVER}"),
    ],
    ids=["gevent", "no server", "compress", "ours", "gthread", "memory", "preload"],
)
def test_what_is_all_right_ends_with_0_and_nothing(
    doctor: Callable[..., Any], set_up: Set, server: str
) -> None:
    assert doctor(set_up, server) == (0, {})


WRONG: list[tuple[str, Set, str]] = [
    ("log", config(STREAMING_LOG="sqlite:////dev/null/log.db"), ""),
    ("log", config(STREAMING_LOG="redis://127.0.0.1:1"), ""),
    ("late-settings", late, ""),
    ("secret-key", config(SECRET_KEY=None), ""),
    ("trusted-hosts", config(TRUSTED_HOSTS=None), ""),
    ("all-origins", config(STREAMING_ORIGINS=["*"]), ""),
    ("heartbeat", config(STREAMING_HEARTBEAT=None), ""),
    ("heartbeat", config(STREAMING_HEARTBEAT=120), ""),
    ("deadlines", config(STREAMING_SEND_TIMEOUT=None), ""),
    ("deadlines", config(STREAMING_PONG_TIMEOUT=None), ""),
    ("workers-memory", config(STREAMING_LOG="memory:"), SERVER),
    (
        "server-environment",
        config(STREAMING_LOG="memory:"),
        f"import os\nos.environ['STREAMING_LOG'] = 'sqlite:///log.db'\n{SERVER}",
    ),
    ("worker-class", nothing, "workers = 1"),
    ("worker-class", nothing, "threads = 4"),
    ("worker-class", nothing, 'worker_class = "tornado"'),
    ("patch-order", nothing, f"preload_app = True\n{SERVER}"),
    ("graceful-timeout", nothing, f"{SERVER}\ngraceful_timeout = 1"),
    ("file-limit", config(STREAMING_CLIENTS=10**7), ""),
    ("file-limit", nothing, f"{SERVER}\nworker_connections = 10**7"),
    ("middleware", wrapped(collecting), ""),
    ("middleware", wrapped(compressing), ""),
    ("middleware", wrapped(ProfilerMiddleware, stream=None), ""),
    ("middleware", reading_hook, ""),
]


@pytest.mark.parametrize(("name", "set_up", "server"), WRONG)
def test_each_mistake_is_found_and_nothing_else(
    doctor: Callable[..., Any], name: str, set_up: Set, server: str
) -> None:
    status, found = doctor(set_up, server)
    assert (status, list(found)) == (1, [name])
    assert found[name]["result"] == "change"
    assert doctor(set_up, server, "--ignore", name) == (0, {})


def test_a_server_that_nobody_may_read_is_found(doctor: Callable[..., Any]) -> None:
    status, found = doctor(nothing, "", authorize=None)
    assert (status, list(found)) == (1, ["permissions"])
    assert doctor(config(STREAMING_PUBLIC=["news"]), "", authorize=None) == (0, {})


def test_few_files_are_found_where_they_are_few(doctor: Callable[..., Any]) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (150, limits[1]))
    try:
        _, found = doctor()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert "150 files" in found["file-limit"]["what"]
    assert "100 clients" in found["file-limit"]["what"]


NEEDED = [
    "flask>=3.1",
    "gunicorn[gevent]>=26.2",
    "gevent>=24.10.1",
    'redis>=5.3; extra == "redis"',
    'openai>=3.20; extra == "openai"',
    'websockets>=14; extra == "bench"',
]


def test_versions_below_what_is_tried_are_found() -> None:
    there = {"flask": "3.1.0", "gunicorn": "25.9", "gevent": "24.10", "redis": "5.3.0rc1"}

    def version(name: str) -> str:
        if name not in there:
            raise metadata.PackageNotFoundError(name)
        return there[name]

    found = list(too_old(NEEDED, version))
    assert found == [("gunicorn", "25.9", "26.2"), ("gevent", "24.10", "24.10.1")]


def test_what_cannot_be_read_ends_with_2_and_says_why(
    doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "read_config", read_config)
    status, found = doctor(nothing, "", "--gunicorn-config", "none.py")
    assert (status, found["gunicorn-config"]["result"]) == (2, "unseen")
    assert "'none.py' doesn't exist" in found["gunicorn-config"]["what"]
    status, found = doctor(config(SECRET_KEY=None), "workers = nonsense")
    assert (status, sorted(found)) == (1, ["gunicorn-config", "secret-key"])


def test_a_configuration_is_read_as_gunicorn_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "own.py"
    path.write_text("print('hello')\nworkers = 3\n", "utf-8")
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--worker-class gevent")
    read = read_config(str(path))
    assert (read.workers, read.is_green) == (3, True)


def test_a_person_is_told_what_why_and_what_to_do(doctor: Callable[..., Any]) -> None:
    app = Flask("small")
    Streaming(app)
    with terminal(app) as shell:
        result = shell.call("doctor")
    assert result.exit_code == 1
    assert "secret-key\n    SECRET_KEY is not set.\n" in result.stdout
    assert "    -> Set app.secret_key to" in result.stdout
    assert "    docs/runs.md#once\n" in result.stdout
    assert "To change: 3. Not looked at: 0." in result.stderr


def test_every_check_is_tried() -> None:
    there = {*(name for name, _, _ in WRONG), "permissions", "versions"}
    assert there == set(NAMES) - set(proxy.NAMES)  # those have tests/live/test_doctor.py


def test_every_page_that_is_named_is_there() -> None:
    folder = Path(read_config.__code__.co_filename).parent
    texts = [file.read_text("utf-8") for file in folder.glob("*.py")]
    named = re.findall(r'"([\w.-]+\.md)#([\w-]+)"', "".join(texts))
    assert len(named) > 20
    for page, place in named:
        assert place in anchors(DOCS / page), f"{page}#{place}"


def test_it_reads_what_it_may_and_as_whoever_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []

    def authorize(action: str, channel: str) -> bool:
        asked.append(channel)
        return request.headers.get("X-Who") == "me"

    app = make_app(authorize=authorize, log=f"sqlite:///{tmp_path}/log.db", clients=100)
    app.config.update(SECRET_KEY=WELL["SECRET_KEY"], TRUSTED_HOSTS=["127.0.0.1"])
    with terminal(app) as shell, serve(app) as site:
        line = ["doctor", "--url", site.url, "--idle", "0", "--channel", "mine", "--wait", "30"]
        refused = shell.call(*line)
        assert refused.exit_code == 2
        assert "A stream of the channel 'mine' is answered with 403." in refused.output
        assert shell.call(*line, "--header", "X-Who: me").exit_code == 0
        assert set(asked) == {"mine"}
        assert shell.call(*line, "--header", "nonsense").exit_code == 2


@pytest.mark.parametrize(
    ("public", "channel"),
    [(["news", "ticker:*"], "ticker:doctor"), (["news"], "news"), ([], "doctor")],
)
def test_it_reads_what_strangers_may_and_nobody_publishes_to_if_that_can_be(
    public: list[str], channel: str
) -> None:
    assert readable(public) == channel


@pytest.mark.parametrize("url", ["example.org", "ftp://example.org", "https://", "http://[x/"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with terminal() as shell:
        result = shell.call("doctor", "--url", url)
    assert result.exit_code == 2
    assert "--url: " in result.output
