"""streaming/web/server/door.py: who takes the next connection, among greenlets."""

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from streaming.web.server import door as module
from streaming.web.server.door import Door
from tests.greenlets import in_greenlets
from tests.polling import PATIENCE, wait_until


class Log:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def error(self, text: str, *values: object) -> None:
        self.lines.append(text % values)

    exception = error


@contextmanager
def opened(
    serve: Callable[[socket.socket, Any], None],
    size: int = 10,
    log: Log | None = None,
    waiting: int = 0,
) -> Iterator[tuple[Door, Callable[[], socket.socket]]]:
    """A door on the loopback interface, and how to knock at it. So many ``waiting`` have knocked
    before it opens; knocking gives those first. All are gone at the end."""
    from gevent.pool import Pool

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()

        def serve_and_close(client: socket.socket, addr: Any) -> None:
            with client:
                serve(client, addr)

        early = [socket.create_connection(address, PATIENCE) for _ in range(waiting)]
        door = Door(listener, serve_and_close, pool=Pool(size), log=log or Log())
        door.start()
        try:
            yield (
                door,
                lambda: early.pop() if early else socket.create_connection(address, PATIENCE),
            )
        finally:
            door.stop(timeout=PATIENCE)
        assert door.pool.free_count() == size


def echo(client: socket.socket, addr: Any) -> None:
    client.sendall(client.recv(100))


def ask(client: socket.socket, said: bytes = b"hello") -> bytes:
    with client:
        client.sendall(said)
        return client.recv(100)


@in_greenlets
def test_connections_are_served_one_after_the_other_and_side_by_side() -> None:
    with opened(echo) as (_, knock):
        for _ in range(3):
            assert ask(knock()) == b"hello"
        clients = [knock() for _ in range(5)]
        assert [ask(client, b"%d" % n) for n, client in reversed([*enumerate(clients)])] == [
            b"%d" % n for n in reversed(range(5))
        ]


@in_greenlets
def test_a_crowd_that_is_answered_at_once_needs_few_greenlets() -> None:
    who = set()

    def serve(client: socket.socket, addr: Any) -> None:
        who.add(threading.get_ident())
        client.sendall(b"served")

    with opened(serve, size=100, waiting=50) as (_, knock):
        clients = [knock() for _ in range(50)]
        assert [client.recv(100) for client in clients] == [b"served"] * 50
        assert len(who) < 5
        for client in clients:
            client.close()


@in_greenlets
def test_who_is_busy_keeps_nobody_else_waiting() -> None:
    go = threading.Event()

    def serve(client: socket.socket, addr: Any) -> None:
        if client.recv(100) == b"slow":
            go.wait()
        client.sendall(b"done")

    with opened(serve) as (_, knock):
        slow = knock()
        slow.sendall(b"slow")
        for _ in range(3):
            assert ask(knock()) == b"done"
        go.set()
        assert ask(slow) == b"done"


@in_greenlets
def test_when_all_are_busy_the_first_that_is_done_takes_the_next() -> None:
    with opened(echo, size=2) as (door, knock):
        one, two = knock(), knock()
        wait_until(lambda: not door.pool.free_count(), "both to be busy")
        three = knock()
        three.sendall(b"three")
        assert ask(two, b"two") == b"two"
        assert ask(three) == b"three"
        assert ask(one, b"one") == b"one"
        assert ask(knock()) == b"hello"


@in_greenlets
def test_a_failure_costs_one_connection() -> None:
    log = Log()

    def serve(client: socket.socket, addr: Any) -> None:
        if client.recv(100) == b"fail":
            raise ValueError("as told")
        client.sendall(b"done")

    with opened(serve, size=1, log=log) as (_, knock):
        assert ask(knock(), b"fail") == b""
        assert ask(knock()) == b"done"
    assert log.lines == ["A connection could not be served"]


@in_greenlets
def test_a_connection_does_not_see_what_the_last_one_set() -> None:
    user: ContextVar[str] = ContextVar("user", default="nobody")

    def serve(client: socket.socket, addr: Any) -> None:
        said = client.recv(100).decode()
        client.sendall(user.get().encode())
        user.set(said)

    with opened(serve, size=1) as (_, knock):
        assert ask(knock(), b"ann") == b"nobody"
        assert ask(knock(), b"bob") == b"nobody"


@in_greenlets
def test_a_crowd_does_not_keep_others_from_their_turn() -> None:
    module.TURN = 0.001
    ticks = []

    def serve(client: socket.socket, addr: Any) -> None:
        until = time.perf_counter() + 0.002  # works, and waits for nothing
        while time.perf_counter() < until:
            pass
        client.sendall(b"%d" % len(ticks))

    def tick() -> None:
        while True:
            time.sleep(0.0001)
            ticks.append(1)

    threading.Thread(target=tick, daemon=True).start()
    with opened(serve, waiting=20) as (_, knock):
        clients = [knock() for _ in range(20)]
        seen = [int(client.recv(100)) for client in clients]
        assert len(set(seen)) > 10, seen
        for client in clients:
            client.close()


@in_greenlets
def test_a_closed_door_takes_nobody_and_ends_nobody() -> None:
    with opened(echo) as (door, knock):
        client = knock()
        wait_until(lambda: door.pool.free_count() == 8, "one served, one at the door")
        door.close()
        assert door.pool.free_count() == 9
        try:
            knock()
        except ConnectionRefusedError:
            pass
        else:
            raise AssertionError("taken by a closed door")
        assert ask(client) == b"hello"
        door.close()


@in_greenlets
def test_to_stop_ends_those_who_do_not_end_by_themselves() -> None:
    ended = []

    def serve(client: socket.socket, addr: Any) -> None:
        try:
            client.recv(100)
        finally:
            ended.append(addr)

    with opened(serve) as (door, knock), knock():
        wait_until(lambda: door.pool.free_count() == 8, "one served, one at the door")
        door.stop(timeout=0.01)
        assert len(ended) == 1


@in_greenlets
def test_where_descriptors_are_short_it_tries_again() -> None:
    module.PAUSE = 0.001
    log, errors = Log(), [OSError(errno.EMFILE, "Too many open files")] * 3

    with opened(echo, log=log) as (door, knock):
        accept = door._listener.accept

        class Short:
            close = door._listener.close

            def accept(self) -> Any:
                if errors:
                    raise errors.pop()
                return accept()

        assert ask(knock()) == b"hello"
        door._listener = Short()
        ask(knock())  # by whom the next is taken as the class says
        assert ask(knock()) == b"hello"
        assert log.lines == ["Cannot accept connections: [Errno 24] Too many open files"] * 3
