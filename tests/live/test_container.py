"""The Docker file of docs/deployment.md: what it starts, in the environment that it says."""

import json
import re
import sys
from pathlib import Path
from urllib.request import urlopen

from tests.live.clients import RawClient
from tests.live.server import ROOT, Server, free_port
from tests.live.test_shutdown import check_restart
from tests.polling import PATIENCE, wait_until
from tests.redis_server import shared_server

TEXT = (ROOT / "docs" / "deployment.md").read_text("utf-8")


def block(language: str, part: str) -> str:
    """The first block of the page in this language that has this part."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if part in block)


def test_what_the_docker_file_starts_serves_and_ends_its_streams_at_term(tmp_path: Path) -> None:
    docker = block("dockerfile", "CMD")
    files = {
        "hello.py": block("python", "os.environ"),
        "gunicorn.conf.py": block("python", "def worker_exit"),
    }
    assert f"COPY {' '.join(files)} ./" in docker
    conf = files["gunicorn.conf.py"]
    files["gunicorn.conf.py"] = conf.replace("workers = 4\n", "")
    assert conf != files["gunicorn.conf.py"]
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    env = dict(re.findall(r"(\w+)=(\S+)", re.findall(r"^ENV (.*)$", docker, re.MULTILINE)[0]))
    assert env["STREAMING_LOG"] == "redis://redis:6379"
    env |= {"STREAMING_LOG": shared_server().url(), "PYTHONPATH": str(ROOT)}
    program, *words = json.loads(re.findall(r"^CMD (.*)$", docker, re.MULTILINE)[0])
    port = free_port()
    words = [word.replace("0.0.0.0:8000", f"127.0.0.1:{port}") for word in words]
    command = [sys.executable, "-m", program, *words]
    with Server("container", command, port=port, cwd=tmp_path, env=env) as server:
        count = int(env["WEB_CONCURRENCY"])
        wait_until(lambda: len(server.worker_pids()) == count, "all workers are there")
        for path in re.findall(r"path: (\S+),", block("yaml", "livenessProbe")):
            with urlopen(server.url + path, timeout=PATIENCE) as answer:
                assert answer.status == 200
        with RawClient(server.url + "/streaming/events?channel=news") as client:
            assert client.next_event()
            server.terminate()
            check_restart(list(client.events()))
            assert client.ending == "whole"
