"""What happens half-way: no thread, no file descriptor, a wait that fails. Nobody is orphaned."""

import errno
import gc
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NoReturn
from unittest import mock

import pytest
from flask import Flask

from streaming import Connection, Sock
from streaming.clients import sockets
from streaming.hub import orders
from tests.greenlets import is_green, run_file
from tests.live.clients import RawClient
from tests.live.raw_websocket import CLOSE, TEXT, RawWebSocket
from tests.polling import wait_until
from tests.shortage import no_thread
from tests.sites import Site, make_app, serve
from tests.sockets import named_descriptors


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    monkeypatch.setattr(orders, "LINGER", 0.1)  # no thread of it is left
    app = make_app(heartbeat=None)
    app.logger.disabled = True  # or records of refusals would refer to their frames
    sock = Sock(app)
    sock.route("/rest", endpoint="rest")(lambda ws: lambda message: ws.send(f"took {message}"))
    sock.route("/echo", endpoint="echo")(echo)
    yield app
    app.logger.disabled = False


def echo(ws: Connection) -> None:
    for data in ws:
        ws.send(f"took {data}")


@contextmanager
def watched(app: Flask, **how: Any) -> Iterator[Site]:
    """A site at whose end nobody is listed, nothing is open and everything works again."""
    with serve(app, **how) as site:
        works(site)
        before = named_descriptors()
        yield site
        site.wait_empty()

        def is_all_closed() -> bool:
            gc.collect()  # Werkzeug leaves its selector to the collector where a client broke off
            return len(named_descriptors()) <= len(before)

        try:
            wait_until(is_all_closed, "all is closed")
        except AssertionError as error:
            error.add_note(f"open: {dict(named_descriptors().items() - before.items())}")
            error.add_note(f"threads: {[thread.name for thread in threading.enumerate()]}")
            raise
        works(site)


def works(site: Site) -> None:
    with site.get("/streaming/events?channel=a") as client, websocket(site, "/rest") as ws:
        assert client.next_event().event == "ready"  # type: ignore[union-attr]
        site.state.hub.publish("a", "x")
        assert client.next_event().data == "x"  # type: ignore[union-attr]
        ws.send(TEXT, b"x")
        assert ws.read_text() == "took x"
        ws.send(CLOSE, b"\x03\xe8")
        assert ws.read_close().close_code == 1000
    site.wait_empty()
    names = ("streaming poller", "streaming deadlines", "deliver", "websocket")
    wait_until(lambda: not any(t.name.startswith(names) for t in threading.enumerate()), "rest")


def websocket(site: Site, path: str) -> RawWebSocket:
    return RawWebSocket(site, path, subprotocol=None)  # type: ignore[arg-type]


def websocket_or_503(site: Site, path: str) -> RawWebSocket | None:
    try:
        return websocket(site, path)
    except AssertionError as refusal:
        if "503" not in str(refusal):
            raise
        return None


def is_running(name: str) -> bool:
    """Whether there is a thread of this name."""
    return any(thread.name.startswith(name) for thread in threading.enumerate())


def no_descriptor(*_: object) -> NoReturn:
    """Fail, each time with another error: one for all would refer to the frames of all."""
    raise OSError(errno.EMFILE, "Too many open files")


def ends(client: RawClient) -> str | None:
    """Read to the end of a stream, and how it ended."""
    with suppress(OSError):
        client.read_all()
    return client.ending or "cut"


def hangs_up(ws: RawWebSocket) -> bool:
    """Read until the server hangs up."""
    with suppress(OSError):
        while ws.read():
            pass
    return True


@pytest.mark.parametrize("name", ["streaming deadlines", "streaming dispatcher", "deliver"])
def test_an_event_stream_that_gets_no_thread_is_told_to_come_again_or_cut(
    app: Flask, name: str
) -> None:
    with watched(app) as site:
        for n in range(300):
            site.state.hub.publish("long", f"{n}:" + "x" * 20_000)
        wait_until(lambda: not is_running(name), "nobody is left of those before")
        with no_thread(name) as refused:
            for _ in range(3):
                with site.get("/streaming/events?channel=long&history=300") as client:
                    if name != "deliver" or is_green():
                        assert ends(client)
        assert refused or (name == "deliver" and not is_green())


@pytest.mark.parametrize("name", ["streaming deadlines", "deliver", "websocket "])
@pytest.mark.parametrize("path", ["/rest", "/echo"])
def test_a_websocket_that_gets_no_thread_is_refused_or_closed(
    app: Flask, name: str, path: str
) -> None:
    with watched(app) as site, no_thread(name) as refused:
        for _ in range(3):
            ws = websocket_or_503(site, path)
            if ws is None:
                continue
            with ws:
                ws.send(TEXT, b"x")
                if refused:
                    assert hangs_up(ws)
        assert refused or path == "/echo" or not is_green() or name == "deliver"


@pytest.mark.parametrize("when", ["the poller starts", "it is exchanged"])
def test_without_a_file_descriptor_nobody_is_orphaned(app: Flask, when: str) -> None:
    with watched(app) as site, ExitStack() as stack:
        if when == "it is exchanged":
            stack.enter_context(mock.patch.object(sockets, "exchange", no_descriptor))
        else:
            stack.enter_context(mock.patch("os.pipe", no_descriptor))
        for _ in range(3):
            with site.get("/streaming/events?channel=a") as client:
                assert client.next_event().event == "ready"  # type: ignore[union-attr]
                if when == "the poller starts" and is_green():
                    assert ends(client) == "cut"
                else:  # it goes on with its request
                    site.state.hub.publish("a", "x")
                    assert client.next_event().data == "x"  # type: ignore[union-attr]
            ws = websocket_or_503(site, "/rest")
            if ws is not None:
                with ws:
                    assert not is_green() or hangs_up(ws)


def green_a_poller_whose_wait_fails_once_loses_nobody(app: Flask) -> None:
    wait, failed = selectors.DefaultSelector.select, []

    def fail_once(self: Any, timeout: float | None = None) -> Any:
        if not failed and threading.current_thread().name == "streaming poller":
            failed.append(1)
            raise OSError(errno.EBADF, "broken wait")
        return wait(self, timeout)

    with watched(app, expect_errors=True) as site, ExitStack() as stack:
        streams = [stack.enter_context(site.get("/streaming/events?channel=a")) for _ in range(10)]
        others = [stack.enter_context(websocket(site, "/rest")) for _ in range(10)]
        for client in streams:
            assert client.next_event().event == "ready"  # type: ignore[union-attr]
        with mock.patch.object(selectors.DefaultSelector, "select", fail_once):
            streams[0].socket.sendall(b"wakes the poller")
            wait_until(lambda: failed, "the failure")
            for ws in others:
                ws.send(TEXT, b"x")
                assert ws.read_text() == "took x"
        site.state.hub.publish("a", "still there")
        for client in streams:
            assert client.next_event().data == "still there"  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [300])
def green_hundreds_that_leave_at_once_leave_nothing_behind(app: Flask, count: int) -> None:
    with watched(app) as site:
        clients = [site.get("/streaming/events?channel=a") for _ in range(count)]
        for client in clients:
            assert client.next_event().event == "ready"  # type: ignore[union-attr]
        assert len(site.registry) == count
        for client in clients:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1" + b"\0" * 7)
            client.close()


def test_all_of_this_holds_in_greenlets() -> None:
    if not is_green():
        run_file(__file__)
