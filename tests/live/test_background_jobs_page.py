"""docs/background-jobs.md: what Celery, RQ, APScheduler and a shell publish there is heard."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.guides import run_shown, serving, shown
from tests.live.clients import Event, RawClient
from tests.live.server import ROOT, environment
from tests.polling import PATIENCE
from tests.redis_server import RedisServer, shared_server

PAGE = "background-jobs.md"
FILES = ["shop.py", "tasks.py", "jobs.py", "minutes.py"]
REDIS = '"redis://localhost:6379'


@pytest.fixture(scope="module")
def redis() -> RedisServer:
    return shared_server()


@pytest.fixture
def folder(tmp_path: Path, redis: RedisServer) -> Path:
    """The page's files, with this test's Redis in the place of theirs."""
    for name in FILES:
        source = shown(PAGE, name)
        assert REDIS in source
        (tmp_path / name).write_text(source.replace("localhost:6379", f"127.0.0.1:{redis.port}"))
    return tmp_path


@contextmanager
def running(folder: Path, words: Sequence[str]) -> Iterator[None]:
    """A program of this Python in the folder, until the end of the test."""
    env = environment({"PYTHONPATH": f"{ROOT}:{folder}", "PYTHONWARNINGS": "ignore"})
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=folder, env=env, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
            print((folder / "log").read_text()[-4000:])  # for a failing test


@contextmanager
def following(redis: RedisServer, channel: str) -> Iterator[RawClient]:
    """A client of the page's web application."""
    source = shown(PAGE, "shop.py").replace("localhost:6379", f"127.0.0.1:{redis.port}")
    source = source.replace('["job:*"]', '["job:*", "news"]')
    defined: dict[str, Any] = {"__name__": "shop"}
    exec(compile(source, "shop.py", "exec"), defined)
    with (
        serving(defined["app"]) as port,
        RawClient(
            f"http://127.0.0.1:{port}/streaming/events?channel={channel}&last_event_id=start",
            timeout=3 * PATIENCE,  # a program has to start first
        ) as client,
    ):
        yield client


def progress(client: RawClient, of: int) -> list[Event]:
    """What is told until the job is done, ``ready`` left out."""
    told = [event for event in (client.next_event() for _ in range(of + 1)) if event]
    assert told[0].event == "ready"
    assert [(each.event, each.json()) for each in told[1:]] == [
        ("progress", {"done": done, "of": of}) for done in range(1, of + 1)
    ]
    return told


def test_a_celery_task_in_a_forked_worker_is_heard_to_its_end(
    folder: Path, redis: RedisServer
) -> None:
    ask = "import shop; print(shop.app.test_client().post('/resize/3').json['channel'])"
    words = ["-m", "celery", "-A", "tasks", "worker", "--pool", "prefork", "--concurrency", "1"]
    with running(folder, [*words, "--without-mingle", "--without-gossip"]):
        env = environment({"PYTHONPATH": f"{ROOT}:{folder}"})
        asked = subprocess.run(
            [sys.executable, "-c", ask], cwd=folder, env=env, capture_output=True, text=True
        )
        assert asked.returncode == 0, asked.stderr
        with following(redis, asked.stdout.strip()) as client:
            progress(client, 3)
            assert [event.event for event in client.events()][:1] == ["end"]
            assert client.ending == "whole"


def test_an_rq_job_in_a_forked_process_is_heard(folder: Path, redis: RedisServer) -> None:
    from rq import Queue

    with Redis(port=redis.port) as connection:
        job = Queue(connection=connection).enqueue("jobs.resize_all", 3)
    url = f"redis://127.0.0.1:{redis.port}"
    with (
        running(folder, ["-m", "rq.cli", "worker", "--burst", "--url", url]),
        following(redis, f"job:{job.id}") as client,
    ):
        progress(client, 3)


def test_a_scheduler_and_a_shell_are_heard(folder: Path, redis: RedisServer) -> None:
    clock = folder / "minutes.py"
    assert "minutes=1" in clock.read_text()
    clock.write_text(clock.read_text().replace("minutes=1", "seconds=0.1"))
    shell = ["-m", "flask", "--app", "shop", "streaming", "publish", "news"]
    with following(redis, "news") as client:
        assert client.next_event().event == "ready"  # type: ignore[union-attr]
        with running(folder, ["minutes.py"]):
            assert client.next_event().data == "One more minute."  # type: ignore[union-attr]
        with running(folder, [*shell, "Good morning."]):
            while client.next_event().data != "Good morning.":  # type: ignore[union-attr]
                pass


def test_a_run_tells_its_progress_without_a_queue() -> None:
    app = run_shown(PAGE, "work.py")["app"]
    watch = app.test_client().post("/resize/3").json["watch"]
    with serving(app) as port, RawClient(f"http://127.0.0.1:{port}{watch}") as client:
        told = [(event.event, json.loads(event.data or "{}")) for event in client.events()]
    parts = [part["data"] for name, data in told if name == "snapshot" for part in data["parts"]]
    parts += [data for name, data in told if name == "data"]
    assert parts == [{"done": done, "of": 3} for done in (1, 2, 3)]
    assert [name for name, _ in told][-2:] == ["end", "close"]
