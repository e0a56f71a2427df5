"""What users rely on in gunicorn's gevent worker holds in ours: both run through the same tests."""

import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack

import pytest

from tests.live.harness import gunicorn
from tests.live.raw_websocket import TEXT, RawWebSocket
from tests.live.server import Server
from tests.polling import PATIENCE, wait_until

WORKERS = ["gevent", "streaming.web.server.StreamingWorker"]

LINE = "line %(h)s %(r)s %(s)s %(b)s %({x-a}i)s %({content-type}o)s %({raw_uri}e)s %(a)s;"
CONFIG = f"""
keepalive = 1
accesslog = "-"
access_log_format = "{LINE}"

def pre_request(worker, req):
    worker.log.info("before %s %s %s", req.method, req.path, dict(req.headers).get("X-A"))
    req.headers.append(("X-HOOK", "added"))

def post_request(worker, req, environ, resp):
    worker.log.info("after %s %s %s", req.uri, environ.get("HTTP_X_A"), resp and resp.status)
"""

Start = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="module", params=WORKERS)
def worker(request: pytest.FixtureRequest) -> str:
    """Its class."""
    return str(request.param)


@pytest.fixture
def start(worker: str) -> Start:
    """Starts the echo app with more arguments."""

    def start(
        *arguments: str, app: str = "tests.live.echo_app:app", workers: int = 1
    ) -> AbstractContextManager[Server]:
        return gunicorn(app, workers=workers, extra_args=["--worker-class", worker, *arguments])

    return start


@pytest.fixture(scope="module")
def unix(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a socket."""
    return str(tmp_path_factory.mktemp("unix") / "app.sock")


@pytest.fixture(scope="module")
def server(worker: str, unix: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The echo app with hooks, an access log and a Unix socket."""
    config = tmp_path_factory.mktemp("config") / "gunicorn.conf.py"
    config.write_text(CONFIG)
    arguments = ["--worker-class", worker, "--bind", f"unix:{unix}"]
    with gunicorn("tests.live.echo_app:app", config=config, extra_args=arguments) as running:
        yield running


def get(path: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE)


def read_all(client: socket.socket) -> bytes:
    received = b""
    while data := client.recv(65536):
        received += data
    return received


def ask(server: Server, path: str, *fields: str) -> bytes:
    with connect(server) as client:
        client.sendall(get(path, "Connection: close", *fields))
        return read_all(client)


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def test_a_connection_that_dies_at_our_end_is_over_without_a_word(server: Server) -> None:
    """So a stream goes on without its request: nothing is logged, nothing else is answered."""
    before = len(server.log_text())
    with connect(server) as client:
        client.sendall(get("/swapped") + get("/pid"))
        assert body(read_all(client)) == b"5\r\nfirst\r\nbehind its back"

    def logged() -> str:
        return server.log_text()[before:]

    wait_until(lambda: "the body was closed\n" in logged(), "the end of the body")
    wait_until(lambda: "after /swapped None 200 OK" in logged(), "the end of the request")
    assert "rror" not in logged()
    assert "/pid" not in logged()


@pytest.mark.parametrize("said", [b"", b"GET / HT", get("/pid"), get("/pid") + b"GET / HT"])
def test_a_silent_client_is_let_go(server: Server, said: bytes) -> None:
    with connect(server) as client:
        client.sendall(said)
        assert read_all(client).startswith(b"HTTP/1.1 200 OK" if b"\r\n\r\n" in said else b"")


def test_a_question_too_many_does_not_reset_the_answer(server: Server) -> None:
    with connect(server) as client:
        client.sendall(get("/length", "Connection: close") + get("/pid"))
        assert body(read_all(client)) == b"body"  # and then the end, without an error


def test_who_is_slow_keeps_nobody_else_waiting(server: Server) -> None:
    with connect(server) as slow:
        slow.sendall(get("/held", "Connection: close"))
        assert body(ask(server, "/pid"))
        slow.setblocking(False)
        with pytest.raises(BlockingIOError):
            slow.recv(1)
        slow.settimeout(PATIENCE)
        ask(server, "/release")
        assert body(read_all(slow)) == b"held"


def test_hooks_see_requests_and_may_change_them(server: Server) -> None:
    assert b'"HTTP_X_HOOK": "added"' in ask(server, "/there", "X-A: 1")
    wait_until(lambda: "before GET /there 1" in server.log_text(), "the hook before")
    wait_until(lambda: "after /there 1 200 OK" in server.log_text(), "the hook after")


def test_the_access_log_says_what_was_asked_and_answered(server: Server) -> None:
    expected = [
        "127.0.0.1 GET /chunks?a HTTP/1.1 200 6 1 text/plain /chunks?a test",
        "127.0.0.1 GET /length HTTP/1.1 200 4 1 - /length test",
        "127.0.0.1 GET /too-long HTTP/1.1 200 2 1 - /too-long test",
    ]
    for path in ("/chunks?a", "/length", "/too-long"):
        ask(server, path, "X-A: 1", "User-Agent: test")

    def logged() -> list[str]:
        return re.findall(r"line (.*);", server.log_text())[-3:]

    wait_until(lambda: logged() == expected, "the lines")


def test_a_unix_socket_is_served(server: Server, unix: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(unix)
        client.sendall(get("/", "Connection: close"))
        said = body(read_all(client)).decode()
    for value in ('"SERVER_NAME": "x"', '"SERVER_PORT": "80"', '"REMOTE_ADDR": ""'):
        assert value in said


def test_a_request_is_finished_before_a_worker_stops(start: Start) -> None:
    with start() as server, connect(server) as client:
        client.sendall(get("/slow?1"))
        assert body(ask(server, "/pid")) == b"%d" % server.worker_pids()[0]
        server.send_signal(signal.SIGTERM)
        assert body(read_all(client)) == b"slow"
        server.wait()


def test_connections_above_the_limit_wait_for_their_turn(start: Start) -> None:
    with start("--worker-connections", "2") as server, ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(4)]
        for client in clients:
            client.sendall(get("/slow?0.2", "Connection: close"))
        assert [body(read_all(client)) for client in clients] == [b"slow"] * 4


def test_a_worker_is_recycled_after_its_requests(start: Start) -> None:
    with start("--max-requests", "5") as server:
        before = {b"%d" % pid for pid in server.worker_pids()}
        wait_until(lambda: body(ask(server, "/pid")) not in before, "another worker")


def test_both_workers_take_connections(start: Start) -> None:
    with start(workers=2) as server:
        wait_until(lambda: len({ask(server, "/pid") for _ in range(10)}) == 2, "both")


def test_flask_socks_own_websockets_work(start: Start) -> None:
    with (
        start(app="bench.peers.naive_app:app") as server,
        RawWebSocket(server, "/echo", subprotocol=None) as client,
    ):
        client.send(TEXT, b"hello")
        assert client.read_text() == "You said: hello"
