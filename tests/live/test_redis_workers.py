"""Several gunicorn workers on one Redis: any of them takes a message, any resumes a client."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.live.clients import RawClient, post_json
from tests.live.harness import gunicorn
from tests.live.server import Server
from tests.polling import wait_until
from tests.redis_server import RedisServer, redis_server

WORKERS = 3


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp("redis")
    with redis_server(folder, appendonly="yes", appendfsync="always") as server:
        yield server


@pytest.fixture
def server(redis: RedisServer) -> Iterator[Server]:
    with gunicorn(workers=WORKERS, extra_env={"STREAMING_LOG": redis.url("p:")}) as server:
        yield server


def publish(server: Server, text: str) -> str:
    def post() -> str:
        url = f"{server.url}/streaming/channels/news"
        try:
            own = {"key": text, "secret": "of this publisher"}
            status, answer = post_json(url, {"data": text, **own})
        except (OSError, AssertionError, ValueError):  # the worker that took it was killed
            return ""
        assert status in (201, 503), answer
        return str(answer["id"]) if status == 201 else ""

    return wait_until(post, f"{text!r} is published")


def take(client: RawClient, count: int) -> list[tuple[str, str]]:
    """Data and id of the next messages."""
    found: list[tuple[str, str]] = []
    while len(found) < count:
        event = client.next_event()
        assert event is not None, f"ended after {found}"
        if event.event == "message":
            found.append((str(event.data), str(event.id)))
        assert event.event != "gap", event
    return found


def stream(server: Server, after: str = "") -> RawClient:
    headers = {"Last-Event-ID": after} if after else {}
    client = RawClient(f"{server.url}/streaming/events?channel=news", headers=headers)
    event = client.next_event()
    assert event is not None
    assert event.event == "ready"
    return client


def all_workers(server: Server) -> list[int]:
    pids = server.worker_pids()
    return pids if len(pids) == WORKERS else []


def streams_of(server: Server, worker: int) -> list[RawClient]:
    """Streams that this very worker serves: the others are stopped meanwhile."""
    others = [pid for pid in server.worker_pids() if pid != worker]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        return [stream(server) for _ in range(4)]
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def test_clients_of_all_workers_get_everything_in_one_order_and_resume_anywhere(
    server: Server, redis: RedisServer
) -> None:
    with ExitStack() as opened:
        clients = [
            opened.enter_context(each)
            for pid in wait_until(lambda: all_workers(server), "all workers run")
            for each in streams_of(server, pid)
        ]
        listening = str(redis.ask("CLIENT", "LIST", "TYPE", "pubsub")).count("id=")
        assert listening == WORKERS, "one connection for each worker"
        sent = [(str(n), publish(server, str(n))) for n in range(30)]
        for client in clients:
            assert take(client, 30) == sent
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGKILL)
        sent += [(str(n), publish(server, str(n))) for n in range(30, 40)]
        for place in (5, 29, 35):
            for _ in range(4):
                again = opened.enter_context(stream(server, sent[place][1]))
                assert take(again, 39 - place) == sent[place + 1 :]


def test_clients_stay_connected_while_redis_is_away(server: Server, redis: RedisServer) -> None:
    with ExitStack() as opened:
        clients = [opened.enter_context(stream(server)) for _ in range(6)]
        publish(server, "before")
        redis.kill()
        url = f"{server.url}/streaming/channels/news"
        status, answer = post_json(url, {"data": "refused"})
        assert (status, answer["title"]) == (503, "Log unavailable")
        redis.start()
        publish(server, "after")
        for client in clients:
            assert [data for data, _ in take(client, 2)] == ["before", "after"]
