"""streaming/web/server/worker.py: when it leaves all to gunicorn. The rest is in tests/live."""

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from streaming.web.server.heads import Reader
from streaming.web.server.worker import StreamingWorker, is_plain
from tests.web.server.heads import configured


@pytest.mark.parametrize("settings", [{}, {"keepalive": 0}, {"workers": 4}, {"sendfile": False}])
def test_what_is_usual_is_plain(settings: dict[str, Any]) -> None:
    assert is_plain(configured(**settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"certfile": "cert.pem", "keyfile": "key.pem"},
        {"proxy_protocol": "v1"},
        {"proxy_protocol": "auto"},
        {"protocol": "uwsgi"},
        {"http2_cleartext": "upgrade"},
        {"http2_cleartext": "prior-knowledge"},
    ],
)
def test_what_is_rare_is_gunicorns(settings: dict[str, Any]) -> None:
    assert not is_plain(configured(**settings))


@pytest.mark.parametrize("free", [1, 0], ids=["", "crowded"])
def test_what_a_client_has_said_is_read_though_its_time_is_over(free: int) -> None:
    """As where the machine had no time for us while it came."""
    worker: Any = StreamingWorker.__new__(StreamingWorker)
    worker._patience, worker._reader = 0.0, Reader(configured())
    worker._pools = [SimpleNamespace(free_count=lambda: free)]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert worker._peek(ours) == b"", "a silent one is let go of"
        theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert worker._peek(ours) == b"GET / HTTP/1.1\r\n\r\n"
        assert ours.gettimeout() is None
